"""Steady sources: even draws from a pool of rows, so that a window's counts can be drawn without drawing its rows.

Where rows are drawn evenly and independently from a pool, the counts of a column's cells (slots that no question tells
apart) are multinomial with the pool's own shares. That is no approximation, and ten thousand rows cost what thirty do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.monitoring.tables import table
from modelyard.domain.frame import Array
from modelyard.monitoring.asking import Asked
from modelyard.monitoring.reference import Reference

POOL = 100_000


def pool() -> pd.DataFrame:
    """Twenty columns of mixed kinds."""
    return table(np.random.default_rng(1), POOL)


def drawn(rows: pd.DataFrame, draw: np.random.Generator, number: int, repeat: int) -> pd.DataFrame:
    """So many rows of the pool, drawn evenly with replacement, `repeat` times side by side."""
    parts = []
    for at in range(repeat):
        part = rows.iloc[draw.integers(0, len(rows), number)].reset_index(drop=True)
        parts.append(part.set_axis([f"{name}:{at}" for name in rows.columns], axis=1))
    return pd.concat(parts, axis=1)


@dataclass(frozen=True)
class Source:
    """A reference drawn from a pool, and the shares of its cells in the pool: what is true of the source."""

    reference: Reference
    shares: Array

    @classmethod
    def of(cls, rows: pd.DataFrame, draw: np.random.Generator, number: int, repeat: int) -> Source:
        """A reference of so many rows and 20 columns `repeat` times."""
        made = Reference.of_table(drawn(rows, draw, number, repeat))
        whole = pd.concat([rows.set_axis([f"{name}:{at}" for name in rows], axis=1) for at in range(repeat)], axis=1)
        asked = Asked(made)
        return cls(made, asked.in_cells(made.profile(whole)) / len(rows))


class Drawing:
    """Draws counts of windows: for each column multinomial, as conditional binomials, column by column independent."""

    def __init__(self, asked: Asked, shares: Array) -> None:
        column_of = np.zeros(asked.cells, dtype=np.intp)
        column_of[asked.cell_of] = np.repeat(np.arange(len(asked.columns)), asked.sizes)
        self._cells = asked.cells
        there = np.flatnonzero(shares > 0)
        there = there[np.lexsort((-shares[there], column_of[there]))]  # the largest of each column first: fewer draws
        rank = np.arange(len(there)) - np.searchsorted(column_of[there], column_of[there])
        depth = int(rank.max()) + 1
        self._place = np.full((depth, len(asked.columns)), self._cells, dtype=np.intp)
        self._place[rank, column_of[there]] = there
        held = np.append(shares, 0.0)[self._place]
        left = np.cumsum(held[::-1], axis=0)[::-1]
        self._chance = np.clip(np.divide(held, left, out=np.zeros_like(held), where=left > 0), 0.0, 1.0)

    def windows(self, draw: np.random.Generator, rows: int, number: int) -> Array:
        """Cells of `number` windows, a row for each."""
        found = np.zeros((number, self._cells + 1), dtype=np.int64)
        left = np.full((number, self._place.shape[1]), rows, dtype=np.int64)
        for place, chance in zip(self._place, self._chance, strict=True):
            columns = np.flatnonzero(chance)
            some = draw.binomial(left[:, columns], chance[columns])
            found[:, place[columns]] = some
            left[:, columns] -= some
        cells: Array = found[:, :-1]
        return cells
