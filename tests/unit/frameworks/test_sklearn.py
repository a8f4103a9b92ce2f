"""scikit-learn's conventions, as they show in the outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.cluster import DBSCAN, KMeans
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier, LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from modelyard.bundle.frameworks import catalogue
from modelyard.bundle.frameworks.sklearn import SklearnFramework
from modelyard.domain.schema import Output
from modelyard.errors import CannotPack

X = np.random.default_rng(0).normal(size=(60, 3))
TWO = np.where(X[:, 0] > 0, "yes", "no")
FOUR = np.digitize(X[:, 0], [-0.7, 0, 0.7])
FLAGS = X[:, :2] > 0


def outputs(estimator: Any) -> dict[str, Output]:
    return {output.name: output for output in SklearnFramework().describe(estimator, X[:5], ())}


def test_a_classifier_answers_labels_probabilities_and_scores() -> None:
    found = outputs(make_pipeline(StandardScaler(), LogisticRegression()).fit(X, TWO))
    assert {name: output.role for name, output in found.items()} == {
        "predict": "label",
        "predict_proba": "probability",
        "decision_function": "score",
    }
    assert found["predict"].classes == found["predict_proba"].classes == ("no", "yes")
    assert found["decision_function"].shape == ()


def test_methods_that_are_switched_off_are_not_offered() -> None:
    assert set(outputs(SVC().fit(X, TWO))) == {"predict", "decision_function"}


def test_one_against_one_scores_are_not_named_after_classes() -> None:
    found = outputs(SVC(decision_function_shape="ovo").fit(X, FOUR))
    assert (found["decision_function"].shape, found["decision_function"].classes) == ((6,), None)
    assert found["predict"].classes == (0, 1, 2, 3)


def test_a_regressor_answers_values() -> None:
    assert outputs(LinearRegression().fit(X, X[:, 0]))["predict"].role == "value"
    assert outputs(LinearRegression().fit(X, X[:, :2]))["predict"].shape == (2,)


def test_a_clusterer_answers_labels() -> None:
    assert {name: output.role for name, output in outputs(KMeans(2, random_state=0).fit(X)).items()} == {
        "predict": "label"
    }


def test_an_outlier_detector_answers_one_or_minus_one() -> None:
    for model in (IsolationForest(n_estimators=5).fit(X), LocalOutlierFactor(novelty=True).fit(X)):
        found = outputs(model)
        assert set(found) == {"predict", "decision_function"}
        assert found["predict"].classes == (-1, 1)


def test_a_mixture_answers_labels_and_probabilities() -> None:
    found = outputs(GaussianMixture(2, random_state=0).fit(X))
    assert (found["predict"].role, found["predict_proba"].role) == ("label", "probability")


def test_several_labels_at_once_are_scored_each_for_itself() -> None:
    found = outputs(OneVsRestClassifier(LogisticRegression()).fit(X, FLAGS.astype(int)))
    assert (found["predict"].shape, found["predict_proba"].role) == ((2,), "score")


def test_several_targets_have_probabilities_each() -> None:
    found = outputs(KNeighborsClassifier(3).fit(X, np.column_stack([TWO, TWO[::-1]])))
    assert set(found) == {"predict", "predict_proba_0", "predict_proba_1"}
    assert found["predict"].kind.value == "string"


def test_what_does_not_predict_transforms() -> None:
    found = outputs(make_pipeline(StandardScaler(), PCA(2)).fit(X))
    assert {name: (output.role, output.shape) for name, output in found.items()} == {"transform": ("features", (2,))}


def test_what_cannot_answer_for_new_rows_is_refused() -> None:
    with pytest.raises(CannotPack, match=r"sklearn\.cluster\._dbscan\.DBSCAN"):
        catalogue.find(DBSCAN().fit(X))


def test_an_unfitted_estimator_is_refused_with_its_own_words() -> None:
    with pytest.raises(CannotPack, match=r"LogisticRegression\.predict raised .*NotFittedError"):
        SklearnFramework().describe(LogisticRegression(), X[:5], ())


def test_a_class_is_refused_with_a_hint() -> None:
    with pytest.raises(CannotPack, match="pass a fitted instance"):
        catalogue.find(LogisticRegression)


def test_estimators_of_ones_own_are_known_without_inheriting() -> None:
    class Mine:
        def get_params(self, deep: bool = True) -> dict[str, Any]:
            return {}

        def predict(self, rows: Any) -> Any:
            return np.asarray(rows)[:, 0]

    class Base(BaseEstimator):  # type: ignore[misc]
        def predict(self, rows: Any) -> Any:
            return np.asarray(rows)[:, 0]

    for model in (Mine(), Base()):
        assert catalogue.find(model).name == "sklearn"
        assert outputs(model)["predict"].role == "value"


def test_an_unknown_framework_name_lists_the_known_ones() -> None:
    with pytest.raises(CannotPack, match=r"there are: .*sklearn"):
        catalogue.named("skleran")
    assert catalogue.named("sklearn").name == "sklearn"
