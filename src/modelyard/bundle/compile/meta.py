"""Estimators made of estimators: ensembles, stacks, chains, calibration, one against the rest; and dummies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from modelyard.bundle.compile.clusters import first_within_reach
from modelyard.bundle.compile.emit import Answer, Classifier, Emitter, Labels, Regressor, emits, emitter
from modelyard.bundle.compile.graph import Value
from modelyard.bundle.compile.linear import shares, with_complement
from modelyard.bundle.compile.neighbours import first_found
from modelyard.bundle.compile.preprocessing import constant_table
from modelyard.bundle.compile.special import interpolate
from modelyard.bundle.compile.table import Table, matrix, side_by_side
from modelyard.bundle.compile.trees import (
    Tree,
    ensemble,
    mean_of_leaves,
    single_precision,
    sklearn_tree,
)
from modelyard.bundle.compile.vectors import expanded_distances, one_against_one, squared_distances
from modelyard.domain.frame import Array

_LEAST_PROBABILITY = 1e-12
"""What the library adds to probabilities before it takes their logarithm."""

_TREE_REGRESSORS = ("DecisionTreeRegressor", "ExtraTreeRegressor")
_TREE_CLASSIFIERS = ("DecisionTreeClassifier", "ExtraTreeClassifier")


def _all_are(estimators: Sequence[Any], names: tuple[str, ...]) -> bool:
    return all(
        type(one).__name__ in names and type(one).__module__.startswith("sklearn.") and one.n_outputs_ == 1
        for one in estimators
    )


def _on_columns(tree: Tree, columns: Array | None) -> Tree:
    """A tree trained on some columns, as a tree on all of them."""
    if columns is not None:
        inner = tree.feature >= 0
        tree.feature = np.where(inner, np.asarray(columns)[np.where(inner, tree.feature, 0)], tree.feature)
    return tree


class Members(Emitter):
    """An ensemble with `estimators_`."""

    @property
    def members(self) -> list[Any]:
        """The fitted estimators."""
        return [one for one in self.estimator.estimators_ if not isinstance(one, str)]

    def inner(self, one: Any, table: Table | None = None) -> Emitter:
        """The emitter of a member, on the ensemble's own input unless told otherwise."""
        return emitter(self.graph, one, self.table if table is None else table)

    def mean(self, values: Sequence[Value], weights: Any = None) -> Value:
        """The average of several values, weighted if wanted."""
        if weights is None:
            return self.graph.total(values) / float(len(values))
        parts = [value * float(weight) for value, weight in zip(values, weights, strict=True)]
        return self.graph.total(parts) / float(np.sum(weights))


@emits("VotingRegressor")
class VotingRegressorEmitter(Members, Regressor):
    """The average of several regressors."""

    def predict(self) -> Answer:
        return self.mean([self.inner(one).value("predict") for one in self.members], self.estimator._weights_not_none)

    def transform(self) -> Table:
        values = [self.inner(one).value("predict") for one in self.members]
        return matrix(self.graph.concat(values), len(values))


@emits("VotingClassifier")
class VotingClassifierEmitter(Members, Classifier):
    """The average of probabilities, or votes."""

    def predict_proba(self) -> Answer:
        values = [self.inner(one).value("predict_proba") for one in self.members]
        return self.mean(values, self.estimator._weights_not_none)

    def predict(self) -> Answer:
        if self.estimator.voting == "soft":
            return self.labels(self.value("predict_proba").argmax())
        weights = self.estimator._weights_not_none
        votes = []
        for at, one in enumerate(self.members):
            weight = 1.0 if weights is None else float(weights[at])
            code = self.inner(one).value("predict").cast("i8")
            votes.append(code.rows_of(np.eye(len(self.classes)) * weight))
        return self.labels(self.graph.total(votes).argmax())


class Stack(Members):
    """Answers of several estimators as columns for a last one."""

    def transform(self) -> Table:
        model = self.estimator
        parts = [self._columns(one, method) for one, method in zip(self.members, model.stack_method_, strict=True)]
        if model.passthrough:
            parts.append(self.table)
        return side_by_side(self.graph, parts)

    def _columns(self, one: Any, method: str) -> Table:
        made = self.inner(one)
        answer = made.answer(method)
        if isinstance(answer, list):
            raise self.refuse("no converter for several targets")
        value = made.value(method)
        classes = len(getattr(one, "classes_", ()))
        if method == "predict_proba" and classes == 2:
            return matrix(value.columns([1]), 1)
        if method == "predict":
            return matrix(value, 1)
        return matrix(value, 1 if method == "decision_function" and classes == 2 else max(classes, 1))

    def last(self) -> Emitter:
        """The final estimator on those columns."""
        return emitter(self.graph, self.estimator.final_estimator_, self._stacked())

    def _stacked(self) -> Table:
        answer = self.answer("transform")
        if not isinstance(answer, Table):
            raise self.refuse("no columns to stack")
        return answer


