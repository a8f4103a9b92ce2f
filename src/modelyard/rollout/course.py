"""Where a rollout with a policy stands, and how it goes from one look to the next: pure, with no input or output.

A *stretch* is a time in which all workers were seen to divide the calls by one share. Only calls that arrived in one
count, each by the share of its stretch: not those between a decision and the moment at which everybody follows it, and
not those while the candidate could not answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import msgspec

from modelyard.rollout.decision import Decision, Measured, Snapshot
from modelyard.rollout.evidence import Evidence, start
from modelyard.rollout.policy import Policy
from modelyard.rollout.subject import LAG, LONGEST

GAP_SECONDS = 60.0
"""At most so much of the time between two looks counts as time of a step: who did not look does not know better."""

SELDOM = timedelta(seconds=10)
"""So often are stretches that ended long ago looked at; only labels can still come for them."""

KEPT = 40
"""So many stretches are kept, the latest; of those before, labels do not count any more."""


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """A time in which `share` of the calls went to the candidate: from `began` until it `ended`, if it did.

    `seen` is when that was last seen to be so, `taken` up to when what ended or was labelled has been counted.
    """

    share: float
    began: datetime
    taken: datetime
    seen: datetime
    ended: datetime | None = None


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """Where a rollout stands.

    `entered` is the number of the decision that began the step, `spent` for how many seconds the step has lasted,
    without pauses; `looked` the moment of the last look and `decision` what came of it. `unready` says why the
    candidate does not do what the step asks of it, and is empty when it does; `lost_since`, from when on it could not
    be opened, where that is why.
    """

    policy: Policy
    step: int
    entered: int
    looked: datetime
    evidence: Evidence
    spent: float = 0.0
    stretches: tuple[Stretch, ...] = ()
    unready: str = ""
    lost_since: datetime | None = None
    decision: Decision | None = None
    noted: datetime | None = None
    """When a decision was last stored."""

    @property
    def share(self) -> float:
        """Which part of the calls the candidate has at this step."""
        return self.policy.steps[self.step].share

    @property
    def current(self) -> Stretch | None:
        """The stretch that goes on, if one does."""
        last = self.stretches[-1] if self.stretches else None
        return last if last is not None and last.ended is None else None


def begin(policy: Policy, entered: int, now: datetime) -> Course:
    """Before the first step is carried out."""
    return Course(policy=policy, step=0, entered=entered, looked=now, evidence=start(policy))


def move(course: Course, step: int, entered: int, now: datetime) -> Course:
    """At another step from now on: what calls are divided by may change at any moment from here."""
    ended = _ended(course.stretches, now)
    return msgspec.structs.replace(
        course, step=step, entered=entered, looked=now, spent=0.0, stretches=ended, decision=None
    )


def look(course: Course, now: datetime, unready: str = "", *, lost: bool = False, paused: bool = False) -> Course:
    """The same after a look at the data plane; the time of a step stands still while it is `paused`.

    `unready` says why it does not carry the step out, if it does not, and `lost` whether that is as it cannot.
    """
    stretches, last = course.stretches, course.current
    spent = course.spent
    if unready:
        # Nobody knows when it began, but it was well when it was last seen.
        stretches = _ended(stretches, now if last is None else last.seen)
    elif last is None:
        stretches = (*stretches, Stretch(share=course.share, began=now, taken=now, seen=now))[-KEPT:]
    else:
        stretches = (*stretches[:-1], msgspec.structs.replace(last, seen=now))
        spent += 0.0 if paused else _passed(course, now)
    since = (course.lost_since or now) if unready and lost else None
    return msgspec.structs.replace(
        course, looked=now, spent=spent, stretches=stretches, unready=unready, lost_since=since
    )


def _passed(course: Course, now: datetime) -> float:
    """The time since the last look, which does not count in a pause."""
    if course.decision is not None and course.decision.action == "pause":
        return 0.0
    return min(max((now - course.looked).total_seconds(), 0.0), GAP_SECONDS)


def due(course: Course, now: datetime) -> Iterator[tuple[int, Stretch, datetime]]:
    """Of which stretches more is to be counted, and up to when; by number, oldest first."""
    until = now - LAG
    for number, stretch in enumerate(course.stretches):
        is_over = stretch.ended is not None and stretch.ended + LONGEST < stretch.taken
        if stretch.share >= 1.0:  # everybody had the candidate: there is nothing to compare
            continue
        if until - stretch.taken > (SELDOM if is_over else timedelta()):
            yield number, stretch, until


def take(course: Course, number: int, until: datetime, evidence: Evidence) -> Course:
    """The same with `evidence`, which has all that a stretch gave up to some moment."""
    taken = msgspec.structs.replace(course.stretches[number], taken=until)
    stretches = (*course.stretches[:number], taken, *course.stretches[number + 1 :])
    return msgspec.structs.replace(course, stretches=stretches, evidence=evidence)


def snapshot(course: Course, measured: tuple[Measured, ...], paused: str, approved: tuple[str, ...]) -> Snapshot:
    """What the next decision may look at."""
    since = course.lost_since
    return Snapshot(
        course.policy,
        course.step,
        round(course.spent, 3),
        measured,
        paused=paused,
        approved=approved,
        unready=course.unready,
        lost_seconds=0.0 if since is None else (course.looked - since).total_seconds(),
    )


def decided(course: Course, decision: Decision, noted: datetime | None) -> Course:
    """The same with what was decided, and when that was last stored."""
    return msgspec.structs.replace(course, decision=decision, noted=noted)


def _ended(stretches: tuple[Stretch, ...], now: datetime) -> tuple[Stretch, ...]:
    if not stretches or stretches[-1].ended is not None:
        return stretches
    return (*stretches[:-1], msgspec.structs.replace(stretches[-1], ended=now))
