"""Arrow IPC streams as requests and as answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

import wire_samples as wire
from fuzz.parts import REPLY, for_schema, replies, taken
from modelyard.protocol.media import ARROW, Media

WORDS = ("X", "text", "temp", "seats", "predict", "ARROW1", "UTC", "modelyard.classes", "lz4", "zstd")

_LARGEST_POOL = 512 * 1024 * 1024
_ALLOWED = 64 * 1024 * 1024
"""A compressed stream may become this much whatever its own size."""


def _stream(table: Any, compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as stream:
        stream.write_table(table, max_chunksize=2)
    written: bytes = sink.getvalue().to_pybytes()
    return written


def seeds() -> Iterator[bytes]:
    """Valid streams of every type that is taken, with and without compression, and some that claim much."""
    mixed = pa.table(
        {
            "temp": [21.5, None, 3.0],
            "gust": pa.array([1.5, None, 2.0], pa.float32()),
            "seats": [180, None, 2],
            "engines": pa.array([2, 4, 2], pa.uint8()),
            "night": [True, None, False],
            "carrier": pa.array(["UA", None, "é"]).dictionary_encode(),
            "leaves": pa.array([0, None, 10**15], pa.timestamp("us", tz="UTC")),
        }
    )
    for compression in (None, "lz4", "zstd"):
        yield for_schema(0, _stream(mixed, compression))
    nulls = pa.table({name: pa.nulls(3) for name in wire.ROW})
    yield for_schema(0, _stream(nulls))
    matrix = [[1.0, 2.0, None], [4.0, 5.0, 6.0]]
    for kind in (pa.list_(pa.float64(), 3), pa.list_(pa.float32()), pa.large_list(pa.float16()), pa.list_(pa.int8())):
        rows = [[0 if pa.types.is_integer(kind.value_type) and x is None else x for x in row] for row in matrix]
        if kind.value_type == pa.float16():
            rows = [[None if x is None else float(x) for x in row] for row in rows]
        yield for_schema(1, _stream(pa.table({"X": pa.array(rows, kind)})))
        yield for_schema(3, _stream(pa.table({"X": pa.array(rows, kind)})))
    for kind in (pa.string(), pa.large_string(), pa.string_view()):
        yield for_schema(2, _stream(pa.table({"text": pa.array(["a", "é", "long enough to be elsewhere"], kind)})))
    yield for_schema(2, _stream(pa.table({"text": ["a" * 100_000]}), "zstd"))
    yield for_schema(3, _stream(pa.table({"X": pa.array([[], []], pa.list_(pa.float64(), 0))})))
    yield for_schema(REPLY, _stream(pa.table({"predict": [1.5, 2.5]})))


def one(data: bytes) -> None:
    """As a request, or as an answer, as the first byte says."""
    pool = pa.default_memory_pool()
    before = pool.max_memory()
    if data and data[0] & REPLY:
        replies("arrow", data[1:])
    elif data:
        taken("arrow", data, Media(ARROW), _ALLOWED)
    assert pool.max_memory() in (before, min(pool.max_memory(), _LARGEST_POOL))
