"""What goes over the socket between a server and a model's process: bytes to arrays and back, without any socket.

A message is a head (one byte of kind, three unused, four of number, eight of length) and a body. An answer carries the
number of its call, so that it is never taken for that of another. Bodies with rows hold the columns
grouped by kind, in an order that both sides know. The plain columns of a group are one block together, since a block
costs more than a number; otherwise each is a block of its own: a mark of eight bytes (what follows, number of trailing
dimensions), the dimensions, the mask, the values. Each part starts at a multiple of eight, so that arrays can be read
in place.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np

OPEN, CALL = 1, 2
"""From the server: load a model (JSON); answer rows."""

READY, ANSWERS, REFUSED, BROKEN = 16, 17, 18, 19
"""From the model's process: loaded (JSON); answers; texts that say why there are none."""

HEAD = struct.Struct("<B3xIQ")
NUMBER = struct.Struct("<I")
_NUMBER_AT = 4
LONGEST = 1 << 34
"""No message is longer than 16 GiB: a length beyond is garbage."""

_CALL = struct.Struct("<QQ")
_MARK = struct.Struct("<BBHI")
_MASKED, _NUL_JOINED, _LISTED = 1, 2, 4
_TOGETHER, _APART = struct.pack("<Q", 1), struct.pack("<Q", 0)
_PLAIN = _MARK.pack(0, 0, 0, 0)
_PADDING = [b"\0" * (-size % 8) for size in range(8)]

Cells = tuple[Any, Any]
"""Values and mask of one column, as in ``tables``."""


class Malformed(ValueError):
    """Bytes that are no message."""


def message(kind: int, parts: Iterable[bytes]) -> bytes:
    """A whole message from the parts of its body."""
    body = b"".join(parts)
    return HEAD.pack(kind, 0, len(body)) + body


def numbered(message: bytes, number: int) -> bytes:
    """The same message under `number`, which is below 2**32.

    >>> number_of(numbered(message(CALL, [b"rows"]), 7))
    7
    """
    return message[:_NUMBER_AT] + NUMBER.pack(number) + message[_NUMBER_AT + NUMBER.size :]


def number_of(data: bytes | bytearray | memoryview) -> int:
    """The number in a message's head."""
    return int(NUMBER.unpack_from(data, _NUMBER_AT)[0])


def head(data: bytes | bytearray | memoryview) -> tuple[int, int]:
    """Kind and length of body.

    Raises:
        Malformed: a length that no message has.
    """
    kind, _, length = HEAD.unpack_from(data)
    if length > LONGEST:
        raise Malformed(f"a message of {length} bytes")
    return kind, length


def call(rows: int, wanted: int, kinds: Sequence[str], cells: Sequence[Cells]) -> bytes:
    """A request to answer `rows` rows. `wanted` has one bit for each output, the first output the lowest."""
    parts = [_CALL.pack(rows, wanted)]
    _write_all(parts, kinds, cells)
    return message(CALL, parts)


def read_call(kinds: Sequence[str], body: Any) -> tuple[int, int, list[Cells]]:
    """Rows, wanted outputs and columns of a request.

    Raises:
        Malformed: the body is not one.
    """
    try:
        rows, wanted = _CALL.unpack_from(body)
        return rows, wanted, _read_all(kinds, body, _CALL.size, rows)
    except (struct.error, ValueError, IndexError) as broken:
        raise Malformed(str(broken)) from broken


def answers(kinds: Sequence[str], arrays: Sequence[Any]) -> bytes:
    """The answer to a request: one array for each wanted output.

    >>> found = read_answers(["int64"], answers(["int64"], [np.array([1, 2])])[HEAD.size:], 2)
    >>> found[0].tolist()
    [1, 2]
    """
    parts: list[bytes] = []
    _write_all(parts, kinds, [(array, None) for array in arrays])
    return message(ANSWERS, parts)


def read_answers(kinds: Sequence[str], body: Any, rows: int) -> list[Any]:
    """The arrays of an answer.

    Raises:
        Malformed: the body is not one.
    """
    try:
        return [values for values, _ in _read_all(kinds, body, 0, rows)]
    except (struct.error, ValueError, IndexError) as broken:
        raise Malformed(str(broken)) from broken


