"""What an estimator takes is found by asking it."""

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import CategoricalNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, PolynomialFeatures, StandardScaler

from modelyard.bundle.native import InProcess
from modelyard.bundle.probe import FLOAT32_MAX, probe
from modelyard.bundle.schema import infer_columns, sample_frame
from modelyard.domain.schema import Kind, Output, Schema
from modelyard.errors import CannotPack


def probed(estimator, sample, known=None, method="predict"):
    layout, columns = infer_columns(sample)
    output = Output("out", Kind.FLOAT64, "value", method)
    native = InProcess(estimator, Schema(layout, columns, (output,)))
    return {column.name: column for column in probe(columns, native, sample_frame(sample, layout, columns), known)}


def table(rows=60):
    draw = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "n": draw.normal(size=rows),
            "i": draw.integers(0, 9, rows),
            "c": draw.choice(["red", "blue"], rows),
            "b": draw.random(rows) > 0.5,
        }
    )


def fitted(columns, model=None):
    sample = table()
    return make_pipeline(columns, model or LinearRegression()).fit(sample, sample["n"]), sample


def test_missing_is_taken_where_it_is_imputed_and_the_type_can_say_it():
    estimator, sample = fitted(make_column_transformer((SimpleImputer(), ["n", "i", "b"])))
    found = probed(estimator, sample)
    assert found["n"].nullable
    assert not found["i"].nullable
    assert not found["b"].nullable


def test_missing_is_refused_where_nothing_takes_it():
    estimator, sample = fitted(make_column_transformer((StandardScaler(), ["n"])))
    assert not probed(estimator, sample)["n"].nullable


def test_infinities():
    estimator, sample = fitted(make_column_transformer((StandardScaler(), ["n"])))
    assert not probed(estimator, sample)["n"].accepts.infinite
    X = sample[["n", "i"]].to_numpy()
    found = probed(HistGradientBoostingRegressor(max_iter=2).fit(X, X[:, 0]), X)["X"]
    assert found.accepts.infinite
    assert found.nullable
    assert (found.accepts.minimum, found.accepts.maximum) == (None, None)


def test_the_largest_number_of_single_precision():
    X = np.random.default_rng(0).normal(size=(50, 3))
    found = probed(RandomForestClassifier(2, random_state=0).fit(X, X[:, 0] > 0), X)["X"]
    assert (found.accepts.minimum, found.accepts.maximum) == (-FLOAT32_MAX, FLOAT32_MAX)


def test_a_bound_is_found_by_powers_of_ten():
    X = np.random.default_rng(0).normal(size=(50, 2))
    found = probed(make_pipeline(PolynomialFeatures(10), LinearRegression()).fit(X, X[:, 0]), X)["X"]
    assert (found.accepts.minimum, found.accepts.maximum) == (-1e30, 1e30)


def test_values_beyond_single_precision_need_no_exact_bound():
    X = np.random.default_rng(0).normal(size=(50, 2))
    found = probed(make_pipeline(PolynomialFeatures(), LinearRegression()).fit(X, X[:, 0]), X)["X"]
    assert (found.accepts.minimum, found.accepts.maximum) == (-FLOAT32_MAX, FLOAT32_MAX)
    large = X * 1e100
    found = probed(make_pipeline(PolynomialFeatures(), LinearRegression()).fit(large, X[:, 0]), large)["X"]
    assert found.accepts.maximum == 1e154


def test_each_of_many_columns_is_told_apart():
    draw = np.random.default_rng(0)
    sample = pd.DataFrame(draw.normal(size=(50, 9)), columns=list("abcdefghi"))
    imputed, plain = list("abdeg"), list("cfhi")
    columns = make_column_transformer((SimpleImputer(), imputed), ("passthrough", plain))
    found = probed(make_pipeline(columns, LinearRegression()).fit(sample, sample["a"]), sample)
    assert [name for name, column in found.items() if column.nullable] == imputed


def test_a_bound_on_one_side_only():
    def root(rows):
        if (rows < 0).any():
            raise ValueError("negative")
        return np.sqrt(rows)

    X = np.random.default_rng(0).random((50, 2)) + 1
    found = probed(make_pipeline(FunctionTransformer(root), LinearRegression()).fit(X, X[:, 0]), X)["X"]
    assert (found.accepts.minimum, found.accepts.maximum) == (0.0, None)


@pytest.mark.parametrize("encoder", [OneHotEncoder(), OrdinalEncoder()])
def test_categories_are_closed_where_an_unseen_one_raises(encoder):
    estimator, sample = fitted(make_column_transformer((encoder, ["c"])))
    assert probed(estimator, sample)["c"].accepts.categories == ("blue", "red")


def test_categories_are_open_where_an_unseen_one_is_taken():
    estimator, sample = fitted(make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["c"])))
    found = probed(estimator, sample)["c"]
    assert found.accepts.categories is None
    assert found.nullable  # the encoder takes a missing value for one more unknown one


def test_the_frameworks_word_covers_categories_that_the_sample_lacks():
    estimator, sample = fitted(make_column_transformer((OneHotEncoder(), ["c"])))
    only_red = sample[sample["c"] == "red"]
    found = probed(estimator, only_red, lambda column: ["red", "blue", "never"] if column.name == "c" else None)
    assert found["c"].accepts.categories == ("blue", "red")


def test_numbers_used_as_codes_are_closed():
    estimator, sample = fitted(make_column_transformer((OneHotEncoder(), ["i"])))
    assert probed(estimator, sample)["i"].accepts.categories == tuple(range(9))


def test_booleans_are_closed_where_only_one_was_seen():
    sample = table().assign(b=True)
    estimator = make_pipeline(make_column_transformer((OneHotEncoder(), ["b"])), LinearRegression())
    assert probed(estimator.fit(sample, sample["n"]), sample)["b"].accepts.categories == (True,)


def test_texts_that_are_parsed_stay_open():
    def parsed(rows):
        return rows["t"].astype(float).to_numpy()

    sample = pd.DataFrame({"t": ["1.5", "2"]})
    found = probed(parsed, sample, method="__call__")
    assert found["t"].accepts.categories is None


def test_an_estimator_that_answers_nothing_cannot_be_packed():
    estimator = LogisticRegression().fit(np.ones((4, 2)) * [[1], [2], [3], [4]], [0, 0, 1, 1])
    with pytest.raises(CannotPack, match="answers no row of the sample: ValueError"):
        probed(estimator, np.ones((4, 3)))


def test_an_array_whose_positions_take_different_codes_has_no_closed_set():
    X = np.array([[0, 0], [1, 1], [2, 0], [3, 1]] * 5, dtype=float)
    found = probed(CategoricalNB().fit(X, X[:, 1]), X)["X"]
    assert found.accepts.categories is None
    assert (found.accepts.minimum, found.accepts.maximum) == (0.0, 3.0)
