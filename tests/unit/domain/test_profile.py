"""The reference profile counts everything once and keeps no rows."""

import json

import numpy as np

from modelyard.domain.frame import Frame, Vector
from modelyard.domain.profile import BINS, build
from modelyard.domain.schema import Column, Kind, Output, Schema


def profiled(values, kind=Kind.FLOAT64, missing=None, **more):
    column = Column("a", kind, True, "any", shape=np.shape(values)[1:], **more)
    array = np.array(values, dtype=kind.numpy)
    frame = Frame({"a": Vector(array, missing)}, len(array))
    return build(frame, {}, Schema("dataframe", (column,), ()))["inputs"]


def test_numbers_are_counted_in_quantile_bins():
    values = np.random.default_rng(0).normal(size=10_000)
    found = profiled(values)["a"]
    assert len(found["counts"]) == BINS
    assert len(found["edges"]) == BINS + 1
    assert sum(found["counts"]) == found["n"] == 10_000
    assert max(found["counts"]) - min(found["counts"]) < 10
    assert (found["min"], found["max"]) == (values.min(), values.max())
    assert np.isclose(found["sum"], values.sum())


def test_atoms_missing_and_infinite_have_slots():
    values = [0.0] * 50 + list(range(1, 41)) + [np.nan] * 7 + [np.inf, -np.inf, np.inf]
    found = profiled(values)["a"]
    assert [0.0, 50] in found["atoms"]
    assert (found["missing"], found["infinite"]) == (7, 3)
    total = sum(found["counts"]) + sum(count for _, count in found["atoms"]) + found["missing"] + found["infinite"]
    assert total == found["n"] == 100


def test_one_value_no_value_and_huge_values():
    assert profiled([3.0])["a"]["atoms"] == [[3.0, 1]]
    nothing = profiled([np.nan])["a"]
    assert (nothing["edges"], nothing["min"]) == ([], None)
    assert profiled([1e308, 1.5e308])["a"]["sumsq"] is None


def test_rare_texts_are_not_named():
    texts = ["yes"] * 10 + ["no"] * 6 + ["Ms Smith, Main Street 5"]
    found = profiled(texts, Kind.STRING)["a"]
    assert found["values"] == [["yes", 10], ["no", 6]]
    assert (found["other"], found["distinct"]) == (1, 3)
    assert "Smith" not in json.dumps(found)


def test_booleans_and_masked_integers():
    assert profiled([True, False, True], Kind.BOOL)["a"]["values"] == [[True, 2], [False, 1]]
    found = profiled([1, 0], Kind.INT64, np.array([False, True]))["a"]
    assert (found["missing"], found["min"]) == (1, 1.0)


def test_arrays_position_by_position_and_probabilities_class_by_class():
    assert list(profiled(np.ones((4, 2)))) == ["a[0]", "a[1]"]
    outputs = (
        Output("predict", Kind.STRING, "label", "predict", classes=("no", "yes")),
        Output("predict_proba", Kind.FLOAT64, "probability", "predict_proba", shape=(2,), classes=("no", "yes")),
    )
    answers = {"predict": np.array(["no", "yes"], dtype=object), "predict_proba": np.array([[0.9, 0.1], [0.2, 0.8]])}
    found = build(Frame({}, 2), answers, Schema("dataframe", (), outputs))["outputs"]
    assert list(found) == ["predict", "predict_proba[no]", "predict_proba[yes]"]
    assert found["predict"]["values"] == [["no", 1], ["yes", 1]]


def test_dates_are_counted_in_seconds():
    found = profiled(["1970-01-02", "NaT", "1970-01-03"], Kind.DATETIME)["a"]
    assert (found["min"], found["max"], found["missing"]) == (86_400.0, 172_800.0, 1)


def test_it_is_plain_json():
    values = np.array([np.nan, np.inf, 1.0, -0.0])
    json.dumps(profiled(values), allow_nan=False)
