"""XGBoost and LightGBM, from what their own model files say."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modelyard.bundle.compile.emit import Answer, Classifier, Regressor, emits
from modelyard.bundle.compile.graph import NoConverter, Value
from modelyard.bundle.compile.linear import with_complement
from modelyard.bundle.compile.table import MISSING_TEXT, Block
from modelyard.bundle.compile.trees import LESS, SetSplits, Tree, ensemble, single_precision
from modelyard.domain.frame import Array

_EXPONENTIAL = ("count:poisson", "reg:gamma", "reg:tweedie", "survival:aft", "survival:cox")
_LOGISTIC = ("binary:logistic", "reg:logistic")


def _logit(share: np.float32) -> np.float32:
    return np.float32(-np.log(np.float32(1.0) / share - np.float32(1.0)))


@dataclass(slots=True)
class Boosted:
    """A sum of trees: each adds its leaf value to one column; the columns begin with `start`."""

    trees: list[Tree] = field(default_factory=list)
    values: list[Array] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    start: Array = field(default_factory=lambda: np.zeros((1, 1)))
    objective: str = ""

    def add(self, tree: Tree, values: Array, target: int) -> None:
        """One more tree."""
        self.trees.append(tree)
        self.values.append(values)
        self.targets.append(target)

    def sums(self, x: Value) -> Value:
        """The columns for every row."""
        width = self.start.shape[1]
        if not self.trees:
            raise NoConverter("a boosted model without trees")
        return ensemble(x, self.trees, self.values, self.targets, width) + self.start

    def sums_in_single_precision(self, x: Value) -> Value:
        """The columns as they come out when leaf values are added one after the other in single precision."""
        graph, count, width = x.graph, len(self.trees), self.start.shape[1]
        graph.needs_cells(count)
        leaf_values = ensemble(x, self.trees, self.values, range(count), count).cast("f4")
        columns = []
        for target in range(width):
            own = [at for at, owner in enumerate(self.targets) if owner == target]
            begin = leaf_values.columns([0]) * 0.0 + self.start[:, [target]]
            terms = graph.concat([begin, leaf_values.columns(own)]) if own else begin
            running = graph.node("CumSum", (terms, graph.constant(1, "i8")), "f4")
            columns.append(running.columns([len(own)]))
        return graph.concat(columns).cast("f8")


def read_xgboost(booster: Any, last_round: int | None) -> Boosted:
    """The trees of an XGBoost booster, up to a boosting round.

    Raises:
        NoConverter: for boosters that are not plain trees.
    """
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    gradient = learner["gradient_booster"]
    weights: Sequence[float] | None = None
    if gradient["name"] == "dart":
        weights, gradient = gradient["weight_drop"], gradient["gbtree"]
    if "model" not in gradient or "trees" not in gradient["model"]:
        raise NoConverter(f"XGBoost: no converter for booster {gradient['name']!r}")
    if not gradient["model"]["trees"]:
        raise NoConverter("a boosted model without trees")
    model = gradient["model"]
    count = len(model["trees"])
    if last_round is not None:
        count = int(model["iteration_indptr"][last_round])
    made = Boosted(objective=learner["objective"]["name"], start=_xgboost_start(learner))
    for at, tree in enumerate(model["trees"][:count]):
        read, values = _xgboost_tree(tree)
        target = int(model["tree_info"][at])
        if weights is not None:
            values = _dropped(values, made.start[0, target], weights[at])
        made.add(read, values, target)
    return made


def _dropped(values: Array, start: float, weight: float) -> Array:
    """Leaf values of a tree with a weight, as the library computes them: through the start value and back."""
    base = np.float32(start)
    single: Array = ((base + values.astype(np.float32)) - base) * np.float32(weight)
    return single.astype(np.float64)


def _xgboost_start(learner: dict[str, Any]) -> Array:
    parameters, objective = learner["learner_model_param"], learner["objective"]["name"]
    text = str(parameters["base_score"]).strip("[]")
    base = np.array([np.float32(part) for part in text.split(",")], dtype=np.float32)
    width = max(int(parameters["num_class"]), int(parameters.get("num_target", 1)), 1)
    if objective in _LOGISTIC:
        base = np.array([_logit(value) for value in base])
    elif objective in _EXPONENTIAL:
        base = np.log(base)
    elif objective == "binary:logitraw":
        base = np.array([_logit(value) if 0.0 < value < 1.0 else value for value in base])
    base = base.astype(np.float32)
    return np.broadcast_to(base.reshape(1, -1), (1, width)).copy()


def _xgboost_tree(tree: dict[str, Any]) -> tuple[Tree, Array]:
    if int(tree["tree_param"].get("size_leaf_vector", "1")) > 1:
        raise NoConverter("XGBoost: no converter for trees with several answers a leaf")
    if any(tree["split_type"]):
        raise NoConverter("XGBoost: no converter for categorical splits")
    conditions = np.array(tree["split_conditions"], dtype=np.float32).astype(np.float64)
    left = np.array(tree["left_children"])
    made = Tree(
        feature=np.array(tree["split_indices"]),
        threshold=conditions,
        left=left,
        right=np.array(tree["right_children"]),
        leaf=left < 0,
        missing_left=np.array(tree["default_left"]) != 0,
        mode=LESS,
    )
    return made, conditions


class XGBoostModel(Regressor):
    """An estimator of XGBoost."""

    def booster(self) -> Any:
        """The trained booster."""
        return self.estimator.get_booster()

    def last_round(self) -> int | None:
        """The number of boosting rounds that count after early stopping; None: all."""
        try:
            return int(self.estimator.best_iteration) + 1
        except AttributeError:
            return None

    def read(self) -> Boosted:
        """The model's trees, read once."""
        key = ("xgboost", id(self.estimator))
        if key not in self.graph.memo:
            self.graph.memo[key] = read_xgboost(self.booster(), self.last_round())
        made: Boosted = self.graph.memo[key]
        return made

    def features(self) -> Value:
        """The columns as XGBoost sees them: single precision; absent cells of sparse matrices are missing."""
        x = self.x
        missing = float(getattr(self.estimator, "missing", np.nan))
        if self.table.sparse:
            x = self.graph.where(x.equals(0.0), np.nan, x)
        x = single_precision(x)
        if not np.isnan(missing):
            x = self.graph.where(x.equals(float(np.float32(missing))), np.nan, x)
        return x

    def raw(self) -> Value:
        """The sums, one column a class or target."""
        return self.read().sums_in_single_precision(self.features())

    def linked(self) -> Value:
        """The sums behind the objective's link."""
        raw, objective = self.value("raw"), self.read().objective
        if objective in _LOGISTIC:
            return raw.sigmoid()
        if objective in _EXPONENTIAL:
            return raw.exp()
        if objective.startswith(("multi:", "binary:hinge")):
            raise self.refuse(f"no converter for objective {objective!r}")
        return raw

    def predict(self) -> Answer:
        return self.value("linked")


