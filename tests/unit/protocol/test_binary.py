"""Binary tensors of the Open Inference Protocol, both ways: every datatype, what is refused, any bytes."""

from __future__ import annotations

import contextlib
import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.domain.schema import OIP_DATATYPE, Column, Kind, Output, Schema
from modelyard.errors import InvalidInput, InvalidRequest, ModelyardError
from modelyard.protocol import decode, oip
from modelyard.protocol.forms import FORMS
from modelyard.protocol.media import BINARY, Media, described
from modelyard.protocol.table import Call, Source, TableReader
from wire_samples import ARRAY, MIXED, SERIES, answers


def one_column(kind: Kind, dtype: str = "") -> TableReader:
    output = Output("predict", Kind.FLOAT64, "value", "predict")
    return TableReader(Schema("dataframe", (Column("c", kind, nullable=True, dtype=dtype or kind.value),), (output,)))


def texts(*values: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def ask(
    reader: TableReader, datatype: str, raw: bytes, shape: list[int], size: Any = None, name: str = "c", **more: Any
) -> Call:
    parameters = {"binary_data_size": len(raw) if size is None else size}
    head = json.dumps(
        {"inputs": [{"name": name, "datatype": datatype, "shape": shape, "parameters": parameters}], **more}
    ).encode()
    return oip.read_request(head + raw, reader, len(head))


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind.is_integer or kind.is_float])
def test_every_number_is_read_bit_for_bit_as_a_column_or_a_matrix_of_one(kind: Kind) -> None:
    limits: Any = np.iinfo(kind.numpy) if kind.is_integer else np.finfo(kind.numpy)
    sent = np.array([limits.min, limits.max, 1], dtype=kind.numpy)
    for shape in ([3], [3, 1]):
        read = ask(one_column(kind), OIP_DATATYPE[kind], sent.tobytes(), shape).frame["c"].values
        assert (read.dtype, read.tolist()) == (sent.dtype, sent.tolist())
        assert read.flags.aligned
        assert read.flags.writeable
    assert ask(one_column(kind), OIP_DATATYPE[kind], b"", [0]).frame.rows == 0


def test_texts_booleans_datetimes_and_halves() -> None:
    sent = ["", "naïve \0 text"]
    read = ask(one_column(Kind.STRING), "BYTES", texts(*(text.encode() for text in sent)), [2]).frame["c"]
    assert read.values.tolist() == sent
    assert ask(one_column(Kind.BOOL), "BOOL", b"\1\0", [2]).frame["c"].values.tolist() == [True, False]
    moments = one_column(Kind.DATETIME, "datetime64[ns]")
    assert str(ask(moments, "BYTES", texts(b"2013-01-01"), [1]).frame["c"].values[0]).startswith("2013-01-01T00")
    half = np.array([0.5, np.nan], dtype=np.float16)
    assert ask(one_column(Kind.FLOAT64), "FP16", half.tobytes(), [2]).frame["c"].is_missing().tolist() == [False, True]
    brain = (np.array([1.5], dtype=np.float32).view(np.uint32) >> 16).astype(np.uint16)
    assert ask(one_column(Kind.FLOAT32), "BF16", brain.tobytes(), [1]).frame["c"].values.tolist() == [1.5]


def test_a_parameter_says_which_texts_are_missing() -> None:
    def head(datatype: str, raw: bytes, said: Any) -> bytes:
        parameters = {"binary_data_size": len(raw), "missing": said}
        return json.dumps(
            {"inputs": [{"name": "c", "datatype": datatype, "shape": [2], "parameters": parameters}]}
        ).encode()

    def read(kind: Kind, datatype: str, raw: bytes, said: Any) -> Any:
        json_part = head(datatype, raw, said)
        return oip.read_request(json_part + raw, one_column(kind), len(json_part)).frame["c"].values.tolist()

    two = texts(b"", b"")
    assert read(Kind.STRING, "BYTES", two, "1") == ["", None]
    json_part = head("BYTES", two, "0,1")
    assert oip.opened(json_part + two, len(json_part))["inputs"][0]["data"] == [None, None]
    for said in ("2", 1, ["1"], "", True):
        with pytest.raises(InvalidRequest, match="positions of elements from 0 to 1"):
            read(Kind.STRING, "BYTES", two, said)
    with pytest.raises(InvalidRequest, match="is for BYTES, not for FP64"):
        read(Kind.FLOAT64, "FP64", bytes(16), "1")


