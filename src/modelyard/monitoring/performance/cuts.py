"""Slices by one column that mean the same rows in every table: values by name, or ranges with fixed ends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from modelyard.domain.frame import Array

VALUES = 20
"""So many values of a column are slices at most."""

RANGES = 4


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """How one column is cut: by `values` as text, or at `edges`; rows with a missing value are the last part."""

    column: str
    values: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """What each part is called, as a condition.

        >>> Cut(column="distance", edges=(500.0, 1000.0)).names[:2]
        ('distance <= 500', '500 < distance <= 1000')
        >>> Cut(column="carrier", values=("EV",)).names
        ("carrier = 'EV'", 'carrier is missing')
        """
        gone = f"{self.column} is missing"
        if self.values:
            return (*(f"{self.column} = {_quoted(value)}" for value in self.values), gone)
        said = [f"{edge:.6g}" for edge in self.edges]
        within = [f"{low} < {self.column} <= {high}" for low, high in pairwise(said)]
        return (f"{self.column} <= {said[0]}", *within, f"{self.column} > {said[-1]}", gone)

    def codes(self, table: pa.Table) -> NDArray[np.int64]:
        """The part of each row, by position in `names`; -1 where it is in none."""
        if self.column not in table.column_names:
            return np.full(table.num_rows, -1, dtype=np.int64)
        if self.values:
            return self._by_value(table[self.column])
        if not _is_number(table[self.column].type):
            # Texts came where numbers had been.
            return np.full(table.num_rows, -1, dtype=np.int64)
        numbers = numbers_of(table[self.column])
        last = len(self.edges) + 1
        return np.where(np.isfinite(numbers), np.searchsorted(self.edges, numbers, "left"), last).astype(np.int64)

    def _by_value(self, column: pa.ChunkedArray) -> NDArray[np.int64]:
        positions, values = coded(column)
        known = {value: at for at, value in enumerate(self.values)}
        codes = np.array([*(known.get(said(value), -1) for value in values), len(self.values)], dtype=np.int64)
        found: NDArray[np.int64] = codes[positions]
        return found


def cuts(table: pa.Table, columns: Iterable[str], least: int) -> tuple[Cut, ...]:
    """A cut of each of the columns that can be cut into at least two parts of `least` rows.

    >>> cuts(pa.table({"n": list(range(100)), "t": ["a", "b"] * 50, "id": [str(at) for at in range(100)]}), "nt", 20)[1]
    Cut(column='t', values=('a', 'b'), edges=())
    """
    found = [_cut(table[name], name, least) for name in columns if name in table.column_names]
    return tuple(each for each in found if each is not None)


def _cut(column: pa.ChunkedArray, name: str, least: int) -> Cut | None:
    """By value where values are few and frequent, else by range."""
    kind = column.type
    whole = pa.types.is_integer(kind)
    if _is_text(kind) or pa.types.is_boolean(kind) or (whole and pc.count_distinct(column).as_py() <= VALUES):
        found = _valued(column, name, least)
        if found is not None or not whole:
            return found
    return _ranged(column, name, least) if whole or pa.types.is_floating(kind) else None


def _valued(column: pa.ChunkedArray, name: str, least: int) -> Cut | None:
    positions, values = coded(column)
    counts = np.bincount(positions[positions < len(values)], minlength=len(values))
    frequent = [at for at in np.argsort(-counts, kind="stable")[:VALUES].tolist() if counts[at] >= least]
    return Cut(column=name, values=tuple(sorted(said(values[at]) for at in frequent))) if len(frequent) > 1 else None


def _ranged(column: pa.ChunkedArray, name: str, least: int) -> Cut | None:
    numbers = numbers_of(column)
    there = numbers[np.isfinite(numbers)]
    if len(there) < 2 * least:
        return None
    edges = np.unique(np.quantile(there, np.linspace(0, 1, RANGES + 1)[1:-1], method="inverted_cdf"))
    # A range above the largest value would be empty.
    edges = edges[edges < there.max()]
    return Cut(column=name, edges=tuple(edges.tolist())) if len(edges) else None


def _is_number(kind: Any) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_text(kind: Any) -> bool:
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or (pa.types.is_dictionary(kind) and _is_text(kind.value_type))
    )


def _quoted(value: str) -> str:
    """Numbers and truth values as they are, other texts between quotes."""
    plain = value in ("true", "false") or value.lstrip("-").replace(".", "", 1).isdigit()
    return value if plain else f"'{value}'"


def coded(column: pa.ChunkedArray) -> tuple[Array, Sequence[Any]]:
    """The position of each row's value among the different ones; missing ones have the position after the last."""
    found = column.combine_chunks()
    if isinstance(found, pa.ChunkedArray):
        found = pa.concat_arrays(found.chunks) if found.num_chunks else pa.array([], found.type)
    encoded = found if pa.types.is_dictionary(found.type) else pc.dictionary_encode(found)
    values: list[Any] = encoded.dictionary.to_pylist()
    return encoded.indices.fill_null(len(values)).to_numpy(zero_copy_only=False).astype(np.int64), values


def numbers_of(column: pa.ChunkedArray) -> Array:
    """A column of numbers as floats; NaN where it is missing."""
    found: Array = column.cast(pa.float64(), safe=False).to_numpy()
    return found


def said(value: Any) -> str:
    """A value as text: numbers that are equal alike, whatever their type.

    >>> said(1.0), said(1), said(True), said("EV")
    ('1', '1', 'true', 'EV')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.15g}" if isinstance(value, float) else str(value)