@emits("XGBRegressor", "XGBRFRegressor", "XGBRanker", package="xgboost")
class XGBoostRegressorEmitter(XGBoostModel):
    """Numbers."""


@emits("Booster", package="xgboost")
class XGBoostBoosterEmitter(XGBoostModel):
    """A bare booster: what its `predict` gives."""

    def booster(self) -> Any:
        return self.estimator

    def predict(self) -> Answer:
        if self.read().objective == "multi:softprob":
            return self.value("raw").softmax()
        return self.value("linked")

    def __call__(self) -> Answer:
        return self.predict()


@emits("XGBClassifier", "XGBRFClassifier", package="xgboost")
class XGBoostClassifierEmitter(XGBoostModel, Classifier):
    """Classes."""

    def predict_proba(self) -> Answer:
        objective = self.read().objective
        if objective.startswith("multi:"):
            return self.value("raw").softmax()
        if objective not in _LOGISTIC or self.read().start.shape[1] != 1:
            raise self.refuse(f"no converter for probabilities with objective {objective!r} and several targets")
        return with_complement(self.value("linked"))

    def predict(self) -> Answer:
        shares = self.value("predict_proba")
        if len(self.classes) == 2:
            return self.labels((shares.columns([1]) > 0.5).cast("i8"))
        return self.labels(shares.argmax())


