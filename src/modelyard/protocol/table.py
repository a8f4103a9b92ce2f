"""JSON tables to frames: rows as objects, columns as lists, or matrices, read by a schema.

Every shape that people and clients send (``rows``, ``dataframe_split``, ``instances`` ...) ends in one of the three
methods of `TableReader`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from math import prod
from typing import Any

import msgspec

from modelyard.domain.frame import Frame, Vector
from modelyard.domain.schema import OIP_DATATYPE, Column, Schema
from modelyard.errors import InvalidInput, InvalidRequest
from modelyard.protocol.quick import QuickReader
from modelyard.protocol.values import Reader, flatten, read_values, reader_of, shown


class Call(msgspec.Struct, frozen=True):
    """What a request asks for: rows, the wanted outputs (None: all) and what the caller named.

    `id` is echoed. `row_ids` are the caller's own prediction ids, one a row. `words` asks for NaN and infinities as
    bare words in the answer, where JSON has only null. `binary` names the outputs that are wanted as raw bytes.
    `classes` names those of which only the largest values are wanted, and how many (see `protocol.classification`).
    `checked` says that the values have passed `modelyard.domain.checks` already, by the way in which they were read.
    """

    frame: Frame
    outputs: tuple[str, ...] | None = None
    id: str | None = None
    row_ids: tuple[str, ...] = ()
    words: bool = False
    binary: frozenset[str] = frozenset()
    checked: bool = False
    classes: tuple[tuple[str, int], ...] = ()


class Source(msgspec.Struct, frozen=True):
    """What answered a call, and under which ids: the facts that an answer carries beside its numbers.

    `ids` are the caller's own, one a row, or empty. `deployment` is the name under which it was called.
    """

    model: str
    version: int
    prediction_id: str
    rows: int
    ids: tuple[str, ...] = ()
    deployment: str = ""


@dataclass(frozen=True, slots=True)
class ColumnReader:
    """Reads one column: `read` takes leaves of its own kind, `datatype` is that kind's name in the protocol."""

    column: Column
    datatype: str
    read: Reader

    def is_usual(self, datatype: str, shape: list[int], data: list[Any]) -> bool:
        """Whether a tensor is a plain column of its own type, flat and of the length it says."""
        if datatype != self.datatype or self.column.shape:
            return False
        return shape == [len(data)] or (shape == [len(data), 1] and type(data[0]) is not list)

    def rows(self, values: Sequence[Any]) -> Vector:
        """The column from one value a row, or one nested list a row where the column has a shape."""
        return read_tensor(values, self.column, len(values)) if self.column.shape else self.read(values, 1)


