"""Rows on their way to a model and answers on their way back: named flat arrays, nothing more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

Answers: TypeAlias = dict[str, Array]
"""Output name to array of shape ``(rows, *shape)``; texts are object arrays of ``str``."""


class Vector(msgspec.Struct, frozen=True, eq=False):
    """One column: `values` of shape ``(rows, *shape)`` and, for kinds that cannot say it themselves, what is missing.

    Missing is NaN in floats, None in texts (object arrays), NaT in datetimes; there `missing` is None.
    Integers and booleans carry a boolean mask in `missing` (None when nothing is missing) and hold zero
    under it. This is the one convention: every entrance turns its own null into it, and every runtime
    turns it into what missing was in training.
    """

    values: Array
    missing: NDArray[np.bool_] | None = None

    def is_missing(self) -> NDArray[np.bool_]:
        """A mask of shape ``(rows,)`` (``(rows, *shape)`` for tensors) that is true where the value is missing.

        >>> Vector(np.array([1.0, np.nan])).is_missing().tolist()
        [False, True]
        """
        if self.missing is not None:
            return self.missing
        if self.values.dtype.kind == "f":
            return np.isnan(self.values)
        if self.values.dtype.kind == "M":
            return np.isnat(self.values)
        if self.values.dtype.kind == "O":
            return np.array([value is None for value in self.values.flat], dtype=np.bool_).reshape(self.values.shape)
        return np.zeros(self.values.shape, dtype=np.bool_)

    def take(self, rows: slice | Sequence[int] | NDArray[np.intp]) -> Vector:
        """The same column with these rows only."""
        picked = rows if isinstance(rows, slice) else np.asarray(rows, dtype=np.intp)
        return Vector(self.values[picked], None if self.missing is None else self.missing[picked])


class Frame(msgspec.Struct, frozen=True, eq=False):
    """A table by column, in the order of the schema.

    `scalars` may hold the values of a single row of plain columns once more, as Python objects in the same order, with
    None for what is missing: whoever can compute from these needs no arrays.

    >>> frame = Frame({"temp": Vector(np.array([21.5, np.nan]))}, rows=2)
    >>> frame.take(slice(0, 1)).rows
    1
    """

    columns: Mapping[str, Vector]
    rows: int
    scalars: tuple[Any, ...] | None = None

    def __getitem__(self, name: str) -> Vector:
        return self.columns[name]

    def take(self, rows: slice | Sequence[int] | NDArray[np.intp]) -> Frame:
        """The same table with these rows only."""
        count = len(range(*rows.indices(self.rows))) if isinstance(rows, slice) else len(rows)
        return Frame({name: column.take(rows) for name, column in self.columns.items()}, count)

    def row(self, index: int) -> Frame:
        """A table of the one row at `index`."""
        row = self.take(slice(index, index + 1))
        return Frame(row.columns, 1, _scalars(row.columns))


def _scalars(columns: Mapping[str, Vector]) -> tuple[Any, ...] | None:
    """The values of the only row there is; None where a column is no plain one, or holds moments in time."""
    if any(vector.values.ndim != 1 or vector.values.dtype.kind == "M" for vector in columns.values()):
        return None
    return tuple([None if vector.is_missing()[0] else vector.values.tolist()[0] for vector in columns.values()])


def concat_vectors(parts: Sequence[Vector]) -> Vector:
    """One column from several, in order."""
    values = np.concatenate([part.values for part in parts])
    if all(part.missing is None for part in parts):
        return Vector(values)
    return Vector(values, np.concatenate([part.is_missing() for part in parts]))


def concat_frames(parts: Sequence[Frame]) -> Frame:
    """One table from several with the same columns, in order."""
    names = list(parts[0].columns)
    columns = {name: concat_vectors([part[name] for part in parts]) for name in names}
    return Frame(columns, sum(part.rows for part in parts))
