"""Open Inference Protocol bodies: the conformance checklist that needs no server."""

from __future__ import annotations

import base64
import contextlib
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.domain.frame import Frame
from modelyard.domain.schema import OIP_DATATYPE, Column, Kind, Output, Schema
from modelyard.errors import InvalidInput, InvalidRequest, ModelyardError, NotOffered
from modelyard.protocol import oip
from modelyard.protocol.table import Call, TableReader
from wire_samples import ARRAY, MIXED, ROW, SERIES, answers, frames, same

MIXED_READER = TableReader(MIXED)


def one_column(kind: Kind, dtype: str = "") -> TableReader:
    output = Output("predict", Kind.FLOAT64, "value", "predict")
    return TableReader(Schema("dataframe", (Column("c", kind, nullable=True, dtype=dtype or kind.value),), (output,)))


def tensor(name: str, datatype: str, data: Any, shape: list[int] | None = None, **more: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape or [len(data)], "data": data, **more}


def ask(reader: TableReader, *tensors: dict[str, Any], **more: Any) -> Call:
    return oip.read_request(json.dumps({"inputs": tensors, **more}).encode(), reader)


def mixed_tensors() -> list[dict[str, Any]]:
    return [tensor(column.name, OIP_DATATYPE[column.kind], [ROW[column.name]]) for column in MIXED.columns]


@given(frames())
def test_a_frame_comes_back_from_its_own_request(frame: Frame) -> None:
    call = oip.read_request(oip.write_request(frame, MIXED, outputs=["predict"], id="7"), MIXED_READER)
    assert same(frame, call.frame)
    assert (call.outputs, call.id, call.words) == (("predict",), "7", True)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (Kind.BOOL, [True, False]),
        *[(kind, [int(np.iinfo(kind.numpy).min), int(np.iinfo(kind.numpy).max)]) for kind in Kind if kind.is_integer],
        (Kind.FLOAT32, [0.5, -1.25]),
        (Kind.FLOAT64, [0.1, 1e300]),
        (Kind.STRING, ["", "naïve \x00 text"]),
    ],
)
def test_every_datatype_is_read_flat_and_nested_as_a_column_or_a_matrix_of_one(kind: Kind, data: list[Any]) -> None:
    reader = one_column(kind)
    for shape, sent in (([2], data), ([2, 1], data), ([2, 1], [[value] for value in data])):
        read = ask(reader, tensor("c", OIP_DATATYPE[kind], sent, shape)).frame["c"].values
        assert (read.shape, read.tolist(), read.dtype) == ((2,), data, kind.numpy)
    assert ask(reader, tensor("c", OIP_DATATYPE[kind], [], [0])).frame.rows == 0


def test_half_precision_is_rounded_and_widened() -> None:
    reader = one_column(Kind.FLOAT64)
    assert ask(reader, tensor("c", "FP16", [0.1])).frame["c"].values.tolist() == [float(np.float16(0.1))]
    assert ask(reader, tensor("c", "BF16", [0.1])).frame["c"].values.tolist() == [0.10009765625]
    for datatype, value in (("FP16", 70000.0), ("BF16", 3.4e38)):
        with pytest.raises(InvalidInput, match=f"row 1: .* out of the range of {datatype}"):
            ask(reader, tensor("c", datatype, [1.0, value]))


def test_null_and_bare_nan_are_missing() -> None:
    read = ask(one_column(Kind.FLOAT64), tensor("c", "FP64", [None, math.nan, math.inf])).frame["c"].values
    assert np.isnan(read).tolist() == [True, True, False]


def test_a_table_of_doubles_with_nan_feeds_nullable_integers() -> None:
    vector = ask(one_column(Kind.INT32), tensor("c", "FP64", [3.0, math.nan])).frame["c"]
    assert (vector.values.tolist(), vector.is_missing().tolist()) == ([3, 0], [False, True])


@pytest.mark.parametrize(
    ("kind", "datatype", "value"),
    [
        (Kind.INT8, "INT64", 300),
        (Kind.INT8, "UINT8", 200),
        (Kind.INT64, "FP64", 1.5),
        (Kind.FLOAT32, "FP64", 0.1),
        (Kind.FLOAT64, "INT64", 2**53 + 1),
        (Kind.UINT64, "INT64", -1),
        (Kind.INT64, "INT8", 300),
    ],
)
def test_a_value_that_is_not_exact_in_the_column_is_refused(kind: Kind, datatype: str, value: float) -> None:
    with pytest.raises(InvalidInput, match="column 'c', row 0"):
        ask(one_column(kind), tensor("c", datatype, [value]))


