"""The shapes that MLflow clients send."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from modelyard.domain.schema import Kind, Output
from modelyard.errors import InvalidInput, InvalidRequest
from modelyard.protocol import invocations
from modelyard.protocol.table import Call, Source, TableReader
from wire_samples import ARRAY, MIXED, ROW, SERIES, answers

SPLIT = {"columns": list(ROW), "index": [4, 5], "data": [list(ROW.values())] * 2}


def ask(document: Any, reader: TableReader | None = None) -> Call:
    return invocations.read_request(json.dumps(document).encode(), reader or TableReader(MIXED))


@pytest.mark.parametrize(
    "document",
    [
        {"dataframe_split": SPLIT},
        {"dataframe_records": [ROW, ROW]},
        {"instances": [ROW, ROW]},
        {"inputs": {name: [value, value] for name, value in ROW.items()}},
        {"inputs": [ROW, ROW]},
    ],
)
def test_every_form_of_a_table_is_understood(document: dict[str, Any]) -> None:
    call = ask(document)
    assert call.frame.rows == 2
    assert call.frame["seats"].values.tolist() == [180, 180]
    assert call.outputs == ("predict",)


@pytest.mark.parametrize(
    "document",
    [
        {"inputs": [[1, 2, 3]]},
        {"instances": [[1, 2, 3]]},
        {"inputs": {"X": [[1, 2, 3]]}},
        {"dataframe_split": {"columns": ["a", "b", "c"], "data": [[1, 2, 3]]}},
    ],
)
def test_every_form_of_an_array_is_understood(document: dict[str, Any]) -> None:
    assert ask(document, TableReader(ARRAY)).frame["X"].values.tolist() == [[1, 2, 3]]


def test_every_form_of_a_series_is_understood() -> None:
    for document in ({"inputs": ["a"]}, {"dataframe_split": {"columns": ["text"], "data": [["a"]]}}):
        assert ask(document, TableReader(SERIES)).frame["text"].values.tolist() == ["a"]


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ([], "expected a JSON object"),
        ({}, "exactly one of dataframe_split"),
        ({"inputs": [ROW], "instances": [ROW]}, "exactly one of"),
        ({"inputs": [ROW], "params": {"k": 1}}, "takes none"),
        ({"dataframe_split": []}, "expected a JSON object"),
        ({"dataframe_split": {"columns": ["temp"]}}, "expected a list under 'data'"),
        ({"dataframe_split": {**SPLIT, "data": [[1]]}}, "row 0: expected a list of 7 values, got 1 values"),
        ({"dataframe_split": {"columns": ["temp", "temp"], "data": []}}, "named twice"),
        ({"dataframe_split": {"columns": ["temp"], "data": [[1]]}}, "column 'gust' is missing"),
        ({"inputs": {**{name: [] for name in ROW}, "temp": [1.0]}}, "it has 0 values, the first column has 1"),
        ({"inputs": [[1, 2, 3, 4, 5, 6, 7]]}, "row 0: expected an object"),
    ],
)
def test_bad_requests_are_refused_with_the_reason(document: Any, says: str) -> None:
    with pytest.raises((InvalidRequest, InvalidInput), match=says):
        ask(document)


def test_predictions_are_what_the_first_method_returns() -> None:
    given = {"predict": answers(2)["predict"]}
    body = invocations.write_response(given, MIXED, Source("flights", 3, "p", 2))
    assert json.loads(body)["predictions"] == ["on time", "late"]
    assert invocations.read_response(body, MIXED)["predict"].tolist() == ["on time", "late"]


def test_the_parts_of_a_table_are_named() -> None:
    outputs = tuple(
        Output(part, Kind.FLOAT64, "value", "__call__", part=part, container="dataframe") for part in ("low", "high")
    )
    schema = replace(MIXED, outputs=outputs)
    given = {"low": np.array([1.0, 2.0]), "high": np.array([3.0, np.nan])}
    body = invocations.write_response(given, schema, Source("flights", 3, "p", 2))
    assert json.loads(body)["predictions"] == [{"low": 1.0, "high": 3.0}, {"low": 2.0, "high": None}]
    got = invocations.read_response(body, schema)
    assert np.array_equal(got["high"], given["high"], equal_nan=True)


def test_probabilities_are_plain_lists() -> None:
    schema = replace(MIXED, outputs=MIXED.outputs[1:])
    given = {"predict_proba": answers(2)["predict_proba"]}
    body = invocations.write_response(given, schema, Source("flights", 3, "p", 2))
    assert json.loads(body)["predictions"] == given["predict_proba"].tolist()
    assert np.array_equal(invocations.read_response(body, schema)["predict_proba"], given["predict_proba"])
