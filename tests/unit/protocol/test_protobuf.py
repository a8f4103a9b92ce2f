"""Requests and answers as protobuf messages: typed and raw, every datatype, and everything that is refused."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest

import wire_samples as wire
from modelyard.domain.schema import OIP_DATATYPE, Column, Kind, Output, Schema
from modelyard.errors import InvalidInput, InvalidRequest, ModelyardError, NotOffered
from modelyard.protocol.binary import with_length
from modelyard.protocol.messages import message
from modelyard.protocol.protobuf import CONTENTS, opened, read_request, read_response, write_response
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


def read_texts(said: Any, texts: list[str], kind: Kind = Kind.STRING, *, raw: bool = True) -> Any:
    """A column of texts, with what its tensor says of those that are missing."""
    encoded = [text.encode() for text in texts]
    if raw:
        asked = request("BYTES", [len(texts)], raw=b"".join(map(with_length, encoded)))
    else:
        asked = request("BYTES", [len(texts)], typed=encoded)
    if said is not None:
        asked.inputs[0].parameters["missing"].string_param = said
    return read_request(asked.SerializeToString(), reader(kind)).frame["x"]


@pytest.mark.parametrize("raw", [True, False])
def test_a_parameter_says_which_texts_are_missing(raw: bool) -> None:
    assert read_texts("0,2", ["", "", ""], raw=raw).values.tolist() == [None, "", None]
    days = read_texts("1", ["2024-01-31", ""], Kind.DATETIME, raw=raw)
    assert days.is_missing().tolist() == [False, True]
    for said in ("", "3", "-1", "a", "1,,2", "0, 1", "1" * 400):
        with pytest.raises(InvalidRequest, match="positions of elements from 0 to 2"):
            read_texts(said, ["", "", ""], raw=raw)
    with pytest.raises(InvalidRequest, match="element 1 is said to be missing, but is a text"):
        read_texts("0,1", ["", "UA"], raw=raw)
    asked = request("FP64", [1], raw=bytes(8)) if raw else request("FP64", [1], typed=[1.0])
    asked.inputs[0].parameters["missing"].string_param = "0"
    with pytest.raises(InvalidRequest, match="is for BYTES, not for FP64"):
        read_request(asked.SerializeToString(), reader(Kind.FLOAT64))


@pytest.mark.parametrize("raw", [True, False])
def test_an_answer_says_which_texts_are_missing(raw: bool) -> None:
    outputs = (
        Output("word", Kind.STRING, "label", "predict", dtype="object"),
        Output("day", Kind.DATETIME, "value", "predict", dtype="datetime64[ns]"),
    )
    schema = Schema("dataframe", (), outputs)
    answers = {
        "word": np.array(["late", None, ""], dtype=object),
        "day": np.array(["NaT", "2024-01-31", "NaT"], dtype="datetime64[ns]"),
    }
    call = Call(None, None, None, binary=frozenset(answers) if raw else frozenset())  # type: ignore[arg-type]
    for _ in range(2):  # what was written first may be remembered
        body = write_response(answers, schema, call, SOURCE)
        told = message("ModelInferResponse").FromString(body)
        assert [output.parameters["missing"].string_param for output in told.outputs] == ["1", "0,2"]
        assert [one["data"][:2] for one in opened(body, "outputs")["outputs"]] == [
            ["late", None],
            [None, "2024-01-31T00:00:00.000000000"],
        ]
        read_back = read_response(body, schema)
        assert read_back["word"].tolist() == ["late", None, ""]
        assert np.isnat(read_back["day"]).tolist() == [True, False, True]
        whole = {"word": np.array(["late", "", ""], dtype=object), "day": answers["day"][[1, 1, 1]]}
        told = message("ModelInferResponse").FromString(write_response(whole, schema, call, SOURCE))
        assert not any(output.parameters for output in told.outputs)


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
