"""Rollouts by hand: promote, roll back, another share, and what one has come to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard.cli.deploy import Timeout, Wait, follow
from modelyard.cli.output import Json, emit, out, reported_errors

if TYPE_CHECKING:
    from modelyard.control.rollouts import Rollout
    from modelyard.registry import Registry
    from modelyard.rollout.measuring import Measured, Shadowed

app = typer.Typer()
group = typer.Typer(no_args_is_help=True, help="A rollout: what it has come to, and another share for its candidate.")
app.add_typer(group, name="rollout")

Name = Annotated[str, typer.Argument(metavar="DEPLOYMENT")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept with the decision.")]


@app.command()
def promote(
    deployment: Name, reason: Reason = "", wait: Wait = True, timeout: Timeout = 300.0, as_json: Json = False
) -> None:
    """Let the candidate of a rollout answer all calls, and take the place of what answered before.

    No call fails meanwhile, and none goes back to the old version.

    Example: modelyard promote flights-delay --reason "better on all slices"
    """
    from modelyard.cli.registry import user
    from modelyard.control import rollouts
    from modelyard.control.closing import close_promotions
    from modelyard.control.up import running
    from modelyard.registry import Registry

    with reported_errors(as_json), Registry.open() as registry:
        rollout = rollouts.promote(registry, deployment, reason, by=user())
        if running(registry.home) is None:
            rollouts.finish(registry, deployment)  # nobody answers: there is nothing to wait for
        follow(registry.home, rollout.awaited(), rollout.strategy, wait, timeout, as_json)
        if wait:
            close_promotions(registry)


@app.command()
def rollback(
    deployment: Name, reason: Reason = "", wait: Wait = True, timeout: Timeout = 60.0, as_json: Json = False
) -> None:
    """End a rollout: the version before answers all calls again, at once.

    Example: modelyard rollback flights-delay --reason "late at night it is slower"
    """
    from modelyard.cli.registry import user
    from modelyard.control import rollouts
    from modelyard.registry import Registry

    with reported_errors(as_json), Registry.open() as registry:
        rollout = rollouts.rollback(registry, deployment, reason, by=user())
        follow(registry.home, rollout.awaited(), rollout.strategy, wait, timeout, as_json)


@group.command()
def share(
    deployment: Name,
    part: Annotated[float, typer.Argument(metavar="SHARE", help="Which part of the calls, 0 to 1.")],
    reason: Reason = "",
    wait: Wait = True,
    timeout: Timeout = 60.0,
    as_json: Json = False,
) -> None:
    """Give the candidate of an A/B rollout another part of the calls. Who has it already keeps it as the part grows.

    Example: modelyard rollout share flights-delay 0.25
    """
    from modelyard.cli.registry import user
    from modelyard.control import rollouts
    from modelyard.registry import Registry

    with reported_errors(as_json), Registry.open() as registry:
        rollout = rollouts.set_share(registry, deployment, part, reason, by=user())
        follow(registry.home, rollout.awaited(), rollout.strategy, wait, timeout, as_json)


@group.command()
def show(
    deployment: Name,
    objective: Annotated[float, typer.Option("--objective-ms", help="Answers later than this count as slow.")] = 100.0,
    as_json: Json = False,
) -> None:
    """The open rollout of a deployment, or the last one: who gets what, how both versions do, and every decision.

    Differences are between the two ends of an interval at all times with 95 %, however often one looks.

    Example: modelyard rollout show flights-delay
    """
    from modelyard.control import rollouts
    from modelyard.registry import Registry

    with reported_errors(as_json), Registry.open() as registry:
        rollout = rollouts.shown(registry, deployment)
        measured, shadowed = _measure(registry, rollout, objective)
    document = {"rollout": rollout, "measured": measured, "shadowed": shadowed}
    emit(document, as_json, lambda: _print(rollout, measured, shadowed))


def _measure(registry: Registry, rollout: Rollout, slow_ms: float) -> tuple[tuple[Measured, ...], Shadowed | None]:
    from datetime import UTC, datetime

    from modelyard.domain.desired import CANDIDATE
    from modelyard.monitoring.performance.task import Aim, Task
    from modelyard.records.query import RecordDatabase
    from modelyard.rollout import measuring

    name, old, new = rollout.deployment, rollout.before, rollout.candidate
    classes = Task.of(registry.bundle(registry.version(new)).manifest.schema).aim is not Aim.REGRESSION
    with RecordDatabase(registry.home.records) as records:
        if rollout.strategy == "shadow":
            since = rollout.changes[0].at
            return (), measuring.shadowed(records, name, name + CANDIDATE, new, since)
        periods = rollout.periods(datetime.now(UTC))
        return measuring.divided(records, name, old, new, periods, slow_ms, classes=classes), None


def _print(rollout: Rollout, measured: tuple[Measured, ...], shadowed: Shadowed | None) -> None:
    from modelyard.cli.cards import moment, put, table

    way = f"{rollout.before} -> {rollout.candidate}"
    out.print(f"{rollout.deployment}: {way}, {rollout.strategy}, {rollout.state}", markup=False)
    if rollout.is_live:
        kept = f"; calls with one value of {rollout.key!r} stay together" if rollout.key else ""
        out.print(f"the candidate answers {rollout.share:.3g} of the calls{kept}", markup=False)
    if shadowed is not None:
        out.print(
            f"answers differ on {shadowed.different} of {shadowed.rows} rows; "
            f"the share lies between {shadowed.low:.2%} and {shadowed.high:.2%}",
            markup=False,
        )
    if any(one.baseline or one.candidate for one in measured):
        lines = [
            [
                one.metric,
                *_side(one.baseline, one.baseline_rate),
                *_side(one.candidate, one.candidate_rate),
                _between(one),
            ]
            for one in measured
        ]
        put(table(["metric", "calls before", "rate", "candidate's", "rate", "difference"], lines))
    rows: list[list[Any]] = [
        [moment(one.at), one.action, f"{one.share:.3g}", one.by, one.reason] for one in rollout.changes
    ]
    put(table(["at", "action", "share", "by", "reason"], rows))


def _side(calls: int, rate: float | None) -> list[str]:
    return [f"{calls:,}", "-" if rate is None else f"{rate:.2%}"]


def _between(one: Measured) -> str:
    if not one.baseline or not one.candidate:
        return "not known"
    low = "?" if one.low <= -1.0 else f"{one.low * 100:+.2f}"
    high = "?" if one.high >= 1.0 else f"{one.high * 100:+.2f}"
    return f"{low} to {high} points"
