"""Decision trees and sums of them.

scikit-learn compares single-precision inputs with double-precision thresholds, histogram boosting compares doubles,
XGBoost singles with ``<``: each is reproduced by the type of the input and double thresholds, never by rounding
the thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import numpy_helper

from modelyard.bundle.compile.emit import Answer, Classifier, Emitter, Labels, Regressor, emits, emitter, transformed
from modelyard.bundle.compile.graph import Value
from modelyard.bundle.compile.linear import with_complement
from modelyard.bundle.compile.table import Table, matrix, side_by_side
from modelyard.domain.frame import Array

LESS_OR_EQUAL, LESS = 0, 1


@dataclass(slots=True)
class Tree:
    """One binary tree in arrays. `left` and `right` are positions of nodes; `leaf` marks those that end a path.

    A row goes left where ``x[feature] <= threshold`` (``<`` with `mode` LESS). A NaN goes left where
    `missing_left` is true, else right. `single` marks the stand-in for a tree that is a leaf.
    """

    feature: Array
    threshold: Array
    left: Array
    right: Array
    leaf: Array
    missing_left: Array
    mode: int = LESS_OR_EQUAL
    single: bool = False


@dataclass(slots=True)
class _Forest:
    """Attributes of a tree-ensemble node under construction: for each tree an array."""

    nodes: int = 0
    leaves: int = 0
    roots: list[int] = field(default_factory=list)
    parts: dict[str, list[Array]] = field(default_factory=dict)

    def add(self, name: str, part: Array) -> None:
        self.parts.setdefault(name, []).append(np.asarray(part))

    def joined(self, name: str, dtype: Any) -> Array:
        return np.concatenate(self.parts[name]).astype(dtype)


def ensemble(
    x: Value, trees: Sequence[Tree], values: Sequence[Array], targets: Sequence[int | Array], width: int
) -> Value:
    """Sums of leaf values: tree ``t`` adds ``values[t][leaf]`` to column ``targets[t]``, or ``targets[t][leaf]``.

    `x` is a matrix of doubles (already rounded to single precision where the library does so); the result has `width`
    columns.
    """
    forest = _Forest()
    for tree, value, target in zip(trees, values, targets, strict=True):
        _add(forest, _with_a_node(tree), np.asarray(value, dtype=np.float64), target)
    tensors = {"nodes_splits": np.float64, "leaf_weights": np.float64, "nodes_modes": np.uint8}
    lists = [name for name in forest.parts if name not in tensors]
    attributes: dict[str, Any] = {
        name: numpy_helper.from_array(forest.joined(name, dtype), name) for name, dtype in tensors.items()
    }
    attributes |= {name: forest.joined(name, np.int64).tolist() for name in lists}
    return x.graph.node(
        "TreeEnsemble",
        (x,),
        "f8",
        domain="ai.onnx.ml",
        n_targets=width,
        aggregate_function=1,
        post_transform=0,
        tree_roots=forest.roots,
        **attributes,
    )


def _with_a_node(tree: Tree) -> Tree:
    """A tree of a single leaf as one with a node whose sides are equal: ONNX knows no other."""
    if not tree.leaf[0]:
        return tree
    return Tree(
        feature=np.zeros(2, dtype=np.int64),
        threshold=np.zeros(2),
        left=np.array([1, -1]),
        right=np.array([1, -1]),
        leaf=np.array([False, True]),
        missing_left=np.zeros(2, dtype=np.bool_),
        mode=tree.mode,
        single=True,
    )


def _add(forest: _Forest, tree: Tree, values: Array, target: int | Array) -> None:
    """Write one tree: its nodes in a row, its leaves in a row; what no path reaches is left out."""
    if tree.single:
        values = np.array([0.0, values[0]])
        target = int(np.ravel(target)[0])
    reached = _reached(tree)
    inner, ends = reached[~tree.leaf[reached]], reached[tree.leaf[reached]]
    place = np.zeros(len(tree.leaf), dtype=np.int64)
    place[inner] = forest.nodes + np.arange(len(inner))
    place[ends] = forest.leaves + np.arange(len(ends))
    forest.roots.append(int(place[0]))
    forest.add("nodes_featureids", tree.feature[inner])
    forest.add("nodes_splits", tree.threshold[inner])
    forest.add("nodes_modes", np.full(len(inner), tree.mode))
    forest.add("nodes_missing_value_tracks_true", tree.missing_left[inner])
    for side, children in (("true", tree.left), ("false", tree.right)):
        child = np.asarray(children, dtype=np.int64)[inner]
        forest.add(f"nodes_{side}nodeids", place[child])
        forest.add(f"nodes_{side}leafs", tree.leaf[child])
    forest.add("leaf_targetids", np.broadcast_to(target, len(tree.leaf))[ends])
    forest.add("leaf_weights", values[ends])
    forest.nodes += len(inner)
    forest.leaves += len(ends)


def _reached(tree: Tree) -> Array:
    """Positions of all nodes on a path from the root, in order."""
    found, level = [np.zeros(1, dtype=np.int64)], np.zeros(1, dtype=np.int64)
    left, right = np.asarray(tree.left, dtype=np.int64), np.asarray(tree.right, dtype=np.int64)
    while level.size:
        inner = level[~tree.leaf[level]]
        level = np.concatenate([left[inner], right[inner]])
        found.append(level)
    return np.unique(np.concatenate(found))


def leaves(x: Value, trees: Sequence[Tree]) -> Value:
    """The node in which each row ends, one column a tree, as whole numbers."""
    values = [np.arange(len(tree.leaf), dtype=np.float64) for tree in trees]
    return ensemble(x, trees, values, list(range(len(trees))), len(trees)).cast("i8")


def mean_of_leaves(x: Value, trees: Sequence[Tree], tables: Sequence[Array]) -> Value:
    """The mean over trees of a line (``tables[t][leaf]``) that each leaf has."""
    graph = x.graph
    count, width = len(trees), tables[0].shape[1]
    graph.needs_cells(count * width)
    starts = np.cumsum([0, *(len(table) for table in tables[:-1])])
    places = leaves(x, trees) + starts.reshape(1, -1)
    lines = places.rows_of(np.vstack(tables)).reshape(-1, count, width)
    return lines.sum().reshape(-1, width) / float(count)


def single_precision(x: Value) -> Value:
    """Doubles rounded to single precision."""
    return x.cast("f4").cast("f8")


def sklearn_tree(fitted: Any) -> Tree:
    """The arrays of a scikit-learn tree (``tree_``)."""
    missing = getattr(fitted, "missing_go_to_left", np.zeros(fitted.node_count, dtype=np.uint8))
    return Tree(
        feature=np.asarray(fitted.feature),
        threshold=np.asarray(fitted.threshold),
        left=np.asarray(fitted.children_left),
        right=np.asarray(fitted.children_right),
        leaf=np.asarray(fitted.children_left) < 0,
        missing_left=np.asarray(missing),
    )


class TreeEmitter(Emitter):
    """Anything made of scikit-learn trees."""

    def fitted_trees(self) -> list[Any]:
        """The trees' ``tree_`` objects in order."""
        many = getattr(self.estimator, "estimators_", None)
        return [self.estimator.tree_] if many is None else [one.tree_ for one in many]

    def averages(self) -> list[Value]:
        """For each target, the mean over all trees of the leaf's value line."""
        fitted = self.fitted_trees()
        trees = [sklearn_tree(tree) for tree in fitted]
        x = single_precision(self.x)
        results = []
        for target in range(fitted[0].value.shape[1]):
            tables = [self.lines(tree.value[:, target, :], target) for tree in fitted]
            results.append(mean_of_leaves(x, trees, tables))
        return results

    def lines(self, value: Array, target: int) -> Array:
        """The line of each node for one target."""
        return np.asarray(value, dtype=np.float64)