@emits("StackingRegressor")
class StackingRegressorEmitter(Stack, Regressor):
    """The last one's answer."""

    def predict(self) -> Answer:
        return self.last().answer("predict")


@emits("StackingClassifier")
class StackingClassifierEmitter(Stack, Classifier):
    """The last one's answer, in the labels of training."""

    def predict(self) -> Answer:
        if isinstance(self.estimator._label_encoder, list):
            raise self.refuse("no converter for several targets")
        codes = self.last().value("predict").cast("i8")
        return self.labels(codes)

    def predict_proba(self) -> Answer:
        return self.last().answer("predict_proba")

    def decision_function(self) -> Answer:
        return self.last().answer("decision_function")


class Bagged(Members):
    """Members trained on some rows and some columns."""

    def parts(self) -> list[tuple[Any, Array | None]]:
        """Members with the columns they see; None for all of them."""
        everything = np.arange(self.width)
        return [
            (one, None if np.array_equal(columns, everything) else np.asarray(columns))
            for one, columns in zip(self.estimator.estimators_, self.estimator.estimators_features_, strict=True)
        ]

    def member(self, one: Any, columns: Array | None) -> Emitter:
        """A member on its columns."""
        return self.inner(one, self._input() if columns is None else self._input().pick(columns.tolist()))

    def _input(self) -> Table:
        """The library makes one array of the input before it hands it on."""
        key = ("bagged", self.x.name)
        if key not in self.graph.memo:
            self.graph.memo[key] = matrix(self.x, self.width, sparse=self.table.sparse)
        made: Table = self.graph.memo[key]
        return made


@emits("BaggingRegressor")
class BaggingRegressorEmitter(Bagged, Regressor):
    """The mean of the members."""

    def predict(self) -> Answer:
        parts = self.parts()
        if _all_are([one for one, _ in parts], _TREE_REGRESSORS):
            trees = [_on_columns(sklearn_tree(one.tree_), columns) for one, columns in parts]
            values = [np.asarray(one.tree_.value[:, 0, 0], dtype=np.float64) for one, _ in parts]
            return ensemble(single_precision(self.x), trees, values, [0] * len(trees), 1) / float(len(trees))
        return self.mean([self.member(one, columns).value("predict") for one, columns in parts])


@emits("BaggingClassifier")
class BaggingClassifierEmitter(Bagged, Classifier):
    """The mean of the members' probabilities, or their votes."""

    def predict_proba(self) -> Answer:
        parts = self.parts()
        if _all_are([one for one, _ in parts], _TREE_CLASSIFIERS):
            return self._of_trees(parts)
        return self.mean([self._shares(one, self.member(one, columns)) for one, columns in parts])

    def _of_trees(self, parts: list[tuple[Any, Array | None]]) -> Value:
        trees = [_on_columns(sklearn_tree(one.tree_), columns) for one, columns in parts]
        tables = []
        for one, _ in parts:
            lines = np.asarray(one.tree_.value[:, 0, :], dtype=np.float64)
            tables.append(lines @ self._places(one))
        return mean_of_leaves(single_precision(self.x), trees, tables)

    def _places(self, one: Any) -> Array:
        """Where a member's classes are among all: it may not have seen every class."""
        placed = np.zeros((len(one.classes_), len(self.classes)))
        placed[np.arange(len(one.classes_)), np.asarray(one.classes_, dtype=np.int64)] = 1.0
        return placed

    def _shares(self, one: Any, made: Emitter) -> Value:
        if hasattr(one, "predict_proba"):
            value = made.value("predict_proba")
            return value if len(one.classes_) == len(self.classes) else value @ self._places(one)
        return made.value("predict").cast("i8").rows_of(np.eye(len(self.classes)))

    def decision_function(self) -> Answer:
        return self.mean([self.member(one, columns).value("decision_function") for one, columns in self.parts()])


