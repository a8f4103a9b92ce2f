"""Linear models, generalised linear models, discriminant analysis, naive Bayes, partial least squares."""

from __future__ import annotations

import numpy as np

from modelyard.bundle.compile.emit import Answer, Classifier, Emitter, Regressor, emits
from modelyard.bundle.compile.graph import Value
from modelyard.bundle.compile.table import Table, matrix
from modelyard.domain.frame import Array


def affine(x: Value, weights: Array, offset: Array | float) -> Value:
    """``x @ weights.T + offset``, with one column for a single line of weights."""
    lines = np.atleast_2d(np.asarray(weights, dtype=np.float64))
    shift = np.atleast_1d(np.asarray(offset, dtype=np.float64)).reshape(1, -1)
    product = x @ lines.T
    return product + shift if shift.any() else product


def with_complement(second: Value) -> Value:
    """Probabilities of two classes from that of the second."""
    return second.graph.concat([1.0 - second, second])


def shares(values: Value) -> Value:
    """Each row divided by its sum."""
    return values / values.sum()


class LinearScores(Classifier):
    """A classifier by linear scores."""

    def scores(self) -> Value:
        """One column for two classes, else one a class."""
        return affine(self.x, self.estimator.coef_, self.estimator.intercept_)

    def decision_function(self) -> Answer:
        return self.scores()

    def predict(self) -> Answer:
        scores = self.value("decision_function")
        return self.by_score(scores)

    def one_against_rest(self, scores: Value) -> Value:
        """Logistic probabilities, one class against the rest."""
        if len(self.classes) == 2:
            return with_complement(scores.sigmoid())
        return shares(scores.sigmoid())


@emits("LinearSVC", "Perceptron", "PassiveAggressiveClassifier")
class LinearScoresEmitter(LinearScores):
    """Scores only."""


@emits("RidgeClassifier", "RidgeClassifierCV")
class RidgeClassifierEmitter(LinearScores):
    """Scores only; with several targets, a mark for each."""

    def predict(self) -> Answer:
        if self.estimator._label_binarizer.y_type_.startswith("multilabel"):
            return (self.value("decision_function") > 0.0).cast("i8")
        return super().predict()


@emits("LogisticRegression", "LogisticRegressionCV")
class LogisticEmitter(LinearScores):
    """Logistic or softmax probabilities."""

    def predict_proba(self) -> Answer:
        scores = self.value("decision_function")
        return self.one_against_rest(scores) if len(self.classes) == 2 else scores.softmax()

    def predict_log_proba(self) -> Answer:
        return self.value("predict_proba").log()


@emits("SGDClassifier")
class StochasticEmitter(LinearScores):
    """Probabilities for two of its losses."""

    def predict_proba(self) -> Answer:
        scores = self.value("decision_function")
        if self.estimator.loss == "log_loss":
            return self.one_against_rest(scores)
        if self.estimator.loss != "modified_huber":
            raise self.refuse(f"no probabilities for loss {self.estimator.loss!r}")
        parts = (scores.clip(-1.0, 1.0) + 1.0) / 2.0
        if len(self.classes) == 2:
            return with_complement(parts)
        total = parts.sum()
        none = total.equals(0.0)
        return self.graph.where(none, 1.0, parts) / self.graph.where(none, float(len(self.classes)), total)


@emits("LinearDiscriminantAnalysis")
class DiscriminantEmitter(LinearScores):
    """Linear discriminants; also as a projection."""

    def decision_function(self) -> Answer:
        return self.scores()

    def predict_proba(self) -> Answer:
        scores = self.value("decision_function")
        return with_complement(scores.sigmoid()) if len(self.classes) == 2 else scores.softmax()

    def transform(self) -> Table:
        lda = self.estimator
        if lda.solver == "lsqr":
            raise self.refuse("no transform with solver 'lsqr'")
        projected = (self.x - lda.xbar_) @ lda.scalings_ if lda.solver == "svd" else self.x @ lda.scalings_
        width = min(int(lda._max_components), lda.scalings_.shape[1])
        return matrix(projected.columns(np.arange(width)), width)