@pytest.mark.parametrize(
    ("kind", "datatype", "value"),
    [
        (Kind.FLOAT64, "BYTES", "1.5"),
        (Kind.FLOAT64, "BOOL", True),
        (Kind.BOOL, "INT8", 1),
        (Kind.STRING, "INT64", 1),
        (Kind.DATETIME, "INT64", 1),
    ],
)
def test_kinds_that_cannot_be_exchanged_are_refused_by_datatype(kind: Kind, datatype: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match="column 'c': expected datatype"):
        ask(one_column(kind), tensor("c", datatype, [value]))


def test_outputs_are_selected_and_ordered_and_the_id_is_echoed() -> None:
    call = ask(MIXED_READER, *mixed_tensors(), id="abc", outputs=[{"name": "predict_proba"}, {"name": "predict"}])
    assert call.outputs == ("predict_proba", "predict")
    both = answers(1)
    body = oip.write_response(
        {name: both[name] for name in call.outputs}, MIXED, name="d", version="3", prediction_id="p", id=call.id
    )
    document = json.loads(body)
    assert [output["name"] for output in document["outputs"]] == ["predict_proba", "predict"]
    assert (document["id"], document["model_name"], document["model_version"]) == ("abc", "d", "3")
    assert document["outputs"][0]["shape"] == [1, 2]
    assert document["parameters"] == {"prediction_id": "p"}


def test_unknown_members_and_parameters_are_accepted() -> None:
    first, *others = mixed_tensors()
    call = ask(
        MIXED_READER,
        {**first, "parameters": {"content_type": "np", "k": 1.5}},
        *others,
        model_name="x",
        parameters={"priority": 1, "timeout": 5000, "binary_data_output": True, "k": "v"},
    )
    assert call.frame.rows == 1


def test_outputs_wished_as_binary_are_still_accepted_since_clients_read_both() -> None:
    wish = [{"name": "predict", "parameters": {"binary_data": True}}]
    assert ask(MIXED_READER, *mixed_tensors(), outputs=wish).outputs == ("predict",)


def test_shared_memory_is_not_offered() -> None:
    parameters = {"shared_memory_region": "r", "shared_memory_byte_size": 8}
    with pytest.raises(NotOffered, match="shared memory"):
        ask(one_column(Kind.FLOAT64), {"name": "c", "datatype": "FP64", "shape": [1], "parameters": parameters})


def test_binary_data_without_its_header_is_refused() -> None:
    parameters = {"binary_data_size": 8}
    with pytest.raises(InvalidRequest, match="header inference-header-content-length is not there"):
        ask(one_column(Kind.FLOAT64), {"name": "c", "datatype": "FP64", "shape": [1], "parameters": parameters})


def test_base64_texts_are_decoded() -> None:
    encoded = base64.b64encode("ü".encode()).decode()
    sent = tensor("c", "BYTES", [encoded, None], parameters={"content_type": "base64"})
    assert ask(one_column(Kind.STRING), sent).frame["c"].values.tolist() == ["ü", None]
    with pytest.raises(InvalidInput, match="element 0: expected base64"):
        ask(one_column(Kind.STRING), tensor("c", "BYTES", ["?"], parameters={"content_type": "base64"}))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": "tmp"}, "unknown column 'tmp'; did you mean 'temp'"),
        ({"name": "gust"}, "'gust' is sent twice"),
        ({"datatype": "STRING"}, "unknown datatype 'STRING'"),
        ({"shape": [2]}, "shape \\[2\\] has 2 elements, data has 1"),
        ({"shape": [-1]}, "cannot be negative"),
        ({"shape": [1, 1, 1]}, "expected shape \\[n\\] or \\[n, 1\\]"),
        ({"shape": []}, "expected shape"),
        ({"shape": [2], "data": [1.0, 2.0]}, "it has 1 rows, the tensors before it have 2"),
        ({"data": [[1.0]]}, "row 0: expected a number .*, got a list"),
        ({"data": "x"}, "Expected `array"),
        ({"shape": ["1"]}, "Expected `int"),
        ({"data": None}, "has no data"),
    ],
)
def test_a_bad_tensor_is_refused_with_the_reason(change: dict[str, Any], says: str) -> None:
    first, *others = mixed_tensors()
    with pytest.raises((InvalidInput, InvalidRequest), match=says):
        ask(MIXED_READER, {**first, **change}, *others)