@emits("DecisionTreeRegressor", "ExtraTreeRegressor", "RandomForestRegressor", "ExtraTreesRegressor")
class TreeRegressorEmitter(TreeEmitter, Regressor):
    """The mean of leaf values."""

    def predict(self) -> Answer:
        fitted = self.fitted_trees()
        if fitted[0].value.shape[1] > 1:
            return self.graph.concat(self.averages())
        trees = [sklearn_tree(tree) for tree in fitted]
        values = [np.asarray(tree.value[:, 0, 0], dtype=np.float64) for tree in fitted]
        total = ensemble(single_precision(self.x), trees, values, [0] * len(trees), 1)
        return total / float(len(trees)) if len(trees) > 1 else total


@emits("DecisionTreeClassifier", "ExtraTreeClassifier", "RandomForestClassifier", "ExtraTreesClassifier")
class TreeClassifierEmitter(TreeEmitter, Classifier):
    """The mean of class shares in the leaves."""

    def lines(self, value: Array, target: int) -> Array:
        classes = np.atleast_1d(self.estimator.n_classes_)[target]
        return np.asarray(value[:, : int(classes)], dtype=np.float64)

    def predict_proba(self) -> Answer:
        if self.estimator.n_outputs_ > 1:
            return list(self.averages())
        votes = self.votes()
        return self.averages()[0] if votes is None else votes / float(len(self.fitted_trees()))

    def votes(self) -> Value | None:
        """How many trees are for each class, where every leaf is of one class alone: whole numbers, summed exactly.

        None where leaves are mixed: sums of shares depend on their order, and on what is summed.
        """
        fitted = self.fitted_trees()
        trees = [sklearn_tree(tree) for tree in fitted]
        lines = [self.lines(tree.value[:, 0, :], 0) for tree in fitted]
        width = lines[0].shape[1]
        if width < 2 or not all(_is_pure(line[tree.leaf]) for line, tree in zip(lines, trees, strict=True)):
            return None
        x, count = single_precision(self.x), float(len(trees))
        if width > 2:
            return ensemble(x, trees, [np.ones(len(line)) for line in lines], [line.argmax(1) for line in lines], width)
        second = ensemble(x, trees, [line[:, 1] for line in lines], [0] * len(trees), 1)
        return self.graph.concat([count - second, second])

    def predict(self) -> Answer:
        answers = self.answer("predict_proba")
        if isinstance(answers, list):
            return [
                Labels(part.argmax(), np.asarray(classes))
                for part, classes in zip(answers, self.estimator.classes_, strict=True)
            ]
        return self.labels(self.value("predict_proba").argmax())