@emits("QuadraticDiscriminantAnalysis")
class QuadraticEmitter(Classifier):
    """Gaussian classes with their own covariance."""

    def joint(self) -> Value:
        """Log densities plus log priors, one column a class."""
        qda = self.estimator
        columns = []
        for at in range(len(self.classes)):
            spread = np.asarray(qda.scalings_[at])
            rotated = (self.x - qda.means_[at]) @ (np.asarray(qda.rotations_[at]) * spread**-0.5)
            constant = float(np.sum(np.log(spread)))
            columns.append((rotated.square().sum() + constant) * -0.5 + float(np.log(qda.priors_[at])))
        return self.graph.concat(columns)

    def decision_function(self) -> Answer:
        joint = self.value("joint")
        return joint.columns([1]) - joint.columns([0]) if len(self.classes) == 2 else joint

    def predict(self) -> Answer:
        return self.labels(self.value("joint").argmax())

    def predict_proba(self) -> Answer:
        joint = self.value("joint")
        moved = joint - joint.max()
        return (moved - moved.exp().sum().log()).exp()


@emits(
    "LinearRegression",
    "Ridge",
    "RidgeCV",
    "ElasticNet",
    "ElasticNetCV",
    "Lasso",
    "LassoCV",
    "Lars",
    "LarsCV",
    "LassoLars",
    "LassoLarsCV",
    "LassoLarsIC",
    "MultiTaskElasticNet",
    "MultiTaskElasticNetCV",
    "MultiTaskLasso",
    "MultiTaskLassoCV",
    "OrthogonalMatchingPursuit",
    "OrthogonalMatchingPursuitCV",
    "HuberRegressor",
    "QuantileRegressor",
    "TheilSenRegressor",
    "SGDRegressor",
    "PassiveAggressiveRegressor",
    "LinearSVR",
    "BayesianRidge",
    "ARDRegression",
)
class LinearRegressionEmitter(Regressor):
    """A weighted sum."""

    def predict(self) -> Answer:
        return affine(self.x, self.estimator.coef_, self.estimator.intercept_)


@emits("PoissonRegressor", "GammaRegressor", "TweedieRegressor")
class GeneralisedEmitter(Regressor):
    """A weighted sum behind a link function."""

    def predict(self) -> Answer:
        raw = affine(self.x, self.estimator.coef_, self.estimator.intercept_)
        link = type(self.estimator._base_loss.link).__name__
        if link == "IdentityLink":
            return raw
        if link == "LogLink":
            return raw.exp()
        raise self.refuse(f"no converter for {link}")


@emits("PLSRegression", "PLSCanonical", "CCA")
class LeastSquaresEmitter(Regressor):
    """Partial least squares, as a regression and as a projection."""

    def predict(self) -> Answer:
        model = self.estimator
        return affine(self.x - model._x_mean, model.coef_, model.intercept_)

    def transform(self) -> Table:
        model = self.estimator
        moved = (self.x - model._x_mean) / model._x_std
        return matrix(moved @ model.x_rotations_, model.x_rotations_.shape[1])


class NaiveBayes(Classifier):
    """Classifiers by joint log likelihood."""

    def joint(self) -> Value:
        """One column a class."""
        raise NotImplementedError

    def predict(self) -> Answer:
        return self.labels(self.value("joint").argmax())

    def predict_joint_log_proba(self) -> Answer:
        return self.value("joint")

    def predict_log_proba(self) -> Answer:
        joint = self.value("joint")
        return joint - joint.logsumexp()

    def predict_proba(self) -> Answer:
        return self.value("predict_log_proba").exp()


@emits("GaussianNB")
class GaussianBayesEmitter(NaiveBayes):
    """Independent normal columns."""

    def joint(self) -> Value:
        model = self.estimator
        columns = []
        for at in range(len(self.classes)):
            variance = np.asarray(model.var_[at])
            constant = float(-0.5 * np.sum(np.log(2.0 * np.pi * variance)))
            distance = ((self.x - model.theta_[at]).square() / variance).sum()
            columns.append(distance * -0.5 + constant + float(np.log(model.class_prior_[at])))
        return self.graph.concat(columns)