@emits("AdaBoostClassifier")
class AdaClassifierEmitter(Members, Classifier):
    """Weighted votes."""

    def decision_function(self) -> Answer:
        model = self.estimator
        count = len(self.classes)
        weights = np.asarray(model.estimator_weights_, dtype=np.float64)[: len(self.members)]
        lines = [
            np.full((count, count), -weight / (count - 1)) + np.eye(count) * (weight + weight / (count - 1))
            for weight in weights
        ]
        total = self._votes(lines) / float(np.asarray(model.estimator_weights_).sum())
        if count == 2:
            return total.columns([1]) - total.columns([0])
        return total

    def _votes(self, lines: list[Array]) -> Value:
        """The sum of each member's line for the class it names."""
        if _all_are(self.members, _TREE_CLASSIFIERS):
            trees = [sklearn_tree(one.tree_) for one in self.members]
            tables = []
            for one, line in zip(self.members, lines, strict=True):
                named = np.asarray(one.tree_.value[:, 0, :]).argmax(axis=1)
                tables.append(line[self._positions(one)[named]])
            return mean_of_leaves(single_precision(self.x), trees, tables) * float(len(trees))
        parts = []
        for one, line in zip(self.members, lines, strict=True):
            answer = self.inner(one).answer("predict")
            if not isinstance(answer, Labels):
                raise self.refuse("a member without labels")
            parts.append(answer.index.rows_of(line[self._positions(one)]))
        return self.graph.total(parts)

    def _positions(self, one: Any) -> Array:
        """Where a member's classes are among all."""
        places = {label: at for at, label in enumerate(self.classes.tolist())}
        return np.array([places[label] for label in np.asarray(one.classes_).tolist()])

    def predict(self) -> Answer:
        return self.by_score(self.value("decision_function"))

    def predict_proba(self) -> Answer:
        decision = self.value("decision_function")
        if len(self.classes) == 2:
            return (self.graph.concat([-decision, decision]) / 2.0).softmax()
        return (decision / float(len(self.classes) - 1)).softmax()


@emits("AdaBoostRegressor")
class AdaRegressorEmitter(Members, Regressor):
    """The weighted median of the members."""

    def predict(self) -> Answer:
        members = self.members
        count = len(members)
        weights = np.asarray(self.estimator.estimator_weights_, dtype=np.float64)[:count]
        if _all_are(members, _TREE_REGRESSORS):
            trees = [sklearn_tree(one.tree_) for one in members]
            values = [np.asarray(one.tree_.value[:, 0, 0], dtype=np.float64) for one in members]
            answers = ensemble(single_precision(self.x), trees, values, list(range(count)), count)
        else:
            answers = self.graph.concat([self.inner(one).value("predict") for one in members])
        ordered, order = self.graph.topk(answers, count, largest=False)
        heights = order.rows_of(weights.reshape(-1, 1)).reshape(-1, count)
        running = self.graph.node("CumSum", (heights, self.graph.constant(1, "i8")), "f8")
        reached = (running >= running.columns([count - 1]) * 0.5).cast("i8")
        chosen = reached.argmax()
        return self.graph.node("GatherElements", (ordered, chosen), "f8", axis=1)


@emits("CalibratedClassifierCV")
class CalibratedEmitter(Members, Classifier):
    """Calibrated probabilities, averaged."""

    def predict_proba(self) -> Answer:
        return self.mean([self._one(one) for one in self.estimator.calibrated_classifiers_])

    def _one(self, calibrated: Any) -> Value:
        classes = len(calibrated.classes)
        made = self.inner(calibrated.estimator)
        scored = hasattr(calibrated.estimator, "decision_function")
        scores = made.value("decision_function" if scored else "predict_proba")
        if not scored and classes == 2:
            scores = scores.columns([1])
        if calibrated.method == "temperature":
            return _tidied(_tempered(calibrated.calibrators[0], scores, scored=scored, classes=classes))
        own = list(calibrated.estimator.classes_)
        if own != list(calibrated.classes):
            raise self.refuse("a member that has not seen every class")
        if classes == 2:
            return _tidied(with_complement(_calibrated(calibrated.calibrators[0], scores)))
        columns = [_calibrated(one, scores.columns([at])) for at, one in enumerate(calibrated.calibrators)]
        values = self.graph.concat(columns)
        total = values.sum()
        return _tidied(self.graph.where(total.equals(0.0), 1.0 / classes, values / total))


def _tempered(calibrator: Any, scores: Value, *, scored: bool, classes: int) -> Value:
    """Softmax of scaled logits: decisions as they are, probabilities as logarithms."""
    if classes == 2:
        scores = scores.graph.concat([-scores if scored else 1.0 - scores, scores])
    if not scored:
        scores = (scores + _LEAST_PROBABILITY).log()
    return (scores * float(calibrator.beta_)).softmax()


