"""Calls are merged only for versions that answer each row for itself."""

from __future__ import annotations

import numpy as np
import pytest

from modelyard.domain.frame import Answers, Frame, Vector
from modelyard.domain.golden import GoldenSet
from modelyard.domain.manifest import Tolerance
from modelyard.domain.schema import Column, Kind, Output, Schema
from modelyard.errors import RowsRefused
from modelyard.serving.merging import why_alone

SCHEMA = Schema(
    "dataframe",
    (Column("x", Kind.FLOAT64, nullable=False, dtype="float64"),),
    (Output("y", Kind.FLOAT64, "value", "y"),),
)
X = np.array([3.0, 1.0, 2.0, 8.0])


def asked(frame: Frame) -> Answers:
    return {"y": frame["x"].values * 2}


def golden(batch: Answers | None = None) -> GoldenSet:
    inputs = Frame({"x": Vector(X)}, len(X))
    return GoldenSet(inputs, ("sample",) * 4, (None, None, "refused", None), asked(inputs), batch or asked(inputs))


def why(predict: object, given: GoldenSet | None = None) -> str:
    return why_alone(predict, given or golden(), SCHEMA, Tolerance())  # type: ignore[arg-type]


def test_a_version_that_answers_each_row_for_itself_is_merged() -> None:
    assert why(asked) == ""


def test_rounding_within_the_tolerance_does_not_matter() -> None:
    assert why(lambda frame: {"y": frame["x"].values * 2 * (1 + 1e-12)}) == ""


def ranked(frame: Frame) -> Answers:
    return {"y": frame["x"].values * 2 + frame["x"].values.argsort()}


def without_doubles(frame: Frame) -> Answers:
    return {"y": np.unique(frame["x"].values) * 2}


def no_doubles(frame: Frame) -> Answers:
    raise RowsRefused("rows must differ")


@pytest.mark.parametrize("predict", [ranked, without_doubles, no_doubles])
def test_a_version_that_looks_at_the_whole_table_is_not(predict: object) -> None:
    assert why(predict)


def test_nor_one_that_answered_a_batch_otherwise_while_it_was_packed() -> None:
    assert "changes with the rows beside it" in why(asked, golden({"y": X * 2 + 1}))
