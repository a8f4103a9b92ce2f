"""How far two sets of counts in the same slots are apart: effect sizes, which say nothing about chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from modelyard.domain.frame import Array
from modelyard.monitoring.slots import Counts, NumberSlots, Slots

_GROUPS = 10
"""PSI and the Jensen-Shannon distance are taken over about so many groups of slots, as their usual limits suppose."""

Shares = NDArray[np.float64]


class Span(msgspec.Struct, frozen=True):
    """The distance of Kolmogorov and Smirnov lies between `least` and `most`, whatever is inside the bins."""

    least: float
    most: float


class Effect(msgspec.Struct, frozen=True):
    """How far a column is from its reference. All but `psi` lie between 0 and 1 (`missing_change`: -1 and 1).

    `distance` is what verdicts go by: of numbers the largest difference of the cumulative distributions, with what is
    infinite, below and above; of values half the sum of the differences of shares. What is missing is left out of it
    and told by `missing_change`.
    """

    distance: float
    psi: float
    jensen_shannon: float
    missing_change: float
    ks: Span | None = None


def effect(slots: Slots, reference: Counts, current: Counts) -> Effect:
    """Compare the counts of a column.

    >>> from modelyard.monitoring.slots import ValueSlots
    >>> slots = ValueSlots({"values": [["a", 6], ["b", 4]], "missing": 0, "other": 0})
    >>> round(effect(slots, slots.reference, np.array([0, 0, 2, 6, 2])).distance, 2)
    0.2
    """
    missing = share(current, slots.MISSING) - share(reference, slots.MISSING)
    groups = [group for group in grouped(slots, reference) if group != (slots.MISSING,)]
    p, q = (np.array([counts[list(group)].sum() for group in groups], dtype=float) for counts in (reference, current))
    span = ks(slots, reference, current) if isinstance(slots, NumberSlots) else None
    distance = total_variation(_present(slots, reference), _present(slots, current)) if span is None else span.least
    if isinstance(slots, NumberSlots):
        there = [_present(slots, counts) for counts in (reference, current)]
        infinite = abs(share(there[1], slots.INFINITE) - share(there[0], slots.INFINITE))
        distance = max(distance, infinite)
    return Effect(distance, psi(p, q), jensen_shannon(p, q), missing, span)


def share(counts: Counts, slot: int) -> float:
    """The part of all rows that a slot has; 0 without rows."""
    whole = int(counts.sum())
    return int(counts[slot]) / whole if whole else 0.0


def psi(reference: Array, current: Array) -> float:
    """Population stability index of two lists of counts: the sum of (q - p) ln(q / p).

    Half a count is added to each, so that empty slots do not make it infinite.

    >>> round(psi(np.array([50, 50]), np.array([80, 20])), 3)
    0.406
    """
    p, q = ((counts + 0.5) / (counts.sum() + 0.5 * len(counts)) for counts in (reference, current))
    return float(((q - p) * np.log(q / p)).sum()) if len(p) else 0.0


def jensen_shannon(reference: Array, current: Array) -> float:
    """The Jensen-Shannon distance of two lists of counts: the root of the divergence in bits; 0 where one is empty.

    >>> jensen_shannon(np.array([1, 0]), np.array([0, 1]))
    1.0
    """
    if not reference.sum() or not current.sum():
        return 0.0
    p, q = reference / reference.sum(), current / current.sum()
    middle = (p + q) / 2
    divergence = sum(float((one[one > 0] * np.log2(one[one > 0] / middle[one > 0])).sum()) / 2 for one in (p, q))
    return math.sqrt(min(max(divergence, 0.0), 1.0))


def total_variation(reference: Array, current: Array) -> float:
    """Half the sum of the differences of shares: the part of rows that would have to change places.

    >>> total_variation(np.array([5, 5]), np.array([10, 0]))
    0.5
    """
    if not reference.sum() or not current.sum():
        return 0.0
    return float(np.abs(reference / reference.sum() - current / current.sum()).sum() / 2)


def ks(slots: NumberSlots, reference: Counts, current: Counts) -> Span:
    """What the distance of Kolmogorov and Smirnov of the finite values can be, given counts alone.

    At the edges of bins, and at atoms outside of bins with anything in them, the difference of the two cumulative
    distributions is known exactly; inside a bin with the shares r and c of the two it is off by at most these. So the
    distance is at least the largest known difference, and at most what the bins leave room for.
    """
    order = list(slots.line)
    p, q = _of_whole(reference[order]), _of_whole(current[order])
    if not p.any() or not q.any():
        return Span(0.0, 0.0)
    after = np.cumsum(p) - np.cumsum(q)
    inside = [slots.around(slot) for slot in order]
    place = {slot: at for at, slot in enumerate(order)}
    least = most = 0.0
    for at, slot in enumerate(order):
        around = inside[at]
        in_bin = place[slot] if around is None else place[around]
        plain = around is None and slot > slots.above
        r, c = (0.0, 0.0) if plain else (float(p[in_bin]), float(q[in_bin]))
        low, high = float(after[at]) - r, float(after[at]) + c
        most = max(most, abs(low), abs(high))
        closes = at + 1 == len(order) or inside[at + 1] is None  # the next slot begins where all of this bin has ended
        known = abs(float(after[at])) if closes else max(0.0, low, -high)
        least = max(least, known)
    return Span(least, min(1.0, most))


def grouped(slots: Slots, reference: Counts) -> tuple[tuple[int, ...], ...]:
    """Slots put together for pictures and for PSI: along the line, each with about a tenth of the reference.

    Of values the ten commonest stay alone. What is missing, new and infinite always does.
    """
    whole = max(int(reference.sum() - reference[slots.MISSING]), 1)
    if isinstance(slots, NumberSlots):
        return (*_along(slots.line, reference, whole / _GROUPS), (slots.INFINITE,), (slots.MISSING,))
    first = tuple((slot,) for slot in range(slots.FIRST, min(slots.size, slots.FIRST + _GROUPS)))
    rest = (*range(slots.FIRST + _GROUPS, slots.size), slots.RARE)
    return (*first, rest, (slots.NEW,), (slots.MISSING,))


def _along(line: Sequence[int], reference: Counts, enough: float) -> list[tuple[int, ...]]:
    groups: list[tuple[int, ...]] = []
    group: list[int] = []
    held = 0
    for slot in line:
        count = int(reference[slot])
        if group and held and held + count > 1.2 * enough:
            groups.append(tuple(group))
            group, held = [], 0
        group.append(slot)
        held += count
    return [*groups, tuple(group)] if held or not groups else [*groups[:-1], (*groups[-1], *group)]


def _present(slots: Slots, counts: Counts) -> Counts:
    there: Any = counts.copy()
    there[slots.MISSING] = 0
    found: Counts = there
    return found


def _of_whole(counts: Counts) -> Shares:
    whole = counts.sum()
    return counts / whole if whole else np.zeros(len(counts))