def _tidied(values: Value) -> Value:
    """Shares a rounding error above one become one."""
    above = (values > 1.0) & (values <= 1.0 + 1e-5)
    return values.graph.where(above, 1.0, values)


def _calibrated(calibrator: Any, score: Value) -> Value:
    if type(calibrator).__name__ == "IsotonicRegression":
        return isotonic(calibrator, score)
    return (-(score * float(calibrator.a_) + float(calibrator.b_))).sigmoid()


def isotonic(model: Any, x: Value) -> Value:
    """The step function of an isotonic regression."""
    marks = np.asarray(model.X_thresholds_, dtype=np.float64)
    levels = np.asarray(model.y_thresholds_, dtype=np.float64)
    if len(levels) == 1 or model.out_of_bounds == "clip":
        return interpolate(x, marks, levels)
    inside = (x >= float(marks[0])) & (x <= float(marks[-1]))
    return x.graph.where(inside, interpolate(x, marks, levels), np.nan)


@emits("IsotonicRegression")
class IsotonicEmitter(Regressor):
    """A rising function of one column."""

    def predict(self) -> Answer:
        if self.estimator.out_of_bounds == "raise":
            raise self.refuse("it raises outside of the range seen")
        return isotonic(self.estimator, self.x)

    def transform(self) -> Table:
        return matrix(self.value("predict"), 1)


@emits("OneVsRestClassifier")
class OneVsRestEmitter(Members, Classifier):
    """One classifier a class."""

    def predict(self) -> Answer:
        columns = [_binary_score(self.inner(one), one) for one in self.members]
        if self.estimator.label_binarizer_.y_type_ == "multiclass":
            return self.labels(self.graph.concat(columns).argmax())
        marks = (self.graph.concat(columns) > _binary_threshold(self.members[0])).cast("i8")
        return self.labels(marks) if len(columns) == 1 else marks

    def predict_proba(self) -> Answer:
        columns = [self.inner(one).value("predict_proba").columns([1]) for one in self.members]
        if len(columns) == 1:
            return with_complement(columns[0])
        values = self.graph.concat(columns)
        if self.estimator.multilabel_:
            return values
        total = values.sum()
        return self.graph.where(total.equals(0.0), values, values / total)

    def decision_function(self) -> Answer:
        return self.graph.concat([self.inner(one).value("decision_function") for one in self.members])


def _is_regressor(one: Any) -> bool:
    return not hasattr(one, "classes_") and type(one).__name__ != "_ConstantPredictor"


def _binary_score(made: Emitter, one: Any) -> Value:
    """The score of a binary estimator: decision, or the second probability, or a regressor's answer."""
    if _is_regressor(one):
        return made.value("predict")
    if hasattr(one, "decision_function"):
        return made.value("decision_function")
    return made.value("predict_proba").columns([1])


def _binary_threshold(one: Any) -> float:
    return 0.0 if hasattr(one, "decision_function") and not _is_regressor(one) else 0.5


@emits("_ConstantPredictor")
class ConstantEmitter(Emitter):
    """A class that is always there, or never."""

    def predict(self) -> Answer:
        return constant_table(self.graph, self.x, np.asarray(self.estimator.y_, dtype=np.float64))

    def decision_function(self) -> Answer:
        return self.predict()

    def predict_proba(self) -> Answer:
        share = float(np.ravel(self.estimator.y_)[0])
        return constant_table(self.graph, self.x, np.array([1.0 - share, share]))


@emits("OneVsOneClassifier")
class OneVsOneEmitter(Members, Classifier):
    """One classifier a pair of classes."""

    def votes(self) -> Value:
        """Votes and confidences, one column a class."""
        model = self.estimator
        if model.pairwise_indices_ is not None:
            raise self.refuse("no converter for precomputed kernels")
        wins = self.graph.concat([self.inner(one).value("predict") for one in self.members])
        scores = self.graph.concat([_binary_score(self.inner(one), one) for one in self.members])
        return one_against_one(wins, scores, len(self.classes))

    def decision_function(self) -> Answer:
        votes = self.value("votes")
        return votes.columns([1]) if len(self.classes) == 2 else votes

    def predict(self) -> Answer:
        scores = self.value("decision_function")
        if len(self.classes) == 2:
            return self.labels((scores > _binary_threshold(self.members[0])).cast("i8"))
        return self.labels(scores.argmax())


