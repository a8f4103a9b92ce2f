"""Columns that are stuck at one value, exchanged with another, or full of repeated rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import combinations
from typing import Any

import msgspec
import numpy as np

from modelyard.monitoring.calls import KEPT, Repeats
from modelyard.monitoring.effects import effect, total_variation
from modelyard.monitoring.facets import likely_range
from modelyard.monitoring.findings import Finding
from modelyard.monitoring.reference import Reference
from modelyard.monitoring.rhythm import DAY
from modelyard.monitoring.settings import Settings
from modelyard.monitoring.slots import NumberSlots, Slots, Tally, ValueSlots
from modelyard.monitoring.watching import Snapshot

_FAR = 0.3
"""Each of two exchanged columns is at least so far from its own reference."""

_NEAR = 0.5
"""And not further than so many standard deviations (or, of values, so large a part) from the other's."""

_MORE = 0.2
"""So much larger a part of rows may be repeated than was usual."""


class StuckState(msgspec.Struct, frozen=True):
    """The one value that each column has had, since when, in how many rows; which columns varied within a window."""

    values: Mapping[str, tuple[str, datetime, int]] = {}
    varied: tuple[str, ...] = ()


class Stuck:
    """Inputs that varied within windows, and now have had one and the same value for a day or longer.

    If no slot has more than the share p of rows, n rows are all in one slot with a probability of at most p^(n-1). The
    share is what the reference leaves possible (Chernoff's bound). What never varied within a window goes with time by
    its nature, as the hour or the month do, and is not taken for stuck.
    """

    name = "quality.stuck"
    share = 0.02
    state = StuckState

    def start(self, reference: Reference, settings: Settings) -> StuckState:
        """Nothing stuck."""
        return StuckState()

    def look(self, state: StuckState, snapshot: Snapshot) -> tuple[StuckState, list[Finding]]:
        """Take a window in; one without rows changes nothing."""
        if snapshot.window is None:
            return state, []
        values: dict[str, tuple[str, datetime, int]] = {}
        varied = set(state.varied)
        findings: list[Finding] = []
        for name, tally in snapshot.window.columns.items():
            value = None if name in snapshot.outputs else _only(snapshot.reference.slots[name], tally)
            if value is None:
                varied |= {name} if np.count_nonzero(tally.counts) > 1 else set()
                continue
            before = state.values.get(name)
            since, rows = (before[1], before[2]) if before and before[0] == value else (snapshot.began, 0)
            values[name] = (value, since, rows + int(tally.counts.sum()))
            if name in varied and (snapshot.ended - since).total_seconds() >= DAY:
                findings += _stuck(snapshot, name, *values[name])
        return StuckState(values, tuple(sorted(varied))), findings


def _only(slots: Slots, tally: Tally) -> str | None:
    """The one value that all rows have; None if there are others. That all are missing is told elsewhere."""
    held = np.flatnonzero(tally.counts)
    if len(held) != 1 or held[0] == slots.MISSING:
        return None
    if isinstance(slots, NumberSlots):
        found = tally.moments
        return f"{found.least:.6g}" if found is not None and found.n and found.least == found.largest else None
    return slots.label(int(held[0])) if held[0] >= slots.FIRST else None


def _stuck(snapshot: Snapshot, name: str, value: str, since: datetime, rows: int) -> Iterator[Finding]:
    slots, settings = snapshot.reference.slots[name], snapshot.settings
    whole, most = int(slots.reference.sum()), int(slots.reference.max(initial=0))
    if not whole:
        return
    error = math.log(slots.size * len(snapshot.reference.slots) / (1 - settings.certainty))
    _, high = likely_range(np.array([most]), np.array([whole]), np.array([error]))
    log = -(rows / settings.grouped - 1) * math.log(max(float(high[0]), 1e-300))
    yield snapshot.finding(
        "quality.stuck",
        f"{name}: {value} in all of {rows:,} rows",
        subject=name,
        evidence=snapshot.seconds * math.exp(min(max(log, 0.0), 300.0)) / len(snapshot.reference.slots),
        needed=settings.needed,
        effect=1.0 - most / whole,
        margin=settings.distance,
        since=since,
    )


class NoState(msgspec.Struct, frozen=True):
    """Nothing is kept."""


class Exchanged:
    """Pairs of inputs of which each looks as the other did in the reference, and not as it did itself.

    That each is far from its own reference by chance has a probability of at most 2 exp(-2 m d^2) (Massart 1990, of the
    inequality of Dvoretzky, Kiefer and Wolfowitz), with d the distance beyond the margin and m = n N / (n + N) for n
    rows in the window and N in the reference; the columns share what the watch may spend.
    """

    name = "quality.exchanged"
    share = 0.01
    state = NoState

    def start(self, reference: Reference, settings: Settings) -> NoState:
        """Nothing to keep."""
        return NoState()

    def look(self, state: NoState, snapshot: Snapshot) -> tuple[NoState, list[Finding]]:
        """Take a window in."""
        if snapshot.window is None:
            return state, []
        tallies = snapshot.window.columns
        far: dict[str, float] = {}
        for name in (name for name in tallies if name not in snapshot.outputs):
            slots = snapshot.reference.slots[name]
            distance = _own_distance(slots, tallies[name])
            if distance > _FAR:
                far[name] = distance
        pairs = [
            (one, other)
            for one, other in combinations(sorted(far), 2)
            if _like(snapshot.reference, other, one, tallies[one])
            and _like(snapshot.reference, one, other, tallies[other])
        ]
        return state, [_exchange(snapshot, *pair, min(far[name] for name in pair)) for pair in pairs]


