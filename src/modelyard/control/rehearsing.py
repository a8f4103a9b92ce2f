"""Rehearsals: in quiet times, see that the way back to an earlier version works, and how long it takes.

A rehearsal is a rollout of the version before, for so small a share of the calls that nearly nobody gets it. A key that
lies within that share is asked for on and on, from outside, while its calls are given to that version and taken away
again: the same route, the same decision, the same one assignment as in an emergency.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec
from sqlalchemy import func, insert, select

from modelyard.control import deployments, rollouts
from modelyard.control.deployments import Decision
from modelyard.control.probing import Prober, Switch, ask, key_for, switch_of
from modelyard.control.rollouts import Rollout
from modelyard.control.up import await_running
from modelyard.control.watch import wait_until_done
from modelyard.domain.names import Ref
from modelyard.errors import Failed, InvalidRequest, RolloutNotFound, ServiceUnreachable
from modelyard.registry import Registry
from modelyard.registry.rehearsal_tables import rehearsals

SHARE = 1e-5
"""Which part of all calls the version before answers meanwhile: one of a hundred thousand."""

SWITCH_SECONDS = 60.0
"""What the data plane gets to carry a switch out."""

FORGOTTEN = timedelta(minutes=15)
"""A rehearsal that has stood still for so long has lost the process that made it."""

_IN_A_ROW = 12
_ROWS = 5


class Rehearsal(msgspec.Struct, frozen=True):
    """What a rehearsal came to: from the version `present` to `other` and back (as in ``churn@4``).

    `load_seconds` is how long it took until `other` was ready beside `present`: what a return takes longer once a
    rollout is closed. `there` and `back` are the two switches. `reason` says why the way back does not work, and is
    empty where it does. `share` is the part of the calls that were switched.
    """

    deployment: str
    present: str
    other: str
    at: datetime
    by: str
    share: float
    load_seconds: float | None = None
    there: Switch | None = None
    back: Switch | None = None
    reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether the way back works."""
        return not self.reason

    def told(self) -> str:
        """In one sentence."""
        if self.reason or self.back is None:
            return f"the way back to {self.other} does not work: {self.reason}"
        calls = f"{self.back.calls} calls meanwhile, none lost"
        ready = "" if self.load_seconds is None else f"; {self.other} was ready in {self.load_seconds:.2f} s"
        return f"the way back took {self.back.seconds:.2f} s, {calls}{ready}"


def way_back(history: Sequence[Decision]) -> str:
    """The version that a deployment answered with before its present one.

    Raises:
        InvalidRequest: it has had no other.
    """
    named = [f"{one.model}@{one.version}" for one in history if one.version is not None]
    before = [ref for ref in named if ref != named[-1]]
    if not before:
        raise InvalidRequest(
            f"{history[-1].deployment!r} has answered with {named[-1]} only: there is nothing to go back to; "
            "say which version with --to NAME@V"
        )
    return before[-1]


def rehearse(
    registry: Registry,
    deployment: str,
    to: str | None = None,
    *,
    share: float = SHARE,
    timeout: float = 300.0,
    by: str = "",
    tell: Callable[[str], None] = lambda _: None,
) -> Rehearsal:
    """Go to the version `to` (None for the one before) and back, and keep what it came to.

    Raises:
        DeploymentNotFound: there is none of that name.
        InvalidRequest: there is no version to go back to.
        Conflict: a rollout of it is open.
        PolicyDenied: the version has no passing parity report, and was never deployed without one.
        ServiceUnreachable: no data plane runs on this home.
    """
    there = await_running(registry.home)
    if there is None:
        raise ServiceUnreachable("nothing runs on this home, so there is nothing to rehearse: start `modelyard up`")
    other = registry.version(to or way_back(deployments.history(registry, deployment))).ref
    with registry.database.read() as connection:
        row = deployments.present(connection, deployment)
        unproven = deployments.reason_for(connection, deployment, Ref.parse(other))
    present = f"{row.model}@{row.number}"
    made = rollouts.begin(registry, other, deployment, "rehearsal", override_reason=unproven, by=by)
    blank = Rehearsal(deployment, present, other, datetime.now(UTC), by, share)
    stage = _Stage(registry, made, blank, there.data.url, timeout, tell)
    try:
        found = stage.play()
    except Failed as error:
        found = msgspec.structs.replace(stage.known, reason=str(error))
    finally:
        stage.clear()
    _keep(registry, found)
    return found


