"""Clusters by the nearest centre, mixtures of normal distributions, and outliers by distance."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelyard.bundle.compile.emit import Answer, Classifier, Emitter, emits
from modelyard.bundle.compile.graph import Value
from modelyard.bundle.compile.linear import NaiveBayes
from modelyard.bundle.compile.neighbours import distances, searched
from modelyard.bundle.compile.table import Table, matrix
from modelyard.bundle.compile.vectors import expanded_distances, sign_marks, square_sums
from modelyard.domain.frame import Array


def nearest_centre(x: Value, centres: Array) -> Value:
    """The position of the nearest centre, by the products that the library compares."""
    return ((x @ centres.T) * -2.0 + square_sums(centres)).argmin()


def first_within_reach(x: Value, points: Array) -> Value:
    """The position of the nearest point as ``sklearn.metrics.pairwise_distances_argmin`` finds it."""
    return searched(x, points).argmin()


class Centres(Emitter):
    """Clusters with a centre each."""

    @property
    def centres(self) -> Array:
        """One line a cluster."""
        return np.asarray(self.estimator.cluster_centers_, dtype=np.float64)

    def predict(self) -> Answer:
        return nearest_centre(self.x, self.centres)

    def transform(self) -> Table:
        return matrix(expanded_distances(self.x, self.centres).sqrt(), len(self.centres))


@emits("KMeans", "MiniBatchKMeans")
class CentresEmitter(Centres):
    """The nearest centre."""


@emits("MeanShift")
class ShiftEmitter(Centres):
    """The nearest mode."""

    def predict(self) -> Answer:
        return first_within_reach(self.x, self.centres)


@emits("AffinityPropagation")
class AffinityEmitter(Centres):
    """The nearest exemplar."""

    def predict(self) -> Answer:
        if not len(self.centres):
            raise self.refuse("no cluster was found")
        return first_within_reach(self.x, self.centres)


@emits("Birch")
class BirchEmitter(Centres):
    """The label of the nearest subcluster."""

    @property
    def centres(self) -> Array:
        return np.asarray(self.estimator.subcluster_centers_, dtype=np.float64)

    def predict(self) -> Answer:
        labels = np.asarray(self.estimator.subcluster_labels_, dtype=np.int64).reshape(-1, 1)
        return first_within_reach(self.x, self.centres).rows_of(labels, "i8")


@emits("BisectingKMeans")
class BisectingEmitter(Centres):
    """Down a tree of pairs of centres."""

    def predict(self) -> Answer:
        return self._below(self.estimator._bisecting_tree)

    def _below(self, node: Any) -> Value:
        if node.left is None:
            return self.graph.constant([[int(node.label)]], "i8")
        centres = np.vstack((node.left.center, node.right.center)) + getattr(self.estimator, "_X_mean", 0.0)
        left = nearest_centre(self.x, np.asarray(centres, dtype=np.float64)).equals(0)
        return self.graph.where(left, self._below(node.left), self._below(node.right))


@emits("FeatureAgglomeration")
class AgglomerationEmitter(Emitter):
    """The mean of each group of columns."""

    def transform(self) -> Table:
        model = self.estimator
        if model.pooling_func is not np.mean:
            raise self.refuse("no converter for pooling functions other than the mean")
        labels = np.unique(model.labels_, return_inverse=True)[1].ravel()
        groups = int(labels.max()) + 1
        weights = np.zeros((len(labels), groups))
        weights[np.arange(len(labels)), labels] = 1.0
        return matrix((self.x @ weights) / weights.sum(axis=0).reshape(1, -1), groups)


@emits("NearestCentroid")
class NearestCentroidEmitter(Classifier):
    """The class of the nearest mean."""

    def joint(self) -> Value:
        """Discriminant scores, one column a class."""
        model = self.estimator
        scale = np.asarray(model.within_class_std_dev_, dtype=np.float64)
        scale = np.where(scale != 0, scale, 1.0).reshape(1, -1)
        centroids = np.asarray(model.centroids_, dtype=np.float64) / scale
        distance = distances(self.x / scale, centroids, model.metric, 2.0)
        if distance is None:
            raise self.refuse(f"no converter for metric {model.metric!r}")
        priors: Array = 2.0 * np.log(model.class_prior_).reshape(1, -1)
        return -distance.square() + priors

    def predict(self) -> Answer:
        model = self.estimator
        if not np.isclose(model.class_prior_, 1 / len(self.classes)).all():
            return self.labels(self.value("joint").argmax())
        centroids = np.asarray(model.centroids_, dtype=np.float64)
        if model.metric == "euclidean":
            return self.labels(first_within_reach(self.x, centroids))
        distance = distances(self.x, centroids, model.metric, 2.0)
        if distance is None:
            raise self.refuse(f"no converter for metric {model.metric!r}")
        return self.labels(distance.argmin())

    def decision_function(self) -> Answer:
        joint = self.value("joint")
        return joint.columns([1]) - joint.columns([0]) if len(self.classes) == 2 else joint

    def predict_proba(self) -> Answer:
        joint = self.value("joint")
        moved = joint - joint.max()
        return (moved - moved.exp().sum().log()).exp()


@emits("EllipticEnvelope")
class EnvelopeEmitter(Emitter):
    """Outliers by distance from the centre of a normal distribution."""

    def score_samples(self) -> Answer:
        model = self.estimator
        moved = self.x - np.asarray(model.location_, dtype=np.float64).reshape(1, -1)
        precision = np.asarray(model.get_precision(), dtype=np.float64)
        return -((moved @ precision) * moved).sum().sqrt().square()

    def decision_function(self) -> Answer:
        return self.value("score_samples") - float(self.estimator.offset_)

    def predict(self) -> Answer:
        return sign_marks(self.value("decision_function") >= 0.0)


@emits("GaussianMixture", "BayesianGaussianMixture")
class MixtureEmitter(NaiveBayes):
    """The most probable component."""

    def joint(self) -> Value:
        model = self.estimator
        # At the mean of a component only its constant is left.
        means = np.asarray(model.means_)
        constants = np.diagonal(np.asarray(model._estimate_weighted_log_prob(means), dtype=np.float64))
        return self._squares() * -0.5 + constants.reshape(1, -1)

    def _squares(self) -> Value:
        model = self.estimator
        roots = np.asarray(model.precisions_cholesky_, dtype=np.float64)
        means = np.asarray(model.means_, dtype=np.float64)
        if model.covariance_type in ("full", "tied"):
            columns = []
            for at, mean in enumerate(means):
                root = roots[at] if model.covariance_type == "full" else roots
                columns.append((self.x @ root - (mean @ root).reshape(1, -1)).square().sum())
            return self.graph.concat(columns)
        scales = roots**2 if model.covariance_type == "diag" else (roots**2).reshape(-1, 1) * np.ones(means.shape)
        linear = self.x @ (means * scales).T
        return linear * -2.0 + self.x.square() @ scales.T + square_sums(means * np.sqrt(scales))

    def predict(self) -> Answer:
        return self.value("joint").argmax()
