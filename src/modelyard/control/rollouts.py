"""Rollouts: a second version behind a deployment, for some of its calls, until somebody says which one stays.

What is decided here is carried out by the data plane, which follows the desired state. Every change has its number
among all decisions, who made it and why.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from sqlalchemy import Connection, Row, insert, select, update
from sqlalchemy.exc import IntegrityError

from modelyard.control import courses
from modelyard.control.candidates import record_change, refuse_while_open
from modelyard.control.deployments import Decision, admit, present, reason_for, replace_by
from modelyard.domain.desired import CANDIDATE
from modelyard.domain.names import Ref
from modelyard.errors import Conflict, InvalidRequest, RolloutNotFound
from modelyard.registry import Registry
from modelyard.registry.registry import Which
from modelyard.registry.tables import rollout_changes, rollouts
from modelyard.rollout import course
from modelyard.rollout.policy import Policy, check
from modelyard.rollout.subject import Period

Strategy: TypeAlias = Literal["ab", "blue-green", "shadow", "canary"]
Kind: TypeAlias = Strategy | Literal["rehearsal"]
"""A rehearsal is no strategy that somebody asks for: `modelyard.control.rehearsing` begins and ends it."""
State: TypeAlias = Literal["open", "promoting", "promoted", "rolled back"]
Action: TypeAlias = Literal["begin", "share", "advance", "pause", "resume", "approve", "promote", "finish", "rollback"]

SHARES: dict[Kind, float] = {"ab": 0.5, "blue-green": 1.0, "shadow": 0.0, "canary": 0.0, "rehearsal": 0.0}
"""Which part of the calls the candidate gets, unless it is said."""

ITSELF = "modelyard"
"""By whom a change is that the policy made."""


@dataclass(frozen=True, slots=True)
class Change:
    """One step of a rollout, numbered among all decisions."""

    generation: int
    action: Action
    share: float
    reason: str
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Rollout:
    """A deployment's way from the version `before` to `candidate` (as in ``flights-delay@4``).

    `share` is which part of the calls the candidate answers. `key` is the input whose value decides which calls belong
    together; empty for what callers send as their key, and else the prediction id.
    """

    id: int
    deployment: str
    candidate: str
    before: str
    strategy: Kind
    state: State
    share: float
    key: str
    unproven: str | None
    changes: tuple[Change, ...]

    @property
    def is_live(self) -> bool:
        """Whether it goes on."""
        return self.state in ("open", "promoting")

    def periods(self, now: datetime) -> tuple[Period, ...]:
        """The stretches of time in which the candidate had one share, until it ended or `now`."""
        ends = [change.at for change in self.changes[1:]] + [now]
        return tuple(
            Period(change.at, end, change.share)
            for change, end in zip(self.changes, ends, strict=True)
            if change.action not in ("promote", "finish", "rollback")
        )

    @property
    def paused(self) -> str:
        """Who paused it by hand, and why; empty when it goes on."""
        last = next((one for one in reversed(self.changes) if one.action in ("pause", "resume")), None)
        if last is None or last.action == "resume":
            return ""
        return f"paused by {last.by or 'somebody'}" + (f": {last.reason}" if last.reason else "")

    @property
    def approved(self) -> tuple[str, ...]:
        """Who has agreed that the candidate answers everybody."""
        return tuple(dict.fromkeys(one.by for one in self.changes if one.action == "approve"))

    def awaited(self) -> Decision:
        """What the data plane has to answer with, for its last change to be carried out.

        >>> from datetime import datetime, UTC
        >>> begun = Change(7, "begin", 0.1, "", "ada", datetime.now(UTC))
        >>> Rollout(1, "live", "churn@4", "churn@3", "ab", "open", 0.1, "", None, (begun,)).awaited().deployment
        'live.candidate'
        """
        last = self.changes[-1]
        which = Ref.parse(self.before if self.state == "rolled back" else self.candidate)
        name = self.deployment + CANDIDATE if self.state == "open" else self.deployment
        return Decision(last.generation, name, which.model, which.version, self.unproven, last.by, last.at)


def begin(
    registry: Registry,
    which: Which,
    to: str,
    strategy: Kind,
    *,
    share: float | None = None,
    key: str = "",
    policy: Policy | None = None,
    override_reason: str | None = None,
    by: str = "",
) -> Rollout:
    """Put `which` beside what the deployment `to` answers with. A canary goes on by itself, as its `policy` says.

    Raises:
        DeploymentNotFound: there is none of that name; a first version is deployed, not rolled out.
        Conflict: a rollout of it is open.
        PolicyDenied: the version has no passing parity report and `override_reason` is not given.
        InvalidRequest: the share is none, or the version is the one that answers.
        ModelNotFound, VersionNotFound, AliasNotFound: no such version.
    """
    policy = _policy(policy, strategy)
    given = SHARES[strategy] if share is None else share
    _check_share(given, strategy, said=share is not None)
    if policy is not None:
        given = policy.steps[0].share
    version = registry.version(which)
    registry.bundle(version)
    unproven = admit(version, registry.proof(version) is not None, override_reason)
    with registry.database.write() as connection:
        there = present(connection, to)
        if (there.model, there.number) == (version.model, version.number):
            raise InvalidRequest(f"{version.ref} is what {to!r} answers with; roll out another version")
        refuse_while_open(connection, to)
        values = {
            "deployment": to,
            "live": to,
            "model": version.model,
            "number": version.number,
            "before_model": there.model,
            "before_number": there.number,
            "strategy": strategy,
            "state": "open",
            "share": given,
            "key": key,
            "unproven": unproven,
        }
        try:
            made = connection.execute(insert(rollouts).values(**values)).inserted_primary_key
        except IntegrityError as error:  # another one began at the same moment
            raise Conflict(f"a rollout of {to!r} is open") from error
        assert made is not None  # noqa: S101 - a table with a primary key gives it back
        number = record_change(connection, made[0], "begin", given, "", by)
        if policy is not None:
            courses.add(connection, made[0], course.begin(policy, number, datetime.now(UTC)))
        return read(connection, rollouts.c.id == made[0])


def set_share(registry: Registry, deployment: str, share: float, reason: str = "", by: str = "") -> Rollout:
    """Give the candidate another part of the calls.

    Raises:
        RolloutNotFound: none is open.
        InvalidRequest: that is no share, or the rollout is one that has none.
    """
    with registry.database.write() as connection:
        rollout = still_open(connection, deployment)
        _check_share(share, rollout.strategy, said=True)
        change(connection, rollout, share=share)
        record_change(connection, rollout.id, "share", share, reason, by)
        return read(connection, rollouts.c.id == rollout.id)


def promote(registry: Registry, deployment: str, reason: str = "", by: str = "") -> Rollout:
    """Have the candidate answer all calls, and take the place of what answered before.

    Until the data plane has it there (`finish`) the candidate stays, so that no call goes back to the old version.

    Raises:
        RolloutNotFound: none is open.
    """
    with registry.database.write() as connection:
        rollout = _open(connection, deployment)
        if rollout.state == "promoting":
            return rollout
        standing = courses.read(connection, rollout.id)
        asked = () if standing is None else standing.course.policy.approvers
        missing = ", ".join(name for name in asked if name not in rollout.approved)
        said = f"{reason} (without the approval of {missing})".strip() if missing else reason
        return take_over(connection, rollout, said, by)


def take_over(connection: Connection, rollout: Rollout, reason: str, by: str) -> Rollout:
    """Begin a promotion, in a transaction that is open."""
    change(connection, rollout, state="promoting", share=1.0)
    replace_by(connection, rollout.deployment, Ref.parse(rollout.candidate), rollout.unproven, by)
    record_change(connection, rollout.id, "promote", 1.0, reason, by)
    return read(connection, rollouts.c.id == rollout.id)


def finish(registry: Registry, deployment: str) -> Rollout:
    """Close a promotion that the data plane has carried out.

    Raises:
        RolloutNotFound: none is open.
        Conflict: it is not being promoted.
    """
    with registry.database.write() as connection:
        rollout = _open(connection, deployment)
        if rollout.state != "promoting":
            raise Conflict(f"the rollout of {deployment!r} is not being promoted")
        change(connection, rollout, state="promoted", live=None)
        record_change(connection, rollout.id, "finish", 1.0, "the data plane answers with it", rollout.changes[-1].by)
        return read(connection, rollouts.c.id == rollout.id)


def rollback(registry: Registry, deployment: str, reason: str = "", by: str = "") -> Rollout:
    """Take the candidate away: all calls are answered by the version before.

    Raises:
        RolloutNotFound: none is open.
    """
    with registry.database.write() as connection:
        return take_back(connection, _open(connection, deployment), reason, by)


def shown(registry: Registry, deployment: str) -> Rollout:
    """The open rollout of a deployment, or the last one; rehearsals do not count.

    Raises:
        RolloutNotFound: there never was one.
    """
    where = (rollouts.c.deployment == deployment) & (rollouts.c.strategy != "rehearsal")
    with registry.database.read() as connection:
        return read(connection, where, deployment)


def open_rollouts(registry: Registry) -> tuple[Rollout, ...]:
    """Those that go on, by deployment."""
    with registry.database.read() as connection:
        return open_in(connection)


def open_in(connection: Connection) -> tuple[Rollout, ...]:
    """Those that go on, in a transaction that is open."""
    rows = connection.execute(select(rollouts).where(rollouts.c.live.is_not(None)).order_by(rollouts.c.live)).all()
    return tuple(_rollout(connection, row) for row in rows)


def _policy(policy: Policy | None, strategy: Kind) -> Policy | None:
    if strategy != "canary":
        if policy is not None:
            raise InvalidRequest(f"{strategy} follows no policy; --strategy canary does")
        return None
    found = policy or Policy()
    check(found)
    return found


def _check_share(share: float, strategy: Kind, *, said: bool) -> None:
    if not 0.0 <= share <= 1.0:
        raise InvalidRequest(f"a share of {share:g} is none; give a number from 0 to 1, such as 0.1")
    if said and strategy not in ("ab", "rehearsal"):
        raise InvalidRequest(f"{strategy} has no share of its own; --strategy ab has one")


def _open(connection: Connection, deployment: str) -> Rollout:
    return read(connection, rollouts.c.live == deployment, deployment)


def still_open(connection: Connection, deployment: str) -> Rollout:
    """The rollout of a deployment that is neither ended nor about to be promoted.

    Raises:
        RolloutNotFound: none is open.
        Conflict: it is being promoted.
    """
    rollout = _open(connection, deployment)
    if rollout.state != "open":
        raise Conflict(f"{rollout.candidate} is being promoted; roll it back, or wait")
    return rollout


def read(connection: Connection, where: Any, deployment: str = "") -> Rollout:
    """The newest rollout of which `where` is true.

    Raises:
        RolloutNotFound: there is none.
    """
    row = connection.execute(select(rollouts).where(where).order_by(rollouts.c.id.desc()).limit(1)).one_or_none()
    if row is None:
        raise RolloutNotFound(deployment)
    return _rollout(connection, row)


def _rollout(connection: Connection, row: Row[Any]) -> Rollout:
    asked = select(rollout_changes).where(rollout_changes.c.rollout == row.id).order_by(rollout_changes.c.generation)
    return Rollout(
        row.id,
        row.deployment,
        f"{row.model}@{row.number}",
        f"{row.before_model}@{row.before_number}",
        row.strategy,
        row.state,
        row.share,
        row.key,
        row.unproven,
        tuple(
            Change(one.generation, one.action, one.share, one.reason, one.by, one.at)
            for one in connection.execute(asked)
        ),
    )


def take_back(connection: Connection, rollout: Rollout, reason: str, by: str) -> Rollout:
    """Roll back, in a transaction that is open."""
    if rollout.state == "promoting":
        before = Ref.parse(rollout.before)
        unproven = reason_for(connection, rollout.deployment, before)
        replace_by(connection, rollout.deployment, before, unproven, by)
    change(connection, rollout, state="rolled back", share=0.0, live=None)
    record_change(connection, rollout.id, "rollback", 0.0, reason, by)
    return read(connection, rollouts.c.id == rollout.id)


def change(connection: Connection, rollout: Rollout, **values: Any) -> None:
    """Change what is kept of a rollout."""
    connection.execute(update(rollouts).where(rollouts.c.id == rollout.id).values(**values))
