"""Nearest neighbours, and what is computed from them."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from modelyard.bundle.compile.emit import Answer, Classifier, Emitter, Labels, Regressor, emits
from modelyard.bundle.compile.graph import Value
from modelyard.bundle.compile.vectors import (
    city_distances,
    dense,
    differences,
    sign_marks,
    square_sums,
    squared_distances,
)
from modelyard.domain.frame import Array

_ASKED = 256
"""So many training rows are asked for their own neighbours."""

_CLOSE = 1e-9
"""Distances of near rows closer than this to one another are ordered by rounding, not by what they measure."""

_EQUAL = 1e-13
"""Distances of any rows closer than this are the same distance."""


def distances(x: Value, points: Array, metric: str, power: float) -> Value | None:
    """Distances of every row to every point, computed from differences; None for metrics that are not written here."""
    if metric == "minkowski":
        metric = {1.0: "manhattan", 2.0: "euclidean", np.inf: "chebyshev"}.get(float(power), metric)
    if metric in ("euclidean", "l2"):
        return squared_distances(x, points).sqrt()
    if metric in ("manhattan", "cityblock", "l1"):
        return city_distances(x, points)
    if metric == "chebyshev":
        return differences(x, points).abs().max(2).reshape(-1, len(points))
    if metric == "minkowski":
        return (differences(x, points).abs() ** float(power)).sum(2).reshape(-1, len(points)) ** (1.0 / float(power))
    return None


def searched(x: Value, points: Array) -> Value:
    """What ``sklearn.metrics.pairwise_distances_argmin`` and exhaustive searches put in order.

    Beyond the largest double the undefined counts as zero, and everything else as the largest double.
    """
    graph = x.graph
    graph.needs_cells(len(points))
    largest = float(np.finfo(np.float64).max)
    distance = x.square().sum() + (x @ points.T) * -2.0 + square_sums(points)
    distance = graph.where(distance > 0.0, distance, 0.0)
    return graph.where(distance < largest, distance, largest)


def first_found(x: Value, points: Array, count: int) -> Value:
    """Positions of the nearest points as an exhaustive search finds them."""
    order, positions = x.graph.topk(searched(x, points), count, largest=False)
    return x.graph.where(order.equals(float(np.finfo(np.float64).max)), 0, positions)


def _exact_distances(rows: Array, points: Array, model: Any) -> Array:
    """Distances from differences, as the graph computes them."""
    metric = {"manhattan": "cityblock", "l1": "cityblock", "l2": "euclidean"}.get(
        str(model.effective_metric_), str(model.effective_metric_)
    )
    power = {"p": float(model.effective_metric_params_.get("p", model.p))} if metric == "minkowski" else {}
    found: Array = cdist(rows, points, metric, **power)
    return found


def _any_closer(ordered: Array, share: float) -> bool:
    """Whether two distances of one row lie closer than that share of them."""
    return bool(np.any(np.diff(ordered, axis=1) <= share * ordered[:, 1:]))


class Neighbours(Emitter):
    """Anything with training rows to look for neighbours in."""

    @cached_property
    def all_distances(self) -> Value:
        """Distance to every training row."""
        model = self.estimator
        points = dense(model._fit_X)
        if len(np.unique(points, axis=0)) < len(points):
            raise self.refuse("equal training rows: which of them counts as nearer is up to the search tree")
        found = distances(self.x, points, str(model.effective_metric_), float(getattr(model, "p", 2) or 2))
        if found is None:
            raise self.refuse(f"no converter for metric {model.effective_metric_!r}")
        return found

    def nearest(self, count: int) -> tuple[Value, Value]:
        """Distances and positions of the nearest training rows, nearest first."""
        self._check_order(count)
        model = self.estimator
        if model._fit_method == "brute" and model.effective_metric_ == "euclidean":
            return self._searched(count)
        distance, positions = self.graph.topk(self.all_distances, count, largest=False)
        # Beyond the largest double every search of the library names the first training row.
        return distance, self.graph.where(distance.equals(np.inf), 0, positions)

    def _searched(self, count: int) -> tuple[Value, Value]:
        """Nearest rows as the library's exhaustive search finds them, by `searched`, with exact distances."""
        positions = first_found(self.x, dense(self.estimator._fit_X), count)
        exact = self.graph.node("GatherElements", (self.all_distances, positions), "f8", axis=1)
        return exact, positions

    def _check_order(self, count: int) -> None:
        """Refuse where rounding decides which rows are nearest: new rows would get other neighbours than in training.

        Whole numbers and codes of categories lie on a grid, where many rows are equally far from one another; and the
        library's quick way to many distances loses digits where columns are large.
        """
        model = self.estimator
        points = dense(model._fit_X)
        rows = np.arange(0, len(points), max(1, len(points) // _ASKED))
        known = min(count + 1, len(points))
        everywhere = np.sort(_exact_distances(points[rows], points, model), axis=1)
        exact = everywhere[:, :known]
        found = model.kneighbors(model._fit_X[rows], known)[0]
        apart = exact > 0
        if getattr(model, "weights", None) == "distance":
            apart[:] = True
        if not np.allclose(found[apart], exact[apart], rtol=_CLOSE, atol=0):
            raise self.refuse("the library's own distances are rounded, and decide which rows are nearest")
        if _any_closer(exact[:, 1:], _CLOSE) or _any_closer(everywhere[:, 1:], _EQUAL):
            raise self.refuse("training rows at equal distances: which counts as nearer is up to the search")

    def weights(self, distance: Value) -> Value | None:
        """The neighbours' weights; None: all the same."""
        if self.estimator.weights in (None, "uniform"):
            return None
        if self.estimator.weights != "distance":
            raise self.refuse("no converter for weights given as a function")
        zero = distance.equals(0.0)
        exact = zero.cast("i8").max() > 0
        return self.graph.where(exact, zero.cast("f8"), 1.0 / distance)

    def gathered(self, positions: Value, table: Array, count: int) -> Value:
        """Lines of a table for the neighbours, shape ``(rows, count, width)``."""
        width = table.shape[1]
        return positions.rows_of(table).reshape(-1, count, width)


@emits("KNeighborsRegressor")
class NeighboursRegressorEmitter(Neighbours, Regressor):
    """The mean of the nearest targets."""

    def predict(self) -> Answer:
        count = int(self.estimator.n_neighbors)
        targets = np.asarray(self.estimator._y, dtype=np.float64)
        targets = targets.reshape(len(targets), -1)
        distance, positions = self.nearest(count)
        lines = self.gathered(positions, targets, count)
        weights = self.weights(distance)
        if weights is None:
            return lines.sum().reshape(-1, targets.shape[1]) / float(count)
        weighted = (lines * weights.reshape(-1, count, 1)).sum().reshape(-1, targets.shape[1])
        return weighted / weights.sum()


@emits("KNeighborsClassifier")
class NeighboursClassifierEmitter(Neighbours, Classifier):
    """The votes of the nearest rows."""

    def shares(self) -> list[Value]:
        """Shares of the vote for each target."""
        model = self.estimator
        count = int(model.n_neighbors)
        codes = np.asarray(model._y).reshape(len(model._y), -1)
        classes = model.classes_ if model.outputs_2d_ else [model.classes_]
        distance, positions = self.nearest(count)
        weights = self.weights(distance)
        results = []
        for target, known in enumerate(classes):
            votes = self.gathered(positions, np.eye(len(known))[codes[:, target]], count)
            if weights is not None:
                votes = votes * weights.reshape(-1, count, 1)
            total = votes.sum().reshape(-1, len(known))
            results.append(total / total.sum())
        return results

    def predict_proba(self) -> Answer:
        shares: Any = self.answer("shares")
        return list(shares) if self.estimator.outputs_2d_ else shares[0]

    def predict(self) -> Answer:
        shares: Any = self.answer("shares")
        if not self.estimator.outputs_2d_:
            return self.labels(shares[0].argmax())
        return [Labels(part.argmax(), np.asarray(c)) for part, c in zip(shares, self.estimator.classes_, strict=True)]


@emits("RadiusNeighborsRegressor")
class RadiusRegressorEmitter(Neighbours, Regressor):
    """The mean target of all rows within a distance; NaN where there is none."""

    def predict(self) -> Answer:
        targets = np.asarray(self.estimator._y, dtype=np.float64)
        targets = targets.reshape(len(targets), -1)
        distance = self.all_distances
        near = (distance <= float(self.estimator.radius)).cast("f8")
        weights = self._weights(distance, near)
        return (weights @ targets) / weights.sum()

    def _weights(self, distance: Value, near: Value) -> Value:
        if self.estimator.weights in (None, "uniform"):
            return near
        if self.estimator.weights != "distance":
            raise self.refuse("no converter for weights given as a function")
        zero = distance.equals(0.0)
        exact = zero.cast("i8").max() > 0
        inverse = self.graph.where(near > 0.0, 1.0 / self.graph.where(zero, 1.0, distance), 0.0)
        return self.graph.where(exact, zero.cast("f8"), inverse)


@emits("RadiusNeighborsClassifier")
class RadiusClassifierEmitter(RadiusRegressorEmitter, Classifier):
    """The votes of all rows within a distance."""

    def predict_proba(self) -> Answer:
        model = self.estimator
        if model.outputs_2d_:
            raise self.refuse("no converter for several targets")
        votes_of = np.eye(len(self.classes))[np.asarray(model._y).ravel()]
        distance = self.all_distances
        near = (distance <= float(model.radius)).cast("f8")
        votes = self._weights(distance, near) @ votes_of
        nobody = near.sum().equals(0.0)
        votes = self.graph.where(nobody, self._outlier_line(), votes)
        total = votes.sum()
        return votes / self.graph.where(total.equals(0.0), 1.0, total)

    def _outlier_line(self) -> Array:
        """What rows without neighbours get. Without a label for them the library raises, so nobody sees this line."""
        labels = self.estimator.outlier_label_
        if labels is None:
            return np.full((1, len(self.classes)), np.nan)
        line: Array = np.asarray(self.classes == labels[0], dtype=np.float64).reshape(1, -1)
        if not line.any():
            raise self.refuse("the label for outliers is not one of the classes")
        return line

    def predict(self) -> Answer:
        return self.labels(self.value("predict_proba").argmax())


@emits("LocalOutlierFactor")
class LocalOutlierEmitter(Neighbours):
    """How much sparser a row lies than its neighbours."""

    def score_samples(self) -> Answer:
        model = self.estimator
        if not model.novelty:
            raise self.refuse("it has no answers for new rows without novelty=True")
        count = int(model.n_neighbors_)
        distance, positions = self.nearest(count)
        facts = np.stack([np.asarray(model._distances_fit_X_)[:, count - 1], np.asarray(model._lrd)], axis=1)
        lines = self.gathered(positions, facts.astype(np.float64), count)
        reach = lines.reshape(-1, count * 2).columns(np.arange(0, count * 2, 2))
        densities = lines.reshape(-1, count * 2).columns(np.arange(1, count * 2, 2))
        farthest = self.graph.where(distance > reach, distance, reach)
        density = 1.0 / (farthest.sum() / float(count) + 1e-10)
        return -((densities / density).sum() / float(count))

    def decision_function(self) -> Answer:
        return self.value("score_samples") - float(self.estimator.offset_)

    def predict(self) -> Answer:
        return sign_marks(self.value("decision_function") >= 0.0)