_LINKS: dict[str, Callable[[Value], Value]] = {
    "poisson": lambda x: x.exp(),
    "gamma": lambda x: x.exp(),
    "tweedie": lambda x: x.exp(),
    "cross_entropy": lambda x: x.sigmoid(),
    "cross_entropy_lambda": lambda x: x.exp().log1p(),
}
_IDENTITIES = ("regression", "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg")
_ZERO = 1e-35


@dataclass(slots=True)
class _LightGBM:
    """A LightGBM model file, read."""

    header: dict[str, str]
    trees: list[dict[str, str]]

    @property
    def objective(self) -> list[str]:
        return self.header.get("objective", "").split()

    def option(self, name: str, default: float) -> float:
        for word in self.objective[1:]:
            key, _, value = word.partition(":")
            if key == name:
                return float(value)
        return default


def _read_text(text: str) -> _LightGBM:
    header: dict[str, str] = {}
    trees: list[dict[str, str]] = []
    current = header
    for line in text.splitlines():
        if line.startswith("end of trees"):
            break
        key, equals, value = line.partition("=")
        if key == "Tree":
            current = {}
            trees.append(current)
        elif equals:
            current[key] = value
        elif line.strip():
            current[line.strip()] = ""
    return _LightGBM(header, trees)


def _numbers(tree: dict[str, str], key: str, dtype: Any) -> Array:
    return np.array([dtype(part) for part in tree.get(key, "").split()])