@dataclass
class _Stage:
    """A rehearsal under way; `known` is what is known so far."""

    registry: Registry
    rollout: Rollout
    known: Rehearsal
    url: str
    timeout: float
    tell: Callable[[str], None]

    def play(self) -> Rehearsal:
        """All of it; raises `Failed` with the reason why the way back does not work."""
        known, name = self.known, self.rollout.deployment
        begun = time.monotonic()
        self._carried_out(self.rollout, self.timeout)
        self._learn(load_seconds=round(time.monotonic() - begun, 3))
        key = key_for(f"{name}/{self.rollout.id}", known.share)
        with Prober(self.url, name, key) as prober:
            if not prober.settles_on(known.present, _IN_A_ROW, SWITCH_SECONDS):
                raise Failed(f"calls are not answered by {known.present} to begin with: {_last(prober)}")
            self.tell(f"{known.other} is ready; now to it, and back")
            self._learn(there=self._switched(prober, lambda: self._begin(known.share), known.present, known.other))
            self._takes_the_same_rows(key)
            self._learn(back=self._switched(prober, self._end, known.other, known.present))
        return self.known

    def clear(self) -> None:
        """Leave nothing of it behind."""
        if any(one.id == self.rollout.id for one in rollouts.open_rollouts(self.registry)):
            self._end()

    def _begin(self, share: float) -> Rollout:
        return rollouts.set_share(self.registry, self.rollout.deployment, share, "rehearsal", self.known.by)

    def _end(self) -> Rollout:
        return rollouts.rollback(self.registry, self.rollout.deployment, "rehearsal", self.known.by)

    def _learn(self, **facts: object) -> None:
        self.known = msgspec.structs.replace(self.known, **facts)

    def _carried_out(self, rollout: Rollout, seconds: float) -> None:
        progress = wait_until_done(self.url, rollout.awaited(), seconds, self.tell)
        if progress.state != "done":
            raise Failed(progress.reason or f"it was not carried out in {seconds:.0f} s")

    def _switched(self, prober: Prober, change: Callable[[], Rollout], gone: str, to: str) -> Switch:
        decided = time.monotonic()
        self._carried_out(change(), SWITCH_SECONDS)
        if not prober.settles_on(to, _IN_A_ROW, SWITCH_SECONDS):
            raise Failed(f"calls are not answered by {to} after the switch: {_last(prober)}")
        found = switch_of(prober.seen(), decided, gone)
        if found.failed:
            raise Failed(f"{found.failed} of {found.calls} calls failed in the switch to {to}: {found.failure}")
        return found

    def _takes_the_same_rows(self, key: str) -> None:
        """See that the other version takes rows as the present one does."""
        from modelyard.protocol import rows

        bundle = self.registry.bundle(self.registry.version(self.known.present))
        golden = bundle.golden()
        chosen = golden.inputs.take(golden.answered()[:_ROWS])
        body = rows.write_request(chosen, bundle.manifest.schema)
        seen = ask(self.url, self.rollout.deployment, body, {"X-Modelyard-Key": key})
        if seen.failure:
            raise Failed(f"{self.known.other} does not take rows that {self.known.present} takes: {seen.failure}")


def _last(prober: Prober) -> str:
    seen = prober.seen()[-1:]
    return "no call came to an end" if not seen else seen[0].failure or f"{seen[0].version} answers"


def _keep(registry: Registry, found: Rehearsal) -> None:
    values = {"deployment": found.deployment, "at": found.at, "document": msgspec.json.encode(found)}
    with registry.database.write() as connection:
        connection.execute(insert(rehearsals).values(**values))


def rehearsed(registry: Registry, deployment: str) -> tuple[Rehearsal, ...]:
    """All rehearsals of a deployment, the last one first."""
    asked = select(rehearsals.c.document).where(rehearsals.c.deployment == deployment)
    with registry.database.read() as connection:
        found = connection.execute(asked.order_by(rehearsals.c.id.desc())).scalars().all()
    return tuple(msgspec.json.decode(document, type=Rehearsal) for document in found)


def last_rehearsals(registry: Registry, names: Collection[str]) -> dict[str, Rehearsal]:
    """The last rehearsal of each of these deployments that had one."""
    table = rehearsals.c
    newest = select(func.max(table.id)).where(table.deployment.in_(names)).group_by(table.deployment)
    with registry.database.read() as connection:
        found = connection.execute(select(table.document).where(table.id.in_(newest))).scalars().all()
    last = [msgspec.json.decode(document, type=Rehearsal) for document in found]
    return {one.deployment: one for one in last}


def end_forgotten(registry: Registry, now: datetime) -> tuple[str, ...]:
    """End rehearsals whose process is gone, so that nothing stays open; the deployments that had one."""
    ended = list[str]()
    for rollout in rollouts.open_rollouts(registry):
        if rollout.strategy == "rehearsal" and now - rollout.changes[-1].at > FORGOTTEN:
            try:
                rollouts.rollback(registry, rollout.deployment, "the rehearsal was not brought to its end")
            except RolloutNotFound:  # somebody else was quicker
                continue
            ended.append(rollout.deployment)
    return tuple(ended)
