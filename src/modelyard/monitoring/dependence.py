"""How two columns go together, beside how they did in the reference: what is asked of a pair, and how much differs.

A pair's table of levels is looked at through some two by two tables, each of one set of levels of either column: those
in which the pair depends most in the reference, and otherwise those that cut both columns most evenly. What is missing
in either column is left out: that more is missing is told of the column itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray

from modelyard.domain.frame import Array
from modelyard.domain.pairs import MISSING, WIDTH, dependence
from modelyard.monitoring.odds import FAR, Tables, likely, moved
from modelyard.monitoring.pairs import Met, Pairs
from modelyard.monitoring.slots import Counts

_OF_A_PAIR = 3
_EVENLY = 0.2
"""How much an even cut counts beside the dependence that it shows."""

_FITTED = 60

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Cut:
    """One two by two table of a pair: levels of the first column, and of the second."""

    pair: int
    first: Mask
    second: Mask


class Cuts:
    """All that is asked about the pairs of a reference."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs
        self.cuts: tuple[Cut, ...] = tuple(
            cut for at, counts in enumerate(pairs.reference) for cut in _cuts(at, _present(counts))
        )
        self.pair_of = np.array([cut.pair for cut in self.cuts], dtype=np.intp)
        there = np.arange(WIDTH) != MISSING
        masks = [
            [np.outer(one, other).reshape(-1) for one in (cut.first, there) for other in (cut.second, there)]
            for cut in self.cuts
        ]
        self._masks = np.array(masks, dtype=np.int64).reshape(len(self.cuts), 4, WIDTH * WIDTH)

    possible = (2 * WIDTH) ** 2
    """From so many tables of a pair at most those that are asked about are chosen."""

    def __len__(self) -> int:
        return len(self.cuts)

    def tables(self, met: Met) -> Tables:
        """The two by two tables of some rows; of pairs that they lack, without any row."""
        none = np.zeros(WIDTH * WIDTH, dtype=np.int64)
        counts = np.stack([met.get(at, none) for at in range(len(self.pairs.names))])[self.pair_of]
        x, first, second, n = np.einsum("qc,qmc->mq", counts, self._masks)
        return Tables(x, first, second, n)

    @cached_property
    def reference(self) -> Tables:
        """Those of the reference."""
        return self.tables(dict(enumerate(self.pairs.reference)))

    def harmless(self, certainty: float, margin: float) -> tuple[Array, Array]:
        """Between which logarithms of odds ratios nothing has changed in practice.

        The reference's own ratios are known from its rows only (`odds.likely`, all of them together with probability
        `certainty`, with each cut counting as many as it was chosen from); from there on a part of `margin` of the rows
        may be paired otherwise, which in two by two cells is half of that in each. Infinite: there is no way out.
        """
        candidates = max(len(self.pairs.names), 1) * self.possible
        low, high = likely(self.reference, float(np.log(2 * candidates / (1 - certainty))))
        first, second = self._shares
        half = np.full(len(self), margin / 2)
        down = np.where(low > -FAR, moved(first, second, low, -half), -np.inf)
        up = np.where(high < FAR, moved(first, second, high, half), np.inf)
        return down, up

    @property
    def _shares(self) -> tuple[Array, Array]:
        whole = np.maximum(self.reference.n, 1)
        return self.reference.first / whole, self.reference.second / whole

    def off(self, tables: Tables, tolerated: float) -> tuple[Array, Array]:
        """How far each column's share is from the reference's: squares, in parts of the variance to be expected.

        Chance has its part in the rows and in the reference, and a part of the rows is `tolerated`.
        """
        n, known = np.maximum(tables.n, 1), np.maximum(self.reference.n, 1)
        found = []
        for share, held in zip(self._shares, (tables.first, tables.second), strict=True):
            chance = n * share * (1 - share) * (1 + n / known) + (tolerated * n) ** 2
            found.append((held - n * share) ** 2 / np.maximum(chance, 1e-9))
        return found[0], found[1]

    def alike(self, tables: Tables, near: float) -> Mask:
        """Where rows show each of the two columns alone about as the reference does.

        Only there a table says anything about how they go together: where rows come from one hour or place, and columns
        hang on that, a table of these rows has another odds ratio than one of all, though nothing has changed.
        """
        n = np.maximum(tables.n, 1)
        found = tables.n > 0
        for share, held in zip(self._shares, (tables.first, tables.second), strict=True):
            found &= np.abs(held / n - share) <= near + 3 * np.sqrt(share * (1 - share) / n)
        return found


def _present(counts: Counts) -> Array:
    table = counts.reshape(WIDTH, WIDTH).astype(np.float64)
    table[MISSING, :] = table[:, MISSING] = 0.0
    return table