@emits("OutputCodeClassifier")
class OutputCodeEmitter(Members, Classifier):
    """The nearest code word."""

    def predict(self) -> Answer:
        scores = self.graph.concat([_binary_score(self.inner(one), one) for one in self.members])
        return self.labels(first_within_reach(scores, self.fitted("code_book_")))


@emits("MultiOutputClassifier", "MultiOutputRegressor")
class MultiOutputEmitter(Members):
    """One estimator a target."""

    def predict(self) -> Answer:
        answers = [self.inner(one).answer("predict") for one in self.members]
        if all(isinstance(answer, Value) for answer in answers):
            return self.graph.concat([self.inner(one).value("predict") for one in self.members])
        return answers

    def predict_proba(self) -> Answer:
        return [self.inner(one).answer("predict_proba") for one in self.members]


class Chain(Members):
    """Estimators that see the answers of those before them."""

    def follow(self, method: str) -> Value:
        """What `method` of each link gives, in the order of the targets."""
        model = self.estimator
        handed = getattr(model, "chain_method_", "predict")
        tables, results = [matrix(self.x, self.width)], []
        for one in self.members:
            made = self.inner(one, side_by_side(self.graph, tables))
            results.append(_response(made, method))
            tables.append(matrix(_response(made, handed), 1))
        back = np.empty(len(results), dtype=np.int64)
        back[np.asarray(model.order_)] = np.arange(len(results))
        return self.graph.concat([results[at] for at in back])

    def predict(self) -> Answer:
        return self.follow("predict")


def _response(made: Emitter, method: str) -> Value:
    value = made.value(method)
    return value.columns([1]) if method == "predict_proba" else value


@emits("RegressorChain")
class RegressorChainEmitter(Chain, Regressor):
    """Numbers."""


@emits("ClassifierChain")
class ClassifierChainEmitter(Chain):
    """Marks, their probabilities and scores."""

    def predict_proba(self) -> Answer:
        return self.follow("predict_proba")

    def decision_function(self) -> Answer:
        return self.follow("decision_function")


@emits("LabelPropagation", "LabelSpreading")
class PropagationEmitter(Classifier):
    """Shares of the labels that similar rows have."""

    def predict_proba(self) -> Answer:
        model = self.estimator
        points = np.asarray(model.X_.toarray() if hasattr(model.X_, "toarray") else model.X_, dtype=np.float64)
        spread = np.asarray(model.label_distributions_, dtype=np.float64)
        if model.kernel == "rbf":
            return shares((expanded_distances(self.x, points) * -float(model.gamma)).exp() @ spread)
        count = int(model.n_neighbors)
        lines = self._nearest(points, count).rows_of(spread).reshape(-1, count, spread.shape[1])
        return shares(lines.sum().reshape(-1, spread.shape[1]))

    def _nearest(self, points: Array, count: int) -> Value:
        model = self.estimator
        if model.kernel != "knn":
            raise self.refuse("no converter for kernels given as functions")
        if len(np.unique(points, axis=0)) < len(points):
            raise self.refuse("equal training rows: which of them counts as nearer is up to the search tree")
        if model.nn_fit._fit_method == "brute":
            return first_found(self.x, points, count)
        distance, positions = self.graph.topk(squared_distances(self.x, points), count, largest=False)
        return self.graph.where(distance.equals(np.inf), 0, positions)


@emits("DummyClassifier")
class DummyClassifierEmitter(Classifier):
    """Always the same."""

    def line(self) -> Array:
        """The probabilities of every row."""
        model = self.estimator
        if model.n_outputs_ != 1 or model._strategy in ("stratified", "uniform"):
            raise self.refuse(f"no converter for strategy {model._strategy!r}, or for several targets")
        prior = np.asarray(model.class_prior_, dtype=np.float64)
        if model._strategy == "prior":
            return prior
        if model._strategy == "constant":
            named: Array = (self.classes == np.ravel(model.constant)[0]).astype(np.float64)
            return named
        line: Array = np.eye(len(prior))[prior.argmax()]
        return line

    def predict_proba(self) -> Answer:
        return constant_table(self.graph, self.table.numeric_any(), self.line())

    def predict(self) -> Answer:
        at = float(int(np.argmax(self.line())))
        return self.labels(constant_table(self.graph, self.table.numeric_any(), np.array([at])).cast("i8"))


@emits("DummyRegressor")
class DummyRegressorEmitter(Regressor):
    """Always the same."""

    def predict(self) -> Answer:
        line = np.asarray(self.estimator.constant_, dtype=np.float64).ravel()
        return constant_table(self.graph, self.table.numeric_any(), line)