def _is_pure(lines: Array) -> bool:
    """Whether every line is of a single class."""
    return bool((lines.max(axis=1) == 1.0).all() and (np.count_nonzero(lines, axis=1) == 1).all())


@emits("RandomTreesEmbedding")
class EmbeddingEmitter(TreeEmitter):
    """One column a leaf."""

    def transform(self) -> Table:
        trees = [sklearn_tree(tree) for tree in self.fitted_trees()]
        found = leaves(single_precision(self.x), trees)
        parts, width = [], 0
        for at, categories in enumerate(self.estimator.one_hot_encoder_.categories_):
            table = np.zeros((len(trees[at].leaf), len(categories)))
            table[np.asarray(categories, dtype=np.int64), np.arange(len(categories))] = 1.0
            parts.append(found.columns([at]).rows_of(table))
            width += len(categories)
        return matrix(self.graph.concat(parts), width, sparse=bool(self.estimator.sparse_output))


@emits("GradientBoostingRegressor")
class BoostingRegressorEmitter(Regressor):
    """A start value plus scaled trees."""

    def raw(self) -> Value:
        """The sums, one column a class."""
        model = self.estimator
        stages = np.asarray(model.estimators_)
        flat = [(stage[k].tree_, k) for stage in stages for k in range(stages.shape[1])]
        trees = [sklearn_tree(tree) for tree, _ in flat]
        values = [np.asarray(tree.value[:, 0, 0]) * float(model.learning_rate) for tree, _ in flat]
        sums = ensemble(single_precision(self.x), trees, values, [k for _, k in flat], stages.shape[1])
        return sums + self.start(stages.shape[1])

    def start(self, width: int) -> Value | Array:
        """What the sums begin with."""
        model = self.estimator
        if isinstance(model.init_, str) and model.init_ == "zero":
            return np.zeros((1, width))
        if type(model.init_).__name__ not in ("DummyRegressor", "DummyClassifier"):
            if hasattr(model, "classes_"):
                raise self.refuse("no converter for an estimator as init")
            return emitter(self.graph, model.init_, matrix(single_precision(self.x), self.width)).value("predict")
        line = model._raw_predict_init(np.zeros((1, model.n_features_in_), dtype=np.float32))
        return np.asarray(line, dtype=np.float64).reshape(1, -1)

    def predict(self) -> Answer:
        return self.value("raw")


