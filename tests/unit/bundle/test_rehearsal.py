"""What is asked before packing goes on: answers as in training, and to each row for itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from modelyard.bundle import golden
from modelyard.bundle.frameworks import catalogue
from modelyard.bundle.native import InProcess
from modelyard.bundle.rehearsal import check_as_given, check_each_for_itself
from modelyard.bundle.schema import infer_columns, sample_frame
from modelyard.domain.frame import Frame
from modelyard.domain.schema import Schema
from modelyard.errors import CannotPack

AMOUNTS = pd.DataFrame({"gross": np.linspace(1, 40, 40), "rate": np.arange(40) % 7 * 0.5})


def asked(estimator: Any, sample: Any) -> tuple[InProcess, Frame, Schema]:
    layout, columns = infer_columns(sample)
    rows = sample_frame(sample, layout, columns)
    given = InProcess(estimator, Schema(layout, columns, ())).native(rows)
    schema = Schema(layout, columns, catalogue.find(estimator).describe(estimator, given, columns))
    return InProcess(estimator, schema), rows, schema


def rehearse(estimator: Any, sample: Any) -> None:
    who, rows, schema = asked(estimator, sample)
    check_as_given(who, sample, rows, schema)
    check_each_for_itself(golden.record(who, rows, ["sample"] * rows.rows, schema), schema)


def encoded(cities: list[Any]) -> tuple[Any, pd.DataFrame]:
    table = pd.DataFrame({"x": np.arange(len(cities)), "city": pd.Series(cities, dtype=object)})
    model = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression())
    return model.fit(table, [city is None for city in cities]), table


def test_two_markers_that_the_estimator_tells_apart_are_refused() -> None:
    model, table = encoded(["Bern", None, np.nan, "Basel"] * 9)
    with pytest.raises(CannotPack, match=r"column 'city'.*None and NaN both mean missing.*row \d+"):
        rehearse(model, table)


def test_two_markers_that_make_no_difference_pass() -> None:
    _, table = encoded(["Bern", None, np.nan, "Basel"] * 9)
    rehearse(lambda rows: rows["city"].isna().to_numpy(), table)


@pytest.mark.parametrize(
    "sample", [AMOUNTS, AMOUNTS.to_numpy(), AMOUNTS.set_axis(AMOUNTS["gross"]), AMOUNTS.to_numpy().tolist()]
)
def test_samples_of_all_layouts_pass(sample: Any) -> None:
    rehearse(Ridge().fit(sample, np.arange(40)), sample)


def test_rows_that_the_estimator_refuses_do_not_hide_the_others() -> None:
    def picky(rows: pd.DataFrame) -> pd.Series[float]:
        if (rows["x"] == 5).any():
            raise ValueError("five")
        return rows["city"].map(lambda city: 1.0 if city is None else 0.0)

    _, table = encoded(["Bern", None, np.nan, None] * 9)
    with pytest.raises(CannotPack, match="column 'city'"):
        check_as_given(*_with_sample(picky, table))


def _with_sample(estimator: Any, table: pd.DataFrame) -> tuple[InProcess, pd.DataFrame, Frame, Schema]:
    layout, columns = infer_columns(table)
    described = table.head(3)
    schema = Schema(layout, columns, catalogue.find(estimator).describe(estimator, described, columns))
    return InProcess(estimator, schema), table, sample_frame(table, layout, columns), schema


def test_the_sample_is_left_as_it_was() -> None:
    table = AMOUNTS.copy()

    def careless(rows: pd.DataFrame) -> pd.Series[float]:
        rows["gross"] *= 2
        return rows["gross"]

    who, rows, schema = asked(careless, table)
    check_as_given(who, table, rows, schema)
    pd.testing.assert_frame_equal(table, AMOUNTS)


@pytest.mark.parametrize(
    "function",
    [
        lambda rows: rows["gross"] - rows["gross"].mean(),
        lambda rows: rows.sort_values("rate")["gross"],
        lambda rows: rows["gross"].rank(),
    ],
    ids=["centred", "sorted", "ranked"],
)
def test_answers_that_depend_on_other_rows_are_refused(function: Any) -> None:
    with pytest.raises(CannotPack, match=r"changes with the rows beside it.*alone .*, with others"):
        rehearse(function, AMOUNTS)
