"""Kernels, and the models that are sums of them: support vectors, kernel ridge, Gaussian processes."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from modelyard.bundle.compile.emit import Answer, Classifier, Emitter, Labels, Regressor, emits, emitter
from modelyard.bundle.compile.graph import Graph, NoConverter, Value
from modelyard.bundle.compile.linear import affine, with_complement
from modelyard.bundle.compile.special import erf
from modelyard.bundle.compile.table import Table, matrix
from modelyard.domain.frame import Array

_LARGEST_BROADCAST = 1 << 25


def dense(array: Any) -> Array:
    """A plain array of doubles from a plain or sparse one."""
    return np.asarray(array.toarray() if hasattr(array, "toarray") else array, dtype=np.float64)


def square_sums(points: Array) -> Array:
    """The squared length of each line, as one line."""
    sums: Array = (points**2).sum(axis=1).reshape(1, -1)
    return sums


def differences(x: Value, points: Array) -> Value:
    """Every row minus every point, shape ``(rows, points, columns)``.

    Raises:
        NoConverter: when that would be too large even for one row.
    """
    if points.size > _LARGEST_BROADCAST:
        raise NoConverter(f"{len(points)} points of {points.shape[1]} columns are too many to compare with each row")
    x.graph.needs_cells(points.size)
    return x.reshape(-1, 1, points.shape[1]) - points[np.newaxis]


def squared_distances(x: Value, points: Array) -> Value:
    """Squared Euclidean distance of every row to every point, from their differences."""
    return differences(x, points).square().sum(2).reshape(-1, len(points))


def city_distances(x: Value, points: Array) -> Value:
    """Sum of absolute differences of every row to every point."""
    return differences(x, points).abs().sum(2).reshape(-1, len(points))


def expanded_distances(x: Value, points: Array) -> Value:
    """Squared distances from products, as ``sklearn.metrics.pairwise.euclidean_distances`` computes them."""
    x.graph.needs_cells(len(points))
    return ((x @ points.T) * -2.0 + x.square().sum() + square_sums(points)).clip(0.0, None)


def support_kernel(model: Any, x: Value, vectors: Array) -> Value:
    """The kernel of a libsvm model between rows and support vectors."""
    gamma, coef0 = float(model._gamma), float(model.coef0)
    x.graph.needs_cells(len(vectors))
    if model.kernel == "linear":
        return x @ vectors.T
    if model.kernel == "rbf":
        return (squared_distances(x, vectors) * -gamma).exp()
    product = (x @ vectors.T) * gamma + coef0
    if model.kernel == "poly":
        return product ** float(model.degree)
    if model.kernel == "sigmoid":
        return product.tanh()
    raise NoConverter(f"{type(model).__name__}: no converter for kernel {model.kernel!r}")


@emits("SVR", "NuSVR")
class SupportRegressorEmitter(Regressor):
    """Support vector regression."""

    def predict(self) -> Answer:
        model = self.estimator
        kernel = support_kernel(model, self.x, dense(model.support_vectors_))
        return affine(kernel, dense(model.dual_coef_), model.intercept_)


@emits("OneClassSVM")
class OneClassEmitter(SupportRegressorEmitter):
    """Outliers by support vectors."""

    def decision_function(self) -> Answer:
        return SupportRegressorEmitter.predict(self)

    def score_samples(self) -> Answer:
        return self.value("decision_function") + float(np.ravel(self.estimator.offset_)[0])

    def predict(self) -> Answer:
        return sign_marks(self.value("decision_function") > 0.0)


def sign_marks(inside: Value) -> Value:
    """1 where inside, -1 where not."""
    graph = inside.graph
    return graph.where(inside, graph.constant(1, "i8"), graph.constant(-1, "i8"))


@emits("SGDOneClassSVM")
class LinearOneClassEmitter(Emitter):
    """Outliers by a linear score."""

    def decision_function(self) -> Answer:
        return affine(self.x, self.estimator.coef_, -np.asarray(self.estimator.offset_))

    def predict(self) -> Answer:
        return sign_marks(self.value("decision_function") >= 0.0)


def pair_scores(classes: int) -> tuple[Array, list[tuple[int, int]]]:
    """Pairs of classes in order, and the matrix that adds each pair's confidence to both its classes."""
    pairs = list(combinations(range(classes), 2))
    spread = np.zeros((len(pairs), classes))
    for at, (first, second) in enumerate(pairs):
        spread[at, first], spread[at, second] = -1.0, 1.0
    return spread, pairs