@dataclass(frozen=True, slots=True)
class TableReader:
    """Reads JSON tables for one schema. Made once a version, used for every request.

    >>> from modelyard.domain.schema import Kind
    >>> schema = Schema("dataframe", (Column("temp", Kind.FLOAT64, nullable=True, dtype="float64"),), ())
    >>> TableReader(schema).records([{"temp": 21.5}, {"temp": None}])["temp"].values.tolist()
    [21.5, nan]
    """

    schema: Schema
    by_name: Mapping[str, ColumnReader] = field(init=False)
    single: ColumnReader | None = field(init=False)
    """The one column of an array or series, which needs no name."""
    quick: QuickReader = field(init=False)

    def __post_init__(self) -> None:
        columns = self.schema.columns
        readers = {
            column.name: ColumnReader(column, OIP_DATATYPE[column.kind], reader_of(column)) for column in columns
        }
        object.__setattr__(self, "by_name", readers)
        object.__setattr__(self, "quick", QuickReader(self.schema))
        unnamed = self.schema.layout in ("array", "series") and len(columns) == 1
        object.__setattr__(self, "single", readers[columns[0].name] if unnamed else None)

    def records(self, rows: Sequence[Any]) -> Frame:
        """A frame from one object a row (or one bare value or list a row, for arrays and series).

        Raises:
            InvalidInput: for a column that is unknown or absent in a row, or a value that does not fit.
        """
        if self.single is not None and not (rows and type(rows[0]) is dict):
            return self.matrix(rows)
        width, read = len(self.by_name), {}
        for index, row in enumerate(rows):
            if type(row) is not dict:
                raise InvalidInput(
                    f"row {index}: expected an object with one member a column, got {shown(row)}", row=index
                )
            if len(row) != width:
                self._check_names(row, f"row {index}", index)
        try:
            for name, reader in self.by_name.items():
                read[name] = reader.rows([row[name] for row in rows])
        except KeyError:
            for index, row in enumerate(rows):
                self._check_names(row, f"row {index}", index)
            raise
        return Frame(read, len(rows))

    def columns(self, table: Mapping[str, Any]) -> Frame:
        """A frame from one list of values a column; a bare value counts as a list of one.

        Raises:
            InvalidInput: as `records` does, and when lists differ in length.
        """
        self._check_names(table, "the table")
        lists = {name: value if type(value) is list else [value] for name, value in table.items()}
        rows = len(next(iter(lists.values()))) if lists else 0
        read = {}
        for name, reader in self.by_name.items():
            if len(lists[name]) != rows:
                raise InvalidInput(
                    f"column {name!r}: it has {len(lists[name])} values, the first column has {rows}", column=name
                )
            read[name] = reader.rows(lists[name])
        return Frame(read, rows)

    def matrix(self, rows: Sequence[Any]) -> Frame:
        """A frame of the one unnamed column of an array or series from one list or value a row.

        Raises:
            InvalidInput: when columns have names, which values without names cannot be matched to, and for misfits.
        """
        if self.single is None:
            raise InvalidInput(
                f"values without column names: this model takes named columns ({self._known()}); send one object a row"
            )
        return Frame({self.single.column.name: self.single.rows(rows)}, len(rows))

    def _check_names(self, names: Mapping[str, Any], where: str, row: int | None = None) -> None:
        unknown = [name for name in names if name not in self.by_name]
        if unknown:
            raise self.unknown(unknown[0], where, row)
        absent = [name for name in self.by_name if name not in names]
        if absent:
            raise self.absent(absent[0], where, row)

    def unknown(self, name: str, where: str, row: int | None = None) -> InvalidInput:
        """The error that a column is not one of the model's."""
        name = name[:128]
        near = get_close_matches(name, self.by_name, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {self._known()}"
        return InvalidInput(f"{where}: unknown column {name!r}; {hint}", column=name, row=row)

    def absent(self, name: str, where: str, row: int | None = None) -> InvalidInput:
        """The error that a column is not there."""
        return InvalidInput(
            f"{where}: column {name!r} is missing; send null if its value is unknown", column=name, row=row
        )

    def _known(self) -> str:
        names = [repr(name) for name in self.by_name]
        return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def read_tensor(data: Sequence[Any], column: Column, rows: int, what: str = "") -> Vector:
    """A column with trailing dimensions from nested lists, one a row; any size (-1) is taken from the first row."""
    shape: list[int] = [rows]
    first = data[0] if len(data) else []
    for size in column.shape:
        length = len(first) if type(first) is list else 0
        shape.append(length if size == -1 else size)
        first = first[0] if type(first) is list and first else None
    inner = 1
    for size in shape[1:]:
        inner *= size
    if rows and not all(type(item) is list for item in data):
        position = next(index for index, item in enumerate(data) if type(item) is not list)
        came = shown(data[position])
        message = f"column {column.name!r}, row {position}: expected a list of shape {shape[1:]}, got {came}"
        raise InvalidInput(message, column=column.name, row=position)
    leaves = flatten(data, shape, what or f"column {column.name!r}")
    return shaped(read_values(leaves, column, max(inner, 1)), shape)


def shaped(vector: Vector, shape: Sequence[int]) -> Vector:
    """The same column with its leaves arranged to `shape`."""
    missing = vector.missing
    return Vector(vector.values.reshape(shape), None if missing is None else missing.reshape(shape))


MOST_DIMENSIONS = 32
"""Of any tensor."""

_MOST_ELEMENTS = 2**48
"""More would fit no memory, nor the arithmetic of shapes."""


def checked_shape(shape: Sequence[int], name: str) -> Sequence[int]:
    """The shape that a request gives a tensor, if there can be such a tensor.

    More dimensions than any array has are refused, since a product of very many sizes takes long. Rows without elements
    are refused: a few bytes could claim any number of them.

    Raises:
        InvalidInput: otherwise.

    >>> checked_shape([2, 3], "X")
    [2, 3]
    """
    if len(shape) > MOST_DIMENSIONS:
        raise InvalidInput(
            f"tensor {name!r}: a shape has up to {MOST_DIMENSIONS} dimensions, got {len(shape)}", column=name
        )
    if any(size < 0 for size in shape):
        raise InvalidInput(f"tensor {name!r}: a shape cannot be negative, got {list(shape)}", column=name)
    if prod(max(size, 1) for size in shape) > _MOST_ELEMENTS:
        raise InvalidInput(f"tensor {name!r}: no tensor is as large as its shape says", column=name)
    if 0 in shape[1:] and shape[0]:
        raise InvalidInput(f"tensor {name!r}: a row needs elements, got shape {list(shape)}", column=name)
    return shape


def named_twice(names: Sequence[str]) -> str | None:
    """The first name that was there before; None where each is another.

    >>> named_twice(["a", "b", "a"]), named_twice(["a", "b"])
    ('a', None)
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def need_list(document: Any, member: str) -> list[Any]:
    """The list under `member` of a JSON object.

    Raises:
        InvalidRequest: when the document is no object or has no list there.
    """
    value = need_object(document).get(member)
    if type(value) is not list:
        raise InvalidRequest(
            f"expected a list under {member!r}, got {shown(value) if value is not None else 'nothing'}"
        )
    return value


def need_object(document: Any) -> dict[str, Any]:
    """The document, if it is a JSON object.

    Raises:
        InvalidRequest: when it is not.
    """
    if type(document) is not dict:
        raise InvalidRequest(f"expected a JSON object, got {shown(document)}")
    return document
