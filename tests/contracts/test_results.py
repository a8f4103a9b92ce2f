"""What `Loaded` and the client give back is what the estimator itself returned, container, dtype, index and all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from modelyard.bundle.frameworks.catalogue import find
from modelyard.bundle.native import InProcess
from modelyard.bundle.results import index_of, outputs_of, returned
from modelyard.bundle.schema import infer_columns
from modelyard.bundle.tabular import to_frame
from modelyard.domain.schema import Schema

DRAW = np.random.default_rng(0)
ROWS = 40
TABLE = pd.DataFrame(DRAW.normal(size=(ROWS, 2)), columns=["a", "b"], index=[f"r{i}" for i in range(ROWS)])
WORDS = np.where(TABLE["a"] > 0, "late", np.where(TABLE["b"] > 0, "early", "on time"))
FLAGS = (TABLE["a"] > 0).to_numpy()


def text_table(table: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"sum": table["a"] + table["b"], "sign": np.where(table["a"] > 0, "+", "-")}, index=table.index)


def whole(table: pd.DataFrame) -> pd.Series[Any]:
    return (table["a"] * 10).round().astype("Int64").rename(None)


def pieces(table: pd.DataFrame) -> dict[str, Any]:
    return {"up": table["a"].to_numpy() > 0, "score": table["b"].to_numpy(dtype="float32")}


def plain(table: pd.DataFrame) -> list[float]:
    return [float(value) for value in table["a"]]


CASES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "text labels": (LogisticRegression().fit(TABLE, WORDS), ("predict", "predict_proba", "decision_function")),
    "object labels": (LogisticRegression().fit(TABLE, WORDS.astype(object)), ("predict",)),
    "boolean labels": (LogisticRegression().fit(TABLE, FLAGS), ("predict", "predict_proba", "decision_function")),
    "margins only": (LinearSVC().fit(TABLE, FLAGS.astype("int32")), ("predict", "decision_function")),
    "several targets": (LinearRegression().fit(TABLE, TABLE * 2), ("predict",)),
    "several label targets": (
        RandomForestClassifier(3, random_state=0).fit(TABLE, np.stack([FLAGS, ~FLAGS], axis=1).astype(int)),
        ("predict", "predict_proba"),
    ),
    "clusters": (KMeans(2, n_init=1, random_state=0).fit(TABLE), ("predict",)),
    "outliers": (IsolationForest(n_estimators=5, random_state=0).fit(TABLE), ("predict", "decision_function")),
    "features": (StandardScaler().fit(TABLE), ("transform",)),
    "a table of features": (StandardScaler().set_output(transform="pandas").fit(TABLE), ("transform",)),
    "function, table": (text_table, ("predict",)),
    "function, nullable column": (whole, ("predict",)),
    "function, dict": (pieces, ("predict",)),
    "function, list": (plain, ("predict",)),
}

METHODS = [(case, method) for case, (_, methods) in CASES.items() for method in methods]


def by_itself(estimator: Any, method: str) -> Callable[[pd.DataFrame], Any]:
    call: Callable[[pd.DataFrame], Any] = getattr(estimator, method, estimator)
    return call


def assert_same(got: Any, expected: Any) -> None:
    assert type(got) is type(expected)
    if isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(got, expected)
    elif isinstance(expected, pd.Series):
        pd.testing.assert_series_equal(got, expected)
    elif isinstance(expected, np.ndarray):
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
        np.testing.assert_array_equal(got, expected)
    elif isinstance(expected, dict):
        assert list(got) == list(expected)
        for key, part in expected.items():
            assert_same(got[key], part)
    elif expected and isinstance(expected[0], np.ndarray):
        for part, other in zip(got, expected, strict=True):
            assert_same(part, other)
    else:
        assert got == expected


@pytest.mark.parametrize(("case", "method"), METHODS, ids=[f"{case}, {method}" for case, method in METHODS])
def test_it_comes_back_as_the_estimator_returned_it(case: str, method: str) -> None:
    estimator, _ = CASES[case]
    layout, columns = infer_columns(TABLE)
    schema = Schema(layout, columns, find(estimator).describe(estimator, TABLE.head(8), columns))
    outputs = outputs_of(schema, method)
    answers = InProcess(estimator, schema).predict(to_frame(TABLE, schema), [output.name for output in outputs])
    assert_same(returned(outputs, answers, index_of(TABLE)), by_itself(estimator, method)(TABLE))