@emits("GradientBoostingClassifier")
class BoostingClassifierEmitter(BoostingRegressorEmitter, Classifier):
    """Logistic or softmax of the sums."""

    def decision_function(self) -> Answer:
        return self.value("raw")

    def predict_proba(self) -> Answer:
        raw = self.value("raw")
        if self.estimator.loss == "exponential":
            return with_complement((raw * 2.0).sigmoid())
        return with_complement(raw.sigmoid()) if len(self.classes) == 2 else raw.softmax()

    def predict(self) -> Answer:
        raw = self.value("raw")
        if len(self.classes) == 2:
            return self.labels((raw >= 0.0).cast("i8"))
        return self.labels(raw.argmax())


@emits("IsolationForest")
class IsolationEmitter(Emitter):
    """How soon random trees isolate a row."""

    def score_samples(self) -> Value:
        """Between -1 (isolated at once) and 0."""
        forest = self.estimator
        trees, values, groups = [], [], []
        for one, columns, depth, path in zip(
            forest.estimators_,
            forest.estimators_features_,
            forest._decision_path_lengths,
            forest._average_path_length_per_tree,
            strict=True,
        ):
            tree = sklearn_tree(one.tree_)
            if len(columns) != self.width or not np.array_equal(columns, np.arange(self.width)):
                inner = tree.feature >= 0
                tree.feature = np.where(inner, np.asarray(columns)[np.where(inner, tree.feature, 0)], tree.feature)
            trees.append(tree)
            values.append(np.asarray(depth, dtype=np.float64) + np.asarray(path, dtype=np.float64) - 1.0)
            groups.append(0)
        depths = ensemble(single_precision(self.x), trees, values, groups, 1)
        longest = _average_path(int(forest._max_samples))
        denominator = len(trees) * longest
        if denominator == 0:
            raise self.refuse("trees of a single row")
        return -(self.graph.constant(2.0) ** (depths * (-1.0 / denominator)))

    def decision_function(self) -> Answer:
        return self.value("score_samples") - float(self.estimator.offset_)

    def predict(self) -> Answer:
        inside = self.value("decision_function") >= 0.0
        return self.graph.where(inside, self.graph.constant(1, "i8"), self.graph.constant(-1, "i8"))


def _average_path(samples: int) -> float:
    if samples <= 1:
        return 0.0
    if samples == 2:
        return 1.0
    return float(2.0 * (np.log(samples - 1.0) + np.euler_gamma) - 2.0 * (samples - 1.0) / samples)


