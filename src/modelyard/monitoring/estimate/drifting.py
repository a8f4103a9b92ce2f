"""How far what was learned from some blocks of time has missed later ones, beyond what chance explains."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from modelyard.domain.frame import Array


@dataclass(frozen=True, slots=True)
class History:
    """One metric over blocks of labelled rows in the order of time: truth minus expectation, and its chance variance.

    The expectation of a block comes from a fit that did not see it. NaN where a block cannot tell.
    """

    missed: Array
    chance: Array

    @property
    def blocks(self) -> int:
        """How many can tell."""
        return int(np.isfinite(self.missed).sum())


def drift_variance(history: History, ahead: int, length: int) -> float:
    """The variance of a mean over `length` blocks, that begin `ahead` blocks after the last known one.

    It is read from the history: every stretch of blocks is held against the mean of all blocks before it at that
    distance, and what chance alone does is taken off. Distances that the history does not reach add in proportion, as
    a random walk would. What was seen at a smaller distance counts as well, so that it never falls with distance.

    >>> steady = History(np.zeros(20), np.full(20, 0.01))
    >>> drift_variance(steady, 1, 1)
    0.0
    """
    there = np.isfinite(history.missed)
    missed, chance = history.missed[there], history.chance[there]
    number = len(missed)
    if number < 4:
        return 0.0
    stretch = min(length, max(1, number // 4))
    reach = max(1, min(ahead, (number - stretch) // 2))
    most = max(_excess(missed, chance, each, stretch) for each in range(1, reach + 1))
    return max(0.0, most) * max(1.0, ahead / reach)


def _excess(missed: Array, chance: Array, ahead: int, stretch: int) -> float:
    number = len(missed)
    before = np.arange(max(1, number // 4), number - ahead - stretch + 2)
    known, known_chance = np.concatenate([[0.0], np.cumsum(missed)]), np.concatenate([[0.0], np.cumsum(chance)])
    first = before + ahead - 1
    later = (known[first + stretch] - known[first]) / stretch
    apart = later - known[before] / before
    by_chance = (known_chance[first + stretch] - known_chance[first]) / stretch**2 + known_chance[before] / before**2
    return float(np.mean(apart**2 - by_chance))


def freedom(blocks: int, length: int) -> int:
    """With so many degrees of freedom the drift of a mean over `length` blocks is known."""
    return max(3, round(blocks / max(1, min(length, blocks // 4 or 1))) - 1)


def quantile(tail: float, degrees: int) -> float:
    """Of Student's t: exceeded with probability `tail` on either side, by bisection on its distribution function.

    >>> round(quantile(0.05, 10), 3), round(quantile(0.05, 10_000), 3)
    (1.812, 1.645)
    """
    tail = max(tail, 1e-9)
    if degrees > 2000:
        return NormalDist().inv_cdf(1 - tail)
    low, high = 0.0, 1.0
    while _beyond(high, degrees) > tail:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _beyond(middle, degrees) > tail else (low, middle)
    return high


def _beyond(t: float, degrees: int) -> float:
    """P(T > t), by the finite series of Abramowitz and Stegun 1964, 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(degrees))
    cosine = math.cos(angle)
    term = total = 1.0 if degrees % 2 == 0 else cosine
    for each in range(2 if degrees % 2 == 0 else 3, degrees - 1, 2):
        term *= cosine * cosine * (each - 1) / each
        total += term
    if degrees % 2 == 0:
        inside = math.sin(angle) * total
    else:
        inside = 2 / math.pi * (angle + (math.sin(angle) * total if degrees > 1 else 0.0))
    return (1 - inside) / 2
