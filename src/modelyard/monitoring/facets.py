"""The questions that are asked of a column: for each, some slots among others, so that an answer is a binomial count.

Whatever slots are put together, the number of rows that fall into them is binomial where rows are independent. Which
slots are put together is decided by the reference alone, before any window is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import msgspec
import numpy as np
from numpy.typing import NDArray

from modelyard.domain.frame import Array
from modelyard.monitoring.slots import Counts, NumberSlots, Slots, ValueSlots

_CUTS = 15
_SINGLE = 32


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
    """Of a column: which slots are counted (`inside`, a row for each), among which (`among`), and what it is about."""

    inside: NDArray[np.bool_]
    among: NDArray[np.bool_]
    facets: tuple[Facet, ...]

    def answers(self, counts: Counts) -> tuple[Array, Array]:
        """For each question how many rows fall into its slots, and among how many."""
        return self.inside @ counts, self.among @ counts


def questions(slots: Slots, reference: Counts) -> Questions:
    """Those of a column: cumulative shares of numbers at evenly spread cuts; shares of single values and the commonest.

    >>> slots = ValueSlots({"values": [["a", 6]], "missing": 1, "other": 0})
    >>> [facet.value for facet in questions(slots, slots.reference).facets]
    ['missing', 'new', 'distribution']
    """
    everything = tuple(range(slots.size))
    there = tuple(slot for slot in everything if slot != slots.MISSING)
    asked: list[tuple[Facet, tuple[int, ...], tuple[int, ...]]] = [(Facet.MISSING, (slots.MISSING,), everything)]
    if isinstance(slots, NumberSlots):
        asked += [(Facet.OUTSIDE, (slot,), there) for slot in (slots.INFINITE, slots.BELOW, slots.above)]
        finite = tuple(slot for slot in there if slot != slots.INFINITE)
        asked += [(Facet.DISTRIBUTION, cut, finite) for cut in _cuts(slots, reference)]
    else:
        asked += [(Facet.NEW, (slots.NEW,), there)] if slots.tells_new else []
        asked += [(Facet.DISTRIBUTION, chosen, there) for chosen in _values(slots)]
    inside = np.zeros((len(asked), slots.size), dtype=np.bool_)
    among = np.zeros((len(asked), slots.size), dtype=np.bool_)
    for at, (_, chosen, whole) in enumerate(asked):
        inside[at, list(chosen)] = True
        among[at, list(whole)] = True
    return Questions(inside, among, tuple(facet for facet, _, _ in asked))


def _cuts(slots: NumberSlots, reference: Counts) -> list[tuple[int, ...]]:
    """All up to a place on the line, at places with about as much of the reference between them."""
    line = slots.line
    reached = np.cumsum(reference[list(line)])
    wanted = np.arange(1, _CUTS + 1) * (reached[-1] / (_CUTS + 1))
    places = sorted({int(at) for at in np.searchsorted(reached, wanted) if at + 1 < len(line)})
    # Where one place holds much, what lies before it is asked for too.
    places = sorted({*places, *(at - 1 for at in places if at > 0 and reached[at - 1] and at - 1 not in places)})
    return [line[: at + 1] for at in places[:: -(-len(places) // (2 * _CUTS)) or 1]]


def _values(slots: ValueSlots) -> list[tuple[int, ...]]:
    """The commonest values one by one, the rare together, and the two, four, eight ... commonest together."""
    named = slots.size - slots.FIRST
    asked = [(slot,) for slot in range(slots.FIRST, min(slots.size, slots.FIRST + _SINGLE))]
    if slots.reference[slots.RARE] or not slots.tells_new:
        asked.append((slots.RARE,))
    together: list[tuple[int, ...]] = []
    many = 2
    while many < named:
        together.append(tuple(range(slots.FIRST, slots.FIRST + many)))
        many *= 2
    return [*asked, *together]
