"""Tensors as raw bytes: the binary extension of the Open Inference Protocol.

Little-endian, row-major, without padding. ``BOOL`` is one byte, 0 or 1; every element of ``BYTES`` has its length
before it, in four bytes. Raw bytes know no null: NaN is missing in floating-point tensors, as everywhere, and a column
of nullable integers may be sent as ``FP64`` with NaN; where texts are missing, a parameter of the tensor says.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from modelyard.domain.frame import Array, Vector
from modelyard.domain.schema import OIP_DATATYPE, Column, Kind
from modelyard.errors import InvalidInput, InvalidRequest
from modelyard.protocol.missing import with_missing
from modelyard.protocol.table import ColumnReader
from modelyard.protocol.values import convert, write_values

_KINDS = {name: kind for kind, name in OIP_DATATYPE.items() if kind not in (Kind.DATETIME, Kind.STRING)}
_DTYPES = {
    **{
        name: np.dtype(np.uint8) if kind is Kind.BOOL else kind.numpy.newbyteorder("<") for name, kind in _KINDS.items()
    },
    "FP16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}
"""How the elements of a tensor of fixed width lie in its bytes."""

FIXED = {name: dtype for name, dtype in _DTYPES.items() if name not in ("BOOL", "FP16", "BF16")}
"""The types whose bytes are a column's values as they are."""

_LENGTH = struct.Struct("<I")


def read_raw(
    raw: memoryview, datatype: str, shape: Sequence[int], reading: ColumnReader, inner: int, missing: Any = None
) -> Vector:
    """A column of shape ``(elements,)`` from the bytes of its tensor, with `inner` elements a row.

    `missing` is what the tensor says of its missing texts.

    Raises:
        InvalidRequest: there is no such datatype.
        InvalidInput: the bytes are not as many as the shape needs, or values do not fit the column exactly.

    >>> from modelyard.protocol.values import reader_of
    >>> age = Column("age", Kind.INT64, nullable=False, dtype="int64")
    >>> read_raw(memoryview(bytes([41, 0, 42, 0])), "INT16", [2], ColumnReader(age, "INT64", reader_of(age)), 1).values
    array([41, 42])
    """
    column, count = reading.column, prod(shape)
    if datatype == "BYTES":
        if reading.datatype != "BYTES":
            raise _other_datatype(column, datatype)
        texts = texts_of(bytes(raw), count, column, inner)
        return reading.read(texts if missing is None else with_missing(texts, missing, column.name), inner)
    dtype = _DTYPES.get(datatype)
    if dtype is None:
        there = ", ".join([*_KINDS, "BYTES", "FP16", "BF16"])
        raise InvalidRequest(f"tensor {column.name!r}: unknown datatype {datatype[:40]!r}; there are: {there}")
    if count * dtype.itemsize != len(raw):
        raise InvalidInput(
            f"tensor {column.name!r}: {datatype} of shape {list(shape)} has {count * dtype.itemsize} bytes, "
            f"got {len(raw)}",
            column=column.name,
        )
    values = np.frombuffer(raw, dtype)
    if datatype == reading.datatype and datatype != "BOOL":
        # A copy, since the bytes may lie anywhere and models may write to their columns.
        return Vector(values.astype(column.kind.numpy))
    return _converted(values, datatype, column, inner)


def _converted(values: Array, datatype: str, column: Column, inner: int) -> Vector:
    sent = _KINDS.get(datatype, Kind.FLOAT32)
    if sent is not column.kind and not (_is_number(sent) and _is_number(column.kind)):
        raise _other_datatype(column, datatype)
    if sent is Kind.BOOL:
        return Vector(booleans(values, column, inner))
    if datatype == "BF16":
        values = (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return convert(Vector(values.astype(sent.numpy)), sent, column, inner)


def _is_number(kind: Kind) -> bool:
    return kind.is_integer or kind.is_float


def _other_datatype(column: Column, datatype: str) -> InvalidInput:
    return InvalidInput(
        f"column {column.name!r}: expected datatype {OIP_DATATYPE[column.kind]}, got {datatype}", column=column.name
    )


def booleans(values: Array, column: Column, inner: int) -> Array:
    """The elements of a ``BOOL`` tensor, of which each has to be 0 or 1; `inner` elements are a row.

    Raises:
        InvalidInput: one is something else.
    """
    wrong = values > 1
    if wrong.any():
        position = int(wrong.argmax())
        row = position // inner
        raise InvalidInput(
            f"column {column.name!r}, row {row}: expected a byte 0 or 1, got {values[position]}",
            column=column.name,
            row=row,
        )
    return values.astype(np.bool_)


def texts_of(raw: bytes, count: int, column: Column, inner: int) -> list[str]:
    """The elements of a ``BYTES`` tensor; `inner` of them are a row.

    Raises:
        InvalidInput: there are not `count` of them, or one is not UTF-8.
    """
    texts: list[str] = []
    at, end = 0, len(raw)
    # Of nothing but ASCII, texts are cut out as such, which is quicker than to decode each.
    whole = raw.decode("ascii") if raw.isascii() else None
    length_at = _LENGTH.unpack_from
    while at < end and len(texts) < count:
        start = at + 4
        at = start + length_at(raw, at)[0] if start <= end else end + 1
        if at > end:
            raise InvalidInput(
                f"tensor {column.name!r}: its bytes end within element {len(texts)}; each is a length in 4 bytes and "
                "that many bytes of text",
                column=column.name,
            )
        texts.append(whole[start:at] if whole is not None else text_of(raw[start:at], len(texts) // inner, column))
    if len(texts) != count or at != end:
        raise InvalidInput(
            f"tensor {column.name!r}: its shape has {count} elements; its bytes have "
            + (f"{len(texts)}" if at == end else "more"),
            column=column.name,
        )
    return texts


def text_of(raw: bytes, row: int, column: Column) -> str:
    """One element of a ``BYTES`` tensor as text.

    Raises:
        InvalidInput: when it is not UTF-8.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"column {column.name!r}, row {row}: expected a text in UTF-8, got bytes that are not "
            f"({error.reason} at byte {error.start} of it)",
            column=column.name,
            row=row,
        ) from None


def with_length(text: bytes) -> bytes:
    """One element of a ``BYTES`` tensor."""
    return _LENGTH.pack(len(text)) + text


def row_shape(size: int, reading: ColumnReader) -> list[int]:
    """The shape of one row whose tensor has `size` bytes, a body that says no shape.

    Raises:
        InvalidInput: the column has more than one dimension of any size, so that it cannot be seen.
    """
    column, sizes = reading.column, list(reading.column.shape)
    if sizes.count(-1) > 1:
        raise InvalidInput(
            f"column {column.name!r} has more than one dimension of any size, which raw bytes do not tell; "
            "send a request with a JSON part",
            column=column.name,
        )
    if -1 in sizes and reading.datatype in _DTYPES:
        rest = _DTYPES[reading.datatype].itemsize * prod(each for each in sizes if each != -1)
        sizes[sizes.index(-1)] = size // rest if rest else 0
    return [1, *(abs(each) for each in sizes)]


def raw_of(array: Array, dtype: str = "") -> bytes | None:
    r"""An output's array as raw bytes; None when a text or datetime in it is missing, which raw bytes cannot say.

    >>> raw_of(np.array(["ab", "c"], dtype=object)), raw_of(np.array([True, False]))
    (b'\x02\x00\x00\x00ab\x01\x00\x00\x00c', b'\x01\x00')
    """
    if array.dtype.kind not in "OM":
        return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    texts = write_values(array, dtype)
    return None if None in texts else b"".join(with_length(text.encode()) for text in texts)
