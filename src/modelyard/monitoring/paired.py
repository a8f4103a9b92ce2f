"""Pairs of columns when two tables are compared once: whether they still go together as they did."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

import msgspec
import numpy as np

from modelyard.monitoring.chance import log_tail
from modelyard.monitoring.dependence import Cuts, cells, dependence_of, paired_otherwise, said
from modelyard.monitoring.facets import Margins
from modelyard.monitoring.odds import Tables
from modelyard.monitoring.pairs import Met, Pairs
from modelyard.monitoring.verdicts import Bin, Verdict


class PairComparison(msgspec.Struct, frozen=True):
    """Two columns. `distance` is the part of rows that would have to be paired otherwise to be as before.

    That is with each column as it is now, so that it is 0 where columns moved alone. `dependence` is the part of rows
    that would have to be paired otherwise for the columns not to depend on each other, before and now. `bins` are the
    combinations that changed most: their share as it would be, and as it is.
    """

    columns: tuple[str, str]
    verdict: Verdict
    said: str
    chance: float
    distance: float
    dependence: tuple[float, float]
    bins: tuple[Bin, ...] = ()


class Paired:
    """What is asked about the pairs of a reference of which both columns are there.

    Each two by two table asks which part of the rows with something in one column has something in the other, and of
    the rows without it, from either column. A pair has moved if both ways of asking say so: were both tables drawn from
    the same source, neither would but by chance (Fisher's exact test, see `modelyard.monitoring.chance`).
    """

    def __init__(self, pairs: Pairs, columns: int, there: Collection[str]) -> None:
        self._pairs, self._cuts = pairs, Cuts(pairs)
        used = [all(name in there for name in pairs.names[cut.pair]) for cut in self._cuts.cuts]
        self._used = np.flatnonzero(used)
        self.number = 2 * len(self._used)
        # Tables were chosen for what the reference shows in them, some by luck: each counts for those it was chosen of.
        possible = columns * (columns - 1) / 2 * self._cuts.possible
        self._candidates = math.log(max(1.0, possible / max(len(self._cuts), 1)))

    def compared(
        self, met: Met, chance_of: Callable[[float], float], level: float, margins: Margins, quiet: Verdict
    ) -> tuple[PairComparison, ...]:
        """All pairs, those that moved first; `quiet` is what is said of one that chance explains."""
        if not len(self._used):
            return ()
        logs: dict[int, float] = {}
        here, there = self._cuts.tables(met), self._cuts.reference
        for at in self._used.tolist():
            pair = self._cuts.cuts[at].pair
            if pair in met:
                log = min(0.0, _surprise(here, there, at) + self._candidates)
                logs[pair] = min(logs.get(pair, 0.0), log)
        found = [self._one(pair, met, chance_of(log), level, margins, quiet) for pair, log in logs.items()]
        order = list(Verdict)
        return tuple(sorted(found, key=lambda each: (order.index(each.verdict), -each.distance)))

    def _one(
        self, pair: int, met: Met, chance: float, level: float, margins: Margins, quiet: Verdict
    ) -> PairComparison:
        counts, before = met[pair], self._pairs.reference[pair]
        distance = paired_otherwise(before, counts)
        surprising = chance <= level
        moved = surprising and distance >= margins.distance
        verdict = Verdict.MOVED if moved else Verdict.HARMLESS if surprising else quiet
        return PairComparison(
            columns=self._pairs.names[pair],
            verdict=verdict,
            said=said(self._pairs, pair, counts) if moved else "",
            chance=chance,
            distance=distance,
            dependence=(dependence_of(before), dependence_of(counts)),
            bins=tuple(Bin(*each) for each in cells(self._pairs, pair, counts)) if moved else (),
        )


def _surprise(here: Tables, there: Tables, at: int) -> float:
    """The logarithm of how likely so much or more is, in the likelier of the two ways of asking."""
    (x, first, second, n), (y, one, other, m) = (
        [int(part[at]) for part in (each.x, each.first, each.second, each.n)] for each in (here, there)
    )
    ways = (
        min(log_tail(x, first, y, one), log_tail(second - x, n - first, other - y, m - one)),
        min(log_tail(x, second, y, other), log_tail(first - x, n - second, one - y, m - other)),
    )
    return max(ways)
