"""Every public scikit-learn estimator that can answer new rows, and XGBoost's and LightGBM's, each fitted twice.

Once behind imputation, scaling and one-hot encoding of a mixed table, once alone on floats.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin, ClusterMixin, OutlierMixin, RegressorMixin
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils import all_estimators

KINDS = {"classifier": ClassifierMixin, "regressor": RegressorMixin, "cluster": ClusterMixin, "outlier": OutlierMixin}
DATA = ("mixed", "floats")

NUMBERS, TEXTS = ["temperature", "wind", "seats"], ["carrier", "weekday"]

POSITIVE = {"BernoulliNB", "CategoricalNB", "ComplementNB", "MultinomialNB"}
SEVERAL_TARGETS = {
    "CCA", "ClassifierChain", "MultiOutputClassifier", "MultiOutputRegressor", "MultiTaskElasticNet",
    "MultiTaskElasticNetCV", "MultiTaskLasso", "MultiTaskLassoCV", "PLSCanonical", "RegressorChain",
}  # fmt: skip
TWO_CLASSES = {"FixedThresholdClassifier", "SelfTrainingClassifier", "TunedThresholdClassifierCV"}
POSITIVE_TARGET = {"GammaRegressor", "PoissonRegressor", "TweedieRegressor"}
NOT_BEHIND_A_TABLE = {"IsotonicRegression": "takes a single column"}


@dataclass(frozen=True, slots=True)
class Case:
    """One estimator class on one kind of data."""

    name: str
    kind: str
    data: str


def classes() -> dict[str, tuple[str, type]]:
    """Name to kind and class."""
    found: dict[str, tuple[str, type]] = {}
    for kind, mixin in KINDS.items():
        for name, cls in all_estimators():
            if issubclass(cls, mixin) and hasattr(cls, "predict") and name not in found:
                found[name] = (kind, cls)
    return found | dict(_boosters())


def _boosters() -> Iterator[tuple[str, tuple[str, type]]]:
    import lightgbm
    import xgboost

    for library, names in ((xgboost, ("XGB", "XGBRF")), (lightgbm, ("LGBM",))):
        for prefix in names:
            for kind in ("classifier", "regressor"):
                name = f"{prefix}{kind.capitalize()}"
                yield name, (kind, getattr(library, name))


def cases() -> list[Case]:
    """All cases, estimators in alphabetical order."""
    return [
        Case(name, kind, data)
        for name, (kind, _) in sorted(classes().items())
        for data in DATA
        if not (data == "mixed" and name in NOT_BEHIND_A_TABLE)
    ]


def table(rows: int, seed: int = 0) -> pd.DataFrame:
    """A mixed table with missing numbers and texts."""
    draw = np.random.default_rng(seed)
    made = pd.DataFrame(
        {
            "temperature": draw.normal(10, 8, rows).round(1),
            "wind": draw.gamma(2, 5, rows),
            "seats": draw.integers(2, 400, rows),
            "carrier": draw.choice(["AA", "B6", "DL", "UA"], rows, p=[0.4, 0.1, 0.2, 0.3]),
            "weekday": draw.choice(["mon", "tue", "wed", "thu", "fri"], rows),
        }
    )
    made.loc[draw.random(rows) < 0.1, "temperature"] = np.nan
    made.loc[draw.random(rows) < 0.1, "carrier"] = None
    return made


def floats(rows: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Six columns of floats."""
    draw = np.random.default_rng(seed)
    values: np.ndarray[Any, Any] = draw.normal(size=(rows, 6)) * np.array([1, 10, 0.1, 3, 1, 100])
    return values


def fitted(case: Case, rows: int) -> tuple[Any, Any]:
    """The fitted estimator of a case, and the rows it was fitted on."""
    kind, cls = classes()[case.name]
    X, signal = _inputs(case, rows)
    model = _made(case.name, cls)
    if case.data == "mixed":
        model = make_pipeline(_columns(case.name), model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        target = _target(case.name, kind, signal)
        return (model.fit(X) if target is None else model.fit(X, target)), X


def _inputs(case: Case, rows: int) -> tuple[Any, np.ndarray[Any, Any]]:
    noise = np.random.default_rng(2).normal(0, 0.4, rows)
    if case.data == "mixed":
        X = table(rows)
        return X, X["temperature"].fillna(5).to_numpy() / 8 + (X["carrier"] == "UA").to_numpy() * 1.5 + noise
    values = floats(rows)
    signal = values[:, 0] + values[:, 1] / 10 + noise
    if case.name == "IsotonicRegression":
        values = values[:, :1]
    if case.name in POSITIVE:
        values = np.abs(values).round() if case.name != "CategoricalNB" else np.abs(values).round().clip(0, 3)
    return values, signal


def _columns(name: str) -> Any:
    if name == "CategoricalNB":
        codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=5, encoded_missing_value=4)
        return make_column_transformer((make_pipeline(codes, MinMaxScaler((0, 5), clip=True)), TEXTS))
    scale = MinMaxScaler(clip=True) if name in POSITIVE else StandardScaler()
    onehot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), scale), NUMBERS),
        (make_pipeline(SimpleImputer(strategy="most_frequent"), onehot), TEXTS),
    )


