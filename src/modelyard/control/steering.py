"""Rollouts that go on by themselves, steered by people: next step, pause, resume, approve, and where one stands."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from sqlalchemy import Connection

from modelyard.control import courses
from modelyard.control.candidates import record_change
from modelyard.control.courses import Standing, Stored
from modelyard.control.rollouts import Rollout, change, read, still_open
from modelyard.errors import Conflict, InvalidRequest
from modelyard.registry import Registry
from modelyard.registry.tables import rollouts
from modelyard.rollout import course
from modelyard.rollout.policy import Policy


def advance(registry: Registry, deployment: str, reason: str = "", by: str = "") -> Rollout:
    """Take the next step of a canary now, whatever is known.

    Raises:
        RolloutNotFound: none is open.
        Conflict: it is being promoted, or no step is left.
        InvalidRequest: it has no steps.
    """
    with registry.database.write() as connection:
        rollout = still_open(connection, deployment)
        standing = _standing(connection, rollout)
        if standing.course.step + 1 == len(standing.course.policy.steps):
            raise Conflict(f"{deployment!r} is at its last step: `modelyard promote {deployment}` ends it")
        return take_step(connection, rollout, standing, reason, by)


def take_step(connection: Connection, rollout: Rollout, standing: Standing, reason: str, by: str) -> Rollout:
    """The next step of a canary, in a transaction that is open.

    Raises:
        Conflict: its course was changed meanwhile.
    """
    step = standing.course.step + 1
    share = standing.course.policy.steps[step].share
    change(connection, rollout, share=share)
    number = record_change(connection, rollout.id, "advance", share, reason, by)
    moved = course.move(standing.course, step, number, now())
    courses.write(connection, rollout.id, moved, standing.revision)
    return read(connection, rollouts.c.id == rollout.id)


def pause(registry: Registry, deployment: str, reason: str = "", by: str = "") -> Rollout:
    """Have a canary stay where it is until it is resumed; harm that is shown still ends it.

    Raises:
        RolloutNotFound: none is open.
        Conflict: it is paused already, or being promoted.
        InvalidRequest: it does not go on by itself.
    """
    return _marked(registry, deployment, "pause", reason, by)


def resume(registry: Registry, deployment: str, reason: str = "", by: str = "") -> Rollout:
    """Have a canary that was paused by hand go on.

    Raises:
        RolloutNotFound: none is open.
        Conflict: it is not paused by hand.
        InvalidRequest: it does not go on by itself.
    """
    return _marked(registry, deployment, "resume", reason, by)


def approve(registry: Registry, deployment: str, reason: str = "", by: str = "") -> Rollout:
    """Agree that the candidate of a canary answers everybody, once the evidence allows it.

    Raises:
        RolloutNotFound: none is open.
        Conflict: `by` agreed already.
        InvalidRequest: `by` is not among those who have to agree.
    """
    return _marked(registry, deployment, "approve", reason, by)


def _marked(
    registry: Registry, deployment: str, action: Literal["pause", "resume", "approve"], reason: str, by: str
) -> Rollout:
    with registry.database.write() as connection:
        rollout = still_open(connection, deployment)
        policy = _standing(connection, rollout).course.policy
        if action == "approve":
            _check_approval(rollout, policy, by)
        elif (action == "pause") == bool(rollout.paused):
            raise Conflict(f"the rollout of {deployment!r} is {rollout.paused or 'not paused by hand'}")
        record_change(connection, rollout.id, action, rollout.share, reason, by)
        return read(connection, rollouts.c.id == rollout.id)


def _check_approval(rollout: Rollout, policy: Policy, by: str) -> None:
    if by not in policy.approvers:
        asked = f"only {', '.join(policy.approvers)}" if policy.approvers else "nobody"
        raise InvalidRequest(f"{by or 'somebody without a name'} is not asked to approve: {asked} has to")
    if by in rollout.approved:
        raise Conflict(f"{by} has approved the rollout of {rollout.deployment!r} already")


def standing_of(registry: Registry, rollout: Rollout) -> Standing | None:
    """Where a canary stands; None for a rollout that goes by hand."""
    with registry.database.read() as connection:
        return courses.read(connection, rollout.id)


def decided(registry: Registry, rollout: Rollout, most: int | None = None) -> tuple[Stored, ...]:
    """What was decided about a canary (all, or so many of the newest), oldest first, each with what it rested on."""
    with registry.database.read() as connection:
        return courses.decisions(connection, rollout.id, most)


def _standing(connection: Connection, rollout: Rollout) -> Standing:
    found = courses.read(connection, rollout.id)
    if found is None:
        raise InvalidRequest(
            f"the rollout of {rollout.deployment!r} ({rollout.strategy}) has no steps: promote it, or roll it back"
        )
    return found


def now() -> datetime:
    """The moment at which a step begins."""
    return datetime.now(UTC)
