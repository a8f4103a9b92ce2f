"""Arrow streams: read as strictly as JSON, written exactly, and never more than an error whatever their bytes are."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from modelyard.bundle.tabular import to_arrow
from modelyard.domain.frame import Frame
from modelyard.domain.schema import Column, Kind, Output, Schema
from modelyard.errors import InvalidInput, InvalidRequest, ModelyardError, TooLarge
from modelyard.protocol import arrow, decode
from modelyard.protocol.media import ARROW
from modelyard.protocol.table import Source, TableReader
from wire_samples import ARRAY, MIXED, ROW, SERIES, answers, frames, same

READER = TableReader(MIXED)
SOURCE = Source("flights", 3, "p", 2, deployment="live")


def stream(table: pa.Table | pa.RecordBatch, *, batch: int | None = None, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        if isinstance(table, pa.Table):
            writer.write_table(table, batch)
        else:
            writer.write_batch(table)
    return sink.getvalue().to_pybytes()


def one(kind: Kind, values: Any, *, dtype: str = "", shape: tuple[int, ...] = (), nullable: bool = True) -> Frame:
    schema = Schema("dataframe", (Column("x", kind, nullable, dtype or kind.value, shape=shape),), ())
    return arrow.read_request(stream(pa.table({"x": values})), TableReader(schema)).frame


SAMPLE = stream(to_arrow(READER.records([ROW, {**ROW, "temp": None, "carrier": None}]), MIXED))


@given(frames())
def test_every_frame_arrives_as_it_was(frame: Frame) -> None:
    table = to_arrow(frame, MIXED)
    for body in (
        stream(table),
        stream(table, batch=1, compression="zstd"),
        stream(table.set_column(5, "carrier", table["carrier"].dictionary_encode()), batch=2),
    ):
        assert same(arrow.read_request(body, READER).frame, frame)


@given(frames())
def test_every_frame_that_is_written_is_read_again(frame: Frame) -> None:
    call = arrow.read_request(arrow.write_request(frame, MIXED, outputs=["predict_proba"]), READER)
    assert same(call.frame, frame)
    assert call.outputs == ("predict_proba",)


def test_arrays_that_are_written_are_read_again() -> None:
    reader = TableReader(ARRAY)
    frame = reader.records([[1, 2.5, None], [4, 5, 6]])
    call = arrow.read_request(arrow.write_request(frame, ARRAY), reader)
    assert same(call.frame, frame)
    assert call.outputs is None


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (b'["predict", "tmp"]', "unknown output the text 'tmp'; there are: predict, predict_proba"),
        (b'["predict", "predict"]', "twice"),
        (b'{"predict": 1}', "has to be a JSON list of texts"),
        (b"\xff", "has to be a JSON list of texts"),
    ],
)
def test_wanted_outputs_that_are_not_there_are_refused(wanted: bytes, says: str) -> None:
    table = to_arrow(READER.records([ROW]), MIXED).replace_schema_metadata({arrow.OUTPUTS: wanted})
    with pytest.raises(InvalidRequest, match=says):
        arrow.read_request(stream(table), READER)


@pytest.mark.parametrize(
    ("kind", "values", "read"),
    [
        (Kind.FLOAT64, pa.array([1.5, None], pa.float16()), [1.5, None]),
        (Kind.FLOAT64, pa.array([1, None], pa.int8()), [1.0, None]),
        (Kind.FLOAT32, pa.array([0.5, None]), [0.5, None]),
        (Kind.INT8, pa.array([3.0, float("nan"), None]), [3, None, None]),
        (Kind.INT64, pa.array([7, None], pa.uint64()), [7, None]),
        (Kind.BOOL, pa.array([True, None, False]), [True, None, False]),
        (Kind.BOOL, pa.nulls(2), [None, None]),
        (Kind.FLOAT32, pa.nulls(2), [None, None]),
        (Kind.STRING, pa.array(["ab", None], pa.large_string()), ["ab", None]),
        (Kind.STRING, pa.array(["ab", None], pa.string_view()), ["ab", None]),
        (Kind.STRING, pa.array(["ab", None, "ab"]).dictionary_encode(), ["ab", None, "ab"]),
        (Kind.STRING, pa.nulls(1), [None]),
    ],
)
def test_what_is_exact_is_taken(kind: Kind, values: Any, read: list[Any]) -> None:
    vector = one(kind, values)["x"]
    gone = vector.is_missing().tolist()
    found = [None if missing else value for value, missing in zip(vector.values.tolist(), gone, strict=True)]
    assert (vector.values.dtype, found) == (kind.numpy, read)
    assert vector.values.flags.writeable


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (pa.array([1357017300], pa.timestamp("s")), "datetime64[ns]"),
        (pa.array([1357017300 * 10**9], pa.timestamp("ns", tz="Europe/Zurich")), "datetime64[ns, UTC]"),
        (pa.array([1357017300000], pa.date64()), "datetime64[ns]"),
        (pa.array(["2013-01-01T05:15"]), "datetime64[ns]"),
    ],
)
def test_moments(values: Any, dtype: str) -> None:
    if values.type == pa.date64():
        values = pa.array([15706], pa.date32())
        assert str(one(Kind.DATETIME, values, dtype=dtype)["x"].values[0]) == "2013-01-01T00:00:00.000000000"
        return
    assert str(one(Kind.DATETIME, values, dtype=dtype)["x"].values[0]) == "2013-01-01T05:15:00.000000000"


@pytest.mark.parametrize(
    ("kind", "values", "says"),
    [
        (Kind.INT8, pa.array([1, 300]), "'x', row 1: expected a whole number from -128 to 127 .int8., got 300"),
        (Kind.INT64, pa.array([1.5]), "row 0: expected a whole number"),
        (Kind.FLOAT64, pa.array([2**53 + 1]), "not exact"),
        (Kind.FLOAT64, pa.array(["1"]), "expected a number .float64., got an Arrow column of string"),
        (Kind.FLOAT64, pa.array([True]), "got an Arrow column of bool"),
        (Kind.STRING, pa.array([1]), "expected a text, got an Arrow column of int64"),
        (Kind.STRING, pa.array([b"1"]), "columns of binary are not taken"),
        (Kind.STRING, pa.array([1, 1]).dictionary_encode(), "dictionaries of int64 are not taken"),
        (Kind.FLOAT64, pa.array([[1.0]]), r"expected one value a row, got lists of shape \[1\]"),
        (Kind.FLOAT64, pa.array([{"a": 1}]), "columns of struct.* are not taken"),
        (Kind.DATETIME, pa.array([0], pa.timestamp("s", tz="UTC")), "training had no time zone"),
        (Kind.DATETIME, pa.array([0, 2**60], pa.timestamp("s")), "row 1: expected a date and time"),
        (Kind.DATETIME, pa.array([0]), "expected a date and time"),
    ],
)
def test_nothing_is_cast_silently(kind: Kind, values: Any, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        one(kind, values)


def test_columns_are_matched_by_name() -> None:
    table = to_arrow(READER.records([ROW]), MIXED)
    turned = table.select(list(reversed(table.column_names)))
    assert same(arrow.read_request(stream(turned), READER).frame, READER.records([ROW]))
    with pytest.raises(InvalidInput, match="column 'gust' is missing"):
        arrow.read_request(stream(table.drop_columns("gust")), READER)
    with pytest.raises(InvalidInput, match="unknown column 'tmp'; did you mean 'temp'"):
        arrow.read_request(stream(table.append_column("tmp", table["temp"])), READER)
    with pytest.raises(InvalidInput, match="'temp' is sent twice"):
        arrow.read_request(stream(table.append_column("temp", table["temp"])), READER)


@pytest.mark.parametrize("kind", [pa.list_(pa.float64(), 3), pa.list_(pa.float32()), pa.large_list(pa.int16())])
def test_arrays_are_lists(kind: Any) -> None:
    table = pa.table({"X": pa.array([[1, None, 3], [4, 5, 6]], kind)})
    for batch in (1, 2):
        values = arrow.read_request(stream(table, batch=batch), TableReader(ARRAY)).frame["X"].values
        assert np.array_equal(values, [[1, np.nan, 3], [4, 5, 6]], equal_nan=True)
    assert arrow.read_request(stream(table.slice(0, 0)), TableReader(ARRAY)).frame["X"].values.shape == (0, 3)


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        ([[1.0, 2, 3], [1, 2]], "row 1: expected 3 values, as in the first row, got 2"),
        ([[1.0, 2, 3], None], "row 1: the whole list is missing"),
        ([[1.0, 2]], r"expected a list of 3 values in every row, got lists of shape \[2\]"),
        ([1.0], "expected a list of 3 values in every row, got an Arrow column of double"),
    ],
)
def test_lists_that_do_not_fit(cells: list[Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        arrow.read_request(stream(pa.table({"X": pa.array(cells)})), TableReader(ARRAY))


def test_deeper_arrays_and_series() -> None:
    cells = np.arange(12.0).reshape(2, 2, 3)
    nested = pa.array(cells.tolist(), pa.list_(pa.list_(pa.float64(), 3), 2))
    assert np.array_equal(one(Kind.FLOAT64, nested, shape=(2, 3))["x"].values, cells)
    flat = pa.array(cells.reshape(2, 6).tolist(), pa.list_(pa.float64(), 6))
    assert np.array_equal(one(Kind.FLOAT64, flat, shape=(2, 3))["x"].values, cells)
    body = stream(pa.table({"text": ["a", "b"]}))
    assert arrow.read_request(body, TableReader(SERIES)).frame["text"].values.tolist() == ["a", "b"]


def test_answers_come_back_and_are_described() -> None:
    body = arrow.write_response(answers(2), MIXED, SOURCE)
    table = pa.ipc.open_stream(body).read_all()
    assert table.schema.metadata[b"modelyard.prediction_id"] == b"p"
    assert table.schema.metadata[b"modelyard.version"] == b"3"
    assert table.schema.field("predict_proba").metadata == {arrow.CLASSES: b'["late","on time"]'}
    assert table.schema.field("predict_proba").type == pa.list_(pa.float64(), 2)
    read = decode.read_answers("arrow", body, MIXED, ARROW)
    assert read["predict"].tolist() == answers(2)["predict"].tolist()
    assert np.array_equal(read["predict_proba"], answers(2)["predict_proba"])
    first, second = decode.describe("arrow", SAMPLE, body, ARROW, ARROW)
    assert first["inputs"] == {**ROW, "leaves": "2013-01-01T05:15:00.000000000Z"}
    assert second["inputs"]["temp"] is None
    assert first["outputs"]["predict_proba"] == {"late": 0.1, "on time": 0.9}


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((2, 0)),
        np.zeros((0, 3), np.float32),
        np.arange(12, dtype=np.int16).reshape(2, 3, 2),
        np.array([True, False, True]),
        np.array(["2013-01-01", "NaT"], "datetime64[ns]"),
        np.array(["a", None], object),
        np.array([[np.nan, np.inf]]),
    ],
)
def test_every_output_comes_back(values: Any) -> None:
    kinds = {"O": Kind.STRING, "M": Kind.DATETIME}
    kind = kinds.get(values.dtype.kind) or Kind(values.dtype.name)
    schema = replace(MIXED, outputs=(Output("y", kind, "value", "predict", shape=values.shape[1:]),))
    read = arrow.read_response(arrow.write_response({"y": values}, schema, SOURCE), schema)["y"]
    assert read.dtype == values.dtype
    assert read.tolist() == values.tolist() or np.array_equal(read, values, equal_nan=True)


@pytest.mark.parametrize("end", range(0, len(SAMPLE) - 8, 24))
def test_what_is_cut_short_is_refused(end: int) -> None:
    try:
        call = arrow.read_request(SAMPLE[:end], READER)
    except InvalidRequest:
        return
    assert call.frame.rows == 0  # cut between schema and rows, which is a stream without rows


def test_what_follows_the_end_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="5 bytes follow the end"):
        arrow.read_request(SAMPLE + b"12345", READER)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"rows": []}', bytes(64), b"\xff" * 64])
def test_other_bodies_are_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="not a valid Arrow stream"):
        arrow.read_request(body, READER)


def test_little_that_unpacks_to_much_is_refused_before_it_is_unpacked() -> None:
    zeros = pa.table({"x": np.zeros(arrow.LARGEST // 8 + 1)})
    words = pa.array(["a" * 1_000_000] * 80).dictionary_encode()
    wordy = pa.table({"x": pa.DictionaryArray.from_arrays(words.indices, pa.array(["a" * 1_000_000] * 80))})
    schema = TableReader(Schema("dataframe", (Column("x", Kind.FLOAT64, True, "float64"),), ()))
    for table in (zeros, wordy):
        for compression in ("zstd", "lz4"):
            body = stream(table, compression=compression)
            assert len(body) < 2_000_000
            before = pa.default_memory_pool().bytes_allocated()
            with pytest.raises(TooLarge, match="unpacks to more than"):
                arrow.read_request(body, schema)
            assert pa.default_memory_pool().bytes_allocated() <= before


def test_a_long_text_that_all_rows_share_is_counted_for_each() -> None:
    words = pa.array(["x" * 100_000])
    for rows, taken in ((10, True), (1000, False)):
        shared = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int8()), words)
        body = stream(pa.table({"text": shared}))
        if taken:
            assert arrow.read_request(body, TableReader(SERIES)).frame.rows == rows
        else:
            with pytest.raises(TooLarge, match="the texts of an Arrow column have more than"):
                arrow.read_request(body, TableReader(SERIES))
            assert decode.describe("arrow", body, b"") == []


def test_rows_that_take_no_bytes_are_counted() -> None:
    endless = pa.RecordBatch.from_arrays([pa.nulls(arrow.MOST_CELLS + 1)], names=["x"])
    schema = TableReader(Schema("dataframe", (Column("x", Kind.FLOAT64, True, "float64"),), ()))
    with pytest.raises(TooLarge, match="values"):
        arrow.read_request(stream(endless), schema)
    views = pa.StringViewArray.from_buffers(
        pa.string_view(),
        100,
        [None, pa.py_buffer(np.tile(np.array([2**20, 0x61616161, 0, 0], np.int32), 100)), pa.py_buffer(b"a" * 2**20)],
    )
    texts = TableReader(Schema("dataframe", (Column("x", Kind.STRING, True, "object"),), ()))
    with pytest.raises(TooLarge, match="texts"):
        arrow.read_request(stream(pa.table({"x": views})), texts)


_COMPRESSED = stream(pa.ipc.open_stream(SAMPLE).read_all(), compression="zstd")
_TEXTS = stream(pa.table({"text": pa.array(["a", None, "bb"] * 20).dictionary_encode()}), batch=7)
_LISTS = stream(pa.table({"X": pa.array([[1.0, None, 3.0]] * 9)}), batch=4)


@pytest.mark.parametrize(("body", "schema"), [(SAMPLE, MIXED), (_COMPRESSED, MIXED), (_TEXTS, SERIES), (_LISTS, ARRAY)])
@given(data=st.data())
def test_damaged_streams_are_read_or_refused(body: bytes, schema: Schema, data: st.DataObject) -> None:
    damaged = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 8))
        patch = data.draw(
            st.binary(min_size=1, max_size=1) | st.sampled_from([b"\xff" * 4, bytes(8), b"\xff" * 7 + b"\x7f"])
        )
        damaged[at : at + len(patch)] = patch
    with contextlib.suppress(InvalidRequest, InvalidInput, TooLarge):
        arrow.read_request(bytes(damaged), TableReader(schema))
    with contextlib.suppress(ModelyardError):
        arrow.described(bytes(damaged))


@given(st.binary())
@example(SAMPLE[:8])
def test_any_bytes_are_refused(body: bytes) -> None:
    with pytest.raises((InvalidRequest, InvalidInput)):
        arrow.read_request(body, READER)


def test_arrow_is_loaded_with_the_first_stream() -> None:
    code = """
import sys
from modelyard.protocol import arrow, forms
from modelyard.protocol.table import TableReader, Source
from modelyard.domain.schema import *
assert "pyarrow" not in sys.modules
schema = Schema("dataframe", (Column("x", Kind.STRING, True, "object"),), (Output("y", Kind.STRING, "label", "p"),))
body = arrow.write_response({"y": __import__("numpy").array(["a"], object)}, schema, Source("m", 1, "p", 1))
arrow.read_response(body, schema)
assert "pyarrow" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
