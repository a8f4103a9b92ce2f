"""Tables and estimators as strangers bring them: each with rows that its training never saw.

A case is a function that trains something and says what it is packed with. `fresh` rows have the dtypes of training;
they hold values beyond training, missing ones, unseen categories and the neighbours of thresholds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import lightgbm
import numpy as np
import onnx
import pandas as pd
import xgboost
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import Birch, KMeans
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector, make_column_transformer
from sklearn.covariance import EllipticEnvelope
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import (
    AdaBoostClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.isotonic import IsotonicRegression
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor, Ridge, SGDClassifier
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier, MultiOutputRegressor
from sklearn.naive_bayes import ComplementNB
from sklearn.neighbors import KNeighborsClassifier, LocalOutlierFactor
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import zoo_parts

Table: TypeAlias = pd.DataFrame


@dataclass(frozen=True)
class Trained:
    """What is packed, the rows it is packed with, other rows, and options of packing."""

    estimator: Any
    sample: Any
    fresh: Any
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One estimator over one table; `name` says what is odd about it."""

    name: str
    train: Callable[[], Trained]


CASES: list[Case] = []


def case(train: Callable[[], Trained]) -> Callable[[], Trained]:
    CASES.append(Case(train.__name__.replace("_", "-"), train))
    return train


# ---------------------------------------------------------------------------------------------------------- tables


