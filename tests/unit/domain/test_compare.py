"""What counts as the same answer."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from modelyard.domain.compare import compare, ulps
from modelyard.domain.manifest import Tolerance
from modelyard.domain.schema import Kind, Output

VALUE = Output("predict", Kind.FLOAT64, "value", "predict")
LABEL = Output("predict", Kind.STRING, "label", "predict", classes=("late", "on time"))
PROBA = Output("predict_proba", Kind.FLOAT64, "probability", "predict_proba", shape=(2,), classes=("late", "on time"))
SCORE = Output("decision_function", Kind.FLOAT64, "score", "decision_function")

floats = arrays.arrays(np.float64, st.integers(0, 20), elements=st.floats(width=64))


def texts(*values: str) -> np.ndarray:
    return np.array(values, dtype=object)


@given(floats)
def test_any_answers_equal_themselves_exactly(values):
    found = compare({"predict": values}, {"predict": values.copy()}, [VALUE], Tolerance(0.0, 0.0))
    assert found.equal
    assert (found.largest_abs, found.largest_rel, found.largest_ulp) == (0.0, 0.0, 0)


@given(floats.filter(len), st.data())
def test_one_changed_number_is_found_where_it_is(values, data):
    row = data.draw(st.integers(0, len(values) - 1))
    other = data.draw(st.floats(width=64).filter(lambda new: new != values[row] and new == new))
    changed = values.copy()
    changed[row] = other
    found = compare({"predict": values}, {"predict": changed}, [VALUE], Tolerance(0.0, 0.0))
    assert [mismatch.row for mismatch in found.mismatches] == [row]
    assert found.mismatched == 1


@given(st.floats(-1e300, 1e300), st.floats(0, 1e-2), st.floats(0, 1e-2))
def test_inside_the_tolerance_is_equal(value, rtol, atol):
    near = value + 0.5 * (atol + rtol * abs(value))
    found = compare(
        {"predict": np.array([value])}, {"predict": np.array([near])}, [VALUE], Tolerance(rtol, atol + 1e-300)
    )
    assert found.equal or abs(near - value) > atol + rtol * abs(value)


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_ulp_distance_is_symmetric_and_zero_only_for_equals(a, b):
    left, right = np.array([a]), np.array([b])
    assert ulps(left, right) == ulps(right, left)
    assert (ulps(left, right)[0] == 0) == (a == b)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_neighbouring_floats_are_one_ulp_apart_across_zero_too(dtype):
    tiny = np.nextafter(dtype(0), dtype(1))
    assert ulps(np.array([tiny]), np.array([-tiny])).tolist() == [2]
    assert ulps(np.array([dtype(1)]), np.array([np.nextafter(dtype(1), dtype(2))])).tolist() == [1]


def test_infinity_equals_only_itself():
    want = np.array([np.inf, np.inf, -np.inf, np.nan])
    got = np.array([np.inf, 1e308, np.inf, 1.0])
    found = compare({"predict": want}, {"predict": got}, [VALUE], Tolerance(1.0, 1.0))
    assert [mismatch.row for mismatch in found.mismatches] == [1, 2, 3]


def test_a_flipped_label_counts():
    found = compare({"predict": texts("late", "late")}, {"predict": texts("late", "on time")}, [LABEL], Tolerance())
    assert (found.flips, found.excused, found.mismatched) == (1, 0, 1)
    assert found.reason == "row 1, output 'predict': expected 'late', got 'on time'"


def test_a_flip_is_excused_only_where_training_itself_was_undecided():
    want = {
        "predict": texts("late", "late"),
        "predict_proba": np.array([[0.5 + 1e-7, 0.5 - 1e-7], [0.51, 0.49]]),
    }
    got = {**want, "predict": texts("on time", "on time")}
    found = compare(want, got, [LABEL, PROBA], Tolerance())
    assert (found.flips, found.excused) == (2, 1)
    assert [mismatch.row for mismatch in found.mismatches] == [1]


def test_the_distance_from_zero_excuses_too():
    want = {"predict": texts("late", "late"), "decision_function": np.array([1e-7, 0.2])}
    found = compare(want, {**want, "predict": texts("on time", "on time")}, [LABEL, SCORE], Tolerance())
    assert (found.flips, found.excused) == (2, 1)


def test_labels_of_several_targets_are_excused_target_by_target():
    both = Output("predict", Kind.INT64, "label", "predict", shape=(2,))
    parts = [
        Output(f"predict_proba_{i}", Kind.FLOAT64, "probability", "predict_proba", part=i, shape=(2,)) for i in (0, 1)
    ]
    want = {
        "predict": np.array([[0, 1]]),
        "predict_proba_0": np.array([[0.5, 0.5]]),
        "predict_proba_1": np.array([[0.1, 0.9]]),
    }
    found = compare(want, {**want, "predict": np.array([[1, 0]])}, [both, *parts], Tolerance())
    assert (found.flips, found.excused) == (2, 1)
    assert found.mismatches[0].output == "predict[1]"


def test_a_wrong_probability_is_named_by_its_class():
    want, got = np.array([[0.8, 0.2]]), np.array([[0.8, 0.3]])
    found = compare(
        {"predict_proba": want}, {"predict_proba": got}, [PROBA], Tolerance(), rows=[7], origins=[""] * 7 + ["sample"]
    )
    assert found.reason == "row 7 (sample), output 'predict_proba[on time]': expected 0.2, got 0.3"


@pytest.mark.parametrize(
    ("got", "words"),
    [
        ({}, "there is no answer"),
        ({"predict": np.zeros(2, np.float32)}, "expected values of type float64, got float32"),
        ({"predict": np.zeros((2, 1))}, r"expected shape \(2,\), got \(2, 1\)"),
    ],
)
def test_what_cannot_be_compared_says_so(got, words):
    found = compare({"predict": np.zeros(2)}, got, [VALUE], Tolerance())
    assert not found.equal
    assert re.search(words, found.reason)
