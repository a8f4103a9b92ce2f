"""What a rollout has come to that people steer, from all its records at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import msgspec

from modelyard.records.recent import RecentRecords
from modelyard.rollout import evidence
from modelyard.rollout.evidence import Evidence
from modelyard.rollout.gathering import gather
from modelyard.rollout.policy import Policy, Rule, Step
from modelyard.rollout.subject import LONGEST, Period, Subject
from modelyard.rollout.telling import Told, told

_PARTS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.55, 0.75, 1.0)
"""Records are taken in these parts of each period, so that what is expected of a part follows from those before it."""


def come_to(records: str | Path, subject: Subject, periods: Sequence[Period], objective_ms: float) -> tuple[Told, ...]:
    """How both versions did over the calls that were divided, or on the rows that both answered, up to the last moment.

    Raises:
        Unavailable, Failed: the records cannot be reached or read.
    """
    if not periods:
        return ()
    share = periods[-1].share
    policy = Policy(strategy="ab" if share else "shadow", steps=(Step(share),), rules=_rules(share, objective_ms))
    found, recent = evidence.start(policy), RecentRecords(records)
    try:
        for period in periods:
            found = _taken(recent, subject, period, periods[-1].ended, policy, found)
    finally:
        recent.close()
    return tuple(one for one in told(found, policy, 0) if one.baseline or one.candidate)


def _rules(share: float, objective_ms: float) -> tuple[Rule, ...]:
    """What is measured where no policy says it; nothing is decided by these margins."""
    rules = (Rule("errors", 0.0), Rule("refusals", 0.0), Rule("slow", 0.0, objective_ms=objective_ms))
    answers = (Rule("unusable", 0.0), Rule("wrong", 0.0))
    return (*rules, *answers, *(() if share else (Rule("different", 0.0),)))


def _taken(
    recent: RecentRecords, subject: Subject, period: Period, until: datetime, policy: Policy, found: Evidence
) -> Evidence:
    """With the calls that arrived in a period, and their labels up to now."""
    if period.share >= 1.0:
        return found
    mine = msgspec.structs.replace(subject, arrived=period.began, ended=period.ended)
    for since, before in _pieces(period, until):
        batch = gather(recent, mine, since, before, period.share, policy)
        found = evidence.take(found, batch, period.share)
    return found


def _pieces(period: Period, until: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Parts of a period, and the time after it, in which its last calls end and its labels come."""
    length = period.ended - period.began
    yield from pairwise(period.began + part * length for part in _PARTS)
    last = min(period.ended + LONGEST, until)
    if last > period.ended:
        yield period.ended, last
    if until > last:
        yield last, until
