"""Which values encoders accept."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from modelyard.bundle.compile import known_categories
from modelyard.domain.schema import Column, Kind

TABLE = pd.DataFrame({"day": ["mon", "tue", "mon", None], "size": [1, 2, 3, 1], "wind": [0.5, 1.5, 2.5, 3.5]})
TARGET = [0, 1, 0, 1]


def column(name: str) -> Column:
    return Column(name, Kind.STRING, nullable=True, dtype="str")


def behind(step: Any, names: list[str]) -> Any:
    columns = ColumnTransformer([("n", StandardScaler(), ["wind"]), ("c", step, names)])
    return make_pipeline(columns, DecisionTreeClassifier()).fit(TABLE, TARGET)


def test_categories_are_found_behind_pipelines_and_imputers() -> None:
    step = make_pipeline(SimpleImputer(strategy="constant", fill_value="none"), OneHotEncoder())
    model = behind(step, ["day"])
    assert known_categories(model, column("day")) == ("mon", "none", "tue")
    assert known_categories(model, column("wind")) is None


def test_missing_values_are_not_listed_and_numbers_stay_numbers() -> None:
    model = behind(OrdinalEncoder(), ["day", "size"])
    assert known_categories(model, column("day")) == ("mon", "tue")
    assert known_categories(model, column("size")) == (1, 2, 3)


def test_encoders_that_ignore_the_unknown_do_not_limit() -> None:
    assert known_categories(behind(OneHotEncoder(handle_unknown="ignore"), ["day"]), column("day")) is None


def test_two_encoders_accept_what_both_accept() -> None:
    union = FeatureUnion(
        [("a", OneHotEncoder()), ("b", OrdinalEncoder(categories=[["tue", "mon", "wed", float("nan")]]))]
    )
    assert known_categories(behind(union, ["day"]), column("day")) == ("mon", "tue")


def test_a_column_that_was_changed_on_the_way_is_not_limited() -> None:
    model = behind(make_pipeline(StandardScaler(), OneHotEncoder()), ["size"])
    assert known_categories(model, column("size")) is None


@pytest.mark.parametrize("model", [StandardScaler().fit([[1.0]]), lambda rows: rows], ids=["array", "function"])
def test_estimators_without_columns_do_not_limit(model: Any) -> None:
    assert known_categories(model, column("day")) is None
