"""Tensors as raw bytes, little-endian and row-major, as gRPC carries them, and as lists of elements.

A tensor of fixed width holds its elements one after another; ``BYTES`` has a length of four bytes before each element.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from modelyard.domain.frame import Array, Vector
from modelyard.domain.schema import OIP_DATATYPE, Column, Kind
from modelyard.errors import InvalidInput, InvalidRequest
from modelyard.protocol.binary import booleans, texts_of, with_length
from modelyard.protocol.missing import positions, with_missing
from modelyard.protocol.table import ColumnReader, checked_shape
from modelyard.protocol.values import convert, read_values, write_values

KINDS = {name: kind for kind, name in OIP_DATATYPE.items() if kind is not Kind.DATETIME}
HALVES = ("FP16", "BF16")

_FIXED = {
    **{name: kind.numpy.newbyteorder("<") for name, kind in KINDS.items() if kind is not Kind.STRING},
    "BOOL": np.dtype(np.uint8),
    "FP16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}

_PLAIN = {name: dtype for name, dtype in _FIXED.items() if name not in ("BOOL", *HALVES)}
"""Datatypes whose bytes are the values as they are."""


def read_raw(raw: bytes, datatype: str, shape: Sequence[int], reading: ColumnReader, missing: Any = None) -> Vector:
    """One column from a tensor's bytes, flat whatever its shape. `missing` is what it says of its missing texts.

    Raises:
        InvalidInput: when shape, length, datatype or an element does not fit the column exactly.
        InvalidRequest: for a datatype that is not of the protocol.

    >>> from modelyard.protocol.values import reader_of
    >>> temp = Column("temp", Kind.FLOAT64, nullable=True, dtype="float64")
    >>> read_raw(bytes(8), "FP64", [1], ColumnReader(temp, "FP64", reader_of(temp))).values
    array([0.])
    """
    column = reading.column
    if datatype == reading.datatype and len(shape) == 1 and not column.shape and datatype in _PLAIN:
        dtype = _PLAIN[datatype]
        if shape[0] > 0 and len(raw) == shape[0] * dtype.itemsize:
            return Vector(np.frombuffer(raw, dtype).copy())
    inner, sent = leaves_a_row(column, shape), sent_kind(datatype, column)
    count = prod(shape)
    if datatype == "BYTES":
        texts = texts_of(raw, count, column, inner)
        return reading.read(texts if missing is None else with_missing(texts, missing, column.name), inner)
    dtype = _FIXED[datatype]
    if len(raw) != count * dtype.itemsize:
        raise InvalidInput(
            f"tensor {column.name!r}: {datatype} of shape {list(shape)} has {count * dtype.itemsize} bytes, "
            f"got {len(raw)}",
            column=column.name,
        )
    # A copy, since bytes cannot be written to and models may do so.
    values = _decoded(np.frombuffer(raw, dtype).copy(), datatype, column, inner)
    return Vector(values) if sent is column.kind else convert(Vector(values), sent, column, inner)


def read_leaves(leaves: Sequence[Any], datatype: str, shape: Sequence[int], reading: ColumnReader) -> Vector:
    """One column from a tensor's elements, texts for ``BYTES``; flat whatever its shape.

    Raises:
        InvalidInput, InvalidRequest: as `read_raw`.
    """
    column = reading.column
    inner, sent = leaves_a_row(column, shape), sent_kind(datatype, column)
    if len(leaves) != prod(shape):
        raise InvalidInput(
            f"tensor {column.name!r}: shape {list(shape)} has {prod(shape)} elements, data has {len(leaves)}",
            column=column.name,
        )
    if sent is column.kind:
        return reading.read(leaves, inner)
    return convert(read_values(leaves, replace(column, kind=sent), inner), sent, column, inner)


def sent_kind(datatype: str, column: Column) -> Kind:
    """The kind of a tensor's elements, if such may be tried for the column.

    Raises:
        InvalidRequest: there is no such datatype.
        InvalidInput: the column takes another sort of values.

    >>> sent_kind("BF16", Column("x", Kind.FLOAT64, nullable=False, dtype="float64"))
    <Kind.FLOAT32: 'float32'>
    """
    sent = Kind.FLOAT32 if datatype in HALVES else KINDS.get(datatype)
    if sent is None:
        there = ", ".join([*KINDS, *HALVES])
        raise InvalidRequest(f"tensor {column.name!r}: unknown datatype {datatype[:40]!r}; there are: {there}")
    if sent is Kind.STRING and column.kind is Kind.DATETIME:
        return Kind.DATETIME
    if sent is not column.kind and not (_is_number(sent) and _is_number(column.kind)):
        raise InvalidInput(
            f"column {column.name!r}: expected datatype {OIP_DATATYPE[column.kind]}, got {datatype}", column=column.name
        )
    return sent


def leaves_a_row(column: Column, shape: Sequence[int]) -> int:
    """The number of elements a row of a tensor of that shape.

    Raises:
        InvalidInput: when it is not a shape of the column.

    >>> leaves_a_row(Column("X", Kind.FLOAT64, True, "float64", shape=(3,)), [2, 3])
    3
    """
    trailing = column.shape
    if not trailing and len(shape) == 2 and shape[1] == 1:
        checked_shape(shape, column.name)
        return 1
    if len(shape) != len(trailing) + 1 or any(
        wanted not in (-1, size) for wanted, size in zip(trailing, shape[1:], strict=True)
    ):
        wanted = ", ".join(["n", *("any" if size == -1 else str(size) for size in trailing)])
        also = "" if trailing else " or [n, 1]"
        raise InvalidInput(
            f"tensor {column.name!r}: expected shape [{wanted}]{also}, got {list(shape)}", column=column.name
        )
    return max(prod(checked_shape(shape, column.name)[1:]), 1)


def write_raw(array: Array, dtype: str = "") -> tuple[bytes, str]:
    r"""An array's bytes, and what is to be said of the texts and datetimes that are missing, which are empty there.

    >>> write_raw(np.array(["ab", None], dtype=object))
    (b'\x02\x00\x00\x00ab\x00\x00\x00\x00', '1')
    """
    if array.dtype.kind not in "OM":
        return array.tobytes(), ""
    values = write_values(array, dtype)
    texts = [("" if text is None else str(text)).encode() for text in values]
    return b"".join(map(with_length, texts)), positions(values)


def _decoded(values: Array, datatype: str, column: Column, inner: int) -> Array:
    if datatype == "FP16":
        return values.astype(np.float32)
    if datatype == "BF16":
        return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return booleans(values, column, inner) if datatype == "BOOL" else values


def _is_number(kind: Kind) -> bool:
    return kind.is_integer or kind.is_float
