"""Requests as most clients send them, read and checked in one pass by decoders that are made for the schema.

A quick reader takes what fits as it stands: every column of its own JSON type, in range and of a known category. All
else (a number written as ``NaN``, tensors in another order, a misfit) it leaves to the patient readers, which either
understand it or say what is wrong. So it never refuses, and never lets pass what `modelyard.domain.checks` would not:
bounds, categories and missing values are part of the types that it decodes to.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import ceil, floor
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
import numpy as np

from modelyard.domain.frame import Array, Frame, Vector
from modelyard.domain.schema import OIP_DATATYPE, Column, Kind, Scalar, Schema
from modelyard.errors import InvalidInput
from modelyard.protocol.infer import Parameters, WantedOutput
from modelyard.protocol.values import Reader, reader_of

MOST_COLUMNS = 256
"""Wider tables are left to the patient readers: finding members by name takes longer the more there are."""

_EXACT = {Kind.FLOAT32: 2**24 - 1}
_EXACT_DOUBLE = 2**53 - 1
"""A whole number up to here is exact as a float. Whether a larger one is, is not seen once it has been decoded."""

_LENGTH = 4
"""Bytes before a text in a raw tensor that say how long it is."""

_LEFT = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, InvalidInput)
"""What tells that a body is none for a quick reader."""

_Maker: TypeAlias = Callable[[Sequence[Any]], Vector]


class PlainRows(msgspec.Struct, forbid_unknown_fields=True):
    """``{"rows": [...]}`` with the rows as the schema's own type; see `modelyard.protocol.rows`."""

    rows: list[Any]
    ids: list[str] | None = None
    outputs: list[str] | None = None
    keys: list[dict[str, Scalar | None]] | None = None


class Tensors(msgspec.Struct):
    """An inference request whose tensors come in the order of the schema; see `modelyard.protocol.oip`."""

    inputs: Any
    id: str | None = None
    outputs: list[WantedOutput] | None = None
    parameters: Parameters | None = None