def _cuts(pair: int, table: Array) -> Iterator[Cut]:
    whole = table.sum()
    if not whole:
        return
    found: list[tuple[float, int, int, Mask, Mask]] = []
    for (one, first), (other, second) in product(enumerate(_sets(table.sum(1))), enumerate(_sets(table.sum(0)))):
        r, c = table[first].sum() / whole, table[:, second].sum() / whole
        shown = abs(table[np.ix_(first, second)].sum() / whole - r * c)
        found.append((shown + _EVENLY * r * (1 - r) * c * (1 - c), one, other, first, second))
    used: set[tuple[str, int]] = set()
    for _, one, other, first, second in sorted(found, key=lambda each: -each[0]):
        mine = {("first", one), ("second", other)}
        if len(used) < 2 * _OF_A_PAIR and not mine & used:
            used |= mine
            yield Cut(pair, first, second)


def _sets(held: Array) -> list[Mask]:
    """Sets of levels that tell rows apart: all from one on, and each by itself."""
    levels = np.flatnonzero(held > 0)
    above = [np.arange(WIDTH) >= level for level in levels[1:]]
    single = [np.arange(WIDTH) == level for level in levels[1:-1]] if len(levels) > 2 else []
    return [*above, *single]


def paired_otherwise(reference: Counts, current: Counts) -> float:
    """Which part of rows is paired otherwise than in the reference, given how often each column has which level now.

    The reference's table is fitted to the present shares of levels (iterative proportional fitting, Deming and Stephan
    1940: all odds ratios stay); half the sum of the differences to what there is. 0 where a column alone has moved.

    >>> counts = np.zeros((WIDTH, WIDTH), dtype=np.int64)
    >>> counts[1:3, 1:3] = [[40, 10], [10, 40]]
    >>> other = counts.copy()
    >>> other[1:3, 1:3] = [[25, 25], [25, 25]]
    >>> round(paired_otherwise(counts.reshape(-1), other.reshape(-1)), 2)
    0.29
    """
    now = _present(current)
    if not now.any() or not _present(reference).any():
        return 0.0
    shares = now / now.sum()
    return float(np.abs(fitted(reference, current) / now.sum() - shares).sum() / 2)


def fitted(reference: Counts, current: Counts) -> Array:
    """The present table as it would be with the reference's odds ratios; rows with something missing are left out."""
    before, now = _present(reference), _present(current)
    rows, columns = now.sum(axis=1), now.sum(axis=0)
    whole = max(before.sum(), 1.0)
    alone = np.outer(before.sum(axis=1), before.sum(axis=0)) / whole
    # What never met may still meet by chance; and a level that is new has no odds ratios to be kept.
    table = np.where(np.outer(rows, columns) > 0, before + (alone + np.outer(rows, columns) / now.sum()) / whole, 0.0)
    for _ in range(_FITTED):
        table *= np.divide(rows, table.sum(axis=1), out=np.zeros(WIDTH), where=rows > 0)[:, None]
        table *= np.divide(columns, table.sum(axis=0), out=np.zeros(WIDTH), where=columns > 0)[None, :]
    return table


def cells(pairs: Pairs, at: int, current: Counts, most: int = 10) -> list[tuple[str, float, float]]:
    """The pairs of levels that changed most: what they are, and their shares as it would be and as it is."""
    expected, now = fitted(pairs.reference[at], current), _present(current)
    whole = max(now.sum(), 1.0)
    labels = [pairs.labels(name) for name in pairs.names[at]]
    apart = np.abs(now - expected)
    order: Sequence[int] = np.argsort(-apart, axis=None, kind="stable").tolist()
    found = []
    for one, other in (divmod(cell, WIDTH) for cell in order[:most]):
        if apart[one, other] > 0:
            name = f"{labels[0][one]} with {labels[1][other]}"
            found.append((name, float(expected[one, other] / whole), float(now[one, other] / whole)))
    return found


def said(pairs: Pairs, at: int, counts: Counts) -> str:
    """One sentence about a pair."""
    one, other = pairs.names[at]
    size = paired_otherwise(pairs.reference[at], counts)
    before, now = dependence_of(pairs.reference[at]), dependence_of(counts)
    most = cells(pairs, at, counts, 1)
    where = f"; most: {most[0][0]} {most[0][1]:.1%} -> {most[0][2]:.1%}" if most else ""
    return (
        f"{one} and {other} go together otherwise in {size:.1%} of rows (dependence {before:.0%} -> {now:.0%}){where}"
    )


def dependence_of(counts: Counts) -> float:
    """Which part of rows would have to be paired otherwise for the columns not to depend on each other."""
    return dependence(counts.reshape(WIDTH, WIDTH)[1:, 1:])
