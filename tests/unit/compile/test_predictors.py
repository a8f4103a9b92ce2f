"""Estimators that predict, as graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import AffinityPropagation, Birch, BisectingKMeans, KMeans, MeanShift
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.covariance import EllipticEnvelope
from sklearn.cross_decomposition import CCA, PLSRegression
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingClassifier,
    BaggingRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    IsolationForest,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.feature_selection import RFE, SelectFromModel
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, Matern, RationalQuadratic, WhiteKernel
from sklearn.impute import SimpleImputer
from sklearn.isotonic import IsotonicRegression
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import (
    GammaRegressor,
    Lasso,
    LogisticRegression,
    Perceptron,
    PoissonRegressor,
    RANSACRegressor,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
    SGDOneClassSVM,
)
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV, TunedThresholdClassifierCV
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier, MultiOutputRegressor, RegressorChain
from sklearn.naive_bayes import BernoulliNB, CategoricalNB, ComplementNB, GaussianNB, MultinomialNB
from sklearn.neighbors import (
    KNeighborsClassifier,
    KNeighborsRegressor,
    LocalOutlierFactor,
    NearestCentroid,
    RadiusNeighborsClassifier,
    RadiusNeighborsRegressor,
)
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, PowerTransformer, QuantileTransformer, StandardScaler
from sklearn.semi_supervised import LabelPropagation, LabelSpreading, SelfTrainingClassifier
from sklearn.svm import SVC, SVR, LinearSVC, NuSVC, OneClassSVM
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from modelyard.bundle.compile.graph import NoConverter
from written_graphs import FRESH, NUMBER, SIGNAL, TABLE, THREE, TWO, Written

pytestmark = pytest.mark.filterwarnings("ignore")

RNG = np.random.default_rng(5)
FLOATS = np.column_stack([SIGNAL, RNG.normal(size=(240, 3))])
FRESH_FLOATS = RNG.normal(size=(100, 4)) * 3


def behind_a_table(model: Any, scale: Any = None) -> Any:
    """A pipeline from the mixed table to the model."""
    numbers = make_pipeline(SimpleImputer(add_indicator=True), scale or StandardScaler())
    texts = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    columns = ColumnTransformer([("n", numbers, ["temp", "wind", "stops", "load"]), ("c", texts, ["day", "carrier"])])
    return make_pipeline(columns, model)


def line() -> LogisticRegression:
    return LogisticRegression(max_iter=300)


def stump() -> DecisionTreeClassifier:
    return DecisionTreeClassifier(max_depth=3, random_state=0)


CLASSIFIERS: dict[str, Any] = {
    "logistic": line(),
    "one against rest": OneVsRestClassifier(line()),
    "sgd log": SGDClassifier(loss="log_loss", random_state=0),
    "sgd huber": SGDClassifier(loss="modified_huber", random_state=0),
    "perceptron": Perceptron(random_state=0),
    "ridge": RidgeClassifier(),
    "lda": LinearDiscriminantAnalysis(),
    "svc": SVC(),
    "svc ties": SVC(break_ties=True),
    "svc pairs": SVC(decision_function_shape="ovo", kernel="poly"),
    "svc sigmoid": SVC(kernel="sigmoid"),
    "svc probabilities": SVC(probability=True, random_state=0),
    "nu svc": NuSVC(kernel="linear", nu=0.2),
    "naive bayes": GaussianNB(),
    "network": MLPClassifier((12,), max_iter=30, random_state=0),
    "network logistic": MLPClassifier((8, 4), activation="logistic", max_iter=30, random_state=0),
    "boosting": GradientBoostingClassifier(n_estimators=8, random_state=0),
    "ada": AdaBoostClassifier(n_estimators=6, random_state=0),
    "ada lines": AdaBoostClassifier(line(), n_estimators=4, random_state=0),
    "bag of svc": BaggingClassifier(LinearSVC(), n_estimators=3, max_features=0.5, random_state=0),
    "bag of lines": BaggingClassifier(line(), n_estimators=3, max_features=0.7, random_state=0),
    "bag of trees": BaggingClassifier(n_estimators=4, max_features=0.7, random_state=0),
    "calibrated": CalibratedClassifierCV(LinearSVC(), cv=2),
    "calibrated steps": CalibratedClassifierCV(stump(), method="isotonic", cv=2),
    "tempered": CalibratedClassifierCV(line(), method="temperature", cv=2),
    "tempered trees": CalibratedClassifierCV(stump(), method="temperature", cv=2),
    "gaussian process": GaussianProcessClassifier(1.0 * Matern(2.0) + WhiteKernel(0.1), random_state=0),
    "propagation": LabelPropagation(kernel="knn"),
    "spreading": LabelSpreading(),
    "votes": VotingClassifier([("a", line()), ("b", stump()), ("c", GaussianNB())], weights=[2, 1, 1]),
    "soft votes": VotingClassifier([("a", line()), ("b", stump())], voting="soft", weights=[2, 1]),
    "stack": StackingClassifier([("a", line()), ("b", LinearSVC()), ("c", stump())], passthrough=True, cv=2),
    "one against one": OneVsOneClassifier(LinearSVC()),
    "one against one, trees": OneVsOneClassifier(stump()),
    "codes": OutputCodeClassifier(line(), random_state=0),
    "nearest centroid": NearestCentroid(),
    "nearest by city blocks": NearestCentroid(metric="manhattan"),
    "dummy": DummyClassifier(),
    "elimination": RFE(line(), n_features_to_select=5),
    "selection": make_pipeline(SelectFromModel(Lasso(0.01)), line()),
    "search": GridSearchCV(line(), {"C": [0.1, 1]}, cv=2),
}
ON_CODES = ("selection",)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_behind_a_table(name: str, classes: int) -> None:
    target = TWO if classes == 2 else THREE
    if name in ON_CODES:
        target = np.unique(target, return_inverse=True)[1]
    table = TABLE.assign(temp=TABLE["temp"])
    model = behind_a_table(clone(CLASSIFIERS[name])).fit(table, target)
    assert Written(model, table).difference(FRESH) == ""


FLOAT_CLASSIFIERS: dict[str, Any] = {
    "qda": QuadraticDiscriminantAnalysis(),
    "neighbours": KNeighborsClassifier(),
    "weighted neighbours": KNeighborsClassifier(7, weights="distance", p=1),
    "within a radius": RadiusNeighborsClassifier(radius=3.0, outlier_label="a"),
    "self training": SelfTrainingClassifier(line()),
    "gaussian process of lines": GaussianProcessClassifier(DotProduct() + ConstantKernel(), random_state=0),
}


@pytest.mark.parametrize("name", FLOAT_CLASSIFIERS)
def test_classifiers_on_floats(name: str) -> None:
    target = np.digitize(SIGNAL, [2.0]) if name == "self training" else THREE
    written = Written(FLOAT_CLASSIFIERS[name].fit(FLOATS, target), FLOATS)
    assert written.difference(FRESH_FLOATS) == ""


@pytest.mark.parametrize(
    "model", [MultinomialNB(), ComplementNB(), BernoulliNB(binarize=0.3), CategoricalNB()], ids=str
)
def test_naive_bayes_on_counts(model: Any) -> None:
    counts = np.abs(FLOATS).round().clip(0, 3)
    assert Written(model.fit(counts, THREE), counts).difference(np.abs(FRESH_FLOATS).round().clip(0, 3)) == ""


@pytest.mark.parametrize(
    "labels",
    [SIGNAL > 2, np.digitize(SIGNAL, [1, 2]) * 3 - 1, np.array(["é", "ü"])[(SIGNAL > 2).astype(int)]],
    ids=["bool", "int", "text"],
)
@pytest.mark.parametrize(
    "model", [line(), stump(), VotingClassifier([("a", line())]), OneVsRestClassifier(line())], ids=str
)
def test_labels_come_back_as_they_were(labels: Any, model: Any) -> None:
    written = Written(clone(model).fit(FLOATS, labels), FLOATS)
    answers = written.answers(FRESH_FLOATS)["predict"]
    assert set(answers.tolist()) <= set(labels.tolist())
    assert written.difference(FRESH_FLOATS) == ""


@pytest.mark.parametrize(
    "kind",
    [FixedThresholdClassifier(line(), threshold=0.7), TunedThresholdClassifierCV(line(), cv=2)],
    ids=["fixed", "tuned"],
)
def test_thresholds_of_two_classes(kind: Any) -> None:
    assert Written(kind.fit(FLOATS, TWO), FLOATS).difference(FRESH_FLOATS) == ""


POSITIVE = np.exp(SIGNAL / 3)
REGRESSORS: dict[str, tuple[Any, Any]] = {
    "ridge": (Ridge(), NUMBER),
    "poisson": (PoissonRegressor(), POSITIVE),
    "gamma": (GammaRegressor(), POSITIVE),
    "svr": (SVR(), NUMBER),
    "svr polynomial": (SVR(kernel="poly"), NUMBER),
    "network": (MLPRegressor(hidden_layer_sizes=(9,), max_iter=20, random_state=0), NUMBER),
    "pls": (PLSRegression(2), NUMBER),
    "kernel ridge": (KernelRidge(kernel="rbf"), NUMBER),
    "kernel ridge city": (KernelRidge(kernel="laplacian"), NUMBER),
    "kernel ridge angle": (KernelRidge(kernel="cosine"), NUMBER),
    "process": (GaussianProcessRegressor(1.0 * RBF(3.0) + WhiteKernel(1.0)), NUMBER),
    "process of quotients": (GaussianProcessRegressor(RationalQuadratic() + WhiteKernel(), normalize_y=True), NUMBER),
    "process of products": (GaussianProcessRegressor(DotProduct() ** 2 + WhiteKernel()), NUMBER),
    "log target": (TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1), POSITIVE),
    "scaled target": (TransformedTargetRegressor(Ridge(), transformer=StandardScaler()), NUMBER),
    "powered target": (TransformedTargetRegressor(Ridge(), transformer=PowerTransformer()), NUMBER),
    "ranked target": (TransformedTargetRegressor(Ridge(), transformer=QuantileTransformer(n_quantiles=20)), NUMBER),
    "ada": (AdaBoostRegressor(n_estimators=6, random_state=0), NUMBER),
    "ada lines": (AdaBoostRegressor(Ridge(), n_estimators=4, random_state=0), NUMBER),
    "bag": (BaggingRegressor(n_estimators=4, max_features=0.6, random_state=0), NUMBER),
    "bag of lines": (BaggingRegressor(Ridge(), n_estimators=4, max_features=0.6, random_state=0), NUMBER),
    "boosting": (GradientBoostingRegressor(n_estimators=8, random_state=0), NUMBER),
    "boosting from zero": (GradientBoostingRegressor(init="zero", n_estimators=4, random_state=0), NUMBER),
    "votes": (VotingRegressor([("a", Ridge()), ("b", SVR())], weights=[1, 3]), NUMBER),
    "stack": (StackingRegressor([("a", Ridge()), ("b", SVR())], final_estimator=Ridge(), cv=2), NUMBER),
    "ransac": (RANSACRegressor(random_state=0), NUMBER),
    "dummy": (DummyRegressor(strategy="median"), NUMBER),
}


@pytest.mark.parametrize("name", REGRESSORS)
def test_regressors_behind_a_table(name: str) -> None:
    model, target = REGRESSORS[name]
    assert Written(behind_a_table(model).fit(TABLE, target), TABLE).difference(FRESH) == ""


@pytest.mark.parametrize(
    "model",
    [KNeighborsRegressor(), KNeighborsRegressor(4, weights="distance"), RadiusNeighborsRegressor(radius=2.0)],
    ids=str,
)
def test_regressors_by_neighbours(model: Any) -> None:
    assert Written(model.fit(FLOATS, NUMBER), FLOATS).difference(FRESH_FLOATS) == ""


def test_a_rising_function_of_one_column() -> None:
    for bounds in ("nan", "clip"):
        model = IsotonicRegression(out_of_bounds=bounds).fit(FLOATS[:, :1], NUMBER)
        assert Written(model, FLOATS[:, :1]).difference(FRESH_FLOATS[:, :1]) == ""
    with pytest.raises(NoConverter, match="raises outside"):
        Written(IsotonicRegression(out_of_bounds="raise").fit(FLOATS[:, :1], NUMBER), FLOATS[:, :1])


TWO_NUMBERS = np.column_stack([NUMBER, SIGNAL**2])
TWO_MARKS = np.column_stack([SIGNAL > 2, SIGNAL > 4]).astype(int)
SEVERAL: dict[str, tuple[Any, Any]] = {
    "ridge": (Ridge(), TWO_NUMBERS),
    "tree": (DecisionTreeRegressor(max_depth=4), TWO_NUMBERS),
    "cca": (CCA(2), TWO_NUMBERS),
    "process": (GaussianProcessRegressor(1.0 * RBF(3.0) + WhiteKernel(1.0)), TWO_NUMBERS),
    "each svr": (MultiOutputRegressor(SVR()), TWO_NUMBERS),
    "chain": (RegressorChain(Ridge(), order=[1, 0]), TWO_NUMBERS),
    "dummy": (DummyRegressor(), TWO_NUMBERS),
    "trees": (DecisionTreeClassifier(max_depth=4), np.column_stack([TWO, THREE])),
    "each line": (MultiOutputClassifier(line()), np.column_stack([TWO, THREE])),
    "marks by network": (MLPClassifier((6,), max_iter=20, random_state=0), TWO_MARKS),
    "marks one by one": (OneVsRestClassifier(line()), TWO_MARKS),
    "marks in a chain": (ClassifierChain(line(), order=[1, 0]), TWO_MARKS),
    "marks by ridge": (RidgeClassifier(), TWO_MARKS),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_several_targets(name: str) -> None:
    model, target = SEVERAL[name]
    assert Written(behind_a_table(model).fit(TABLE, target), TABLE).difference(FRESH) == ""


UNSUPERVISED: dict[str, Any] = {
    "kmeans": KMeans(3, random_state=0),
    "bisecting": BisectingKMeans(5, random_state=0),
    "birch": Birch(n_clusters=3),
    "shift": MeanShift(),
    "affinity": AffinityPropagation(random_state=0),
    "mixture": GaussianMixture(2, random_state=0),
    "mixture tied": GaussianMixture(2, covariance_type="tied", random_state=0),
    "mixture diagonal": GaussianMixture(2, covariance_type="diag", random_state=0),
    "mixture of balls": GaussianMixture(2, covariance_type="spherical", random_state=0),
    "bayesian mixture": BayesianGaussianMixture(n_components=2, random_state=0),
    "envelope": EllipticEnvelope(random_state=0),
    "one class": OneClassSVM(),
    "one class line": SGDOneClassSVM(random_state=0),
    "isolation": IsolationForest(n_estimators=12, max_features=0.5, random_state=0),
    "local density": LocalOutlierFactor(novelty=True),
}


@pytest.mark.parametrize("name", UNSUPERVISED)
def test_clusters_and_outliers(name: str) -> None:
    assert Written(UNSUPERVISED[name].fit(FLOATS), FLOATS).difference(FRESH_FLOATS) == ""


def test_scaled_sparse_tables_reach_support_vectors() -> None:
    model = behind_a_table(SVC(), MinMaxScaler())
    model.named_steps["columntransformer"].set_params(sparse_threshold=1.0)
    model.fit(TABLE, TWO)
    assert model.named_steps["columntransformer"].sparse_output_
    assert Written(model, TABLE).difference(FRESH) == ""


def test_random_answers_have_no_compiled_form() -> None:
    model = DummyClassifier(strategy="stratified", random_state=0).fit(FLOATS, TWO)
    with pytest.raises(NoConverter, match="stratified"):
        Written(model, FLOATS)
