"""Preprocessing steps as graphs, on tables with everything in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.cluster import FeatureAgglomeration, KMeans
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.decomposition import PCA, FactorAnalysis, FastICA, KernelPCA, TruncatedSVD
from sklearn.ensemble import RandomTreesEmbedding
from sklearn.feature_selection import SelectKBest, VarianceThreshold, f_regression
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.kernel_approximation import Nystroem, RBFSampler
from sklearn.linear_model import Ridge
from sklearn.neural_network import BernoulliRBM
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)
from sklearn.random_projection import SparseRandomProjection

from modelyard.bundle.compile.graph import NoConverter
from written_graphs import FRESH, NUMBER, TABLE, THREE, Written

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::RuntimeWarning")

NUMBERS = ["temp", "wind", "seats"]
EVERY_NUMBER = [*NUMBERS, "late", "stops", "full", "load", "zone"]
EVERY_CATEGORY = ["day", "carrier", "gate", "class", "zone", "late", "stops", "full"]

STEPS: dict[str, Any] = {
    "standard": StandardScaler(),
    "standard without mean": StandardScaler(with_mean=False),
    "min max": MinMaxScaler(),
    "min max clipped": MinMaxScaler(clip=True, feature_range=(-1, 2)),
    "max abs": MaxAbsScaler(),
    "robust": RobustScaler(quantile_range=(10, 90)),
    "normalise": Normalizer(),
    "normalise l1": Normalizer("l1"),
    "normalise max": Normalizer("max"),
    "binarise": Binarizer(threshold=5),
    "yeo-johnson": PowerTransformer(),
    "yeo-johnson alone": PowerTransformer(standardize=False),
    "bins": KBinsDiscretizer(4, quantile_method="averaged_inverted_cdf"),
    "bins ordinal": KBinsDiscretizer(4, encode="ordinal", strategy="uniform"),
    "polynomial": PolynomialFeatures(3, include_bias=False),
    "interactions": PolynomialFeatures(2, interaction_only=True),
    "spline": SplineTransformer(),
    "spline continued": SplineTransformer(extrapolation="continue"),
    "spline linear": SplineTransformer(extrapolation="linear", degree=2, include_bias=False),
    "spline periodic falls back": SplineTransformer(extrapolation="periodic"),
    "quantiles": QuantileTransformer(n_quantiles=40),
    "quantiles normal": QuantileTransformer(n_quantiles=40, output_distribution="normal"),
    "log1p": make_pipeline(MinMaxScaler(), FunctionTransformer(np.log1p)),
    "no function": FunctionTransformer(),
    "pca": PCA(2),
    "pca whitened": PCA(2, whiten=True),
    "ica": FastICA(2, random_state=0),
    "factors": FactorAnalysis(2),
    "svd": TruncatedSVD(2),
    "kernel pca": make_pipeline(StandardScaler(), KernelPCA(3, kernel="rbf")),
    "nystroem": make_pipeline(StandardScaler(), Nystroem(n_components=20, random_state=0)),
    "fourier": make_pipeline(StandardScaler(), RBFSampler(n_components=10, random_state=0)),
    "best columns": SelectKBest(f_regression, k=2),
    "variance": VarianceThreshold(1.0),
    "random projection": SparseRandomProjection(2, random_state=0),
    "union": FeatureUnion([("p", PCA(2)), ("s", StandardScaler()), ("d", "drop"), ("t", "passthrough")]),
    "distances to centres": KMeans(4, random_state=0),
    "agglomeration": FeatureAgglomeration(2),
    "leaves": RandomTreesEmbedding(5, random_state=0),
    "boltzmann": make_pipeline(MinMaxScaler(clip=True), BernoulliRBM(4, random_state=0)),
    "indicators": FeatureUnion([("a", SimpleImputer()), ("b", MissingIndicator())]),
}


@pytest.mark.parametrize("name", [name for name in STEPS if "falls back" not in name])
def test_numeric_steps(name: str) -> None:
    columns = ColumnTransformer([("n", make_pipeline(SimpleImputer(), STEPS[name]), NUMBERS)])
    model = make_pipeline(columns, Ridge()).fit(TABLE, NUMBER)
    assert Written(model, TABLE).difference(FRESH) == ""


@pytest.mark.parametrize(
    "step",
    [
        STEPS["spline periodic falls back"],
        FunctionTransformer(np.cumsum),
        FunctionTransformer(np.clip, kw_args={"a_max": 1}),
    ],
    ids=["periodic spline", "unknown function", "function with options"],
)
def test_steps_without_converter_say_so(step: Any) -> None:
    steps = make_pipeline(SimpleImputer(), step) if isinstance(step, SplineTransformer) else step
    table = TABLE[["wind", "load"]]
    if isinstance(step, FunctionTransformer) and step.kw_args:
        step.set_params(kw_args={"a_min": 0, "a_max": 1})
    with pytest.raises(NoConverter, match="no converter for"):
        Written(make_pipeline(steps, Ridge()).fit(table, NUMBER), table)


@pytest.mark.parametrize(
    "imputer",
    [
        SimpleImputer(),
        SimpleImputer(strategy="median", add_indicator=True),
        SimpleImputer(strategy="most_frequent"),
        SimpleImputer(strategy="constant", fill_value=-1),
    ],
    ids=["mean", "median with indicator", "most frequent", "constant"],
)
def test_numbers_of_every_kind_are_imputed(imputer: SimpleImputer) -> None:
    columns = ColumnTransformer([("n", make_pipeline(imputer, StandardScaler()), EVERY_NUMBER)])
    assert Written(make_pipeline(columns, Ridge()).fit(TABLE, NUMBER), TABLE).difference(FRESH) == ""


def test_a_marker_for_missing_numbers_is_imputed() -> None:
    model = make_pipeline(SimpleImputer(missing_values=3, strategy="mean"), Ridge())
    table, fresh = TABLE[["seats", "zone"]], FRESH[["seats", "zone"]]
    assert Written(model.fit(table, NUMBER), table).difference(fresh) == ""


@pytest.mark.parametrize(
    "imputer",
    [
        SimpleImputer(strategy="most_frequent"),
        SimpleImputer(strategy="constant", fill_value="none", add_indicator=True),
    ],
    ids=["most frequent", "constant with indicator"],
)
def test_missing_texts_are_imputed(imputer: SimpleImputer) -> None:
    if imputer.add_indicator:
        imputer = SimpleImputer(strategy="constant", fill_value="none")
    columns = ColumnTransformer(
        [("c", make_pipeline(imputer, OneHotEncoder(handle_unknown="ignore")), ["day", "carrier"])]
    )
    assert Written(make_pipeline(columns, Ridge()).fit(TABLE, NUMBER), TABLE).difference(FRESH) == ""


ENCODERS: dict[str, Any] = {
    "one-hot": OneHotEncoder(handle_unknown="ignore"),
    "one-hot, first dropped": OneHotEncoder(handle_unknown="ignore", drop="first"),
    "one-hot, binary dropped": OneHotEncoder(handle_unknown="ignore", drop="if_binary"),
    "one-hot, rare together": OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=0.12),
    "one-hot, rare dropped": OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=3, drop="first"),
    "ordinal": OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2),
    "ordinal, rare together": OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-3, min_frequency=20
    ),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_of_columns_of_every_kind(name: str) -> None:
    columns = ColumnTransformer([("c", ENCODERS[name], EVERY_CATEGORY)])
    assert Written(make_pipeline(columns, Ridge()).fit(TABLE, NUMBER), TABLE).difference(FRESH) == ""


@pytest.mark.parametrize("target", [NUMBER, (NUMBER > 5).astype(int), THREE], ids=["number", "two classes", "three"])
def test_target_encoding(target: Any) -> None:
    columns = ColumnTransformer([("c", TargetEncoder(cv=2, random_state=0), ["carrier", "day", "zone"])])
    model = columns.fit(TABLE, target)
    assert Written(model, TABLE).difference(FRESH) == ""


def test_columns_are_found_by_name_after_a_step_that_hands_on_tables() -> None:
    first = ColumnTransformer(
        [("n", SimpleImputer(), NUMBERS), ("c", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["day"])],
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    second = ColumnTransformer([("x", StandardScaler(), ["wind", "temp"])], remainder="passthrough")
    model = make_pipeline(first, second, Ridge()).fit(TABLE, NUMBER)
    assert Written(model, TABLE).difference(FRESH) == ""


def test_columns_are_matched_by_name_though_the_sample_has_them_in_another_order() -> None:
    columns = ColumnTransformer([("n", make_pipeline(SimpleImputer(), StandardScaler()), NUMBERS)])
    model = make_pipeline(columns, Ridge()).fit(TABLE, NUMBER)
    turned = list(reversed(TABLE.columns))
    assert Written(model, TABLE[turned]).difference(FRESH[turned]) == ""


def test_remainders_weights_selectors_and_lists_of_positions() -> None:
    texts = make_column_selector(dtype_include=["object", "str"])
    columns = ColumnTransformer(
        [
            ("one-hot", OneHotEncoder(handle_unknown="ignore"), texts),
            ("first", StandardScaler(), [1]),
            ("nothing", StandardScaler(), []),
            ("gone", "drop", ["full", "stops"]),
        ],
        remainder=make_pipeline(SimpleImputer(), StandardScaler()),
        transformer_weights={"first": 0.1},
    )
    table, fresh = TABLE.drop(columns="class"), FRESH.drop(columns="class")
    assert Written(make_pipeline(columns, Ridge()).fit(table, NUMBER), table).difference(fresh) == ""


def test_a_transformer_alone_answers_its_columns() -> None:
    columns = ColumnTransformer(
        [("n", SimpleImputer(), NUMBERS), ("c", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["day"])]
    ).fit(TABLE)
    written = Written(columns, TABLE)
    assert [output.method for output in written.schema.outputs] == ["transform"]
    assert written.difference(FRESH) == ""


def test_a_subclass_is_not_taken_for_its_parent() -> None:
    class Doubled(StandardScaler):  # type: ignore[misc, unused-ignore]
        def transform(self, X: Any, copy: Any = None) -> Any:
            return super().transform(X) * 2

    table = TABLE[["wind", "seats"]]
    with pytest.raises(NoConverter, match="Doubled: no converter"):
        Written(make_pipeline(Doubled(), Ridge()).fit(table, NUMBER), table)


def test_a_text_that_is_put_in_may_be_unknown_to_the_encoder() -> None:
    known = [[*sorted(set(TABLE["day"]))], ["AA", "UA", np.nan]]
    encoder = OneHotEncoder(categories=known, handle_unknown="ignore")
    texts = make_pipeline(SimpleImputer(strategy="constant", fill_value="strange"), encoder)
    columns = ColumnTransformer([("c", texts, ["day", "carrier"])])
    assert Written(make_pipeline(columns, Ridge()).fit(TABLE, NUMBER), TABLE).difference(FRESH) == ""
