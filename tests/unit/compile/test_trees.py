"""Trees decide as in training, for numbers at their thresholds too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeRegressor

from modelyard.bundle.compile.graph import NoConverter
from modelyard.domain.manifest import Tolerance
from written_graphs import FRESH, NUMBER, SIGNAL, TABLE, THREE, TWO, Written

pytestmark = pytest.mark.filterwarnings("ignore")

NUMBERS = TABLE[["temp", "wind", "seats", "load"]]
FRESH_NUMBERS = FRESH[["temp", "wind", "seats", "load"]]
SINGLE = Tolerance(rtol=1e-6, atol=1e-7)


def around(thresholds: Any) -> Any:
    """Each threshold with its neighbours, in double and in single precision."""
    doubles = np.asarray(thresholds, dtype=np.float64)
    singles = doubles.astype(np.float32)
    return np.unique(
        np.concatenate(
            [
                doubles,
                np.nextafter(doubles, np.inf),
                np.nextafter(doubles, -np.inf),
                singles.astype(np.float64),
                np.nextafter(singles, np.float32(np.inf)).astype(np.float64),
                np.nextafter(singles, np.float32(-np.inf)).astype(np.float64),
            ]
        )
    )


COLUMN = np.random.default_rng(3).normal(size=(300, 1)) / 3
STEPS = np.sin(COLUMN[:, 0] * 9) + COLUMN[:, 0]


def tree() -> tuple[Any, Any]:
    model = DecisionTreeRegressor(max_depth=6).fit(COLUMN, STEPS)
    return model, model.tree_.threshold[model.tree_.feature >= 0]


def forest() -> tuple[Any, Any]:
    model = RandomForestRegressor(4, max_depth=5, random_state=0).fit(COLUMN, STEPS)
    return model, [threshold for one in model.estimators_ for threshold in one.tree_.threshold]


def histogram_boosting() -> tuple[Any, Any]:
    model = HistGradientBoostingRegressor(max_iter=6).fit(COLUMN, STEPS)
    nodes = [predictor.nodes["num_threshold"] for stage in model._predictors for predictor in stage]
    return model, [threshold for one in nodes for threshold in one if np.isfinite(threshold)]


def extreme_boosting() -> tuple[Any, Any]:
    model = xgboost.XGBRegressor(n_estimators=6).fit(COLUMN, STEPS)
    return model, model.get_booster().trees_to_dataframe()["Split"].dropna().to_numpy()


def light_boosting() -> tuple[Any, Any]:
    model = lightgbm.LGBMRegressor(n_estimators=6, verbose=-1).fit(COLUMN, STEPS)
    return model, model.booster_.trees_to_dataframe()["threshold"].dropna().to_numpy()


@pytest.mark.parametrize("train", [tree, forest, histogram_boosting, extreme_boosting, light_boosting])
def test_numbers_at_thresholds_go_the_same_way(train: Callable[[], tuple[Any, Any]]) -> None:
    model, thresholds = train()
    assert Written(model, COLUMN).difference(around(thresholds).reshape(-1, 1), SINGLE) == ""


@pytest.mark.parametrize(
    "model",
    [
        RandomForestClassifier(6, random_state=0),
        ExtraTreesClassifier(6, random_state=0),
        HistGradientBoostingClassifier(max_iter=8),
        xgboost.XGBClassifier(n_estimators=6),
        lightgbm.LGBMClassifier(n_estimators=6, verbose=-1),
    ],
    ids=lambda model: type(model).__name__,
)
@pytest.mark.parametrize("classes", [2, 3])
def test_missing_numbers_go_the_same_way(model: Any, classes: int) -> None:
    codes = np.digitize(SIGNAL, [2.0, 4.0][: classes - 1])
    written = Written(model.fit(NUMBERS, codes), NUMBERS)
    fresh = FRESH_NUMBERS.copy()
    fresh.loc[::5, "wind"] = np.nan
    assert written.difference(fresh, SINGLE) == ""


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("depth", [None, 3])
def test_shares_of_forests_are_equal_bit_for_bit_with_leaves_of_one_class_and_mixed_ones(
    depth: int | None, classes: int
) -> None:
    numbers = NUMBERS.fillna(0)
    codes = np.digitize(SIGNAL, [2.0, 4.0][: classes - 1])
    model = RandomForestClassifier(7, max_depth=depth, random_state=0).fit(numbers, codes)
    written = Written(model, numbers)
    fresh = FRESH_NUMBERS.fillna(0)
    np.testing.assert_array_equal(written.answers(fresh)["predict_proba"], model.predict_proba(fresh))


def test_forests_of_text_labels_and_several_targets() -> None:
    targets = np.column_stack([TWO, THREE])
    written = Written(RandomForestClassifier(5, random_state=0).fit(NUMBERS, targets), NUMBERS)
    assert written.difference(FRESH_NUMBERS) == ""


def test_gradient_boosting_with_exponential_loss() -> None:
    model = GradientBoostingClassifier(loss="exponential", n_estimators=6, random_state=0)
    numbers = NUMBERS.fillna(0)
    assert Written(model.fit(numbers, TWO), numbers).difference(FRESH_NUMBERS.fillna(0)) == ""


def test_a_tree_of_a_single_leaf() -> None:
    model = DecisionTreeRegressor(max_depth=2).fit(COLUMN, np.full(300, 2.5))
    assert Written(model, COLUMN).answers(COLUMN[:3])["predict"].tolist() == [2.5, 2.5, 2.5]


XGB: dict[str, tuple[Any, Any]] = {
    "squares": (xgboost.XGBRegressor(n_estimators=30), NUMBER),
    "counts": (xgboost.XGBRegressor(n_estimators=9, objective="count:poisson"), np.exp(SIGNAL / 3)),
    "gamma": (xgboost.XGBRegressor(n_estimators=9, objective="reg:gamma"), np.exp(SIGNAL / 3)),
    "distances": (xgboost.XGBRegressor(n_estimators=9, objective="reg:absoluteerror"), NUMBER),
    "shares": (xgboost.XGBRegressor(n_estimators=9, objective="reg:logistic"), (SIGNAL > 2) * 0.5 + 0.2),
    "dropped trees": (xgboost.XGBRegressor(n_estimators=9, booster="dart", rate_drop=0.3, random_state=0), NUMBER),
    "another missing value": (xgboost.XGBRegressor(n_estimators=9, missing=0.0), NUMBER),
    "forest": (xgboost.XGBRFRegressor(n_estimators=9, random_state=0), NUMBER),
}


@pytest.mark.parametrize("name", XGB)
def test_xgboost(name: str) -> None:
    model, target = XGB[name]
    numbers = NUMBERS.fillna(1) if name == "another missing value" else NUMBERS
    fresh = FRESH_NUMBERS.fillna(0) if name == "another missing value" else FRESH_NUMBERS
    assert Written(model.fit(numbers, target), numbers).difference(fresh, SINGLE) == ""


def test_xgboost_stops_where_training_stopped() -> None:
    model = xgboost.XGBRegressor(n_estimators=60, early_stopping_rounds=2, learning_rate=0.9)
    model.fit(NUMBERS[:120], NUMBER[:120], eval_set=[(NUMBERS[120:], NUMBER[120:])], verbose=False)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    assert Written(model, NUMBERS).difference(FRESH_NUMBERS, SINGLE) == ""


def test_zeros_of_a_sparse_table_are_missing_to_xgboost() -> None:
    columns = ColumnTransformer(
        [("c", OneHotEncoder(handle_unknown="ignore"), ["day", "zone"])], remainder="passthrough", sparse_threshold=1.0
    )
    table, fresh = TABLE[["day", "zone", "seats"]], FRESH[["day", "zone", "seats"]]
    model = make_pipeline(columns, xgboost.XGBRegressor(n_estimators=20)).fit(table, NUMBER)
    assert columns.sparse_output_
    assert Written(model, table).difference(fresh, SINGLE) == ""


@pytest.mark.parametrize(
    "model",
    [xgboost.XGBRegressor(booster="gblinear"), lightgbm.LGBMRegressor(linear_tree=True, verbose=-1)],
    ids=["xgboost", "lightgbm"],
)
def test_boosted_lines_have_no_converter(model: Any) -> None:
    with pytest.raises(NoConverter, match="no converter for"):
        Written(model.fit(NUMBERS.fillna(0), NUMBER), NUMBERS.fillna(0))


LIGHT: dict[str, Any] = {
    "squares": {},
    "counts": {"objective": "poisson"},
    "forest": {"boosting_type": "rf", "subsample": 0.5, "subsample_freq": 1},
    "dropped trees": {"boosting_type": "dart"},
    "zero as missing": {"zero_as_missing": True},
    "roots": {"reg_sqrt": True},
    "quantile": {"objective": "quantile", "alpha": 0.3},
    "entropy": {"objective": "cross_entropy"},
}


@pytest.mark.parametrize("name", LIGHT)
def test_lightgbm(name: str) -> None:
    model = lightgbm.LGBMRegressor(n_estimators=12, verbose=-1, **LIGHT[name])
    target = (SIGNAL > 2).astype(float) if name == "entropy" else np.exp(SIGNAL / 3)
    assert Written(model.fit(NUMBERS, target), NUMBERS).difference(FRESH_NUMBERS) == ""


def categorical(rows: pd.DataFrame) -> pd.DataFrame:
    days = pd.Categorical(rows["day"], categories=sorted(set(TABLE["day"])))
    return pd.DataFrame({"temp": rows["temp"], "day": days, "class": rows["class"], "seats": rows["seats"]})


@pytest.mark.parametrize(
    "model",
    [
        HistGradientBoostingClassifier(max_iter=8, min_samples_leaf=5),
        lightgbm.LGBMClassifier(
            n_estimators=8, verbose=-1, min_child_samples=5, min_data_per_group=5, cat_smooth=1, max_cat_to_onehot=1
        ),
    ],
    ids=["histogram boosting", "lightgbm"],
)
def test_splits_by_sets_of_categories(model: Any) -> None:
    table = categorical(TABLE)
    fresh = categorical(FRESH)
    fresh.loc[::6, "class"] = np.nan
    assert Written(model.fit(table, THREE), table).difference(fresh) == ""


def test_categories_given_as_numbers() -> None:
    table, fresh = TABLE[["temp", "zone"]].to_numpy(), FRESH[["temp", "zone"]].to_numpy()
    model = HistGradientBoostingRegressor(max_iter=8, categorical_features=[1]).fit(table, NUMBER)
    strange = fresh.copy()
    strange[:4, 1] = [9, -1, np.nan, 2.5]
    assert Written(model, table).difference(strange) == ""


def test_categories_that_are_no_whole_numbers_are_cut_by_lightgbm() -> None:
    table = np.column_stack([np.arange(len(NUMBER)) % 8, COLUMN.ravel()[: len(NUMBER)]]).astype(float)
    model = lightgbm.LGBMRegressor(n_estimators=8, verbose=-1, min_child_samples=4, min_data_per_group=1, cat_smooth=1)
    model.fit(table, table[:, 0] * 7 % 5, categorical_feature=[0])
    strange = table[:8].copy()
    strange[:, 0] = [-0.5, -1.0, -1.5, 2.7, 7.9, 8.0, 1e9, np.nan]
    assert Written(model, table).difference(strange) == ""


def test_arrays_of_whole_numbers_reach_lightgbm_in_single_precision() -> None:
    whole = (np.abs(COLUMN) * 1e9).astype(np.int64)
    model = lightgbm.LGBMRegressor(n_estimators=6, verbose=-1).fit(whole, STEPS)
    thresholds = model.booster_.trees_to_dataframe()["threshold"].dropna().to_numpy()
    near = np.unique(np.concatenate([thresholds.astype(np.int64) + step for step in range(-40, 41, 4)])).reshape(-1, 1)
    assert Written(model, whole).difference(near) == ""