def numbers(rows: int, seed: int, columns: int = 3) -> Table:
    """Floats of unlike scales; from the second seed on with edges in front."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({f"x{k}": rng.normal(10.0**k, 3.0**k, rows) for k in range(columns)})
    if seed:
        table.iloc[0] = 0.0
        table.iloc[1] = -0.0
        table.iloc[2] = 1e6
        table.iloc[3] = -1e6
        table.iloc[4] = 5e-324
        table.iloc[5] = np.round(table.iloc[5])
    return table


def target(table: Any, classes: Any = (0, 1)) -> Any:
    """Labels that depend on the first two columns."""
    values = np.asarray(table, dtype=float)
    score = pd.Series(values[:, 0] + np.nan_to_num(values[:, -1]) / 10).rank(pct=True).to_numpy()
    return np.asarray(classes)[np.minimum((score * len(classes)).astype(int), len(classes) - 1)]


def amounts(table: Any) -> Any:
    values = np.nan_to_num(np.asarray(table, dtype=float))
    return 3.0 + values[:, 0] ** 2 + np.abs(values[:, -1])


def labelled(estimator: Any, classes: Any, columns: int = 3) -> Trained:
    sample = numbers(120, 0, columns)
    return Trained(estimator.fit(sample, target(sample, classes)), sample, numbers(24, 1, columns))


def regression(estimator: Any, columns: int = 3) -> Trained:
    sample = numbers(120, 0, columns)
    return Trained(estimator.fit(sample, amounts(sample)), sample, numbers(24, 1, columns))


CITIES = ("Bern", "Zürich", "Bern ", "bern", "", "nan", "None", "NA", "null", "St. Gallen", 'the "old" town', "雪")
"""Texts that careless code takes for one another, or for nothing."""


def cities(rows: int, seed: int, missing: Any = None, novel: bool = True) -> list[Any]:
    rng = np.random.default_rng(seed + 50)
    found: list[Any] = [CITIES[k] for k in rng.integers(0, len(CITIES), rows)]
    for at in range(3, rows, 7):
        found[at] = missing
    if seed and novel:
        found[:5] = ["Oslo", "BERN", "Bern\n", "<NA>", "n\u0061\u0308h"]
    return found


def people(rows: int, seed: int, *, missing: Any = None, novel: bool = True) -> Table:
    """A mixed table: numbers with holes, texts, whole numbers and booleans."""
    rng = np.random.default_rng(seed)
    income = rng.lognormal(10, 1, rows)
    income[::9] = np.nan
    return pd.DataFrame(
        {
            "age": rng.integers(18, 90, rows),
            "income": income,
            "city": pd.Series(cities(rows, seed, missing, novel), dtype=object),
            "member": rng.random(rows) < 0.4,
        }
    )


def wants(table: Table, classes: Any = ("no", "yes")) -> Any:
    score = table["age"].to_numpy(dtype=float) + 20 * table["member"].to_numpy(dtype=float)
    score += 15 * table["city"].isin(["Bern", "nan", ""]).to_numpy(dtype=float)
    return np.asarray(classes)[
        np.minimum((pd.Series(score).rank(pct=True) * len(classes)).astype(int), len(classes) - 1)
    ]


def prepared(*, missing: Any = None, encoder: Any = None) -> ColumnTransformer:
    texts = encoder or OneHotEncoder(handle_unknown="ignore")
    return make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), ["age", "income"]),
        (texts, ["city"]),
        ("passthrough", ["member"]),
    )


# ------------------------------------------------------------------------------------------------- dtypes of tables


@case
def objects_with_none() -> Trained:
    sample = people(150, 0)
    pipeline = make_pipeline(prepared(), LogisticRegression(max_iter=500)).fit(sample, wants(sample))
    return Trained(pipeline, sample, people(30, 1))


@case
def objects_with_nan() -> Trained:
    sample = people(150, 0, missing=np.nan)
    pipeline = make_pipeline(prepared(), LogisticRegression(max_iter=500)).fit(sample, wants(sample))
    return Trained(pipeline, sample, people(30, 1, missing=np.nan))


@case
def texts_of_pandas() -> Trained:
    sample, fresh = (people(rows, seed).astype({"city": "str"}) for rows, seed in ((150, 0), (30, 1)))
    encoder = make_pipeline(
        SimpleImputer(strategy="constant", fill_value="nan"), OneHotEncoder(handle_unknown="ignore")
    )
    pipeline = make_pipeline(prepared(encoder=encoder), RandomForestClassifier(9, random_state=0))
    return Trained(pipeline.fit(sample, wants(sample)), sample, fresh)


@case
def text_imputed_with_an_indicator() -> Trained:
    sample, fresh = people(150, 0, missing=np.nan), people(30, 1, missing=np.nan)
    texts = make_pipeline(
        SimpleImputer(strategy="most_frequent"), OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-3)
    )
    columns = make_column_transformer(
        (SimpleImputer(add_indicator=True), ["income"]), (texts, ["city"]), remainder="passthrough"
    )
    pipeline = make_pipeline(columns, GradientBoostingClassifier(n_estimators=20, random_state=0))
    return Trained(pipeline.fit(sample, wants(sample)), sample, fresh)


@case
def refused_categories() -> Trained:
    sample = people(150, 0)
    pipeline = make_pipeline(prepared(encoder=OneHotEncoder(handle_unknown="error")), LogisticRegression(max_iter=500))
    return Trained(pipeline.fit(sample, wants(sample)), sample, people(30, 1))


@case
def refused_missing_values() -> Trained:
    sample = people(150, 0, missing="away", novel=False)
    sample["income"] = sample["income"].fillna(1.0)
    columns = make_column_transformer(
        (StandardScaler(), ["age", "income"]), (OneHotEncoder(handle_unknown="error"), ["city", "member"])
    )
    pipeline = make_pipeline(columns, LogisticRegression(max_iter=500)).fit(sample, wants(sample))
    return Trained(pipeline, sample, people(30, 1))


@case
def rare_categories_together() -> Trained:
    sample = people(150, 0)
    encoder = OneHotEncoder(min_frequency=12, handle_unknown="infrequent_if_exist", drop="first")
    pipeline = make_pipeline(prepared(encoder=encoder), SGDClassifier(loss="log_loss", random_state=0))
    return Trained(pipeline.fit(sample, wants(sample)), sample, people(30, 1))


@case
def nullable_types() -> Trained:
    def typed(rows: int, seed: int) -> Table:
        table = people(rows, seed)
        table["age"] = table["age"].astype("Int64").mask(np.arange(rows) % 5 == 1)
        table["income"] = table["income"].astype("Float64")
        table["member"] = table["member"].astype("boolean").mask(np.arange(rows) % 6 == 2)
        return table.astype({"city": "string"})

    def plain(table: Table) -> Table:
        numbers = table[["age", "income", "member"]].astype("float64")
        return numbers.assign(place=table["city"].fillna("?").str.len().astype("float64"))

    sample = typed(150, 0)
    pipeline = make_pipeline(FunctionTransformer(plain), HistGradientBoostingClassifier(max_iter=15))
    return Trained(pipeline.fit(sample, wants(people(150, 0))), sample, typed(30, 1))


@case
def nullable_integers_in_sklearn() -> Trained:
    def typed(rows: int, seed: int) -> Table:
        rng = np.random.default_rng(seed)
        table = pd.DataFrame({"a": rng.integers(-100, 100, rows), "b": rng.integers(0, 200, rows)})
        table = table.astype({"a": "Int16", "b": "UInt8"}).mask(rng.random((rows, 2)) < 0.2)
        return table.astype({"a": "Int16", "b": "UInt8"})

    sample = typed(150, 0)
    pipeline = make_pipeline(SimpleImputer(strategy="median"), RobustScaler(), Ridge())
    return Trained(pipeline.fit(sample, np.arange(150) % 17), sample, typed(30, 1))


@case
def categories_of_pandas() -> Trained:
    levels = ["low", "mid", "high"]

    def typed(rows: int, seed: int) -> Table:
        rng = np.random.default_rng(seed)
        known = [*levels, "extreme"] if seed else levels
        grade: list[Any] = [known[k] for k in rng.integers(0, len(known), rows)]
        grade[5] = None
        codes: list[Any] = rng.integers(1, 5 if not seed else 7, rows).tolist()
        codes[6] = None
        city = pd.Categorical(cities(rows, seed), categories=None if seed else [*CITIES, "never"])
        return pd.DataFrame(
            {
                "grade": pd.Categorical(grade, categories=known, ordered=True),
                "code": pd.Categorical(codes, categories=sorted({c for c in codes if c is not None})),
                "city": city,
                "x": rng.normal(size=rows),
            }
        )

    sample = typed(200, 0)
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["city", "code"]),
        (OrdinalEncoder(categories=[levels], handle_unknown="use_encoded_value", unknown_value=-1), ["grade"]),
        remainder="passthrough",
    )
    pipeline = make_pipeline(columns, DecisionTreeClassifier(max_depth=5, random_state=0))
    y = sample["code"].isin([1, 3]) ^ (sample["grade"] == "low") ^ (sample["x"] > 0.3)
    return Trained(pipeline.fit(sample, y), sample, typed(30, 1))


@case
def boosting_on_categories_of_pandas() -> Trained:
    def typed(rows: int, seed: int) -> Table:
        table = people(rows, seed, missing=np.nan, novel=False)
        return table.astype({"city": pd.CategoricalDtype(sorted(CITIES))})

    sample = typed(200, 0)
    model = HistGradientBoostingRegressor(categorical_features="from_dtype", max_iter=20, min_samples_leaf=4)
    return Trained(model.fit(sample, sample["age"] + 9.0 * sample["city"].cat.codes % 7), sample, typed(30, 1))


@case
def moments_with_and_without_zones() -> Trained:
    def typed(rows: int, seed: int) -> Table:
        rng = np.random.default_rng(seed)
        seconds = pd.to_datetime(rng.integers(0, 2 * 10**9, rows), unit="s")
        table = pd.DataFrame(
            {
                "seen": seconds,
                "sent": (seconds + pd.Timedelta("7h")).tz_localize("UTC").tz_convert("Europe/Zurich"),
                "fine": pd.Series(rng.integers(0, 2**61, rows)).astype("datetime64[ns]"),
                "utc": (seconds - pd.Timedelta("90min")).tz_localize("UTC"),
            }
        )
        table.loc[table.index % 8 == 3, "sent"] = pd.NaT
        table.loc[table.index % 8 == 4, "fine"] = pd.NaT
        return table

    sample = typed(150, 0)
    pipeline = make_pipeline(zoo_parts.Moments(), StandardScaler(), Ridge())
    return Trained(
        pipeline.fit(sample, sample["sent"].dt.hour.fillna(12) + sample["seen"].dt.day_of_week), sample, typed(30, 1)
    )


@case
def small_types() -> Trained:
    def typed(rows: int, seed: int) -> Table:
        rng = np.random.default_rng(seed)
        return pd.DataFrame(
            {
                "single": rng.normal(0.1, 1, rows).astype("float32"),
                "double": rng.normal(0.1, 1, rows),
                "tiny": rng.integers(-128, 127, rows).astype("int8"),
                "byte": rng.integers(0, 255, rows).astype("uint8"),
                "flag": rng.random(rows) < 0.5,
            }
        )

    sample = typed(150, 0)
    y = sample["single"] + sample["tiny"] * 0.01 - sample["flag"]
    return Trained(ExtraTreesRegressor(12, max_depth=6, random_state=0).fit(sample, y), sample, typed(30, 1))


@case
def large_whole_numbers() -> Trained:
    def typed(rows: int, seed: int) -> Table:
        rng = np.random.default_rng(seed)
        table = pd.DataFrame(
            {"key": 2**53 + rng.integers(-99, 99, rows), "id": rng.integers(-(2**63), 2**63 - 1, rows)}
        )
        if seed:
            table.loc[:3, "id"] = [2**63 - 1, -(2**63), 2**53 + 1, -(2**53) - 1]
        return table

    sample = typed(150, 0)
    pipeline = make_pipeline(
        FunctionTransformer(zoo_parts.last_digits), DecisionTreeRegressor(max_depth=9, random_state=0)
    )
    return Trained(pipeline.fit(sample, zoo_parts.last_digits(sample)[:, 0] % 10), sample, typed(30, 1))


@case
def large_whole_numbers_as_floats() -> Trained:
    def typed(rows: int, seed: int) -> Table:
        rng = np.random.default_rng(seed)
        return pd.DataFrame({"moment": 1_700_000_000_000 + rng.integers(0, 9999, rows), "x": rng.normal(size=rows)})

    sample = typed(150, 0)
    pipeline = make_pipeline(StandardScaler(), LinearRegression())
    return Trained(pipeline.fit(sample, sample["moment"] % 10_000 + sample["x"]), sample, typed(30, 1))


@case
def names_of_columns() -> Trained:
    names = [
        "net income",
        "größe (cm)",
        'a "quoted" name',
        "a.b.c",
        "predict",
        "rows",
        "prediction_id",
        "x,y",
        "1",
        "雪\n",
    ]

    def typed(rows: int, seed: int) -> Table:
        rng = np.random.default_rng(seed)
        return pd.DataFrame(rng.normal(size=(rows, len(names))), columns=names)

    sample = typed(150, 0)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    return Trained(pipeline.fit(sample, sample["rows"] + sample["a.b.c"] > 0), sample, typed(30, 1))


@case
def selected_by_type_with_a_remainder() -> Trained:
    sample, fresh = people(150, 0), people(30, 1)
    columns = make_column_transformer(
        (SimpleImputer(strategy="median"), make_column_selector(dtype_include="float")),
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_include=object)),
        ("drop", make_column_selector(dtype_include=bool)),
        remainder=MinMaxScaler(),
    )
    pipeline = make_pipeline(columns, KNeighborsClassifier(5, weights="distance"))
    return Trained(pipeline.fit(sample, wants(sample, ("a", "b", "c"))), sample, fresh)


@case
def tables_between_the_steps() -> Trained:
    sample, fresh = people(150, 0, missing="away"), people(30, 1, missing="away")
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = prepared(encoder=encoder).set_output(transform="pandas")
    pipeline = make_pipeline(columns, SelectKBest(f_classif, k=4).set_output(transform="pandas"), LogisticRegression())
    return Trained(pipeline.fit(sample, wants(sample)), sample, fresh)


@case
def arrays_with_holes() -> Trained:
    sample, fresh = numbers(150, 0, 4).to_numpy(copy=True), numbers(30, 1, 4).to_numpy(copy=True)
    sample[::5, 1], fresh[::4, 1], fresh[::7, 0] = np.nan, np.nan, np.nan
    model = HistGradientBoostingClassifier(max_iter=15).fit(sample, target(np.nan_to_num(sample), (1, 2, 3)))
    return Trained(model, sample, fresh)


@case
def arrays_of_single_precision() -> Trained:
    sample, fresh = numbers(150, 0).to_numpy("float32"), numbers(30, 1).to_numpy("float32")
    return Trained(RandomForestRegressor(9, random_state=0).fit(sample, amounts(sample)), sample, fresh)


@case
def arrays_of_texts() -> Trained:
    sample, fresh = (
        np.column_stack([cities(rows, seed, "away"), cities(rows, seed + 7, "away")]).astype(object)
        for rows, seed in ((150, 0), (30, 1))
    )
    pipeline = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LinearSVC())
    return Trained(pipeline.fit(sample, sample[:, 0] < "N"), sample, fresh)


@case
def one_row_of_numbers() -> Trained:
    rng = np.random.default_rng(0)
    sample, fresh = rng.normal(size=150), np.linspace(-5, 5, 30)
    return Trained(IsotonicRegression(out_of_bounds="clip").fit(sample, sample**3), sample, fresh)


# ---------------------------------------------------------------------------------------------------- kinds of answers


@case
def whole_numbers_as_labels() -> Trained:
    return labelled(make_pipeline(StandardScaler(), LogisticRegression()), (-7, 3, 11))


@case
def booleans_as_labels() -> Trained:
    return labelled(RandomForestClassifier(7, max_depth=4, random_state=0), (False, True))


@case
def floats_as_labels() -> Trained:
    return labelled(DecisionTreeClassifier(max_depth=4, random_state=0), (1.0, 2.0, 4.0))


@case
def texts_as_labels() -> Trained:
    return labelled(make_pipeline(StandardScaler(), SVC(random_state=0)), ("späť", "", "no", "null"))


@case
def objects_as_labels() -> Trained:
    sample = numbers(120, 0)
    y = pd.Series(target(sample, ("ja", "nein")), dtype="category")
    return Trained(GradientBoostingClassifier(n_estimators=9).fit(sample, y), sample, numbers(24, 1))


@case
def several_labels_of_several_types() -> Trained:
    sample = numbers(120, 0)
    y = np.column_stack([target(sample, (0, 1)), target(sample[["x1", "x0"]], (2, 3, 4))])
    return Trained(RandomForestClassifier(7, max_depth=5, random_state=0).fit(sample, y), sample, numbers(24, 1))


@case
def several_texts_as_labels() -> Trained:
    sample = numbers(120, 0)
    y = np.column_stack([target(sample, ("a", "b")), target(sample[["x1", "x0"]], ("cc", "dddd", "e"))])
    model = MultiOutputClassifier(make_pipeline(StandardScaler(), LogisticRegression()))
    return Trained(model.fit(sample, y), sample, numbers(24, 1))


@case
def a_chain_of_labels() -> Trained:
    sample = numbers(120, 0)
    y = np.column_stack([target(sample), target(sample[["x1", "x0"]])])
    model = make_pipeline(StandardScaler(), ClassifierChain(LogisticRegression()))
    return Trained(model.fit(sample, y), sample, numbers(24, 1))


@case
def several_numbers() -> Trained:
    sample = numbers(120, 0)
    y = np.column_stack([amounts(sample), -amounts(sample[["x1", "x0"]]), sample["x2"]])
    return Trained(MultiOutputRegressor(_trees()).fit(sample, y), sample, numbers(24, 1))


def _trees() -> Any:
    return HistGradientBoostingRegressor(max_iter=9)


@case
def several_numbers_at_once() -> Trained:
    sample = numbers(120, 0)
    pipeline = make_pipeline(StandardScaler(), PolynomialFeatures(2), Ridge())
    return Trained(pipeline.fit(sample, sample[["x1", "x2"]] * 2), sample, numbers(24, 1))


@case
def a_transformed_target() -> Trained:
    scaled = make_pipeline(StandardScaler(), LinearRegression())
    return regression(TransformedTargetRegressor(scaled, func=np.log1p, inverse_func=np.expm1))


@case
def a_target_by_quantiles() -> Trained:
    target_scale = QuantileTransformer(n_quantiles=20, output_distribution="normal")
    return regression(TransformedTargetRegressor(RandomForestRegressor(7, random_state=0), transformer=target_scale))


@case
def counts() -> Trained:
    return regression(make_pipeline(MinMaxScaler(), PoissonRegressor()))


@case
def principal_components() -> Trained:
    sample = numbers(120, 0, 5)
    return Trained(make_pipeline(StandardScaler(), PCA(3, whiten=True)).fit(sample), sample, numbers(24, 1, 5))


@case
def features_as_a_table() -> Trained:
    sample, fresh = people(120, 0, missing="away"), people(24, 1, missing="away")
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return Trained(prepared(encoder=encoder).set_output(transform="pandas").fit(sample), sample, fresh)


@case
def sparse_features() -> Trained:
    sample = people(120, 0)
    columns = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["city"]), (StandardScaler(), ["age"]))
    return Trained(columns.fit(sample), sample, people(24, 1))


@case
def bins_and_splines() -> Trained:
    union = FeatureUnion([("bins", KBinsDiscretizer(4, encode="ordinal")), ("splines", SplineTransformer(4))])
    return regression(make_pipeline(union, Ridge(0.01)), 2)


TEXTS = (
    "The cat sat on the mat.",
    "A dog & a cat: friends?",
    "snow 雪 snow_flake naïve CAFÉ",
    "İstanbul and straße, ﬁne",
    "",
    "the the the 12.5 x2",
    "dogs don't e-mail cats",
)
NEW_TEXTS = [
    "cat",
    "CAT cat's",
    "",
    "\n\t",
    "unseen words only",
    "Straße STRASSE ﬁne",
    "x" * 300,
    "a_b 12.5 12,5",
    "né́e",
]


def texts(count: int) -> list[str]:
    rng = np.random.default_rng(count)
    return [" ".join(TEXTS[k] for k in rng.integers(0, len(TEXTS), 1 + at % 3)) for at in range(count)]


@case
def vectors_of_texts() -> Trained:
    return Trained(TfidfVectorizer(ngram_range=(1, 2), max_features=60).fit(texts(60)), texts(60), NEW_TEXTS)


@case
def labels_of_texts() -> Trained:
    sample = texts(60)
    pipeline = make_pipeline(TfidfVectorizer(sublinear_tf=True, strip_accents="unicode"), LogisticRegression())
    return Trained(pipeline.fit(sample, ["cat" if "cat" in text else "other" for text in sample]), sample, NEW_TEXTS)


@case
def letters_of_texts_in_a_series() -> Trained:
    sample = pd.Series(texts(60), name="text", dtype=object)
    pipeline = make_pipeline(CountVectorizer(analyzer="char_wb", ngram_range=(1, 3)), ComplementNB())
    fresh = pd.Series(NEW_TEXTS, name="text", dtype=object)
    return Trained(pipeline.fit(sample, sample.str.contains("dog")), sample, fresh)


@case
def texts_beside_numbers() -> Trained:
    def typed(some: list[str], seed: int) -> Table:
        return numbers(len(some), seed, 2).assign(note=pd.Series(some, dtype="str"))

    columns = make_column_transformer(
        (make_pipeline(TfidfVectorizer(), TruncatedSVD(4, random_state=0)), "note"), remainder=StandardScaler()
    )
    sample = typed(texts(60), 0)
    model = make_pipeline(columns, Ridge()).fit(sample, sample["note"].str.len())
    return Trained(model, sample, typed(NEW_TEXTS, 1))


@case
def clusters() -> Trained:
    sample = numbers(120, 0)
    return Trained(make_pipeline(StandardScaler(), KMeans(4, random_state=0)).fit(sample), sample, numbers(24, 1))


@case
def clusters_of_a_tree() -> Trained:
    sample = numbers(120, 0).to_numpy()
    return Trained(make_pipeline(RobustScaler(), Birch(n_clusters=3)).fit(sample), sample, numbers(24, 1).to_numpy())


@case
def a_mixture() -> Trained:
    sample = numbers(120, 0)
    return Trained(
        make_pipeline(StandardScaler(), GaussianMixture(3, random_state=0)).fit(sample), sample, numbers(24, 1)
    )


@case
def outliers_by_isolation() -> Trained:
    sample = numbers(120, 0)
    return Trained(
        IsolationForest(n_estimators=20, contamination=0.1, random_state=0).fit(sample), sample, numbers(24, 1)
    )


@case
def outliers_by_density() -> Trained:
    sample = numbers(120, 0)
    return Trained(
        make_pipeline(StandardScaler(), LocalOutlierFactor(novelty=True)).fit(sample), sample, numbers(24, 1)
    )


@case
def outliers_by_covariance() -> Trained:
    sample = numbers(120, 0).to_numpy()
    return Trained(EllipticEnvelope(random_state=0).fit(sample), sample, numbers(24, 1).to_numpy())


# ------------------------------------------------------------------------------------------- estimators of estimators


@case
def calibrated() -> Trained:
    inner = make_pipeline(StandardScaler(), LinearSVC())
    return labelled(CalibratedClassifierCV(inner, method="isotonic", cv=3), ("no", "yes"))


@case
def calibrated_by_temperature() -> Trained:
    # Leaves that hold some rows: with a chance of 0, scikit-learn's search for the temperature fails now and then.
    return labelled(
        CalibratedClassifierCV(
            RandomForestClassifier(20, min_samples_leaf=8, random_state=0), method="temperature", cv=3
        ),
        (5, 6, 7),
    )


@case
def stacked() -> Trained:
    sample = people(150, 0)
    parts = [("forest", RandomForestClassifier(5, random_state=0)), ("near", KNeighborsClassifier(7))]
    model = StackingClassifier(parts, LogisticRegression(), cv=3, passthrough=True)
    return Trained(make_pipeline(prepared(), model).fit(sample, wants(sample, ("a", "b", "c"))), sample, people(30, 1))


@case
def voted() -> Trained:
    parts = [
        ("tree", DecisionTreeClassifier(max_depth=3)),
        ("line", make_pipeline(StandardScaler(), LogisticRegression())),
    ]
    return labelled(
        VotingClassifier([*parts, ("boosted", AdaBoostClassifier(n_estimators=5))], voting="hard"), ("x", "y", "z")
    )


@case
def voted_softly() -> Trained:
    parts = [
        ("tree", DecisionTreeClassifier(max_depth=3)),
        ("line", make_pipeline(StandardScaler(), LogisticRegression())),
    ]
    return labelled(VotingClassifier(parts, voting="soft", weights=[2, 1]), (10, 20))


@case
def voted_numbers() -> Trained:
    return regression(VotingRegressor([("trees", _trees()), ("line", make_pipeline(StandardScaler(), Ridge()))]))


@case
def searched() -> Trained:
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression()), {"logisticregression__C": [0.1, 1]}, cv=3
    )
    return labelled(search, ("late", "on time"))


@case
def another_threshold() -> Trained:
    return labelled(
        FixedThresholdClassifier(RandomForestClassifier(9, random_state=0), threshold=0.3, pos_label="y"), ("n", "y")
    )


@case
def encoded_by_target() -> Trained:
    sample = people(150, 0)
    pipeline = make_pipeline(prepared(encoder=TargetEncoder()), LogisticRegression(max_iter=500))
    return Trained(pipeline.fit(sample, wants(sample)), sample, people(30, 1))


@case
def imputed_by_neighbours() -> Trained:
    def holes(rows: int, seed: int) -> Table:
        table = numbers(rows, seed)
        return table.mask(np.random.default_rng(seed).random(table.shape) < 0.15)

    sample = holes(120, 0)
    pipeline = make_pipeline(
        KNNImputer(n_neighbors=3), StandardScaler(), Nystroem(n_components=9, random_state=0), Ridge()
    )
    return Trained(pipeline.fit(sample, amounts(sample)), sample, holes(24, 1))


# ------------------------------------------------------------------------------------------------------ code of users


@case
def a_function_without_a_name() -> Trained:
    shift = 2.5
    return regression(make_pipeline(FunctionTransformer(lambda table: np.sqrt(np.abs(table)) + shift), Ridge()))


@case
def a_function_of_a_module() -> Trained:
    return labelled(make_pipeline(FunctionTransformer(zoo_parts.logs), LogisticRegression()), ("no", "yes"))


@case
def a_transformer_of_a_module() -> Trained:
    return labelled(make_pipeline(zoo_parts.Clip(0.1), StandardScaler(), LogisticRegression()), ("no", "yes"))


@case
def a_classifier_of_a_module() -> Trained:
    return labelled(zoo_parts.Shares(), ("a", "b", "c"))


def bills(rows: int, seed: int) -> Table:
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"gross": rng.uniform(0, 100, rows), "rate": rng.uniform(5, 30, rows)})
    table.loc[table.index % 4 == 1, "rate"] = np.nan
    return table


@case
def a_rule() -> Trained:
    return Trained(zoo_parts.price, bills(60, 0), bills(20, 1))


@case
def a_rule_with_several_answers() -> Trained:
    return Trained(zoo_parts.pieces, bills(60, 0), bills(20, 1))


@case
def a_rule_with_a_load_step() -> Trained:
    weights = Path(tempfile.mkdtemp(prefix="modelyard-zoo-")) / "weights.txt"
    weights.write_text("gross=0.25\nrate=-1.5\n", encoding="utf-8")
    options = {"load": zoo_parts.read_weights, "artifacts": {"weights": weights}}
    return Trained(zoo_parts.weighted, bills(60, 0), bills(20, 1), options)


@case
def a_finished_graph() -> Trained:
    make = onnx.helper
    graph = make.make_graph(
        [
            make.make_node("MatMul", ["x", "w"], ["scores"]),
            make.make_node("ArgMax", ["scores"], ["best"], axis=1, keepdims=0),
        ],
        "line",
        [make.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["rows", 3])],
        [
            make.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["rows", 2]),
            make.make_tensor_value_info("best", onnx.TensorProto.INT64, ["rows"]),
        ],
        [make.make_tensor("w", onnx.TensorProto.FLOAT, [3, 2], [1, 2, -0.5, 0.25, 0.125, -1])],
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 18)], ir_version=9)
    path = Path(tempfile.mkdtemp(prefix="modelyard-zoo-")) / "line.onnx"
    onnx.save(model, path)
    return Trained(path, {"x": numbers(40, 0).to_numpy("float32")}, {"x": numbers(12, 1).to_numpy("float32")})


# ---------------------------------------------------------------------------------------------------------- boosting


@case
def xgboost_alone() -> Trained:
    sample, fresh = numbers(150, 0), numbers(24, 1)
    sample.iloc[::6, 1] = fresh.iloc[::5, 1] = np.nan
    model = xgboost.XGBClassifier(n_estimators=12, max_depth=3).fit(sample, target(sample, (0, 1, 2)))
    return Trained(model, sample, fresh)


@case
def xgboost_in_a_pipeline() -> Trained:
    sample = people(150, 0)
    pipeline = make_pipeline(prepared(), xgboost.XGBRegressor(n_estimators=12, max_depth=3))
    return Trained(pipeline.fit(sample, sample["age"] * 1.5), sample, people(30, 1))


@case
def xgboost_on_categories() -> Trained:
    def typed(rows: int, seed: int) -> Table:
        table = people(rows, seed, novel=False).drop(columns="member")
        return table.astype({"city": pd.CategoricalDtype(sorted(CITIES))})

    sample = typed(200, 0)
    model = xgboost.XGBClassifier(n_estimators=9, enable_categorical=True).fit(sample, sample["city"].cat.codes % 2)
    return Trained(model, sample, typed(30, 1))


@case
def xgboost_stopped_early() -> Trained:
    sample, held = numbers(150, 0), numbers(50, 3)
    model = xgboost.XGBRegressor(
        n_estimators=60, early_stopping_rounds=2, learning_rate=0.9, objective="reg:squarederror"
    )
    model.fit(sample, amounts(sample), eval_set=[(held, amounts(held)[::-1])], verbose=False)
    return Trained(model, sample, numbers(24, 1))


@case
def lightgbm_alone() -> Trained:
    sample, fresh = numbers(150, 0), numbers(24, 1)
    sample.iloc[::6, 1] = fresh.iloc[::5, 1] = np.nan
    fresh.iloc[::4, 0] = np.nan
    model = lightgbm.LGBMClassifier(n_estimators=12, min_child_samples=4, verbose=-1, n_jobs=1)
    return Trained(model.fit(sample, target(sample.fillna(0.0), ("a", "b", "c"))), sample, fresh)


@case
def lightgbm_in_a_pipeline() -> Trained:
    sample, fresh = people(150, 0, missing="away"), people(30, 1, missing="away")
    columns = prepared(encoder=OneHotEncoder(handle_unknown="ignore", sparse_output=False)).set_output(
        transform="pandas"
    )
    booster = lightgbm.LGBMRegressor(n_estimators=12, min_child_samples=4, objective="poisson", verbose=-1, n_jobs=1)
    plain = FunctionTransformer(np.asarray)
    return Trained(make_pipeline(columns, plain, booster).fit(sample, sample["age"]), sample, fresh)


@case
def lightgbm_on_categories() -> Trained:
    def typed(rows: int, seed: int) -> Table:
        table = people(rows, seed)
        levels = sorted({value for value in table["city"] if value is not None})
        return table.astype({"city": pd.CategoricalDtype(levels)})

    sample = typed(200, 0)
    model = lightgbm.LGBMClassifier(n_estimators=12, min_child_samples=4, verbose=-1, n_jobs=1)
    return Trained(model.fit(sample, sample["city"].isin(["Bern", "nan", "雪"])), sample, typed(30, 1))