@cache
def _groups(kinds: tuple[str, ...]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Each kind with the positions of its columns."""
    found: dict[str, list[int]] = {}
    for position, kind in enumerate(kinds):
        found.setdefault(kind, []).append(position)
    return tuple((kind, tuple(positions)) for kind, positions in found.items())


def _write_all(parts: list[bytes], kinds: Sequence[str], cells: Sequence[Cells]) -> None:
    for kind, positions in _groups(tuple(kinds)):
        group = [cells[at] for at in positions]
        if all(missing is None and values.ndim == 1 for values, missing in group):
            parts.append(_TOGETHER)
            values = group[0][0] if len(group) == 1 else np.concatenate([values for values, _ in group])
            _write(parts, kind, values, None)
        else:
            parts.append(_APART)
            for values, missing in group:
                _write(parts, kind, values, missing)


def _write(parts: list[bytes], kind: str, values: Any, missing: Any) -> None:
    if kind == "string":
        _write_texts(parts, values, missing)
        return
    raw = values.tobytes()
    if values.ndim == 1 and missing is None:
        parts.append(_PLAIN)
    else:
        _write_mark(parts, 0, values, missing)
    parts.append(raw)
    if len(raw) & 7:
        parts.append(_PADDING[len(raw) & 7])


def _write_mark(parts: list[bytes], flags: int, values: Any, missing: Any) -> None:
    dims = values.shape[1:]
    parts.append(_MARK.pack(flags | (_MASKED if missing is not None else 0), len(dims), 0, 0))
    parts.append(struct.pack(f"<{len(dims)}Q", *dims))
    if missing is not None:
        mask = np.broadcast_to(missing.reshape(missing.shape + (1,) * (values.ndim - missing.ndim)), values.shape)
        raw = mask.tobytes()
        parts.append(raw + _PADDING[len(raw) & 7])


def _write_texts(parts: list[bytes], values: Any, missing: Any) -> None:
    """Texts joined by NUL, which hardly any holds; else as a JSON list."""
    flat = values.ravel().tolist()
    lost = [text is None for text in flat] if missing is None and None in flat else None
    if lost is not None:
        missing = np.array(lost, dtype=bool).reshape(values.shape)
        flat = ["" if text is None else text for text in flat]
    joined = "\0".join(flat)
    if joined.count("\0") == max(len(flat) - 1, 0):
        flags, raw = _NUL_JOINED, joined.encode("utf-8", "surrogatepass")
    else:
        flags, raw = _LISTED, json.dumps(flat).encode()
    _write_mark(parts, flags, values, missing)
    parts.append(struct.pack("<Q", len(raw)))
    parts.append(raw + _PADDING[len(raw) & 7])


def _read_all(kinds: Sequence[str], body: Any, at: int, rows: int) -> list[Cells]:
    found: list[Cells] = [(None, None)] * len(kinds)
    for kind, positions in _groups(tuple(kinds)):
        together = body[at : at + 8] == _TOGETHER
        at += 8
        if together:
            (values, missing), at = _read(kind, body, at, rows * len(positions))
            if values.ndim != 1 or missing is not None:
                raise Malformed("a group of plain columns is not plain")
            for number, position in enumerate(positions):
                found[position] = (values[number * rows : number * rows + rows], None)
        else:
            for position in positions:
                found[position], at = _read(kind, body, at, rows)
    if at != len(body):
        raise Malformed(f"{len(body) - at} bytes too many or too few")
    return found


_DTYPES = {"datetime": np.dtype("datetime64[ns]")}


def _read(kind: str, body: Any, at: int, rows: int) -> tuple[Cells, int]:
    flags, dims, _, _ = _MARK.unpack_from(body, at)
    at += _MARK.size
    shape, size, missing = (rows,), rows, None
    if dims:
        shape = (rows, *struct.unpack_from(f"<{dims}Q", body, at))
        at += 8 * dims
        size = math.prod(shape)
    if flags & _MASKED:
        missing = np.frombuffer(body, dtype=np.bool_, count=size, offset=at).reshape(shape)
        at += size + (-size % 8)
    if kind == "string":
        return _read_texts(body, at, flags, shape, size, missing)
    dtype = _DTYPES.get(kind) or _DTYPES.setdefault(kind, np.dtype(kind))
    values = np.frombuffer(body, dtype=dtype, count=size, offset=at)
    length = size * dtype.itemsize
    return (values.reshape(shape) if dims else values, missing), at + length + (-length % 8)


def _read_texts(body: Any, at: int, flags: int, shape: tuple[int, ...], size: int, missing: Any) -> tuple[Cells, int]:
    (length,) = struct.unpack_from("<Q", body, at)
    at += 8
    raw = bytes(body[at : at + length])
    flat = json.loads(raw) if flags & _LISTED else _split(raw, size)
    if len(raw) != length or len(flat) != size:
        raise Malformed(f"{len(flat)} texts where {size} were announced")
    values = np.empty(size, dtype=object)
    values[:] = flat
    values = values.reshape(shape)
    if missing is not None:
        values[missing] = None
    return (values, None), at + length + (-length % 8)


def _split(raw: bytes, size: int) -> list[str]:
    return raw.decode("utf-8", "surrogatepass").split("\0") if size else []