def test_a_table_of_doubles_with_nan_feeds_nullable_integers() -> None:
    vector = ask(one_column(Kind.INT32), "FP64", np.array([3.0, np.nan]).tobytes(), [2]).frame["c"]
    assert (vector.values.tolist(), vector.is_missing().tolist()) == ([3, 0], [False, True])


@pytest.mark.parametrize(
    ("kind", "datatype", "raw", "shape", "says"),
    [
        (Kind.FLOAT64, "FP64", bytes(12), [2], "has 16 bytes, got 12"),
        (Kind.FLOAT64, "FP64", bytes(8), [1, 2], "expected shape"),
        (Kind.FLOAT64, "FP64", bytes(8), [-1], "cannot be negative"),
        (Kind.FLOAT64, "FP64", b"", [0, 10**30], "expected shape"),
        (Kind.FLOAT64, "BYTES", texts(b"1.5"), [1], "expected datatype FP64, got BYTES"),
        (Kind.STRING, "INT64", bytes(8), [1], "expected datatype BYTES, got INT64"),
        (Kind.BOOL, "BOOL", b"\0\2", [2], "row 1: expected a byte 0 or 1, got 2"),
        (Kind.INT8, "INT64", np.array([1, 300]).tobytes(), [2], "row 1: expected a whole number"),
        (Kind.FLOAT32, "FP64", np.array([0.1]).tobytes(), [1], "sent as float64 and is not exact"),
        (Kind.STRING, "BYTES", texts(b"ok", b"\xff"), [2], "row 1: expected a text in UTF-8"),
        (Kind.STRING, "BYTES", texts(b"ab")[:-1], [1], "end within element 0"),
        (Kind.STRING, "BYTES", b"\1\0", [1], "end within element 0"),
        (Kind.STRING, "BYTES", texts(b"a"), [2], "has 2 elements; its bytes have 1"),
        (Kind.STRING, "BYTES", texts(b"a", b"b"), [1], "has 1 elements; its bytes have more"),
    ],
)
def test_what_does_not_fit_is_refused(kind: Kind, datatype: str, raw: bytes, shape: list[int], says: str) -> None:
    with pytest.raises(InvalidInput, match=says.replace("[", r"\[")):
        ask(one_column(kind), datatype, raw, shape)


@pytest.mark.parametrize("size", [-1, 9, True, "8", None])
def test_a_size_that_the_body_does_not_have_is_refused(size: Any) -> None:
    head = b'{"inputs": [{"name": "c", "datatype": "FP64", "shape": [1], "parameters": {"binary_data_size": %s}}]}'
    head = head % json.dumps(size).encode()
    with pytest.raises(InvalidRequest, match="binary_data_size has to be from 0 to 8"):
        oip.read_request(head + bytes(8), one_column(Kind.FLOAT64), len(head))


def test_bytes_without_a_tensor_and_lengths_without_bytes_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="8 bytes follow the last binary tensor"):
        ask(one_column(Kind.FLOAT64), "FP64", bytes(16), [1], size=8)
    for length in (-1, 3):
        with pytest.raises(InvalidRequest, match="expected 0 to 2"):
            oip.read_request(b"{}", one_column(Kind.FLOAT64), length)


