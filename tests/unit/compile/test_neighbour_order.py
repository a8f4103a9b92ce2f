"""Nearest neighbours are compiled only where it is certain which rows are nearest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, LocalOutlierFactor

from modelyard.bundle.compile.compiler import write_graph
from modelyard.bundle.compile.graph import NoConverter
from modelyard.bundle.frameworks.sklearn import SklearnFramework
from modelyard.bundle.schema import infer_columns
from modelyard.domain.frame import Frame, Vector
from modelyard.domain.schema import Schema
from modelyard.runtime.onnx import OnnxRuntime

pytestmark = pytest.mark.filterwarnings("ignore:X does not have valid feature names")

RNG = np.random.default_rng(0)


def graph_of(model: Any, table: pd.DataFrame) -> tuple[OnnxRuntime, Schema]:
    layout, columns = infer_columns(table)
    schema = Schema(layout, columns, SklearnFramework().describe(model, table, columns))
    draft = write_graph(model, schema, "float64")
    return OnnxRuntime(draft.model, draft.form, schema), schema


def test_rows_on_a_grid_are_not_compiled() -> None:
    table = pd.DataFrame({"a": np.arange(60) % 10, "b": np.arange(60) // 10})
    model = KNeighborsClassifier(4).fit(table, table["a"] % 3)
    with pytest.raises(NoConverter, match="equal distances"):
        graph_of(model, table)


def test_equal_distances_from_a_third_category_are_seen() -> None:
    # Two rows that differ in their category only are equally far from every row of another category.
    table = pd.DataFrame(RNG.normal(size=(80, 4)), columns=list("xabc"))
    table[["a", "b", "c"]] = np.eye(3)[RNG.integers(0, 3, 80)]
    table.loc[1, "x"] = table.loc[0, "x"]
    table.loc[[0, 1], ["a", "b", "c"]] = np.eye(3)[:2]
    model = KNeighborsRegressor(3).fit(table, table["x"])
    with pytest.raises(NoConverter, match="equal distances"):
        graph_of(model, table)


def test_distances_that_the_library_rounds_are_not_compiled() -> None:
    table = pd.DataFrame({"large": 1e9 + RNG.normal(size=80), "small": RNG.normal(size=80)})
    model = KNeighborsClassifier(4, algorithm="brute").fit(table, table["small"] > 0)
    with pytest.raises(NoConverter, match="rounded"):
        graph_of(model, table)


@pytest.mark.parametrize(
    "model",
    [
        KNeighborsClassifier(4, weights="distance"),
        KNeighborsRegressor(3, metric="manhattan"),
        KNeighborsRegressor(3, p=3),
        LocalOutlierFactor(n_neighbors=5, novelty=True),
    ],
    ids=str,
)
def test_rows_in_general_position_are_compiled(model: Any) -> None:
    table = pd.DataFrame(RNG.normal(size=(90, 3)), columns=list("xyz"))
    model.fit(table, table["x"].round() if isinstance(model, KNeighborsClassifier) else table["x"])
    runtime, schema = graph_of(model, table)
    fresh = pd.DataFrame(RNG.normal(size=(200, 3)), columns=list("xyz"))
    got = runtime.predict(Frame({name: Vector(fresh[name].to_numpy()) for name in fresh}, rows=200))
    for output in schema.outputs:
        np.testing.assert_allclose(got[output.name], getattr(model, output.method)(fresh), rtol=1e-9)