def _target(name: str, kind: str, signal: np.ndarray[Any, Any]) -> Any:
    if kind in ("cluster", "outlier"):
        return None
    if name in SEVERAL_TARGETS:
        two = np.column_stack([signal, signal**2])
        return (two > np.median(two, axis=0)).astype(int) if kind == "classifier" else two
    if kind == "regressor":
        return np.abs(signal) + 0.1 if name in POSITIVE_TARGET else 10 * signal
    if name in TWO_CLASSES:
        return (signal > np.median(signal)).astype(int)
    place = np.digitize(signal, np.quantile(signal, [0.4, 0.8]))
    return place if name.startswith("XGB") else np.array(["early", "on time", "late"])[place]


def _made(name: str, cls: type) -> Any:
    if name in SPECIAL:
        return SPECIAL[name](cls)
    parameters = inspect.signature(cls).parameters
    options: dict[str, Any] = {}
    if "random_state" in parameters:
        options["random_state"] = 0
    if name.startswith("LGBM"):
        options["verbose"] = -1
    inner = next((key for key in ("estimator", "base_estimator") if _is_required(parameters.get(key))), None)
    if inner:
        options[inner] = Ridge() if issubclass(cls, RegressorMixin) else LogisticRegression()
    return cls(**options)


def _is_required(parameter: inspect.Parameter | None) -> bool:
    return parameter is not None and parameter.default is inspect.Parameter.empty


def _searched(cls: Any) -> Any:
    name = "param_distributions" if cls.__name__.startswith("Randomized") else "param_grid"
    more = {"random_state": 0, "n_iter": 2} if cls.__name__.startswith("Randomized") else {}
    return cls(LogisticRegression(), **{name: {"C": [0.1, 1.0]}}, **more)


_TWO_CLASSIFIERS = [("line", LogisticRegression()), ("tree", DecisionTreeClassifier(max_depth=3, random_state=0))]
_TWO_REGRESSORS = [("line", Ridge()), ("tree", DecisionTreeRegressor(max_depth=3, random_state=0))]

SPECIAL: dict[str, Callable[[Any], Any]] = {
    "ClassifierChain": lambda cls: cls(LogisticRegression()),
    "FixedThresholdClassifier": lambda cls: cls(LogisticRegression()),
    "GaussianProcessRegressor": lambda cls: cls(alpha=0.1),
    "GridSearchCV": _searched,
    "HalvingGridSearchCV": _searched,
    "LocalOutlierFactor": lambda cls: cls(novelty=True),
    "Pipeline": lambda cls: cls([("scale", StandardScaler()), ("line", LogisticRegression())]),
    "QuadraticDiscriminantAnalysis": lambda cls: cls(reg_param=0.1),
    "RFE": lambda cls: cls(LogisticRegression(), n_features_to_select=3),
    "RFECV": lambda cls: cls(LogisticRegression(), min_features_to_select=3),
    "RadiusNeighborsClassifier": lambda cls: cls(radius=300.0, outlier_label="on time"),
    "RadiusNeighborsRegressor": lambda cls: cls(radius=300.0),
    "RandomizedSearchCV": _searched,
    "RegressorChain": lambda cls: cls(Ridge()),
    "SelfTrainingClassifier": lambda cls: cls(LogisticRegression()),
    "StackingClassifier": lambda cls: cls(_TWO_CLASSIFIERS),
    "StackingRegressor": lambda cls: cls(_TWO_REGRESSORS),
    "TunedThresholdClassifierCV": lambda cls: cls(LogisticRegression()),
    "VotingClassifier": lambda cls: cls(_TWO_CLASSIFIERS, voting="soft"),
    "VotingRegressor": lambda cls: cls(_TWO_REGRESSORS),
}
"""Estimators that need more than their defaults to be fitted."""
