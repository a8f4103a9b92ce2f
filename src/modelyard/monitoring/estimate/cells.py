"""Rows as cells: each column cut into a few, learned from labelled rows, so that everything else is counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelyard.domain.frame import Array
from modelyard.monitoring.columns import Column, Table

BINS = 8
NAMED = 15
_MISSING, _OUTSIDE = 0, 1
_ROOM = 0.1
"""Numbers lie outside when they are beyond the extremes by more than this part of the range."""


@dataclass(frozen=True, slots=True)
class _Numbers:
    """Missing; far below or above all there was; between quantiles."""

    edges: Array
    least: float
    largest: float

    @property
    def size(self) -> int:
        return 3 + len(self.edges)

    def codes(self, column: Column) -> Array:
        values = column.numbers()
        found = 2 + np.searchsorted(self.edges, values, "right")
        room = _ROOM * (self.largest - self.least) if self.largest > self.least else 0.0
        found[(values < self.least - room) | (values > self.largest + room)] = _OUTSIDE
        found[np.isnan(values)] = _MISSING
        return found

    def alone(self, values: Array) -> Array:
        """Rows that would lie outside if they had not been there themselves."""
        return _single(values, self.least) | _single(values, self.largest)


@dataclass(frozen=True, slots=True)
class _Values:
    """Missing; never seen; seen and not named; the commonest by name."""

    named: Mapping[str, int]
    known: frozenset[str]

    @property
    def size(self) -> int:
        return 3 + len(self.named)

    def codes(self, column: Column) -> Array:
        return self.of_texts(*_texts(column))

    def of_texts(self, at: Array, texts: list[str]) -> Array:
        codes = [self.named.get(text, 2 if text in self.known else _OUTSIDE) for text in texts]
        return np.array([*codes, _MISSING], dtype=np.int64)[at]


@dataclass(frozen=True, slots=True)
class Cells:
    """How columns are cut. `missing_seen` names those that had missing values; elsewhere one lies outside."""

    columns: Mapping[str, _Numbers | _Values]
    missing_seen: frozenset[str]

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many cells each column has."""
        return tuple(column.size for column in self.columns.values())

    def codes(self, table: Table) -> NDArray[np.int16]:
        """The cell of every row in every column; a column that the table lacks is missing throughout."""
        found = np.zeros((table.rows, len(self.columns)), dtype=np.int16)
        for at, (name, column) in enumerate(self.columns.items()):
            if name in table.columns:
                codes = column.codes(table.columns[name])
                if name not in self.missing_seen:
                    codes[codes == _MISSING] = _OUTSIDE
                found[:, at] = codes
            elif name not in self.missing_seen:
                found[:, at] = _OUTSIDE
        return found


def learned(table: Table, names: tuple[str, ...]) -> tuple[Cells, NDArray[np.int16], Array]:
    """The cells of a table of labelled rows, their codes, and which rows are the only ones of their kind.

    The share of the latter is what may be expected to lie outside among rows of the same source (leaving one out).
    """
    columns: dict[str, _Numbers | _Values] = {}
    missing_seen = set()
    alone = np.zeros(table.rows, dtype=np.bool_)
    for name in names:
        column = table.columns.get(name)
        if column is None or column.sort == "other":
            continue
        made: _Numbers | _Values
        if column.sort == "numbers":
            made, missing, only = _learned_numbers(column.numbers())
        else:
            made, missing, only = _learned_values(column)
        alone |= only
        if missing:
            missing_seen.add(name)
        columns[name] = made
    cells = Cells(columns, frozenset(missing_seen))
    return cells, cells.codes(table), alone


def outside(codes: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Which rows have a value in some column that lies outside of all that was there, or has never been seen."""
    found: NDArray[np.bool_] = (codes == _OUTSIDE).any(axis=1)
    return found


def outside_by_column(cells: Cells, codes: NDArray[np.int16]) -> dict[str, float]:
    """For each column that has any, the share of rows outside; the largest first."""
    shares = (codes == _OUTSIDE).mean(axis=0) if len(codes) else np.zeros(codes.shape[1])
    found = {name: float(share) for name, share in zip(cells.columns, shares, strict=True) if share > 0}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def design(codes: NDArray[np.int16], sizes: tuple[int, ...]) -> Array:
    """One column for each cell, 1 where a row is in it."""
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    made = np.zeros((len(codes), int(sum(sizes))), dtype=np.float32)
    rows = np.arange(len(codes))
    for at, start in enumerate(starts):
        made[rows, start + codes[:, at]] = 1.0
    return made


def _learned_numbers(values: Array) -> tuple[_Numbers, bool, Array]:
    there = values[~np.isnan(values)]
    missing = len(there) < len(values)
    if not len(there):
        return _Numbers(np.empty(0), np.inf, -np.inf), missing, np.zeros(len(values), dtype=np.bool_)
    edges = np.unique(np.quantile(there, np.arange(1, BINS) / BINS, method="lower"))
    made = _Numbers(edges[edges > there.min()], float(there.min()), float(there.max()))
    return made, missing, made.alone(values)


def _learned_values(column: Column) -> tuple[_Values, bool, Array]:
    at, texts = _texts(column)
    counts = np.bincount(at, minlength=len(texts) + 1)
    often = sorted(range(len(texts)), key=lambda one: (-counts[one], texts[one]))[:NAMED]
    made = _Values({texts[one]: 3 + place for place, one in enumerate(often)}, frozenset(texts))
    only: Array = (counts == 1)[at] & (at < len(texts))
    return made, bool(counts[-1]), only


def _texts(column: Column) -> tuple[Array, list[str]]:
    """Each row's place among the different texts, one past the last for what is missing; and the texts."""
    import pandas as pd
    import pyarrow as pa

    values: Any = getattr(column.values, "values", column.values)
    if isinstance(column.values, pa.ChunkedArray):
        values = column.values.to_pandas()
    at, distinct = pd.factorize(pd.Series(values), use_na_sentinel=True)
    at = np.asarray(at, dtype=np.int64)
    return np.where(at < 0, len(distinct), at), [str(each) for each in distinct]


def _single(values: Array, value: float) -> Array:
    same: Array = values == value
    return same if int(same.sum()) == 1 else np.zeros(len(values), dtype=np.bool_)