class LightGBMModel(Regressor):
    """An estimator of LightGBM."""

    def booster(self) -> Any:
        """The trained booster."""
        return self.estimator.booster_

    def file(self) -> _LightGBM:
        """The model file, read once; it holds the rounds that count after early stopping."""
        key = ("lightgbm", id(self.estimator))
        if key not in self.graph.memo:
            self.graph.memo[key] = _read_text(self.booster().model_to_string())
        found: _LightGBM = self.graph.memo[key]
        return found

    def features(self) -> Value:
        """The columns as LightGBM sees them: whole-number arrays in single precision, categories by their number."""
        blocks = list(self.table.single_columns())
        known = self.booster().pandas_categorical or []
        categorical = [at for at, block in enumerate(blocks) if block.dtype == "category"]
        if len(known) != len(categorical):
            raise self.refuse("its categorical columns are not those of the table")
        if not categorical:
            whole_array = not self.table.frame and all(block.value.kind == "i8" for block in blocks)
            return single_precision(self.x) if whole_array else self.x
        codes = dict(zip(categorical, known, strict=True))
        columns = [
            self._code(block, codes[at]) if at in codes else block.value.cast("f8") for at, block in enumerate(blocks)
        ]
        return self.graph.concat(columns)

    def _code(self, block: Block, categories: Sequence[Any]) -> Value:
        if block.is_text and MISSING_TEXT in categories:
            raise self.refuse("a category equals the mark for missing texts")
        keys = [str(c) if block.is_text else (int(c) if block.value.kind == "i8" else float(c)) for c in categories]
        return self.graph.lookup(block.value, keys, np.arange(len(keys), dtype=np.float64), np.nan)

    def raw(self) -> Value:
        """The sums, one column a class."""
        file = self.file()
        per_round = int(file.header.get("num_tree_per_iteration", "1"))
        splits, zeros = SetSplits(self.width), set[int]()
        made = Boosted(start=np.zeros((1, per_round)))
        for at, tree in enumerate(file.trees):
            made.add(*_lightgbm_tree(tree, splits, zeros), at % per_round)
        x = self.features()
        if zeros:
            marked = np.zeros((1, self.width), dtype=np.bool_)
            marked[0, sorted(zeros)] = True
            tiny = (x.abs() <= _ZERO) & self.graph.constant(marked, "b1")
            x = self.graph.where(tiny, np.nan, x)
        sums = made.sums(splits.extend(x))
        return sums / float(len(file.trees) // per_round) if "average_output" in file.header else sums

    def linked(self) -> Value:
        """The sums behind the objective's link."""
        raw, file = self.value("raw"), self.file()
        name = file.objective[0] if file.objective else ""
        if name in _LINKS:
            return _LINKS[name](raw)
        if name not in _IDENTITIES:
            raise self.refuse(f"no converter for objective {name!r}")
        if "sqrt" in file.objective[1:]:
            return raw.op("Sign") * raw.square()
        return raw

    def shares(self) -> Value:
        """Probabilities of all classes."""
        raw, file = self.value("raw"), self.file()
        name = file.objective[0] if file.objective else ""
        scale = file.option("sigmoid", 1.0)
        if name == "binary":
            return with_complement((raw * scale).sigmoid())
        if name == "multiclass":
            return raw.softmax()
        if name == "multiclassova":
            return (raw * scale).sigmoid()
        if name in ("cross_entropy", "cross_entropy_lambda"):
            return with_complement(_LINKS[name](raw))
        raise self.refuse(f"no converter for probabilities with objective {name!r}")

    def predict(self) -> Answer:
        return self.value("linked")


def _lightgbm_tree(tree: dict[str, str], splits: SetSplits, zeros: set[int]) -> tuple[Tree, Array]:
    """One tree: inner nodes first, then leaves. Notes the columns in which zero counts as missing."""
    if tree.get("is_linear", "0").strip() not in ("", "0"):
        raise NoConverter("LightGBM: no converter for linear trees")
    leaf_values = _numbers(tree, "leaf_value", float).astype(np.float64)
    inner = int(tree["num_leaves"]) - 1
    total = inner + len(leaf_values)
    leaf = np.arange(total) >= inner
    feature, threshold = np.zeros(total, dtype=np.int64), np.zeros(total)
    left, right, missing = np.zeros(total, dtype=np.int64), np.zeros(total, dtype=np.int64), np.zeros(total, dtype=bool)
    if inner:
        feature[:inner] = _numbers(tree, "split_feature", int)
        threshold[:inner] = _numbers(tree, "threshold", float)
        left[:inner] = _children(tree, "left_child", inner)
        right[:inner] = _children(tree, "right_child", inner)
        for at, flags in enumerate(_numbers(tree, "decision_type", int)):
            if flags & 1:
                feature[at] = splits.column(int(feature[at]), _category_set(tree, int(threshold[at])))
                threshold[at] = 0.5
                continue
            missing[at] = _missing_goes_left(int(flags), float(threshold[at]))
            if flags >> 2 & 3 == 1:
                zeros.add(int(feature[at]))
    return Tree(feature, threshold, left, right, leaf, missing), np.concatenate([np.zeros(inner), leaf_values])


def _children(tree: dict[str, str], key: str, inner: int) -> Array:
    """Children as positions: the file counts leaves down from -1."""
    children = _numbers(tree, key, int)
    return np.where(children < 0, inner - children - 1, children)


def _missing_goes_left(flags: int, threshold: float) -> bool:
    """Where a NaN goes: by default direction, or as a zero in columns that had no missing value."""
    return bool(flags & 2) if flags >> 2 & 3 else threshold >= 0.0


def _category_set(tree: dict[str, str], at: int) -> list[int]:
    bounds = _numbers(tree, "cat_boundaries", int)
    words = _numbers(tree, "cat_threshold", int)[bounds[at] : bounds[at + 1]]
    return [word * 32 + bit for word, bits in enumerate(words) for bit in range(32) if int(bits) >> bit & 1]


@emits("LGBMRegressor", "LGBMRanker", package="lightgbm")
class LightGBMRegressorEmitter(LightGBMModel):
    """Numbers."""


@emits("Booster", package="lightgbm")
class LightGBMBoosterEmitter(LightGBMModel):
    """A bare booster: what its `predict` gives."""

    def booster(self) -> Any:
        return self.estimator

    def predict(self) -> Answer:
        name = (self.file().objective or [""])[0]
        if name in ("multiclass", "multiclassova"):
            return self.shares()
        return self.shares().columns([1]) if name == "binary" else self.value("linked")


@emits("LGBMClassifier", package="lightgbm")
class LightGBMClassifierEmitter(LightGBMModel, Classifier):
    """Classes."""

    def predict_proba(self) -> Answer:
        return self.shares()

    def decision_function(self) -> Answer:
        return self.value("raw")

    def predict(self) -> Answer:
        return self.labels(self.value("predict_proba").argmax())
