"""Pipelines, column transformers and other estimators that only pass work on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from modelyard.bundle.compile.emit import (
    Answer,
    Classifier,
    Emitter,
    Labels,
    Selection,
    emits,
    emitter,
    transformed,
)
from modelyard.bundle.compile.inverse import inverted
from modelyard.bundle.compile.table import Table, matrix, side_by_side


class Passing(Emitter):
    """An emitter that gives the answers of another one."""

    def inner(self) -> Emitter:
        """Whose answers are given."""
        raise NotImplementedError

    def answer(self, method: str) -> Answer:
        return self.inner().answer(method)


@emits("Pipeline")
class PipelineEmitter(Passing):
    """Steps one after the other; the last one answers."""

    def inner(self) -> Emitter:
        table = self.table
        for _, step in self.estimator.steps[:-1]:
            table = transformed(self.graph, step, table)
        last = self.estimator.steps[-1][1]
        return emitter(self.graph, last, table)

    def answer(self, method: str) -> Answer:
        last = self.estimator.steps[-1][1]
        if method == "transform" and (last is None or isinstance(last, str)):
            return self._all_but_nothing()
        return super().answer(method)

    def _all_but_nothing(self) -> Table:
        table = self.table
        for _, step in self.estimator.steps:
            table = transformed(self.graph, step, table)
        return table


@emits("ColumnTransformer")
class ColumnTransformerEmitter(Emitter):
    """Each transformer on its columns, results side by side."""

    def transform(self) -> Table:
        parts = []
        inputs = self.estimator._transformer_to_input_indices
        for name, step, _ in self.estimator.transformers_:
            if isinstance(step, str) and step == "drop":
                continue
            part = self.table.pick(self._positions(inputs[name]))
            if part.width:
                parts.append(self._weighted(transformed(self.graph, step, part), name))
        return side_by_side(self.graph, parts, sparse=bool(self.estimator.sparse_output_))

    def _positions(self, indices: Sequence[int]) -> list[int]:
        """Where the columns that were picked in training are now."""
        fitted = getattr(self.estimator, "feature_names_in_", None)
        names = self.table.names
        if fitted is None or names is None or not self.table.frame:
            return [int(index) for index in indices]
        places = {name: at for at, name in enumerate(names)}
        missing = [fitted[index] for index in indices if fitted[index] not in places]
        if missing:
            raise self.refuse(f"column {missing[0]!r} is not in the sample")
        return [places[fitted[index]] for index in indices]

    def _weighted(self, table: Table, name: str) -> Table:
        weights = self.estimator.transformer_weights or {}
        if weights.get(name) is None:
            return table
        return matrix(table.numeric() * float(weights[name]), table.width, sparse=table.sparse)


@emits("FeatureUnion")
class FeatureUnionEmitter(Emitter):
    """Several transformers on the same columns, results side by side."""

    def transform(self) -> Table:
        weights = self.estimator.transformer_weights or {}
        parts = []
        for name, step in self.estimator.transformer_list:
            if isinstance(step, str) and step == "drop":
                continue
            part = transformed(self.graph, step, self.table)
            if weights.get(name) is not None:
                part = matrix(part.numeric() * float(weights[name]), part.width, sparse=part.sparse)
            parts.append(part)
        return side_by_side(self.graph, parts)


@emits("GridSearchCV", "RandomizedSearchCV", "HalvingGridSearchCV", "HalvingRandomSearchCV")
class SearchEmitter(Passing):
    """The best estimator of a search."""

    def inner(self) -> Emitter:
        return emitter(self.graph, self.estimator.best_estimator_, self.table)


@emits("RANSACRegressor", "SelfTrainingClassifier")
class DelegatingEmitter(Passing):
    """One fitted estimator inside another."""

    def inner(self) -> Emitter:
        return emitter(self.graph, self.estimator.estimator_, self.table)

    def answer(self, method: str) -> Answer:
        given = super().answer(method)
        if isinstance(given, Labels) and method == "predict":
            return Labels(given.index, np.asarray(self.inner().estimator.classes_))
        return given


@emits("FrozenEstimator")
class FrozenEmitter(Passing):
    """An estimator that is not fitted again."""

    def inner(self) -> Emitter:
        return emitter(self.graph, self.estimator.estimator, self.table)


@emits("RFE", "RFECV")
class EliminationEmitter(Selection):
    """The kept columns, and the estimator trained on them."""

    def answer(self, method: str) -> Answer:
        if method == "transform":
            return self.transform()
        return emitter(self.graph, self.estimator.estimator_, self.transform()).answer(method)


@emits("FixedThresholdClassifier", "TunedThresholdClassifierCV")
class ThresholdEmitter(Classifier):
    """A binary classifier with another threshold."""

    def answer(self, method: str) -> Answer:
        if method == "predict":
            return self.predict()
        return emitter(self.graph, self.estimator.estimator_, self.table).answer(method)

    def predict(self) -> Answer:
        method, threshold, positive = self._rule()
        inner = emitter(self.graph, self.estimator.estimator_, self.table)
        classes = list(self.classes)
        at = classes.index(positive)
        scores = inner.value(method)
        if method == "predict_proba":
            scores = scores.columns([at])
        elif at == 0:
            scores = -scores
        above = (scores >= threshold).cast("i8")
        return self.labels(above if at == 1 else 1 - above)

    def _rule(self) -> tuple[str, float, Any]:
        estimator = self.estimator
        method = _response_method(estimator)
        threshold = getattr(estimator, "best_threshold_", None)
        if threshold is None:
            threshold = estimator.threshold
        if isinstance(threshold, str):
            threshold = 0.5 if method == "predict_proba" else 0.0
        positive = _positive_label(estimator)
        return method, float(threshold), positive


def _response_method(estimator: Any) -> str:
    wanted = estimator.response_method
    order = ("predict_proba", "decision_function") if wanted == "auto" else (wanted,)
    return next(name for name in order if hasattr(estimator.estimator_, name))


def _positive_label(estimator: Any) -> Any:
    """The class that the threshold is for: the named one, or 1, or the second."""
    curve = getattr(estimator, "_curve_scorer", None)
    named = curve._get_pos_label() if curve is not None else getattr(estimator, "pos_label", None)
    return estimator.classes_[1] if named is None else named


@emits(
    "SelectKBest",
    "SelectPercentile",
    "SelectFpr",
    "SelectFdr",
    "SelectFwe",
    "GenericUnivariateSelect",
    "VarianceThreshold",
    "SelectFromModel",
    "SequentialFeatureSelector",
)
class SelectionEmitter(Selection):
    """Feature selection."""


@emits("TransformedTargetRegressor")
class TransformedTargetEmitter(Emitter):
    """A regressor whose answers go back through a transformer of the target."""

    def predict(self) -> Answer:
        inner = emitter(self.graph, self.estimator.regressor_, self.table).value("predict")
        return inverted(self.graph, self.estimator.transformer_, inner)
