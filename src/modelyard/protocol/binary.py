"""Tensors as raw bytes, over HTTP (the binary extension of the Open Inference Protocol) and gRPC, and typed lists.

Little-endian, row-major, without padding. ``BOOL`` is one byte, 0 or 1; every element of ``BYTES`` has its length
before it, in four bytes. Raw bytes know no null: NaN is missing in floating-point tensors, as everywhere, and a column
of nullable integers may be sent as ``FP64`` with NaN; where texts are missing, a parameter of the tensor says.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from modelyard.domain.frame import Array, Vector
from modelyard.domain.schema import OIP_DATATYPE, Column, Kind
from modelyard.errors import InvalidInput, InvalidRequest
from modelyard.protocol.media import MOST_VALUES, too_many
from modelyard.protocol.missing import positions, with_missing
from modelyard.protocol.table import MOST_DIMENSIONS, ColumnReader, checked_shape
from modelyard.protocol.values import convert, read_values, write_values

KINDS = {name: kind for kind, name in OIP_DATATYPE.items() if kind is not Kind.DATETIME}
"""The kind of the elements of each datatype; the half formats become single precision."""

HALVES = ("FP16", "BF16")

_DTYPES = {
    **{name: kind.numpy.newbyteorder("<") for name, kind in KINDS.items() if kind is not Kind.STRING},
    "BOOL": np.dtype(np.uint8),
    "FP16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}
"""How the elements of a tensor of fixed width lie in its bytes."""

_PLAIN = {name: dtype for name, dtype in _DTYPES.items() if name not in ("BOOL", *HALVES)}
"""Datatypes whose bytes are the values as they are."""

_LENGTH = struct.Struct("<I")


def read_raw(
    raw: bytes | memoryview, datatype: str, shape: Sequence[int], reading: ColumnReader, missing: Any = None
) -> Vector:
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
        texts = texts_of(bytes(raw), count, column, inner)
        return reading.read(texts if missing is None else with_missing(texts, missing, column.name), inner)
    dtype = _DTYPES[datatype]
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
    if (not trailing and len(shape) == 2 and shape[1] == 1) or len(shape) > MOST_DIMENSIONS:
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
        TooLarge: there are too many to make an object of each.
    """
    if count > MOST_VALUES and len(raw) >= 4 * count:
        raise too_many()
    quick = _ascii_texts(raw, count)
    if quick is not None:
        return quick
    texts: list[str] = []
    at, end = 0, len(raw)
    while at < end and len(texts) < count:
        start = at + 4
        at = start + _LENGTH.unpack_from(raw, at)[0] if start <= end else end + 1
        if at > end:
            raise InvalidInput(
                f"tensor {column.name!r}: its bytes end within element {len(texts)}; each is a length in 4 bytes and "
                "that many bytes of text",
                column=column.name,
            )
        texts.append(text_of(raw[start:at], len(texts) // inner, column))
    if len(texts) != count or at != end:
        raise InvalidInput(
            f"tensor {column.name!r}: its shape has {count} elements; its bytes have "
            + (f"{len(texts)}" if at == end else "more"),
            column=column.name,
        )
    return texts


def _ascii_texts(raw: bytes, count: int) -> list[str] | None:
    """The elements where all is well and ASCII: cut out of one text, which is quicker than to decode each."""
    if not raw.isascii():
        return None
    whole, at, length_at = raw.decode("ascii"), 0, _LENGTH.unpack_from
    texts: list[str] = []
    try:
        for _ in range(count):
            start = at + 4
            at = start + length_at(raw, at)[0]
            texts.append(whole[start:at])
    except struct.error:
        return None
    return texts if at == len(raw) else None


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


def write_raw(array: Array, dtype: str = "") -> tuple[bytes, str]:
    r"""An array's bytes, and what is to be said of the texts and datetimes that are missing, which are empty there.

    >>> write_raw(np.array(["ab", None], dtype=object))
    (b'\x02\x00\x00\x00ab\x00\x00\x00\x00', '1')
    """
    if array.dtype.kind not in "OM":
        return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes(), ""
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
