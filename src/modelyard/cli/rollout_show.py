"""What a rollout has come to: at one moment, followed live, and decision by decision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard.cli.output import Json, emit, err, out, reported_errors

if TYPE_CHECKING:
    from modelyard.control.courses import Stored
    from modelyard.control.progress import Progress
    from modelyard.control.rollouts import Rollout
    from modelyard.registry import Registry
    from modelyard.rollout.telling import Told

app = typer.Typer()

_SILENT = 30.0
"""After so many seconds without a look it is said that nobody looks."""

Name = Annotated[str, typer.Argument(metavar="DEPLOYMENT")]


@app.command()
def show(
    deployment: Name,
    objective: Annotated[
        float,
        typer.Option("--objective-ms", help="Answers later than this count as slow; a canary's policy says its own."),
    ] = 100.0,
    as_json: Json = False,
) -> None:
    """The open rollout of a deployment, or the last one: who gets what, how both versions do, and what was decided.

    Differences are between the two ends of an interval at all times with 95 %, however often one looks.

    Example: modelyard rollout show flights-delay
    """
    from modelyard.control import rollouts
    from modelyard.control.progress import progress
    from modelyard.control.rehearsing import last_rehearsals
    from modelyard.registry import Registry

    with reported_errors(as_json), Registry.open() as registry:
        rollout = rollouts.shown(registry, deployment)
        found = progress(registry, rollout)
        measured = () if found else _measure(registry, rollout, objective)
        rehearsal = last_rehearsals(registry, [deployment]).get(deployment)
    document = {"rollout": rollout, "progress": found, "measured": measured, "rehearsal": rehearsal}
    emit(document, as_json, lambda: _print(rollout, found, measured))
    if rehearsal is not None and not as_json:
        out.print(f"rehearsed: {rehearsal.told()}", markup=False)


@app.command()
def watch(
    deployment: Name,
    every: Annotated[float, typer.Option("--every", metavar="SECONDS", help="How often to look.")] = 2.0,
    as_json: Json = False,
) -> None:
    """Follow a rollout until it ends: a line when something changes, and with --json one document a line.

    Exit status 1 if it was rolled back.

    Example: modelyard rollout watch flights-delay
    """
    import time
    from functools import partial

    from modelyard.control import rollouts
    from modelyard.control.progress import progress
    from modelyard.registry import Registry

    told: Any = None
    with reported_errors(as_json), Registry.open() as registry:
        while True:
            rollout = rollouts.shown(registry, deployment)
            found = progress(registry, rollout)
            if (seen := _seen(rollout, found)) != told:
                told = seen
                emit({"rollout": rollout, "progress": found}, as_json, partial(_line, rollout, found))
            if not rollout.is_live:
                break
            time.sleep(every)
    if rollout.state == "rolled back":
        raise typer.Exit(1)


@app.command()
def decisions(
    deployment: Name,
    replay: Annotated[
        bool, typer.Option("--replay", help="Decide again on what was stored with each; exit status 1 if one differs.")
    ] = False,
    most: Annotated[
        int | None, typer.Option("--limit", min=1, help="So many at most, the newest; all if not said.")
    ] = None,
    as_json: Json = False,
) -> None:
    """What was decided about the last canary of a deployment, each with the numbers that it rested on.

    Example: modelyard rollout decisions flights-delay --limit 20

    Example: modelyard rollout decisions flights-delay --replay
    """
    from modelyard.control import rollouts, steering
    from modelyard.registry import Registry

    with reported_errors(as_json), Registry.open() as registry:
        stored = steering.decided(registry, rollouts.shown(registry, deployment), most)
    again = [one.replayed() for one in stored] if replay else []
    other = [one for one, now in zip(stored, again, strict=False) if now != one.decision]
    document = {
        "decisions": stored,
        **({"replayed": len(again), "different": [one.id for one in other]} if replay else {}),
    }
    emit(document, as_json, lambda: _print_decisions(stored, replay, other))
    if other:
        raise typer.Exit(1)


def _seen(rollout: Rollout, found: Progress | None) -> Any:
    """What a new line is for."""
    decision = None if found is None or found.decision is None else (found.decision.action, found.decision.verdicts)
    return rollout.state, len(rollout.changes), decision


def _line(rollout: Rollout, found: Progress | None) -> None:
    from modelyard.cli.cards import moment

    last = rollout.changes[-1]
    at = moment(last.at if found is None else max(found.looked, last.at))
    if not rollout.is_live:
        why = f": {last.reason}" if last.reason else ""
        out.print(f"{at}  {rollout.deployment}: {rollout.state}{why}", markup=False)
        return
    parts = [f"{at}  {rollout.deployment}: {rollout.candidate} has {_share(rollout.share)}"]
    if found is not None:
        parts.append(f"step {found.step + 1} of {len(found.shares)} for {_time(found.seconds)}")
        if found.decision is not None:
            parts.append(f"{found.decision.action}: {found.decision.reason}")
        parts += [f"{one.metric} {one.verdict}{_counted(one)}" for one in found.metrics]
    out.print("; ".join(parts), markup=False)


def _counted(one: Told) -> str:
    return "" if one.low is None and one.high is None else f" ({_interval(one.low, one.high)})"


def _measure(registry: Registry, rollout: Rollout, objective_ms: float) -> tuple[Told, ...]:
    from datetime import UTC, datetime

    from modelyard.control.driving import subject_of
    from modelyard.rollout.measuring import come_to

    periods = rollout.periods(datetime.now(UTC))
    return come_to(registry.home.records, subject_of(registry, rollout), periods, objective_ms)


def _print(rollout: Rollout, found: Progress | None, measured: tuple[Told, ...]) -> None:
    from modelyard.cli.cards import moment, put, table

    way = f"{rollout.before} -> {rollout.candidate}"
    out.print(f"{rollout.deployment}: {way}, {rollout.strategy}, {rollout.state}", markup=False)
    if rollout.is_live:
        kept = f"; calls with one value of {rollout.key!r} stay together" if rollout.key else ""
        out.print(f"the candidate answers {_share(rollout.share)}{kept}", markup=False)
    if found is not None:
        _print_progress(rollout, found)
    _print_measured(measured)
    rows: list[Any] = [[moment(one.at), one.action, f"{one.share:.3g}", one.by, one.reason] for one in rollout.changes]
    put(table(["at", "action", "share", "by", "reason"], rows))


def _print_progress(rollout: Rollout, found: Progress) -> None:
    from datetime import UTC, datetime

    from modelyard.cli.cards import moment, put, table

    steps = " -> ".join(f"[{_step(one)}]" if n == found.step else _step(one) for n, one in enumerate(found.shares))
    times = f"at least {_time(found.least)}, at most {_time(found.most)}, then {found.undecided} if undecided"
    out.print(
        f"step {found.step + 1} of {len(found.shares)}: {steps}; for {_time(found.seconds)} ({times})", markup=False
    )
    if rollout.is_live:
        for line in _notes(found):
            out.print(line, markup=False)
    lines = [
        [
            _name(one),
            *_side(one.baseline, one.baseline_rate),
            *_side(one.candidate, one.candidate_rate),
            _interval(one.low, one.high) if one.baseline and one.candidate else "not known",
            f"+{one.tolerated * 100:.3g}",
            f"+{one.margin * 100:.3g}",
            one.verdict,
            one.missing,
        ]
        for one in found.metrics
    ]
    heads = ["metric", "calls before", "rate", "candidate's", "rate", "difference", "passes below", "fails above"]
    put(table([*heads, "verdict", "missing"], lines))
    if rollout.is_live:
        silent = (datetime.now(UTC) - found.looked).total_seconds()
        unseen = f", {_time(silent)} ago: nothing drives it unless `modelyard up` runs" if silent > _SILENT else ""
        out.print(f"last look {moment(found.looked)}{unseen}", markup=False)


def _name(one: Told) -> str:
    return f"{one.metric} {one.part!r}" if one.part else one.metric


def _notes(found: Progress) -> list[str]:
    """What holds it up, or is about to happen."""
    lines = [f"{found.decision.action}: {found.decision.reason}"] if found.decision is not None else []
    if found.paused and found.paused not in "".join(lines):
        lines.append(found.paused)
    if found.approvers:
        missing = [name for name in found.approvers if name not in found.approved]
        lines.append(
            f"approved by {', '.join(found.approved) or 'nobody'}"
            + (f"; still to approve: {', '.join(missing)}" if missing else "")
        )
    return lines


def _print_measured(measured: tuple[Told, ...]) -> None:
    from modelyard.cli.cards import put, table

    if not measured:
        return
    lines = [
        [
            one.metric,
            *_side(one.baseline, one.baseline_rate),
            *_side(one.candidate, one.candidate_rate),
            _interval(one.low, one.high) if one.baseline and one.candidate else "not known",
        ]
        for one in measured
    ]
    put(table(["metric", "calls before", "rate", "candidate's", "rate", "difference"], lines))


def _print_decisions(stored: tuple[Stored, ...], replay: bool, other: list[Stored]) -> None:
    from modelyard.cli.cards import moment, put, table

    rows = [
        [
            moment(one.at),
            str(one.snapshot.step + 1),
            _time(one.snapshot.seconds),
            one.decision.action,
            ", ".join(f"{name} {said}" for name, said in one.decision.verdicts.items()),
            one.decision.reason,
        ]
        for one in stored
    ]
    put(table(["at", "step", "after", "action", "verdicts", "reason"], rows))
    if replay and not other:
        out.print(f"all {len(stored)} are decided in the same way again")
    elif replay:
        err.print(f"{len(other)} of {len(stored)} would be decided in another way now", markup=False)


def _side(calls: float, rate: float | None) -> list[str]:
    return [f"{calls:,.0f}", "-" if rate is None else f"{rate:.2%}"]


def _interval(least: float | None, most: float | None) -> str:
    low = "?" if least is None else f"{least * 100:+.2f}"
    high = "?" if most is None else f"{most * 100:+.2f}"
    return f"{low} to {high} points"


def _share(share: float) -> str:
    return "no calls, it computes them in the shadow" if share <= 0.0 else f"{share:.3g} of the calls"


def _step(share: float) -> str:
    return "shadow" if share <= 0.0 else f"{share:.3g}"


def _time(seconds: float) -> str:
    """A length of time in the largest unit that fits.

    >>> _time(42.0), _time(300.0), _time(86400.0)
    ('42 s', '5 min', '24 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"