@emits("HistGradientBoostingRegressor")
class HistogramEmitter(Regressor):
    """Histogram-based boosting, on doubles, with missing values and categories."""

    def features(self) -> Value:
        """The columns as the trees see them: encoded categories first, if there are any."""
        model = self.estimator
        if getattr(model, "_preprocessor", None) is None:
            return self.x
        chosen = np.asarray(model.is_categorical_, dtype=np.bool_)
        encoder = model._preprocessor.named_transformers_["encoder"]
        categories = transformed(self.graph, encoder, self.table.pick(np.flatnonzero(chosen).tolist()))
        numbers = self.table.pick(np.flatnonzero(~chosen).tolist())
        return side_by_side(self.graph, [categories, numbers]).numeric()

    def raw(self) -> Value:
        """The sums, one column a class."""
        model = self.estimator
        splits = SetSplits(self.width)
        trees, values, targets = [], [], []
        for stage in model._predictors:
            for target, predictor in enumerate(stage):
                trees.append(_histogram_tree(predictor, splits))
                values.append(np.asarray(predictor.nodes["value"], dtype=np.float64))
                targets.append(target)
        width = int(model.n_trees_per_iteration_)
        start = np.asarray(model._baseline_prediction, dtype=np.float64).reshape(1, -1)
        if not trees:
            raise self.refuse("no tree at all")
        return ensemble(splits.extend(self.features()), trees, values, targets, width) + start

    def predict(self) -> Answer:
        raw = self.value("raw")
        link = type(self.estimator._loss.link).__name__
        if link == "IdentityLink":
            return raw
        if link == "LogLink":
            return raw.exp()
        raise self.refuse(f"no converter for {link}")


class SetSplits:
    """Splits by sets of categories, as columns of their own: 0 in the set, 1 outside, NaN where missing."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._places: dict[tuple[int, tuple[int, ...]], int] = {}

    def column(self, feature: int, members: Sequence[int]) -> int:
        """The number of the column that tells whether a feature is in a set."""
        key = (int(feature), tuple(sorted(int(member) for member in members)))
        return self._places.setdefault(key, self._width + len(self._places))

    def extend(self, x: Value) -> Value:
        """The matrix with those columns at its end. Categories are numbers from zero, cut to whole ones, or NaN."""
        graph = x.graph
        groups: dict[int, list[tuple[int, tuple[int, ...]]]] = {}
        for (feature, members), place in self._places.items():
            groups.setdefault(feature, []).append((place, members))
        parts, order = [x], list(range(self._width))
        for feature, sets in groups.items():
            column = x.columns([feature])
            size = max((max(members, default=0) for _, members in sets)) + 1
            table = np.ones((size + 2, len(sets)))
            for at, (place, members) in enumerate(sets):
                table[list(members), at] = 0.0
                order.append(place)
            table[size + 1] = np.nan
            bounded = column.clip(-1.0, float(size))
            known = graph.where(bounded <= -1.0, float(size), bounded)  # -0.5 is cut to 0, as LightGBM does
            index = graph.where(column.isnan(), float(size + 1), known).cast("i8")
            parts.append(index.rows_of(table))
        if len(parts) == 1:
            return x
        return graph.concat(parts).columns(np.argsort(order))


def _histogram_tree(predictor: Any, splits: SetSplits) -> Tree:
    nodes = predictor.nodes
    feature, threshold = nodes["feature_idx"].copy(), nodes["num_threshold"].copy()
    for at in np.flatnonzero((nodes["is_categorical"] == 1) & (nodes["is_leaf"] == 0)):
        members = _members(predictor.raw_left_cat_bitsets[nodes["bitset_idx"][at]])
        feature[at] = splits.column(feature[at], members)
        threshold[at] = 0.5
    return Tree(
        feature=feature,
        threshold=threshold,
        left=nodes["left"],
        right=nodes["right"],
        leaf=nodes["is_leaf"].astype(np.bool_),
        missing_left=nodes["missing_go_to_left"].astype(np.bool_),
    )


def _members(bitset: Array) -> list[int]:
    return [word * 32 + bit for word in range(len(bitset)) for bit in range(32) if int(bitset[word]) >> bit & 1]


@emits("HistGradientBoostingClassifier")
class HistogramClassifierEmitter(HistogramEmitter, Classifier):
    """Logistic or softmax of the sums."""

    def decision_function(self) -> Answer:
        return self.value("raw")

    def predict_proba(self) -> Answer:
        raw = self.value("raw")
        return with_complement(raw.sigmoid()) if int(self.estimator.n_trees_per_iteration_) == 1 else raw.softmax()

    def predict(self) -> Answer:
        return self.by_score(self.value("raw"))