class QuickReader:
    """Reads requests for one schema. Made once a version.

    `checks` tells whether what it reads has passed all that the schema asks of values.

    >>> schema = Schema("dataframe", (Column("temp", Kind.FLOAT64, nullable=True, dtype="float64"),), ())
    >>> frame, _ = QuickReader(schema).rows(b'{"rows": [{"temp": 21.5}, {"temp": null}]}')
    >>> frame["temp"].values.tolist()
    [21.5, nan]
    >>> QuickReader(schema).rows(b'{"rows": [{"temp": "warm"}]}') is None
    True
    """

    def __init__(self, schema: Schema) -> None:
        columns = schema.columns
        self._names = tuple(column.name for column in columns)
        self._readers = {column.name: (at, reader_of(column)) for at, column in enumerate(columns)}
        known = [_json_type(column) for column in columns]
        self.checks = all(kind is not None for kind in known)
        self._makers = [_maker(column, kind is not None) for column, kind in zip(columns, known, strict=True)]
        kinds = [Any if kind is None else kind for kind in known]
        flat = 0 < len(columns) <= MOST_COLUMNS and not any(column.shape for column in columns)
        self._scalars = flat and self.checks and not any(column.kind is Kind.FLOAT32 for column in columns)
        self._width = _width(schema)
        self._unnamed = schema.layout in ("array", "series") and len(columns) == 1
        self._rows: msgspec.json.Decoder[PlainRows] | None = None
        self._tensors: msgspec.json.Decoder[Tensors] | None = None
        self._heads: msgspec.json.Decoder[Tensors] | None = None
        if self._width or (flat and (self._unnamed or all(map(can_be_member, self._names)))):
            self._rows = msgspec.json.Decoder(_rows_type(schema, kinds, self._width, self._unnamed))
        if flat or self._width:
            self._tensors = msgspec.json.Decoder(_tensors_type(schema, kinds))
            self._heads = msgspec.json.Decoder(_tensors_type(schema, None))
        self._matrix_dtype = columns[0].kind.numpy.newbyteorder("<") if self._width else None
        self._raw = _raw_readers(columns) if flat else None

    def rows(self, body: bytes) -> tuple[Frame, PlainRows] | None:
        """The rows of a request in the plain form, and the request; None when it has to be read patiently."""
        if self._rows is None:
            return None
        try:
            request = self._rows.decode(body)
            return self._of_rows(request.rows), request
        except _LEFT:
            return None

    def tensors(self, body: bytes) -> tuple[Frame, Tensors] | None:
        """The rows of an inference request, and the request; None when it has to be read patiently."""
        if self._tensors is None:
            return None
        try:
            request = self._tensors.decode(body)
            frame = self._of_tensors(request.inputs) if self._are_in_order(request.inputs) else None
        except _LEFT:
            return None
        return None if frame is None else (frame, request)

    def _are_in_order(self, tensors: Sequence[Any]) -> bool:
        return tuple([tensor.name for tensor in tensors]) == self._names

    def binary(self, body: bytes, json_length: int) -> tuple[Frame, Tensors] | None:
        """The row (or the matrix) of an inference request with raw tensors behind its JSON, and the request.

        None when it has to be read patiently. What is read has not been checked.
        """
        if self._heads is None:
            return None
        try:
            request = self._heads.decode(memoryview(body)[:json_length])
        except _LEFT:
            return None
        if not self._are_in_order(request.inputs):
            return None
        raws, at = [], json_length
        for tensor in request.inputs:
            end = at + tensor.parameters.binary_data_size
            raws.append(body[at:end])
            at = end
        if at != len(body):
            return None
        rows = self.rows_of([tensor.shape for tensor in request.inputs])
        frame = None if rows is None else self.raw(raws, rows)
        return None if frame is None else (frame, request)

    def rows_of(self, shapes: Sequence[list[int]]) -> int | None:
        """How many rows tensors of these shapes have that `raw` can read; None when it cannot."""
        if self._width:
            rows = shapes[0][0] if shapes[0] else 0
            return rows if rows > 0 and shapes[0] == [rows, self._width] else None
        return 1 if self._raw is not None and all(shape in ([1], [1, 1]) for shape in shapes) else None

    def raw(self, raws: Sequence[bytes], rows: int) -> Frame | None:
        """A row of plain columns, or a matrix, from the raw bytes of tensors in the order of the schema.

        None when it has to be read patiently. What is read has not been checked.
        """
        dtype = self._matrix_dtype
        if dtype is not None:
            if len(raws[0]) != rows * self._width * dtype.itemsize:
                return None
            # A copy, since bytes cannot be written to and models may do so.
            values = np.frombuffer(raws[0], dtype).reshape(rows, self._width).copy()
            return Frame({self._names[0]: Vector(values)}, rows)
        try:
            return self._one(tuple([read(raw) for read, raw in zip(self._raw or (), raws, strict=True)]))
        except (struct.error, ValueError):
            return None

    def _of_rows(self, rows: list[Any]) -> Frame:
        if self._width:
            return self._matrix(list(chain.from_iterable(rows)), len(rows))
        if self._unnamed:
            return self.table([rows], len(rows))
        if len(rows) == 1 and self._scalars:
            return self._one(msgspec.structs.astuple(rows[0]))
        return self.table(list(zip(*map(msgspec.structs.astuple, rows), strict=True)), len(rows))

    def _of_tensors(self, tensors: Sequence[Any]) -> Frame | None:
        shape, data = tensors[0].shape, tensors[0].data
        rows = shape[0] if shape else 0
        if rows < 1:
            return None
        if self._width:
            return self._matrix(data, rows) if shape == [rows, self._width] and len(data) == rows * shape[1] else None
        shapes = ([rows], [rows, 1])
        for tensor in tensors:
            if len(tensor.data) != rows or tensor.shape not in shapes:
                return None
        if rows == 1 and self._scalars:
            return self._one(tuple([tensor.data[0] for tensor in tensors]))
        return self.table([tensor.data for tensor in tensors], rows)

    def _one(self, row: tuple[Any, ...]) -> Frame:
        return Frame(_RowColumns(self._readers, row), 1, row)

    def table(self, columns: Sequence[Sequence[Any]], rows: int) -> Frame:
        """A frame from the values of each column, such as `Frame.scalars` holds those of a row."""
        made = zip(self._names, self._makers, columns, strict=True)
        return Frame({name: make(values) for name, make, values in made}, rows)

    def _matrix(self, leaves: Sequence[Any], rows: int) -> Frame:
        vector = self._makers[0](leaves)
        return Frame({self._names[0]: Vector(vector.values.reshape(rows, self._width))}, rows)


@dataclass(frozen=True, slots=True, eq=False)
class _RowColumns(Mapping[str, Vector]):
    """The columns of a single row, each made when somebody asks for it: a compiled model does not."""

    readers: Mapping[str, tuple[int, Reader]]
    row: tuple[Any, ...]

    def __getitem__(self, name: str) -> Vector:
        at, read = self.readers[name]
        return read(self.row[at : at + 1], 1)

    def __iter__(self) -> Iterator[str]:
        return iter(self.readers)

    def __len__(self) -> int:
        return len(self.readers)


def can_be_member(name: str) -> bool:
    """Whether msgspec takes it as the name of a member: as JSON writes it, without escapes.

    >>> can_be_member("Zürich (CH)"), can_be_member('a "quoted" name')
    (True, False)
    """
    return not any(character in '"\\' or character < " " for character in name)


def _width(schema: Schema) -> int:
    """How many numbers a row of a matrix has; 0 for what is no matrix of floats."""
    if len(schema.columns) != 1:
        return 0
    column = schema.columns[0]
    return column.shape[0] if len(column.shape) == 1 and column.kind.is_float and column.shape[0] > 0 else 0


