"""Requests and answers as protobuf messages: typed and raw, every datatype, and everything that is refused."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest

import wire_samples as wire
from modelyard.domain.schema import OIP_DATATYPE, Column, Kind, Output, Schema
from modelyard.errors import InvalidInput, InvalidRequest, ModelyardError, NotOffered
from modelyard.protocol.messages import message
from modelyard.protocol.protobuf import CONTENTS, read_request, write_response
from modelyard.protocol.table import Call, Source, TableReader

NUMBERS = [kind for kind in Kind if kind not in (Kind.STRING, Kind.DATETIME)]
SOURCE = Source("toy", 3, "p1", 1, deployment="live")


def reader(kind: Kind, nullable: bool = True) -> TableReader:
    column = Column("x", kind, nullable=nullable, dtype=str(kind))
    return TableReader(Schema("dataframe", (column,), (Output("predict", kind, "value", "predict"),)))


def request(
    datatype: str, shape: list[int], raw: bytes | None = None, typed: list[Any] | None = None, **more: Any
) -> Any:
    asked = message("ModelInferRequest")(model_name="live", **more)
    tensor = asked.inputs.add(name="x", datatype=datatype, shape=shape)
    if raw is not None:
        asked.raw_input_contents.append(raw)
    if typed is not None:
        getattr(tensor.contents, CONTENTS[datatype]).extend(typed)
    return asked


def read(kind: Kind, *args: Any, **more: Any) -> Any:
    return read_request(request(*args, **more).SerializeToString(), reader(kind)).frame["x"].values


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("shape", [[2], [2, 1], [0]])
def test_every_fixed_datatype_is_read_raw_and_typed(kind: Kind, shape: list[int]) -> None:
    sent = np.array([1, 0], dtype=kind.numpy)[: shape[0]]
    datatype = OIP_DATATYPE[kind]
    for values in (
        read(kind, datatype, shape, raw=sent.tobytes()),
        read(kind, datatype, shape, typed=sent.tolist()),
    ):
        assert values.dtype == kind.numpy
        assert values.tolist() == sent.tolist()


def test_texts_are_read_raw_and_typed() -> None:
    texts = ["", "é", "a\0b"]
    raw = b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in texts)
    assert read(Kind.STRING, "BYTES", [3], raw=raw).tolist() == texts
    assert read(Kind.STRING, "BYTES", [3], typed=[text.encode() for text in texts]).tolist() == texts
    day = read(Kind.DATETIME, "BYTES", [1], typed=[b"2013-01-01T05:15"])
    assert day.tolist() == np.array(["2013-01-01T05:15"], "datetime64[ns]").tolist()


def test_halves_are_read_raw() -> None:
    assert read(Kind.FLOAT64, "FP16", [1], raw=np.array([1.5], "<f2").tobytes()).tolist() == [1.5]
    assert read(Kind.FLOAT64, "BF16", [1], raw=b"\xc0\x3f").tolist() == [1.5]


def test_nan_is_missing_in_an_integer_column_sent_as_float() -> None:
    body = request("FP64", [2], raw=np.array([3, np.nan]).tobytes()).SerializeToString()
    assert read_request(body, reader(Kind.INT32)).frame["x"].is_missing().tolist() == [False, True]


@pytest.mark.parametrize(
    ("kind", "asked", "error", "words"),
    [
        (Kind.FLOAT64, request("FP64", [1], raw=bytes(8), typed=[1.0]), InvalidRequest, "beside raw_input_contents"),
        (Kind.FLOAT64, request("FP64", [2], raw=bytes(8)), InvalidInput, "16 bytes, got 8"),
        (Kind.FLOAT64, request("FP64", [2], typed=[1.0]), InvalidInput, "2 elements, data has 1"),
        (Kind.FLOAT64, request("FP64", [-1], raw=b""), InvalidInput, "cannot be negative"),
        (Kind.FLOAT64, request("FP64", [1, 2], raw=bytes(16)), InvalidInput, r"expected shape \[n\] or \[n, 1\]"),
        (Kind.FLOAT64, request("FP16", [1]), InvalidRequest, "no typed contents"),
        (Kind.FLOAT64, request("FP99", [1], raw=bytes(8)), InvalidRequest, "unknown datatype 'FP99'"),
        (Kind.FLOAT64, request("BYTES", [1], typed=[b"1"]), InvalidInput, "expected datatype FP64, got BYTES"),
        (Kind.UINT8, request("UINT8", [1], typed=[300]), InvalidInput, "row 0: expected a whole number from 0 to 255"),
        (Kind.INT8, request("FP64", [1], raw=np.array([1.5]).tobytes()), InvalidInput, "not exact"),
        (Kind.BOOL, request("BOOL", [1], raw=b"\x02"), InvalidInput, "expected a byte 0 or 1, got 2"),
        (Kind.STRING, request("BYTES", [1], raw=b"\x09\0\0\0a"), InvalidInput, "its bytes end within element 0"),
        (Kind.STRING, request("BYTES", [1], raw=b"\x01\0"), InvalidInput, "its bytes end within element 0"),
        (
            Kind.STRING,
            request("BYTES", [2], raw=b"\x01\0\0\0a"),
            InvalidInput,
            "has 2 elements; its bytes have 1",
        ),
        (Kind.STRING, request("BYTES", [1], raw=b"\x01\0\0\0a" * 2), InvalidInput, "bytes have more"),
        (
            Kind.STRING,
            request("BYTES", [1], raw=b"\x01\0\0\0\xff"),
            InvalidInput,
            "row 0: expected a text in UTF-8",
        ),
        (Kind.STRING, request("BYTES", [1], typed=[b"\xff"]), InvalidInput, "expected a text in UTF-8"),
        (Kind.FLOAT64, request("FP64", [1], raw=bytes(8), outputs=[{"name": "no"}]), InvalidRequest, "unknown output"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(
    kind: Kind, asked: Any, error: type[ModelyardError], words: str
) -> None:
    with pytest.raises(error, match=words):
        read_request(asked.SerializeToString(), reader(kind))


def test_messages_that_are_not_whole_are_refused() -> None:
    asked = request("FP64", [1], raw=bytes(8))
    asked.raw_input_contents.append(b"")
    with pytest.raises(InvalidRequest, match="1 inputs need as many raw_input_contents, got 2"):
        read_request(asked.SerializeToString(), reader(Kind.FLOAT64))
    with pytest.raises(InvalidRequest, match="not a ModelInferRequest"):
        read_request(b"\xff\xff", reader(Kind.FLOAT64))
    with pytest.raises(InvalidInput, match="'x' is missing"):
        read_request(b"", reader(Kind.FLOAT64))
    asked = request("FP64", [1], raw=bytes(8))
    asked.inputs[0].parameters["shared_memory_region"].string_param = "r"
    with pytest.raises(NotOffered, match="shared memory"):
        read_request(asked.SerializeToString(), reader(Kind.FLOAT64))
    asked = request("FP64", [1], typed=[1.0])
    asked.inputs[0].contents.int_contents.append(1)
    with pytest.raises(InvalidRequest, match="belongs in fp64_contents, it has int_contents"):
        read_request(asked.SerializeToString(), reader(Kind.FLOAT64))


@pytest.mark.parametrize("raw", [True, False])
def test_answers_take_the_form_of_the_request(raw: bool) -> None:
    answers = wire.answers(2)
    names = frozenset(answers) if raw else frozenset()
    call = Call(None, None, "7", binary=names)  # type: ignore[arg-type]
    answer = message("ModelInferResponse").FromString(write_response(answers, wire.MIXED, call, SOURCE))
    assert (answer.model_name, answer.model_version, answer.id) == ("live", "3", "7")
    assert answer.parameters["prediction_id"].string_param == "p1"
    assert [list(tensor.shape) for tensor in answer.outputs] == [[2], [2, 2]]
    if raw:
        assert answer.raw_output_contents[0] == b"\x07\0\0\0on time\x04\0\0\0late"
        assert np.frombuffer(answer.raw_output_contents[1]).reshape(2, 2).tolist() == answers["predict_proba"].tolist()
    else:
        assert list(answer.outputs[0].contents.bytes_contents) == [b"on time", b"late"]
        assert list(answer.outputs[1].contents.fp64_contents) == answers["predict_proba"].ravel().tolist()
