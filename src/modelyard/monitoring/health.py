"""Numerical health of answers, and the age of a version.

*Not finite.* An answer that is missing, NaN or infinite where the reference never had one is a defect of the model or
of its inputs; that needs no statistics.

*Constant.* If no value of a column has more than the share p of rows, the chance that n independent rows all have the
same value is at most p^(n-1): it is the sum of p_v^n over the values v, which is at most p^(n-1) times the sum of p_v.
So p^(1-n) for a constant window, and 0 for any other, is an e-value, which is added up over windows as
`modelyard.monitoring.detector` does it. The share p is what the reference leaves possible (Chernoff's bound). The same
question asked again and again gets the same answer, so only different rows of inputs count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache

import msgspec
import numpy as np

from modelyard.monitoring.calls import KEPT, Calls
from modelyard.monitoring.facets import likely_range
from modelyard.monitoring.findings import Finding
from modelyard.monitoring.reference import Reference
from modelyard.monitoring.settings import Settings
from modelyard.monitoring.slots import NumberSlots, Slots, Tally
from modelyard.monitoring.watching import Snapshot

_DAY = 86_400.0


class HealthState(msgspec.Struct, frozen=True):
    """For each answer that has been constant: the logarithm of what was gathered (in seconds), and since when."""

    constant: Mapping[str, tuple[float, datetime]] = {}
    not_finite: Mapping[str, datetime] = {}


class Health:
    """Answers that are missing, NaN, infinite, or always the same."""

    name = "health"
    share = 0.02
    state = HealthState

    def start(self, reference: Reference, settings: Settings) -> HealthState:
        """Nothing gathered."""
        return HealthState()

    def look(self, state: HealthState, snapshot: Snapshot) -> tuple[HealthState, list[Finding]]:
        """Take a window in. One without answers changes nothing."""
        columns = snapshot.window.columns if snapshot.window is not None else {}
        answers = {name: columns[name] for name in snapshot.outputs if name in columns}
        if not answers:
            return state, []
        findings: list[Finding] = []
        constant, not_finite = dict(state.constant), dict(state.not_finite)
        judged = _judged(answers, snapshot.reference)
        for name, tally in answers.items():
            slots = snapshot.reference.slots[name]
            bad = self._not_finite(snapshot, name, tally, not_finite.get(name))
            if bad is None:
                not_finite.pop(name, None)
            else:
                findings.append(bad)
                not_finite[name] = bad.since or snapshot.began
            gathered = _gathered(constant.pop(name, None), slots, tally, snapshot, len(answers))
            if gathered is None or name not in judged:
                continue
            found = _constant(snapshot, name, slots, tally, gathered)
            findings += [found] if found is not None else []
            if found is None or not found.alarm:
                constant[name] = gathered
        return HealthState(constant, not_finite), findings

    def _not_finite(self, snapshot: Snapshot, name: str, tally: Tally, since: datetime | None) -> Finding | None:
        slots = snapshot.reference.slots[name]
        now, before = _bad(slots, tally.counts), _bad(slots, slots.reference)
        rows = int(tally.counts.sum())
        if not now or before:  # some were there before: whether there are more is a question of drift
            return None
        return snapshot.finding(
            "health.not_finite",
            f"{name}: {now:,} of {rows:,} answers are missing, NaN or infinite; none was in the reference",
            subject=name,
            evidence=math.inf,
            effect=now / rows,
            since=since or snapshot.began,
            details={"answers": rows, "not_finite": now},
        )


def _judged(answers: Mapping[str, Tally], reference: Reference) -> set[str]:
    """The answers that should not be constant.

    Where the chances of classes vary the model works, and that they all lead to one class for a while is no defect: the
    watch of drift sees it.
    """
    chances = {name for name in answers if name.endswith("]")}
    vary = any(not _is_constant(reference.slots[name], answers[name]) for name in chances)
    return chances if vary else set(answers)


def _bad(slots: Slots, counts: np.ndarray[tuple[int], np.dtype[np.int64]]) -> int:
    infinite = int(counts[slots.INFINITE]) if isinstance(slots, NumberSlots) else 0
    return int(counts[slots.MISSING]) + infinite


def different_rows(calls: Calls, rows: int) -> int:
    """How many of so many answered rows asked something different, at least.

    >>> different_rows(Calls(), 30)
    30
    """
    kept = len(calls.repeated.kept)
    if not kept:
        return rows
    return min(rows, kept) if kept < KEPT else min(rows, max(kept, int(rows * (1 - calls.repeated.share))))


def _gathered(
    before: tuple[float, datetime] | None, slots: Slots, tally: Tally, snapshot: Snapshot, answers: int
) -> tuple[float, datetime] | None:
    """What has been gathered after this window; None where it is not constant."""
    rows = int(tally.counts.sum()) - _bad(slots, tally.counts)
    if rows < 1 or not _is_constant(slots, tally):
        return None
    log, since = before or (-math.inf, snapshot.began)
    different = different_rows(snapshot.calls, rows) / snapshot.settings.grouped
    time = math.log(snapshot.seconds / answers)
    return float(np.logaddexp(log, time)) - max(0.0, different - 1) * math.log(commonest(slots)), since


def _is_constant(slots: Slots, tally: Tally) -> bool:
    if isinstance(slots, NumberSlots):
        return tally.moments is not None and tally.moments.n > 0 and tally.moments.least == tally.moments.largest
    there = np.flatnonzero(tally.counts)
    return set(there.tolist()) <= {slots.MISSING, int(there[-1])} and int(there[-1]) >= slots.FIRST


@lru_cache(maxsize=1024)
def commonest(slots: Slots) -> float:
    """The share that the commonest value may have, given the reference; a bin of numbers counts as one value."""
    counts = slots.reference.copy()
    counts[slots.MISSING] = 0
    whole = float(counts.sum())
    if not whole:
        return 1.0
    _, high = likely_range(np.array([counts.max()]), np.array([whole]), np.array([math.log(100 * len(counts))]))
    return float(min(1.0, high[0]))


def _constant(
    snapshot: Snapshot, name: str, slots: Slots, tally: Tally, gathered: tuple[float, datetime]
) -> Finding | None:
    log, since = gathered
    settings = snapshot.settings
    evidence = math.exp(min(700.0, log))
    if evidence < settings.needed / 100:
        return None
    value = _value(slots, tally)
    return snapshot.finding(
        "health.constant",
        f"{name} is always {value}; in the reference no value has more than {commonest(slots):.1%} of the rows",
        subject=name,
        evidence=evidence,
        needed=settings.needed,
        effect=1 - commonest(slots),
        margin=settings.distance,
        since=since,
        details={"value": value},
    )


def _value(slots: Slots, tally: Tally) -> str:
    if isinstance(slots, NumberSlots):
        return f"{tally.moments.least:.6g}" if tally.moments and tally.moments.least is not None else "the same"
    return slots.label(int(np.flatnonzero(tally.counts)[-1]))


class AgeState(msgspec.Struct, frozen=True):
    """Nothing has to be remembered."""


class Staleness:
    """Versions that answer for longer than they may (`Settings.max_age`), by event time."""

    name = "staleness"
    share = 0.0
    state = AgeState

    def start(self, reference: Reference, settings: Settings) -> AgeState:
        """Nothing."""
        return AgeState()

    def look(self, state: AgeState, snapshot: Snapshot) -> tuple[AgeState, list[Finding]]:
        """Compare the version's age with the limit; without a limit nothing is said."""
        limit = snapshot.settings.max_age
        if not limit or snapshot.made is None or not snapshot.calls.rows:
            return state, []
        age = (snapshot.ended - snapshot.made).total_seconds()
        if age < limit * 0.9:
            return state, []
        over = "older than" if age > limit else "soon older than"
        said = f"made {age / _DAY:.1f} days ago, {over} the {limit / _DAY:.4g} days of max_age"
        found = snapshot.finding("staleness.age", said, evidence=math.inf, effect=age, margin=limit)
        return state, [found]