def one_against_one(second_wins: Value, confidences: Value, classes: int) -> Value:
    """Votes of all pairs, with confidences as fractions of a vote, one column a class."""
    graph = confidences.graph
    spread, pairs = pair_scores(classes)
    # Not a product with the matrix: zeros in it would make infinite confidences undefined.
    signed = graph.concat([-confidences, confidences])
    places = [
        [at + len(pairs) * (pair[1] == this) for at, pair in enumerate(pairs) if this in pair]
        for this in range(classes)
    ]
    summed = signed.columns(np.ravel(places)).reshape(-1, classes, classes - 1).sum(2).reshape(-1, classes)
    votes = second_wins @ np.clip(spread, 0.0, None) + (1.0 - second_wins) @ np.clip(-spread, 0.0, None)
    return votes + summed / ((summed.abs() + 1.0) * 3.0)


@emits("SVC", "NuSVC")
class SupportClassifierEmitter(Classifier):
    """Support vector classification, one class against one."""

    def pairs(self) -> Answer:
        """The decision of every pair of classes; positive: the first one."""
        model = self.estimator
        kernel = support_kernel(model, self.x, dense(model.support_vectors_))
        weights = dense(model.dual_coef_)
        if len(self.classes) == 2:
            return -affine(kernel, weights, model.intercept_)
        starts = np.cumsum([0, *model.n_support_])
        _, pairs = pair_scores(len(self.classes))
        lines = np.zeros((len(pairs), weights.shape[1]))
        for at, (first, second) in enumerate(pairs):
            of_first, of_second = slice(starts[first], starts[first + 1]), slice(starts[second], starts[second + 1])
            lines[at, of_first] = weights[second - 1, of_first]
            lines[at, of_second] = weights[first, of_second]
        return affine(kernel, lines, model.intercept_)

    def decision_function(self) -> Answer:
        pairs = self.value("pairs")
        if len(self.classes) == 2:
            return -pairs
        if self.estimator.decision_function_shape == "ovo":
            return pairs
        return one_against_one((pairs < 0.0).cast("f8"), -pairs, len(self.classes))

    def predict(self) -> Answer:
        pairs = self.value("pairs")
        if len(self.classes) == 2:
            return self.labels((~(pairs > 0.0)).cast("i8"))
        if self.estimator.break_ties and self.estimator.decision_function_shape == "ovr":
            return self.labels(self.value("decision_function").argmax())
        spread, _ = pair_scores(len(self.classes))
        first_wins = (pairs > 0.0).cast("f8")
        votes = first_wins @ np.clip(-spread, 0.0, None) + (1.0 - first_wins) @ np.clip(spread, 0.0, None)
        return self.labels(votes.argmax())

    def predict_proba(self) -> Answer:
        model, classes = self.estimator, len(self.classes)
        slopes = np.asarray(model.probA_, dtype=np.float64).reshape(1, -1)
        offsets = np.asarray(model.probB_, dtype=np.float64).reshape(1, -1)
        first = (-(self.value("pairs") * slopes + offsets)).sigmoid().clip(1e-7, 1 - 1e-7)
        return coupled(first, classes)