def _own_distance(slots: Slots, tally: Tally) -> float:
    if isinstance(slots, ValueSlots):  # what was never seen is a difference as well
        there = np.arange(slots.size) != slots.MISSING
        return total_variation(slots.reference[there], tally.counts[there])
    return effect(slots, slots.reference, tally.counts).distance


def _like(reference: Reference, column: str, other: str, tally: Tally) -> bool:
    """Whether what was counted for the other column looks as this one did in the reference."""
    slots, own, described = reference.slots[column], reference.slots[other], reference.described[column]
    if isinstance(slots, NumberSlots) or isinstance(own, NumberSlots):
        return slots.kind == own.kind and _like_numbers(described, tally)
    before = {str(value): count for value, count in described["values"]}
    now = {str(name): int(count) for name, count in zip(own.names, tally.counts[own.FIRST :].tolist(), strict=True)}
    now |= {name: count for _, name, count in tally.newcomers.kept} if tally.newcomers is not None else {}
    names = sorted(before.keys() | now.keys())
    shares = [np.array([counts.get(name, 0) for name in names]) for counts in (before, now)]
    return bool(all(each.sum() for each in shares)) and total_variation(*shares) < _NEAR


def _like_numbers(described: Mapping[str, Any], tally: Tally) -> bool:
    """By mean, spread and extremes, which are known whatever slots values were counted in."""
    found, rows = tally.moments, described["n"] - described["missing"] - described.get("infinite", 0)
    if found is None or found.mean is None or found.least is None or found.largest is None or not rows:
        return False
    if described["sum"] is None or described["sumsq"] is None:
        return False
    mean = described["sum"] / rows
    spread = math.sqrt(max(described["sumsq"] / rows - mean * mean, 0.0))
    near = abs(found.mean - mean) <= _NEAR * spread and _NEAR * spread <= (found.deviation or 0.0) <= spread / _NEAR
    within = described["min"] - spread <= found.least and found.largest <= described["max"] + spread
    return bool(spread > 0 and near and within)


def _exchange(snapshot: Snapshot, one: str, other: str, apart: float) -> Finding:
    assert snapshot.window is not None  # noqa: S101 - only windows have pairs
    settings, rows, known = snapshot.settings, snapshot.window.rows, snapshot.reference.rows
    effective = rows * known / max(rows + known, 1) / settings.grouped
    log = 2 * effective * max(0.0, apart - settings.distance) ** 2
    return snapshot.finding(
        "quality.exchanged",
        f"{one} and {other} look exchanged: each looks as the other did",
        subject=f"{one}, {other}",
        evidence=snapshot.seconds * math.exp(min(log, 300.0)) / (2 * len(snapshot.reference.slots)),
        needed=settings.needed,
        effect=apart,
        margin=settings.distance,
        since=snapshot.began,
        # What else is found of the two columns follows from it: it is read before any of that.
        details={"rank": 2.0 / min(settings.distance, settings.missing)},
    )


class RepeatedState(msgspec.Struct, frozen=True):
    """Repeats in the first windows, until there were enough of them to tell what is usual."""

    usual: Repeats = Repeats()


class Repeated:
    """Rows that come again and again: more of them than in the version's first windows.

    Judged by an even sample of a window's different rows (`Repeats`): which part of them came more than once. By
    Hoeffding's bound a window of a steady source exceeds what is usual by so much with a probability of at most
    exp(-2 k d^2), for k sampled rows and d the difference beyond the margin.
    """

    name = "quality.duplicates"
    share = 0.01
    state = RepeatedState

    def start(self, reference: Reference, settings: Settings) -> RepeatedState:
        """Nothing is usual yet."""
        return RepeatedState()

    def look(self, state: RepeatedState, snapshot: Snapshot) -> tuple[RepeatedState, list[Finding]]:
        """Take a window in."""
        now = snapshot.calls.repeated
        sampled = len(now.kept)
        if not sampled:
            return state, []
        if len(state.usual.kept) < KEPT:
            return RepeatedState(state.usual + now), []
        before, share = _again(state.usual), _again(now)
        log = 2 * sampled * max(0.0, share - before - _MORE) ** 2
        if share <= before + _MORE:
            return state, []
        return state, [
            snapshot.finding(
                "quality.duplicates",
                f"{share:.0%} of different rows came more than once in this window, {before:.0%} before",
                evidence=snapshot.seconds * math.exp(min(log, 300.0)),
                needed=snapshot.settings.needed,
                effect=share - before,
                margin=_MORE,
                since=snapshot.began,
                details={"rows repeated": now.share},
            )
        ]


def _again(repeats: Repeats) -> float:
    return sum(count > 1 for _, count in repeats.kept) / max(len(repeats.kept), 1)
