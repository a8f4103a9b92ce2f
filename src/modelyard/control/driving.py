"""Drives rollouts that have a policy: looks, measures, decides, and carries the decision out, about once a second.

Nothing but the database is needed to go on after the control plane died: evidence, and up to when it was gathered, are
kept with every decision in one transaction, and what the records have got since is counted with the next look.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

import msgspec

from modelyard.control import courses, rollouts, steering
from modelyard.control.courses import Standing
from modelyard.control.rollouts import ITSELF, Rollout
from modelyard.control.up import running
from modelyard.control.watch import Sighting, look
from modelyard.domain.desired import CANDIDATE
from modelyard.domain.names import Ref
from modelyard.errors import Conflict, InvalidRequest, ModelyardError, RolloutNotFound, ServiceUnreachable
from modelyard.registry import Registry
from modelyard.rollout import course as courses_of
from modelyard.rollout import evidence as evidences
from modelyard.rollout.course import Course
from modelyard.rollout.decision import Decision, Measured, Snapshot, Verdict, decide
from modelyard.rollout.subject import Subject
from modelyard.rollout.telling import Told, told

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from modelyard.rollout.following import Following

LOOK_SECONDS = 1.0
NOTE = timedelta(minutes=1)
"""A decision is stored when it, or a verdict, is another than before, and else as often as this."""

KEEP = timedelta(seconds=2)
"""Where a rollout stands is stored with each decision, and else as often as this."""

_log = logging.getLogger("modelyard.control")


def unready(rollout: Rollout, course: Course, seen: Sighting | str) -> str:
    """Why the data plane does not carry out now what the step of a rollout asks for; empty when it does.

    `seen` is what it says of itself, or why it says nothing.
    """
    if isinstance(seen, str):
        return seen
    if seen.generation < course.entered:
        return "not all workers have seen the step yet"
    served = seen.find(rollout.deployment + CANDIDATE)
    if served is None:
        return "the candidate is about to be loaded"
    ref = Ref.parse(rollout.candidate)
    if (served.model, served.version, served.state) == (ref.model, ref.version, "READY"):
        return ""
    wanted = served.wanted
    state, reason = (served.state, served.reason) if wanted is None else (wanted.state, wanted.reason)
    return f"the candidate is {state.lower()}" + (f": {reason}" if reason else "")


def is_lost(seen: Sighting | str, rollout: Rollout) -> bool:
    """Whether the candidate could not be opened, rather than not yet."""
    if isinstance(seen, str):
        return False
    served = seen.find(rollout.deployment + CANDIDATE)
    if served is None:
        return False
    return (served.wanted.state if served.wanted else served.state) == "UNAVAILABLE"


@dataclass(slots=True)
class Driver:
    """Drives all open rollouts of a registry that have a policy; for one thread."""

    registry: Registry
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    _standings: dict[int, Standing] = field(default_factory=dict)
    _subjects: dict[int, Subject] = field(default_factory=dict)
    _stored: dict[int, datetime] = field(default_factory=dict)
    _following: Following | None = None

    def prepare(self) -> None:
        """Load what a look needs, so that the first look at a rollout does not wait for it."""
        from modelyard.monitoring.performance import task  # noqa: F401 - loaded for those who need it later
        from modelyard.rollout import following  # noqa: F401 - likewise

    def close(self) -> None:
        """Let go of the records."""
        if self._following is not None:
            self._following.close()
            self._following = None

    def look(self) -> list[Decision]:
        """One look at every open rollout that has a policy; what was decided."""
        mine = self._open()
        if not mine:
            self.close()
            return []
        seen = sight(self.registry)
        made = []
        for rollout in mine:
            with suppress(Conflict, RolloutNotFound):  # somebody was quicker: the next look sees what they did
                made.append(self._drive(rollout, seen))
        return made

    def _open(self) -> list[Rollout]:
        """Those that go on by themselves, with where they stand."""
        with self.registry.database.read() as connection:
            mine = [one for one in rollouts.open_in(connection) if one.strategy == "canary" and one.state == "open"]
            newest = courses.revisions(connection, [one.id for one in mine])
            for rollout in mine:
                known = self._standings.get(rollout.id)
                if known is None or known.revision != newest.get(rollout.id):
                    found = courses.read(connection, rollout.id)
                    if found is not None:
                        self._standings[rollout.id] = found
        for kept in (self._standings, self._subjects, self._stored):
            for gone in kept.keys() - newest.keys():
                del kept[gone]
        return [one for one in mine if one.id in self._standings]

    def _drive(self, rollout: Rollout, seen: Sighting | str) -> Decision:
        standing, now = self._standings[rollout.id], self.clock()
        before = standing.course
        course = courses_of.look(
            before, now, unready(rollout, before, seen), lost=is_lost(seen, rollout), paused=bool(rollout.paused)
        )
        course, measured = self._measured(rollout, course, now)
        snapshot = courses_of.snapshot(course, measured, rollout.paused, rollout.approved)
        decision = decide(snapshot)
        is_new = before.decision is None or _kind(decision) != _kind(before.decision)
        is_noted = is_new or course.noted is None or now - course.noted >= NOTE
        course = courses_of.decided(course, decision, now if is_noted else course.noted)
        if is_noted or now - self._stored.get(rollout.id, before.looked) >= KEEP or rollout.id not in self._stored:
            self._keep(rollout, Standing(course, standing.revision), snapshot if is_noted else None)
        else:
            self._standings[rollout.id] = Standing(course, standing.revision)
        if is_new:
            _log.info("%s to %s: %s: %s", rollout.deployment, rollout.candidate, decision.action, decision.reason)
        return decision

    def _measured(self, rollout: Rollout, course: Course, now: datetime) -> tuple[Course, tuple[Measured, ...]]:
        """With what the records have got since; what cannot be read now is read the next time."""
        try:
            for number, stretch, until in courses_of.due(course, now):
                mine = msgspec.structs.replace(self._subject(rollout), arrived=stretch.began, ended=stretch.ended)
                found = self._follower().take(course.evidence, mine, stretch.taken, until, stretch.share, course.policy)
                course = courses_of.take(course, number, until, found)
            return course, evidences.measured(course.evidence, course.policy, course.step)
        except (ModelyardError, OSError) as error:
            self.close()  # what was read before may be what is wrong
            why = f"the records cannot be read: {error}"
            return course, tuple(Measured(rule.metric, broken=why) for rule in course.policy.rules)

    def _keep(self, rollout: Rollout, standing: Standing, noted: Snapshot | None) -> None:
        """Store where it stands and, in the same transaction, what was decided and its consequence."""
        course = standing.course
        self._standings.pop(rollout.id)  # until it is known to be stored
        with self.registry.database.write() as connection:
            present = rollouts.still_open(connection, rollout.deployment)
            if present.changes[-1].generation != rollout.changes[-1].generation:
                raise Conflict(f"the rollout of {rollout.deployment!r} was changed by somebody else")
            stored = courses.write(connection, rollout.id, course, standing.revision)
            if noted is not None and course.decision is not None:
                found = told(course.evidence, course.policy, course.step)
                courses.note(connection, rollout.id, course.looked, noted, course.decision, found)
                _carry_out(connection, rollout, stored, course.decision, found)
        self._stored[rollout.id] = course.looked
        if course.decision is None or course.decision.action not in ("advance", "promote", "rollback"):
            self._standings[rollout.id] = stored

    def _follower(self) -> Following:
        if self._following is None:
            from modelyard.rollout.following import Following

            self._following = Following(self.registry.home.records)
        return self._following

    def _subject(self, rollout: Rollout) -> Subject:
        if rollout.id not in self._subjects:
            self._subjects[rollout.id] = subject_of(self.registry, rollout)
        return self._subjects[rollout.id]


def subject_of(registry: Registry, rollout: Rollout) -> Subject:
    """Who is compared in a rollout, and what their answers are."""
    from modelyard.monitoring.performance.task import Aim, Task
    from modelyard.rollout.cuts import cuts_of

    cuts: tuple[float, ...] = ()
    try:
        task = Task.of(registry.bundle(registry.version(rollout.candidate)).manifest.schema)
        if task.aim is Aim.REGRESSION:
            cuts = cuts_of(registry.bundle(registry.version(rollout.before)).profile(), task.answer)
    except InvalidRequest:  # it answers nothing that labels could be compared with
        task = None
    return Subject(
        deployment=rollout.deployment,
        baseline=rollout.before,
        candidate=rollout.candidate,
        began=rollout.changes[0].at,
        task=task,
        cuts=cuts,
    )


def _kind(decision: Decision) -> Any:
    """What has to change for a decision to be another one; its reason tells seconds, which always do."""
    said = "" if decision.action == "wait" else decision.reason
    return decision.action, decision.verdicts, said


def _carry_out(
    connection: Connection, rollout: Rollout, standing: Standing, decision: Decision, found: tuple[Told, ...]
) -> None:
    if decision.action == "advance":
        steering.take_step(connection, rollout, standing, decision.reason, ITSELF)
    elif decision.action == "promote":
        rollouts.take_over(connection, rollout, decision.reason, ITSELF)
    elif decision.action == "rollback":
        figures = "; ".join(map(_figures, (one for one in found if one.verdict is Verdict.FAILED)))
        rollouts.take_back(connection, rollout, decision.reason + (figures and f" ({figures})"), ITSELF)


def _figures(one: Told) -> str:
    """The numbers behind a verdict, for whoever reads the reason only."""
    said = f"{one.metric}:"
    if one.candidate_rate is not None and one.baseline_rate is not None:
        said += f" {one.candidate_rate:.2%} of {one.candidate:,.0f} against {one.baseline_rate:.2%} of "
        said += f"{one.baseline:,.0f},"
    least = "" if one.low is None else f" at least {one.low * 100:+.3g} points,"
    return f"{said}{least} margin {one.margin * 100:.3g} points"


def sight(registry: Registry) -> Sighting | str:
    """What the data plane says of itself, or why it says nothing."""
    there = running(registry.home)
    if there is None:
        return "nothing runs on this home"
    try:
        return look(there.data.url)
    except ServiceUnreachable as error:
        return str(error)


class Driving:
    """A `Driver` in a thread of its own."""

    def __init__(self, registry: Registry) -> None:
        self._driver, self._over = Driver(registry), threading.Event()
        self._thread = threading.Thread(target=self._run, name="driving", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        self._driver.prepare()
        pause = LOOK_SECONDS
        while not self._over.wait(pause):
            began = time.monotonic()
            try:
                self._driver.look()
            except ModelyardError as error:
                _log.warning("rollouts cannot be driven now: %s", error)
            except Exception:  # noqa: BLE001 - a loop that ends would leave every rollout where it is, and nobody would know
                _log.exception("rollouts cannot be driven now")
            # At most half of the time is spent on looking, however long a look takes.
            pause = max(LOOK_SECONDS - (time.monotonic() - began), (time.monotonic() - began), 0.1)
        self._driver.close()