def coupled(first: Value, classes: int) -> Value:
    """Probabilities of classes from those of pairs, by the iteration of libsvm (Wu, Lin, Weng 2004, method 2).

    The library stops early, so its very steps are repeated: in a loop, for each row until it is done.
    """
    graph = first.graph
    _, pairs = pair_scores(classes)
    share = np.zeros((classes, classes), dtype=np.int64)
    for at, (one, two) in enumerate(pairs):
        share[one, two], share[two, one] = at, at + len(pairs)
    both = graph.concat([first, 1.0 - first])
    table = both.columns(share.reshape(-1)).reshape(-1, classes, classes)
    off = 1.0 - np.eye(classes)[np.newaxis]
    odds = table * off
    transposed = odds.transpose(0, 2, 1)
    diagonal = transposed.square().sum(2)
    quadratic = diagonal * np.eye(classes)[np.newaxis] - transposed * odds
    start = first.columns([0]) * 0.0 + np.full((1, classes), 1.0 / classes)
    return _iterate(graph, quadratic, start, classes)


def _iterate(graph: Graph, quadratic: Value, start: Value, classes: int) -> Value:
    tolerance = 0.005 / classes
    rounds = graph.constant(max(100, classes), "i8")

    def body(inner: Graph) -> None:
        inner.input("round", "i8", None)
        inner.input("go", "b1", None)
        shares = inner.input("shares", "f8", classes)
        outer = Value(inner, quadratic.name, "f8")
        product = (outer * shares.reshape(-1, 1, classes)).sum(2).reshape(-1, classes)
        norm = (shares * product).sum()
        wrong = (product - norm).abs().max()
        busy = wrong >= tolerance
        moved, lines, total = shares, product, norm
        for at in range(classes):
            column = outer.columns([at]).reshape(-1, classes)
            own = column.columns([at])
            step = (total - lines.columns([at])) / own
            unit = np.eye(classes)[[at]]
            total = (total + step * (step * own + lines.columns([at]) * 2.0)) / (step + 1.0) / (step + 1.0)
            lines = (lines + step * column) / (step + 1.0)
            moved = (moved + step * unit) / (step + 1.0)
        inner.output("go_out", busy.cast("i8").max(0).reshape(-1).cast("b1").op("Squeeze"))
        inner.output("shares_out", inner.where(busy, moved, shares))

    go = graph.constant(True, "b1")
    return graph.node("Loop", (rounds, go, start), "f8", body=graph.subgraph(body))


def _pairwise(kernel: Any, x: Value, points: Array, gamma: float | None, coef0: float, degree: float) -> Value:
    """A kernel of ``sklearn.metrics.pairwise``.

    Raises:
        NoConverter: for kernels that are not written here.
    """
    scale = 1.0 / points.shape[1] if gamma is None else float(gamma)
    x.graph.needs_cells(len(points))
    if kernel == "linear":
        return x @ points.T
    if kernel == "rbf":
        return (expanded_distances(x, points) * -scale).exp()
    if kernel == "laplacian":
        return (city_distances(x, points) * -scale).exp()
    if kernel in ("poly", "polynomial"):
        return ((x @ points.T) * scale + coef0) ** float(degree)
    if kernel == "sigmoid":
        return ((x @ points.T) * scale + coef0).tanh()
    if kernel == "cosine":
        return _unit_rows(x) @ _unit_array(points).T
    raise NoConverter(f"no converter for kernel {kernel!r}")


def _unit_rows(x: Value) -> Value:
    size = x.square().sum().sqrt()
    return x / x.graph.where(size.equals(0.0), 1.0, size)


def _unit_array(points: Array) -> Array:
    sizes = np.sqrt((points**2).sum(axis=1, keepdims=True))
    return points / np.where(sizes == 0.0, 1.0, sizes)


@emits("KernelRidge")
class KernelRidgeEmitter(Regressor):
    """Ridge regression in the space of a kernel."""

    def predict(self) -> Answer:
        model = self.estimator
        if model.kernel_params:
            raise self.refuse("no converter for kernel_params")
        kernel = _pairwise(model.kernel, self.x, dense(model.X_fit_), model.gamma, model.coef0, model.degree)
        weights = np.asarray(model.dual_coef_, dtype=np.float64)
        return kernel @ weights.reshape(len(weights), -1)


