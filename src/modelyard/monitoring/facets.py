"""The questions that are asked of a column: for each, some slots among others, so that an answer is a binomial count.

Whatever slots are put together, the number of rows that fall into them is binomial where rows are independent. Which
slots are put together is decided by the reference alone, before any window is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

import msgspec
import numpy as np
from numpy.typing import NDArray

from modelyard.domain.frame import Array
from modelyard.monitoring.slots import Counts, NumberSlots, Slots, ValueSlots

_CUTS = 15
_SINGLE = 32
_TOGETHER = 8


class Facet(StrEnum):
    """What can be different about a column."""

    DISTRIBUTION = "distribution"
    MISSING = "missing"
    OUTSIDE = "outside"
    """Below or above all that the reference had, or infinite."""
    NEW = "new"
    """Texts that the reference never had."""


class Margins(msgspec.Struct, frozen=True):
    """Differences up to these do not matter in practice.

    `distance` is for distributions: a difference of cumulative distributions, or of the share of a value. `share` is
    for what is missing, new, infinite or outside of the range: a difference of its share.
    """

    distance: float = 0.05
    share: float = 0.02

    def of(self, facet: Facet) -> float:
        """The margin of a facet."""
        return self.distance if facet is Facet.DISTRIBUTION else self.share


@dataclass(frozen=True, slots=True)
class Questions:
    """Of a column: which slots are counted (`inside`, a row for each), among which (`among`), and what it is about.

    Values are chosen for questions because they were frequent in the reference, some by luck. `candidates` is the
    number that each was chosen from, for each that was. What is left over when they are chosen (`left_over`) has no
    count that could be believed; its share follows from those of the chosen ones. `unnamed` is the number of different
    values that the reference had and does not name.
    """

    inside: NDArray[np.bool_]
    among: NDArray[np.bool_]
    facets: tuple[Facet, ...]
    candidates: Array
    left_over: NDArray[np.bool_]
    unnamed: int

    def answers(self, counts: Counts) -> tuple[Array, Array]:
        """For each question how many rows fall into its slots, and among how many."""
        return self.inside @ counts, self.among @ counts

    def only(self, facets: Collection[Facet]) -> Questions:
        """Those about some facets."""
        kept = np.array([facet in facets for facet in self.facets], dtype=np.bool_)
        return Questions(
            self.inside[kept],
            self.among[kept],
            tuple(facet for facet in self.facets if facet in facets),
            self.candidates[kept],
            self.left_over[kept],
            self.unnamed,
        )

    def likely(self, reference: Counts, error: float) -> tuple[Array, Array]:
        """Where the true shares lie; each end fails with probability exp(-error) at most."""
        x, n = self.answers(reference)
        low, high = likely_range(x, n, error + np.log(self.candidates))
        if self.left_over.any():
            missing_mass = _unseen(self.unnamed, int(n[-1]), error)
            named = reference[ValueSlots.FIRST :]
            each = error + math.log(len(named) + self.unnamed + 1)
            ends = likely_range(named, np.full(len(named), n[-1]), np.full(len(named), each))
            for at in np.flatnonzero(self.left_over).tolist():
                if self.facets[at] is Facet.NEW:
                    low[at], high[at] = 0.0, missing_mass
                else:
                    low[at] = max(0.0, 1.0 - float(ends[1].sum()) - missing_mass)
                    high[at] = min(1.0, max(0.0, 1.0 - float(ends[0].sum())))
        return low, high


def _unseen(once: int, rows: int, error: float) -> float:
    """At most so much of the source was never seen, if `once` values were seen once (or few times, to be safe).

    Good and Turing's estimate with a bound of Bernstein's form, as Ben-Hamou, Boucheron and Ohannessian 2017
    ("Concentration inequalities in the infinite urn scheme") have for it.

    >>> round(_unseen(0, 20_000, 12.0), 4)
    0.0027
    """
    if not rows:
        return 1.0
    return min(1.0, (once + 2 * math.sqrt(error * (once + 1)) + 4 * error) / rows)


def likely_range(x: Array, n: Array, error: Array) -> tuple[Array, Array]:
    """Shares p for which n KL(x/n, p) is at most `error`: the true one is outside with chance exp(-error) on each side.

    By Chernoff's bound (Hoeffding 1963, theorem 1); also where x is fixed and the place of the cut is what chance
    decides, as with quantiles of the reference.

    >>> low, high = likely_range(np.array([50]), np.array([100]), np.array([3.0]))
    >>> round(float(low[0]), 3), round(float(high[0]), 3)
    (0.379, 0.621)
    """
    share = np.divide(x, n, out=np.full(len(x), 0.5), where=n > 0)
    far = np.concatenate([np.zeros(len(x)), np.ones(len(x))])
    ends = _end(np.tile(share, 2), np.tile(n, 2), np.tile(error, 2), far)  # both at once: calls cost more than sums
    return ends[: len(x)], ends[len(x) :]


def information(share: Array, other: Array) -> Array:
    """The information KL(share, other) of a coin; infinite where the other says that it cannot be."""
    with np.errstate(divide="ignore", invalid="ignore"):
        apart: Array = np.where(share > 0, share * np.log(share / other), 0.0)
        return apart + np.where(share < 1, (1 - share) * np.log((1 - share) / (1 - other)), 0.0)


def _end(share: Array, n: Array, error: Array, far: Array) -> Array:
    """By bisection between the share that was seen and the `far` end."""
    near = share.copy()
    for _ in range(60):
        middle = (near + far) / 2
        with np.errstate(invalid="ignore"):
            beyond = (n > 0) & ~(n * information(share, middle) <= error)
        near, far = np.where(beyond, near, middle), np.where(beyond, middle, far)
    return far


@dataclass(frozen=True, slots=True)
class _Question:
    facet: Facet
    inside: tuple[int, ...]
    among: tuple[int, ...]
    candidates: float = 1.0
    left_over: bool = False


def questions(slots: Slots, reference: Counts) -> Questions:
    """Those of a column: cumulative shares of numbers at evenly spread cuts; shares of values, single and together.

    >>> slots = ValueSlots({"values": [["a", 6]], "missing": 1, "other": 0})
    >>> [facet.value for facet in questions(slots, slots.reference).facets]
    ['missing', 'distribution', 'new']
    """
    everything = tuple(range(slots.size))
    there = tuple(slot for slot in everything if slot != slots.MISSING)
    asked = [_Question(Facet.MISSING, (slots.MISSING,), everything)]
    if isinstance(slots, NumberSlots):
        asked += [_Question(Facet.OUTSIDE, (slot,), there) for slot in (slots.INFINITE, slots.BELOW, slots.above)]
        finite = tuple(slot for slot in there if slot != slots.INFINITE)
        asked += [_Question(Facet.DISTRIBUTION, cut, finite) for cut in _cuts(slots, reference)]
    else:
        asked += _values(slots, there)
    inside = np.zeros((len(asked), slots.size), dtype=np.bool_)
    among = np.zeros((len(asked), slots.size), dtype=np.bool_)
    for at, question in enumerate(asked):
        inside[at, list(question.inside)] = True
        among[at, list(question.among)] = True
    return Questions(
        inside,
        among,
        tuple(question.facet for question in asked),
        np.array([question.candidates for question in asked]),
        np.array([question.left_over for question in asked]),
        slots.distinct - len(slots.names) if isinstance(slots, ValueSlots) else 0,
    )


def _cuts(slots: NumberSlots, reference: Counts) -> list[tuple[int, ...]]:
    """All up to a place on the line, at places with about as much of the reference between them."""
    line = slots.line
    reached = np.cumsum(reference[list(line)])
    wanted = np.arange(1, _CUTS + 1) * (reached[-1] / (_CUTS + 1))
    places = sorted({int(at) for at in np.searchsorted(reached, wanted) if at + 1 < len(line)})
    # Where one place holds much, what lies before it is asked for too.
    places = sorted({*places, *(at - 1 for at in places if at > 0 and reached[at - 1] and at - 1 not in places)})
    return [line[: at + 1] for at in places[:: -(-len(places) // (2 * _CUTS)) or 1]]


def _values(slots: ValueSlots, there: tuple[int, ...]) -> list[_Question]:
    """The commonest values one by one; where all are named also some together, by their names and not by their counts.

    What is new, and what is not named, are left over.
    """
    singles = range(slots.FIRST, min(slots.size, slots.FIRST + _SINGLE))
    chosen = max(1.0, slots.distinct / max(len(singles), 1))
    asked = [_Question(Facet.DISTRIBUTION, (slot,), there, chosen) for slot in singles]
    if slots.reference[slots.RARE]:
        asked.append(_Question(Facet.DISTRIBUTION, (slots.RARE,), there, left_over=True))
    else:
        ordered = sorted(range(len(slots.names)), key=lambda at: str(slots.names[at]))
        ends = sorted({len(ordered) * part // _TOGETHER for part in range(1, _TOGETHER)} - {0, 1})
        asked += [_Question(Facet.DISTRIBUTION, tuple(slots.FIRST + at for at in ordered[:end]), there) for end in ends]
    if slots.tells_new:
        asked.append(_Question(Facet.NEW, (slots.NEW,), there, left_over=True))
    return asked