@emits("MultinomialNB")
class MultinomialBayesEmitter(NaiveBayes):
    """Counts."""

    def joint(self) -> Value:
        return affine(self.x, self.estimator.feature_log_prob_, self.estimator.class_log_prior_)


@emits("ComplementNB")
class ComplementBayesEmitter(NaiveBayes):
    """Counts, by what the other classes have."""

    def joint(self) -> Value:
        prior = self.estimator.class_log_prior_ if len(self.classes) == 1 else 0.0
        return affine(self.x, self.estimator.feature_log_prob_, prior)


@emits("BernoulliNB")
class BernoulliBayesEmitter(NaiveBayes):
    """Marks."""

    def joint(self) -> Value:
        model, x = self.estimator, self.x
        if model.binarize is not None:
            x = (x > float(model.binarize)).cast("f8")
        absent = np.log(1 - np.exp(model.feature_log_prob_))
        return affine(x, model.feature_log_prob_ - absent, model.class_log_prior_ + absent.sum(axis=1))


@emits("CategoricalNB")
class CategoricalBayesEmitter(NaiveBayes):
    """Small whole numbers."""

    def joint(self) -> Value:
        model = self.estimator
        parts = []
        for at in range(self.width):
            # The library cuts fractions off before it looks up the number.
            index = self.x.columns([at]).cast("i8")
            parts.append(index.rows_of(np.asarray(model.feature_log_prob_[at]).T))
        return self.graph.total(parts) + np.asarray(model.class_log_prior_).reshape(1, -1)


class Projection(Emitter):
    """A transformer that multiplies with a matrix."""

    def project(self) -> Value:
        """The new columns."""
        raise NotImplementedError

    def outputs(self) -> int:
        """How many columns come out."""
        return int(self.estimator.components_.shape[0])

    def transform(self) -> Table:
        return matrix(self.project(), self.outputs())


@emits("PCA", "IncrementalPCA")
class PrincipalEmitter(Projection):
    """Principal components."""

    def project(self) -> Value:
        pca = self.estimator
        axes = self.fitted("components_").T
        centre: Array = self.fitted("mean_").reshape(1, -1) @ axes
        projected = self.x @ axes - centre
        if not pca.whiten:
            return projected
        scale = np.sqrt(self.fitted("explained_variance_"))
        floor: Array = np.maximum(scale, np.finfo(scale.dtype).eps)
        return projected / floor


@emits("TruncatedSVD", "GaussianRandomProjection", "SparseRandomProjection", "NeighborhoodComponentsAnalysis")
class MatrixEmitter(Projection):
    """A plain product."""

    def project(self) -> Value:
        return self.x @ self.fitted("components_").T


@emits("FastICA")
class IndependentEmitter(Projection):
    """Independent components."""

    def project(self) -> Value:
        x = self.x - self.fitted("mean_") if self.estimator.whiten else self.x
        return x @ self.fitted("components_").T


@emits("FactorAnalysis")
class FactorEmitter(Projection):
    """Expected latent factors."""

    def project(self) -> Value:
        model = self.estimator
        weighted = self.fitted("components_") / model.noise_variance_
        covariance: Array = np.linalg.inv(np.eye(len(weighted)) + weighted @ self.fitted("components_").T)
        weights: Array = weighted.T
        return (self.x - self.fitted("mean_")) @ weights @ covariance


@emits("RBFSampler")
class RandomKernelEmitter(Projection):
    """Random Fourier features."""

    def outputs(self) -> int:
        return int(self.estimator.n_components)

    def project(self) -> Value:
        model = self.estimator
        wave = (self.x @ self.fitted("random_weights_") + self.fitted("random_offset_")).op("Cos")
        return wave * float((2.0 / model.n_components) ** 0.5)


@emits("SkewedChi2Sampler")
class SkewedKernelEmitter(Projection):
    """Random features of the skewed chi-squared kernel."""

    def outputs(self) -> int:
        return int(self.estimator.n_components)

    def project(self) -> Value:
        model = self.estimator
        moved = (self.x + float(model.skewedness)).log()
        wave = (moved @ self.fitted("random_weights_") + self.fitted("random_offset_")).op("Cos")
        return wave * float(np.sqrt(2.0) / np.sqrt(model.n_components))
