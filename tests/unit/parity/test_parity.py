"""Replaying a golden set against something that answers."""

import numpy as np

from modelyard.bundle.parity import replay
from modelyard.domain.frame import Frame, Vector
from modelyard.domain.golden import GoldenSet
from modelyard.domain.manifest import Tolerance
from modelyard.domain.schema import Accepts, Column, Kind, Output, Schema
from modelyard.errors import RowsRefused, RuntimeLost

SCHEMA = Schema(
    "dataframe",
    (Column("x", Kind.FLOAT64, nullable=True, dtype="float64", accepts=Accepts(maximum=100.0)),),
    (Output("predict", Kind.FLOAT64, "value", "predict"),),
)
INPUTS = np.array([1.0, 2.0, np.nan, 1e9])
ANSWERS = {"predict": np.array([2.0, 4.0, 0.0, 0.0])}
GOLDEN = GoldenSet(
    Frame({"x": Vector(INPUTS)}, 4),
    ("sample", "sample", "edge: x missing", "edge: x large"),
    (None, None, "a value is missing", "too large"),
    ANSWERS,
    ANSWERS,
)


def double(frame: Frame):
    values = frame["x"].values
    if np.isnan(values).any():
        raise RowsRefused("no NaN please")
    return {"predict": values * 2}


def run(predict, mode="single", **more):
    return replay(predict, GOLDEN, SCHEMA, Tolerance(), mode, "in process", **more)


def test_the_same_model_passes_and_refuses_what_training_refused():
    report = run(double)
    assert report.passed
    assert (report.rows, report.refused, report.mismatched) == (2, 2, 0)


def test_a_batch_holds_the_answered_rows_only():
    seen = []
    report = run(lambda frame: seen.append(frame.rows) or double(frame), mode="batch")
    assert report.passed
    assert seen == [2]


def test_a_model_that_answers_what_training_refused_fails():
    report = run(lambda frame: {"predict": np.nan_to_num(frame["x"].values) * 2})
    assert not report.passed
    assert report.reason == "row 2 (edge: x missing): expected refused: a value is missing, got predict = 0.0"


def test_a_model_that_refuses_what_training_answered_fails():
    def refuse(frame: Frame):
        raise RowsRefused("not today")

    report = run(refuse)
    assert not report.passed
    assert report.mismatched == 2
    assert report.reason.startswith("row 0 (sample): expected predict = 2.0, got refused: not today")


def test_a_lost_runtime_ends_the_stage_with_its_message():
    def lost(frame: Frame):
        raise RuntimeLost("the process is gone")

    for mode in ("single", "batch"):
        report = run(lost, mode)
        assert not report.passed
        assert "the process is gone" in report.reason


def test_other_numbers_name_row_output_expected_and_got():
    report = run(lambda frame: {"predict": double(frame)["predict"] + 0.5}, mode="batch")
    assert not report.passed
    assert report.reason == "row 0 (sample), output 'predict': expected 2.0, got 2.5 (2 answers differ in all)"
    assert report.largest_abs == 0.5


def test_every_row_is_told_as_it_is_done():
    done = []
    run(double, on_row=lambda: done.append(1))
    assert len(done) == 4
