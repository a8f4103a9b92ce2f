"""Plain rows, and the table shapes that they share with other forms."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from modelyard.domain.frame import Frame
from modelyard.domain.schema import Kind, Output
from modelyard.errors import InvalidInput, InvalidRequest
from modelyard.protocol import rows
from modelyard.protocol.table import Call, Source, TableReader
from wire_samples import ARRAY, MIXED, ROW, SERIES, answers, frames, same

READER = TableReader(MIXED)


def ask(document: Any, reader: TableReader = READER) -> Call:
    return rows.read_request(json.dumps(document).encode(), reader)


@given(frames(most=3))
def test_a_frame_comes_back_from_its_own_request(frame: Frame) -> None:
    call = rows.read_request(rows.write_request(frame, MIXED), READER)
    assert same(frame, call.frame)


def test_ids_and_outputs_are_taken_along() -> None:
    call = ask({"rows": [ROW, ROW], "ids": ["a", "b"], "outputs": ["predict"]})
    assert (call.row_ids, call.outputs) == (("a", "b"), ("predict",))


@pytest.mark.parametrize("spelling", [{}, {"temp": float("nan")}])
def test_keys_are_taken_beside_the_rows_and_may_not_be_inputs(spelling: dict[str, Any]) -> None:
    """Both by the quick way and, where a value is spelled oddly, by the patient one."""
    asked = {"rows": [ROW | spelling, ROW], "keys": [{"order": 7}, {"order": None}]}
    assert ask(asked).frame.rows == 2
    with pytest.raises(InvalidRequest, match="'keys' has 1 entries for 2 rows"):
        ask(asked | {"keys": [{"order": 7}]})
    with pytest.raises(InvalidRequest, match="'keys', row 1: 'temp' is an input"):
        ask(asked | {"keys": [{"order": 7}, {"temp": 7}]})


def changed(**change: Any) -> dict[str, Any]:
    return {**ROW, **change}


@pytest.mark.parametrize(
    ("second", "says"),
    [
        (changed(tmp=1), "row 1: unknown column 'tmp'; did you mean 'temp'"),
        (changed(zzzz=1), "row 1: unknown column 'zzzz'; there are: 'temp', 'gust'"),
        (
            {name: value for name, value in ROW.items() if name != "seats"},
            "row 1: column 'seats' is missing; send null",
        ),
        (
            {("tmp" if name == "temp" else name): value for name, value in ROW.items()},
            "row 1: unknown column 'tmp'; did you mean 'temp'",
        ),
        (changed(temp="21.5"), "column 'temp', row 1: expected a number \\(float64\\), got the text '21.5'"),
        (changed(engines=256), "column 'engines', row 1: .* from 0 to 255"),
        (changed(seats=1.5), "column 'seats', row 1: expected a whole number"),
        (changed(night=1), "column 'night', row 1: expected true or false, got 1"),
        (changed(carrier=7), "column 'carrier', row 1: expected a text, got 7"),
        ([1, 2], "row 1: expected an object with one member a column, got a list"),
        (None, "row 1: expected an object with one member a column, got null"),
    ],
)
def test_a_bad_row_is_refused_by_column_and_number(second: Any, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as caught:
        ask({"rows": [ROW, second]})
    assert caught.value.row == 1


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ([], "Expected `object`"),
        ({}, "missing required field `rows`"),
        ({"rows": {}}, "Expected `array`"),
        ({"rows": [], "id": ["a"]}, "unknown field `id`"),
        ({"rows": [ROW], "ids": ["a", "b"]}, "2 entries for 1 rows"),
        ({"rows": [ROW, ROW], "ids": ["a", "a"]}, "an id twice"),
        ({"rows": [ROW], "ids": [""]}, "1 to 256 characters"),
        ({"rows": [ROW], "ids": [1]}, "Expected `str`"),
        ({"rows": [ROW], "outputs": ["probability"]}, "there are: predict, predict_proba"),
        ({"rows": [ROW], "outputs": ["predict", "predict"]}, "asked for twice"),
    ],
)
def test_a_bad_request_is_refused_with_the_reason(document: Any, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        ask(document)


def test_an_array_takes_lists_or_objects() -> None:
    reader = TableReader(ARRAY)
    for sent in ([[1, 2, None]], [{"X": [1, 2, None]}]):
        read = ask({"rows": sent}, reader).frame["X"].values
        assert np.array_equal(read, [[1, 2, np.nan]], equal_nan=True)
    for bad in ([[1, 2]], [[1, 2, 3], [1, 2]], [[1, 2, 3], 4], [[1, [2], 3]]):
        with pytest.raises(InvalidInput, match="column 'X'"):
            ask({"rows": bad}, reader)
    assert ask({"rows": []}, reader).frame["X"].values.shape == (0, 3)


def test_a_series_takes_values_or_objects() -> None:
    for sent in (["a", "b"], [{"text": "a"}, {"text": "b"}]):
        assert ask({"rows": sent}, TableReader(SERIES)).frame["text"].values.tolist() == ["a", "b"]


def test_named_columns_do_not_take_nameless_values() -> None:
    with pytest.raises(InvalidInput, match="values without column names"):
        READER.matrix([[1, 2, 3]])


def test_answers_are_rows_with_ids_and_named_classes() -> None:
    body = rows.write_response(answers(2), MIXED, Source("flights", 3, "p", 2))
    assert json.loads(body) == {
        "model": "flights",
        "version": 3,
        "prediction_id": "p",
        "rows": [
            {"prediction_id": "p-0", "predict": "on time", "predict_proba": {"late": 0.1, "on time": 0.9}},
            {"prediction_id": "p-1", "predict": "late", "predict_proba": {"late": 0.9, "on time": pytest.approx(0.1)}},
        ],
    }


def test_one_row_has_the_id_of_the_call_unless_the_caller_named_it() -> None:
    for ids, expected in (((), "p"), (("mine",), "mine")):
        body = rows.write_response(answers(1), MIXED, Source("flights", 3, "p", 1, ids))
        assert json.loads(body)["rows"][0]["prediction_id"] == expected


def test_answers_come_back_from_the_response() -> None:
    given = answers(3)
    got = rows.read_response(rows.write_response(given, MIXED, Source("flights", 3, "p", 3)), MIXED)
    assert got["predict"].tolist() == given["predict"].tolist()
    assert np.array_equal(got["predict_proba"], given["predict_proba"])


@pytest.mark.parametrize("shape", [(0,), (2,), (2, 3), (2, 2, 2), (2, 0), (0, 3)])
def test_outputs_of_any_shape_give_one_value_a_row(shape: tuple[int, ...]) -> None:
    array = np.arange(int(np.prod(shape)), dtype=np.float64).reshape(shape)
    output = Output("value", Kind.FLOAT64, "value", "predict", shape=shape[1:])
    assert rows.by_row(array, output, shape[0]) == array.tolist()


@pytest.mark.parametrize("body", [b"{}", b'{"model":"m","version":1,"prediction_id":"p","rows":[{"predict":1}]}'])
def test_a_foreign_response_is_refused(body: bytes) -> None:
    with pytest.raises((InvalidRequest, InvalidInput)):
        rows.read_response(body, MIXED)