@emits("KernelPCA")
class KernelPrincipalEmitter(Emitter):
    """Principal components in the space of a kernel."""

    def transform(self) -> Table:
        model = self.estimator
        if model.kernel_params:
            raise self.refuse("no converter for kernel_params")
        gamma = getattr(model, "gamma_", model.gamma)
        kernel = _pairwise(model.kernel, self.x, dense(model.X_fit_), gamma, model.coef0, model.degree)
        centre = model._centerer
        centred = kernel - kernel.sum() / float(len(centre.K_fit_rows_)) - centre.K_fit_rows_ + float(centre.K_fit_all_)
        used = np.flatnonzero(model.eigenvalues_)
        weights = np.zeros_like(model.eigenvectors_)
        weights[:, used] = model.eigenvectors_[:, used] / np.sqrt(model.eigenvalues_[used])
        return matrix(centred @ weights, weights.shape[1])


@emits("Nystroem")
class NystroemEmitter(Emitter):
    """A kernel between rows and a few chosen ones."""

    def transform(self) -> Table:
        model = self.estimator
        if model.kernel_params:
            raise self.refuse("no converter for kernel_params")
        coef0 = 1.0 if model.coef0 is None else float(model.coef0)
        degree = 3.0 if model.degree is None else float(model.degree)
        kernel = _pairwise(model.kernel, self.x, dense(model.components_), model.gamma, coef0, degree)
        weights = np.asarray(model.normalization_, dtype=np.float64).T
        return matrix(kernel @ weights, weights.shape[1])


def covariance(kernel: Any, x: Value, points: Array) -> Value:
    """A Gaussian-process kernel between rows and points.

    Raises:
        NoConverter: for kernels that are not written here.
    """
    name = type(kernel).__name__
    if name in ("Sum", "Product"):
        first, second = covariance(kernel.k1, x, points), covariance(kernel.k2, x, points)
        return first + second if name == "Sum" else first * second
    if name == "Exponentiation":
        return covariance(kernel.kernel, x, points) ** float(kernel.exponent)
    writer = _COVARIANCES.get(name)
    if writer is None or type(kernel).__module__.partition(".")[0] != "sklearn":
        raise NoConverter(f"no converter for kernel {name}")
    return writer(kernel, x, points)


def _scaled_distance(kernel: Any, x: Value, points: Array) -> Value:
    scale = np.asarray(kernel.length_scale, dtype=np.float64)
    return squared_distances(x / scale, points / scale)


def _constant(kernel: Any, x: Value, points: Array) -> Value:
    return _zeros(x, points) + float(kernel.constant_value)


def _white(kernel: Any, x: Value, points: Array) -> Value:
    return _zeros(x, points)


def _zeros(x: Value, points: Array) -> Value:
    x.graph.needs_cells(len(points))
    return x.equals(x).cast("f8").columns([0]) @ np.zeros((1, len(points)))


def _radial(kernel: Any, x: Value, points: Array) -> Value:
    return (_scaled_distance(kernel, x, points) * -0.5).exp()


def _matern(kernel: Any, x: Value, points: Array) -> Value:
    squared = _scaled_distance(kernel, x, points)
    if kernel.nu == np.inf:
        return (squared * -0.5).exp()
    distance = squared.sqrt()
    if kernel.nu == 0.5:
        return (-distance).exp()
    if kernel.nu == 1.5:
        scaled = distance * float(np.sqrt(3.0))
        return (scaled + 1.0) * (-scaled).exp()
    if kernel.nu == 2.5:
        scaled = distance * float(np.sqrt(5.0))
        return (scaled + 1.0 + scaled.square() / 3.0) * (-scaled).exp()
    raise NoConverter(f"no converter for Matern kernel with nu={kernel.nu}")


def _rational(kernel: Any, x: Value, points: Array) -> Value:
    scale, alpha = float(kernel.length_scale), float(kernel.alpha)
    return (squared_distances(x, points) / (2.0 * alpha * scale**2) + 1.0) ** -alpha


