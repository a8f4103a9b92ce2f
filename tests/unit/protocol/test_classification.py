"""The classification extension: the largest values of an output as texts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wire_samples as wire
from modelyard.domain.schema import Kind, Output, Schema
from modelyard.errors import InvalidRequest
from modelyard.protocol.classification import classified, wanted_classes

SCORES = Output("scores", Kind.FLOAT32, "score", "decision_function", shape=(4,), classes=(True, 7, "a:b", "c"))


def texts(values: list[list[float]], count: int, output: Output = SCORES) -> list[list[str]]:
    array = np.array(values, output.kind.numpy).reshape(len(values), 4)
    answers, schema = classified({"scores": array, "other": array}, Schema("array", (), (output,)), [("scores", count)])
    assert answers["other"] is array
    assert schema.output("scores").kind is Kind.STRING
    assert answers["scores"].shape == (len(values), min(count, 4))
    return answers["scores"].tolist()


def test_the_largest_come_first_with_their_position_and_class() -> None:
    assert texts([[1, 5, 10, 4], [0, 0, 0, 0]], 2) == [["10.0:2:a:b", "5.0:1:7"], ["0.0:0:true", "0.0:1:7"]]
    assert texts([[1, 5, 10, 4]], 9)[0][-1] == "1.0:0:true"
    assert texts([], 2) == []


def test_no_number_is_never_the_largest() -> None:
    assert texts([[np.nan, -np.inf, 2, np.nan]], 4) == [["2.0:2:a:b", "-inf:1:7", "nan:0:true", "nan:3:c"]]


def test_without_names_of_classes_there_are_positions() -> None:
    assert texts([[1, 5, 10, 4]], 1, replace(SCORES, kind=Kind.INT64, classes=None)) == [["10:2"]]


@given(st.lists(st.floats(allow_nan=False), min_size=4, max_size=4), st.integers(1, 4))
def test_values_are_told_exactly_and_in_order(values: list[float], count: int) -> None:
    [row] = texts([values], count, replace(SCORES, kind=Kind.FLOAT64))
    told = [float(text.split(":")[0]) for text in row]
    assert told == sorted(values, reverse=True)[:count]
    assert all(values[int(text.split(":")[1])] == value for text, value in zip(row, told, strict=True))


@pytest.mark.parametrize("count", [-1, True, 2.0, "2", None])
def test_the_number_of_classes_is_a_whole_number(count: object) -> None:
    with pytest.raises(InvalidRequest, match="expected a whole number from 0"):
        wanted_classes(count, SCORES)


def test_an_output_without_a_number_for_each_class_is_refused() -> None:
    for output in (wire.MIXED.output("predict"), wire.ARRAY.output("predict"), replace(SCORES, shape=(2, 2))):
        with pytest.raises(InvalidRequest, match="has no number for each class"):
            wanted_classes(2, output)
        assert wanted_classes(0, output) == 0