def _rows_type(schema: Schema, kinds: Sequence[Any], width: int, unnamed: bool) -> Any:
    if width:
        row: Any = Annotated[_list_of(kinds[0]), msgspec.Meta(min_length=width, max_length=width)]
    elif unnamed:
        row = kinds[0]
    else:
        fields = [(f"column{at}", kind) for at, kind in enumerate(kinds)]
        names = {f"column{at}": column.name for at, column in enumerate(schema.columns)}
        row = msgspec.defstruct("Row", fields, rename=names, forbid_unknown_fields=True, gc=False)
    rows: Any = Annotated[_list_of(row), msgspec.Meta(min_length=1)]
    return msgspec.defstruct("Rows", [("rows", rows)], bases=(PlainRows,), forbid_unknown_fields=True)


class _Behind(msgspec.Struct, forbid_unknown_fields=True):
    """The parameters of a tensor whose bytes lie behind the JSON."""

    binary_data_size: Annotated[int, msgspec.Meta(ge=0)]


def _tensors_type(schema: Schema, kinds: Sequence[Any] | None) -> Any:
    """The type of a request with the columns' values as these kinds; None for raw bytes behind it.

    Columns of the same kind share a type, since types are slow to make: names are left to be compared.
    """
    made: dict[Any, Any] = {}
    tensors = []
    for at, column in enumerate(schema.columns):
        kind = None if kinds is None else kinds[at]
        key = (column.kind, kind)
        if key not in made:
            made[key] = _tensor_type(OIP_DATATYPE[column.kind], kind)
        tensors.append(made[key])
    return msgspec.defstruct("Request", [("inputs", tuple.__class_getitem__(tuple(tensors)))], bases=(Tensors,))


def _tensor_type(datatype: str, kind: Any) -> Any:
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = [
        ("name", str),
        ("datatype", Literal[datatype]),
        ("shape", list[int]),
    ]
    if kind is None:
        fields += [("parameters", _Behind), ("data", None, None)]
    else:
        fields += [("data", _list_of(kind)), ("parameters", None, None)]
    return msgspec.defstruct("Tensor", fields)


def _list_of(kind: Any) -> Any:
    return list.__class_getitem__(kind)


def _json_type(column: Column) -> Any:
    """The type of JSON values that the model takes in a column; None where types cannot say it."""
    accepts, kind = column.accepts, column.kind
    if kind is Kind.STRING:
        texts = accepts.categories
        if texts is not None and not (texts and all(type(text) is str for text in texts)):
            return None
        taken: Any = str if texts is None else Literal[tuple(texts)]
    elif kind is Kind.DATETIME or accepts.categories is not None:
        return None
    elif kind is Kind.BOOL:
        taken = bool
    else:
        low, high = _bounds(column)
        if low > high:
            return None
        taken = Annotated[float if kind.is_float else int, msgspec.Meta(ge=low, le=high)]
    return taken | None if column.nullable else taken


def _bounds(column: Column) -> tuple[float, float]:
    """The least and the most that a number may be, integers for integers."""
    accepts, kind = column.accepts, column.kind
    most = _EXACT.get(kind, _EXACT_DOUBLE)
    low = -most if accepts.minimum is None else max(accepts.minimum, -most)
    high = most if accepts.maximum is None else min(accepts.maximum, most)
    if kind.is_float:
        return float(low), float(high)
    limits = np.iinfo(kind.numpy)
    return max(ceil(low), int(limits.min)), min(floor(high), int(limits.max))


def _maker(column: Column, typed: bool) -> _Maker:
    """What makes a column of values that fit its type; such as are not `typed` are read one by one."""
    read, dtype = reader_of(column), column.kind.numpy
    if not typed:
        return lambda values: read(values, 1)
    if column.kind.is_float:
        return lambda values: Vector(np.array(values, dtype))
    if column.kind is Kind.STRING:
        return lambda values: Vector(_objects(values))
    if not column.nullable:
        return lambda values: Vector(np.array(values, dtype))
    return lambda values: read(values, 1)


def _objects(values: Sequence[Any]) -> Array:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


_Raw: TypeAlias = Callable[[bytes], Any]
"""Reads the one element of a raw tensor; struct.error or ValueError when it is none. NaN is None."""


def _raw_readers(columns: Sequence[Column]) -> list[_Raw] | None:
    """How one value of each column is read from raw bytes; None where a column has no such way."""
    if any(column.kind is Kind.DATETIME for column in columns):
        return None
    return [_raw_reader(column.kind) for column in columns]


def _raw_reader(kind: Kind) -> _Raw:
    if kind is Kind.STRING:
        return _raw_text
    if kind is Kind.BOOL:
        return lambda raw: (b"\0", b"\1").index(raw) == 1
    unpack = struct.Struct("<" + kind.numpy.char).unpack
    if not kind.is_float:
        return lambda raw: unpack(raw)[0]

    def number(raw: bytes) -> float | None:
        [value] = unpack(raw)
        return value if value == value else None

    return number


def _raw_text(raw: bytes) -> str:
    if len(raw) < _LENGTH or int.from_bytes(raw[:_LENGTH], "little") != len(raw) - _LENGTH:
        raise ValueError
    return raw[_LENGTH:].decode()