def test_a_raw_request_is_one_row_of_the_only_input() -> None:
    call = oip.read_request(np.arange(3.0).tobytes(), TableReader(ARRAY), 0)
    assert call.frame["X"].values.tolist() == [[0.0, 1.0, 2.0]]
    assert call.binary == {"predict"}
    assert oip.read_request(b"a text", TableReader(SERIES), 0).frame["text"].values.tolist() == ["a text"]
    with pytest.raises(InvalidInput, match="has 24 bytes, got 16"):
        oip.read_request(bytes(16), TableReader(ARRAY), 0)
    with pytest.raises(InvalidRequest, match="it has 7"):
        oip.read_request(bytes(16), TableReader(MIXED), 0)


@pytest.mark.parametrize(
    ("outputs", "everything", "binary"),
    [
        (None, True, {"predict", "predict_proba"}),
        (None, False, set()),
        ([{"name": "predict"}], True, {"predict"}),
        ([{"name": "predict", "parameters": {"binary_data": False}}], True, set()),
        ([{"name": "predict", "parameters": {"binary_data": True}}, {"name": "predict_proba"}], False, {"predict"}),
    ],
)
def test_outputs_come_back_raw_where_asked(outputs: Any, everything: bool, binary: set[str]) -> None:
    head = json.dumps({"inputs": [], "outputs": outputs, "parameters": {"binary_data_output": everything}}).encode()
    wanted = oip._wanted_raw(oip._REQUESTS.decode(head), MIXED)
    assert wanted == binary
    given = answers(3)
    call = Call(None, binary=wanted)  # type: ignore[arg-type]
    written = FORMS["oip"].write(given, MIXED, call, Source("m", 1, "p", 3, deployment="d"))
    length = None
    if binary:
        assert written.content_type == BINARY
        length = int(dict(written.headers)["inference-header-content-length"])
    read = oip.read_response(written.body, MIXED, length)
    assert (read.version, read.prediction_id) == ("1", "p")
    for name, array in given.items():
        assert read.answers[name].dtype == array.dtype
        assert np.array_equal(read.answers[name], array)


def test_an_answer_with_a_missing_text_stays_json() -> None:
    given = {"predict": np.array(["late", None], dtype=object)}
    call = Call(None, binary=frozenset({"predict"}))  # type: ignore[arg-type]
    written = FORMS["oip"].write(given, MIXED, call, Source("m", 1, "p", 2, deployment="d"))
    length = int(dict(written.headers)["inference-header-content-length"])
    assert json.loads(written.body[:length])["outputs"][0]["data"] == ["late", None]


@given(st.binary(max_size=80), st.sampled_from([*OIP_DATATYPE.values(), "FP16", "BF16", "X"]), st.data())
def test_any_bytes_are_read_or_refused(raw: bytes, datatype: str, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(list(Kind)))
    shape = data.draw(st.lists(st.integers(-1, 12) | st.integers(), max_size=3))
    with contextlib.suppress(ModelyardError):
        ask(one_column(kind), datatype, raw, shape)


@given(st.binary(max_size=300), st.integers(-1, 300))
def test_any_body_is_read_or_refused(body: bytes, length: int) -> None:
    for schema in (MIXED, ARRAY, SERIES):
        with contextlib.suppress(ModelyardError):
            FORMS["oip"].read(body, Media(json_length=length), TableReader(schema))


def test_recorded_binary_bodies_are_read_again_with_and_without_a_schema() -> None:
    head = (
        b'{"inputs": [{"name": "X", "datatype": "FP64", "shape": [1, 3], "parameters": {"binary_data_size": 24}}],'
        b' "parameters": {"binary_data_output": true}}'
    )
    request, asked = head + np.arange(3.0).tobytes(), described(BINARY, len(head))
    call = decode.read_request("oip", request, ARRAY, asked)
    written = FORMS["oip"].write({"predict": np.array([0.1])}, ARRAY, call, Source("m", 1, "p", 1, deployment="d"))
    told = described(BINARY, int(dict(written.headers)["inference-header-content-length"]))
    assert decode.read_answers("oip", written.body, ARRAY, told)["predict"].tolist() == [0.1]
    rows = decode.describe("oip", request, written.body, asked, told)
    assert rows == [{"inputs": {"X": [0.0, 1.0, 2.0]}, "outputs": {"predict": 0.1}}]
