"""Rollouts steered by people: promote, roll back, pause, resume, approve, next step, another share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.cli.deploy import Timeout, Wait, follow
from modelyard.cli.output import Json, emit, out, reported_errors
from modelyard.cli.rollout_show import Name
from modelyard.cli.rollout_show import app as views

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelyard.control.rollouts import Rollout

app = typer.Typer()
group = typer.Typer(
    no_args_is_help=True, help="A rollout: what it has come to, and what people decide about it meanwhile."
)
group.add_typer(views)
app.add_typer(group, name="rollout")

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
def advance(
    deployment: Name, reason: Reason = "", wait: Wait = True, timeout: Timeout = 60.0, as_json: Json = False
) -> None:
    """Take the next step of a canary now, whatever is known so far.

    Example: modelyard rollout advance flights-delay --reason "quiet hours end at eight"
    """
    from modelyard.cli.registry import user
    from modelyard.control import steering
    from modelyard.registry import Registry

    with reported_errors(as_json), Registry.open() as registry:
        rollout = steering.advance(registry, deployment, reason, by=user())
        follow(registry.home, rollout.awaited(), rollout.strategy, wait, timeout, as_json)


@group.command()
def pause(deployment: Name, reason: Reason = "", as_json: Json = False) -> None:
    """Have a canary stay at its step until it is resumed. Harm that is shown still ends it; its time stands still.

    Example: modelyard rollout pause flights-delay --reason "the database is being moved"
    """
    from modelyard.control import steering

    _marked(steering.pause, deployment, reason, "", as_json)


@group.command()
def resume(deployment: Name, reason: Reason = "", as_json: Json = False) -> None:
    """Have a canary that was paused go on.

    Example: modelyard rollout resume flights-delay
    """
    from modelyard.control import steering

    _marked(steering.resume, deployment, reason, "", as_json)


@group.command()
def approve(
    deployment: Name,
    reason: Reason = "",
    name: Annotated[
        str, typer.Option("--as", metavar="NAME", help="Whose approval it is, if not the user's who is logged in.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Agree that the candidate of a canary answers everybody, once the evidence allows it.

    Who has to agree is said by the policy; nothing checks yet that one is who one says.

    Example: modelyard rollout approve flights-delay --reason "reviewed the report"
    """
    from modelyard.control import steering

    _marked(steering.approve, deployment, reason, name, as_json)


def _marked(act: Callable[..., Rollout], deployment: str, reason: str, name: str, as_json: bool) -> None:
    from modelyard.cli.registry import user
    from modelyard.registry import Registry

    with reported_errors(as_json), Registry.open() as registry:
        rollout = act(registry, deployment, reason, by=name or user())
    last = rollout.changes[-1]
    said = f" ({last.reason})" if last.reason else ""
    emit(
        {"rollout": rollout},
        as_json,
        lambda: out.print(f"{deployment}: {last.action} by {last.by}{said}", markup=False),
    )