def test_a_missing_column_is_named() -> None:
    with pytest.raises(InvalidInput, match="column 'temp' is missing; send null"):
        ask(MIXED_READER, *mixed_tensors()[1:])


def test_an_unknown_output_is_named() -> None:
    with pytest.raises(InvalidRequest, match="unknown output 'probability'; there are: predict, predict_proba"):
        ask(MIXED_READER, *mixed_tensors(), outputs=[{"name": "probability"}])


def test_the_example_of_the_specification_is_refused_for_its_shape() -> None:
    reader = one_column(Kind.BOOL)
    with pytest.raises(InvalidInput, match="shape \\[3\\] has 3 elements, data has 1"):
        ask(reader, tensor("c", "BOOL", [True], [3]))


def test_an_array_is_one_tensor() -> None:
    reader = TableReader(ARRAY)
    for data in ([1, 2, 3, 4, 5, None], [[1, 2, 3], [4, 5, None]]):
        read = ask(reader, tensor("X", "FP64", data, [2, 3])).frame["X"].values
        assert np.array_equal(read, [[1, 2, 3], [4, 5, np.nan]], equal_nan=True)
    with pytest.raises(InvalidInput, match="expected shape \\[n, 3\\], got \\[2, 2\\]"):
        ask(reader, tensor("X", "FP64", [1, 2, 3, 4], [2, 2]))


def test_a_series_is_one_tensor_of_texts() -> None:
    assert ask(TableReader(SERIES), tensor("text", "BYTES", ["a", "b"])).frame.rows == 2


def test_not_a_number_is_null_unless_words_are_asked_for_and_the_response_says_so() -> None:
    given = {"predict": np.array([np.nan, 0.5, -np.inf])}
    plain = oip.write_response(given, ARRAY, name="d", version="1", prediction_id="p")
    document = json.loads(plain)
    assert document["outputs"][0]["data"] == [None, 0.5, None]
    assert document["parameters"]["non_finite"] == "null"
    words = oip.write_response(given, ARRAY, name="d", version="1", prediction_id="p", words=True)
    assert b"[NaN,0.5,-Infinity]" in words
    got = oip.read_response(words, ARRAY)
    assert np.array_equal(got.answers["predict"], given["predict"], equal_nan=True)
    assert (got.version, got.prediction_id) == ("1", "p")


@given(st.lists(st.floats(), min_size=1))
def test_doubles_come_back_bit_for_bit_from_a_response(values: list[float]) -> None:
    given = {"predict": np.array(values)}
    body = oip.write_response(given, ARRAY, name="d", version="1", prediction_id="p", words=True)
    got = oip.read_response(body, ARRAY).answers["predict"]
    assert np.array_equal(got, given["predict"], equal_nan=True)
    assert np.array_equal(np.signbit(got[got == 0]), np.signbit(given["predict"][got == 0]))


@given(st.integers(0, 3))
def test_labels_and_probabilities_come_back_from_a_response(rows: int) -> None:
    given = answers(rows)
    body = oip.write_response(given, MIXED, name="d", version="1", prediction_id="p")
    got = oip.read_response(body, MIXED).answers
    assert got["predict"].tolist() == given["predict"].tolist()
    assert np.array_equal(got["predict_proba"], given["predict_proba"])
    assert got["predict_proba"].shape == (rows, 2)


def test_the_metadata_carry_tensors_and_the_whole_schema() -> None:
    metadata = json.loads(json.dumps(oip.model_metadata("d", ["3"], "onnx_onnxv1", MIXED)))
    assert metadata["inputs"][0] == {"name": "temp", "datatype": "FP64", "shape": [-1]}
    assert metadata["outputs"][1] == {"name": "predict_proba", "datatype": "FP64", "shape": [-1, 2]}
    assert oip.schema_of(metadata) == MIXED
    with pytest.raises(InvalidRequest, match="another server"):
        oip.schema_of({"name": "d"})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "name": st.sampled_from([column.name for column in MIXED.columns]) | st.text(max_size=3),
                "datatype": st.sampled_from([*set(OIP_DATATYPE.values()), "FP16", "BF16"]) | st.text(max_size=3),
                "shape": st.lists(st.integers(-1, 3), max_size=3) | json_values,
                "data": json_values,
            },
            optional={"parameters": json_values},
        ),
        max_size=8,
    )
    | json_values
)
def test_whatever_comes_is_read_or_refused_on_purpose(inputs: Any) -> None:
    with contextlib.suppress(ModelyardError):
        oip.read_request(json.dumps({"inputs": inputs}).encode(), MIXED_READER)