def _periodic(kernel: Any, x: Value, points: Array) -> Value:
    wave = (squared_distances(x, points).sqrt() * float(np.pi / kernel.periodicity)).op("Sin")
    return ((wave / float(kernel.length_scale)).square() * -2.0).exp()


def _product(kernel: Any, x: Value, points: Array) -> Value:
    return (x @ points.T) + float(kernel.sigma_0**2)


_COVARIANCES = {
    "ConstantKernel": _constant,
    "WhiteKernel": _white,
    "RBF": _radial,
    "Matern": _matern,
    "RationalQuadratic": _rational,
    "ExpSineSquared": _periodic,
    "DotProduct": _product,
}


def variance(kernel: Any, x: Value) -> Value | float:
    """A Gaussian-process kernel of every row with itself."""
    name = type(kernel).__name__
    if name in ("Sum", "Product"):
        first, second = variance(kernel.k1, x), variance(kernel.k2, x)
        return first + second if name == "Sum" else first * second
    if name == "Exponentiation":
        return variance(kernel.kernel, x) ** float(kernel.exponent)
    if name == "DotProduct":
        return x.square().sum() + float(kernel.sigma_0) ** 2
    if name == "ConstantKernel":
        return float(kernel.constant_value)
    return float(kernel.noise_level) if name == "WhiteKernel" else 1.0


@emits("GaussianProcessRegressor")
class ProcessRegressorEmitter(Regressor):
    """The mean of a Gaussian process."""

    def predict(self) -> Answer:
        model = self.estimator
        weights = np.asarray(model.alpha_, dtype=np.float64)
        mean = covariance(model.kernel_, self.x, dense(model.X_train_)) @ weights.reshape(len(weights), -1)
        return mean * np.atleast_1d(model._y_train_std) + np.atleast_1d(model._y_train_mean)


_LAMBDAS = np.array([0.41, 0.4, 0.37, 0.44, 0.39])
_COEFS = np.array([-1854.8214151, 3516.89893646, 221.29346712, 128.12323805, -2010.49422654])


@emits("_BinaryGaussianProcessClassifierLaplace")
class BinaryProcessEmitter(Classifier):
    """Two classes by a Gaussian process in Laplace's approximation."""

    def star(self) -> Value:
        """The kernel between rows and training rows."""
        return covariance(self.estimator.kernel_, self.x, dense(self.estimator.X_train_))

    def latent(self) -> Value:
        """The latent mean."""
        model = self.estimator
        return self.value("star") @ np.asarray(model.y_train_ - model.pi_, dtype=np.float64).reshape(-1, 1)

    def predict(self) -> Answer:
        return self.labels((self.value("latent") > 0.0).cast("i8"))

    def predict_proba(self) -> Answer:
        model, mean = self.estimator, self.value("latent")
        inverse = np.linalg.inv(np.asarray(model.L_, dtype=np.float64)) * np.asarray(model.W_sr_).reshape(1, -1)
        spread = (self.value("star") @ inverse.T).square().sum()
        own = variance(model.kernel_, self.x)
        latent_variance = (spread * -1.0) + own
        alpha = 1.0 / (latent_variance * 2.0)
        inside = (mean * _LAMBDAS.reshape(1, -1)) * (alpha / (alpha + _LAMBDAS.reshape(1, -1) ** 2)).sqrt()
        scale = (np.pi / alpha).sqrt() / ((latent_variance * (2.0 * np.pi)).sqrt() * 2.0)
        second = (scale * erf(inside)) @ _COEFS.reshape(-1, 1) + float(0.5 * _COEFS.sum())
        return with_complement(second)


@emits("GaussianProcessClassifier")
class ProcessClassifierEmitter(Classifier):
    """Classes by Gaussian processes."""

    def answer(self, method: str) -> Answer:
        given = emitter(self.graph, self.estimator.base_estimator_, self.table).answer(method)
        # The inner one is trained on the labels themselves, in the same order.
        return Labels(given.index, self.classes) if isinstance(given, Labels) else given
