"""Scalers, power and quantile transformers, discretisers, polynomials and splines."""

from __future__ import annotations

from collections.abc import Callable
from math import factorial
from typing import Any

import numpy as np

from modelyard.bundle.compile.emit import Emitter, emits
from modelyard.bundle.compile.graph import Graph, Value
from modelyard.bundle.compile.special import interpolate, normal_quantile
from modelyard.bundle.compile.table import Block, Table, matrix
from modelyard.domain.frame import Array


class Elementwise(Emitter):
    """A transformer that computes as many numeric columns as it gets."""

    def transform(self) -> Table:
        return matrix(self.compute(self.x), self.width, sparse=self.table.sparse)

    def compute(self, x: Value) -> Value:
        """The new columns."""
        raise NotImplementedError


@emits("StandardScaler")
class StandardScalerEmitter(Elementwise):
    """Subtract the mean, divide by the deviation."""

    def compute(self, x: Value) -> Value:
        scaler = self.estimator
        if scaler.with_mean and scaler.mean_ is not None:
            x = x - self.fitted("mean_")
        return x / self.fitted("scale_") if scaler.with_std and scaler.scale_ is not None else x


@emits("MinMaxScaler")
class MinMaxScalerEmitter(Elementwise):
    """Map the range seen onto another."""

    def compute(self, x: Value) -> Value:
        scaled = x * self.fitted("scale_") + self.fitted("min_")
        return scaled.clip(*self.estimator.feature_range) if self.estimator.clip else scaled


@emits("MaxAbsScaler")
class MaxAbsScalerEmitter(Elementwise):
    """Divide by the largest magnitude seen."""

    def compute(self, x: Value) -> Value:
        scaled = x / self.fitted("scale_")
        return scaled.clip(-1.0, 1.0) if getattr(self.estimator, "clip", False) else scaled


@emits("RobustScaler")
class RobustScalerEmitter(Elementwise):
    """Subtract the median, divide by a quantile range."""

    def compute(self, x: Value) -> Value:
        if self.estimator.with_centering and self.estimator.center_ is not None:
            x = x - self.fitted("center_")
        return x / self.fitted("scale_") if self.estimator.with_scaling else x


@emits("Normalizer")
class NormalizerEmitter(Elementwise):
    """Divide each row by its norm."""

    def compute(self, x: Value) -> Value:
        norm = self.estimator.norm
        if norm == "l1":
            size = x.abs().sum()
        elif norm == "max":
            size = x.abs().max()
        else:
            size = x.square().sum().sqrt()
        return x / self.graph.where(size.equals(0.0), 1.0, size)


@emits("Binarizer")
class BinarizerEmitter(Elementwise):
    """One where a value is above the threshold."""

    def compute(self, x: Value) -> Value:
        return (x > float(self.estimator.threshold)).cast("f8")


@emits("PowerTransformer")
class PowerTransformerEmitter(Elementwise):
    """Yeo-Johnson or Box-Cox, then scaling."""

    def compute(self, x: Value) -> Value:
        lambdas = np.asarray(self.estimator.lambdas_, dtype=np.float64)
        powered = yeo_johnson(x, lambdas) if self.estimator.method == "yeo-johnson" else box_cox(x, lambdas)
        if not self.estimator.standardize:
            return powered
        return StandardScalerEmitter(self.graph, self.estimator._scaler, matrix(powered, self.width)).compute(powered)


def _power(log: Value, exponent: Array) -> Value:
    """``expm1(exponent * log) / exponent``, and its limit `log` where the exponent is zero."""
    flat = np.abs(exponent) < np.finfo(np.float64).eps
    safe = np.where(flat, 1.0, exponent)
    curved = (log * safe).expm1() / safe
    return log.graph.where(log.graph.constant(flat, "b1"), log, curved) if flat.any() else curved


def yeo_johnson(x: Value, lambdas: Array) -> Value:
    """The power transform for values of both signs."""
    graph = x.graph
    positive = _power(graph.where(x >= 0.0, x, 0.0).log1p(), lambdas)
    negative = -_power(graph.where(x < 0.0, -x, 0.0).log1p(), 2.0 - lambdas)
    chosen = graph.where(x < 0.0, negative, positive)
    return graph.where(x.isnan(), x, chosen)


def box_cox(x: Value, lambdas: Array) -> Value:
    """The power transform for positive values."""
    return _power(x.log(), lambdas)


@emits("QuantileTransformer")
class QuantileTransformerEmitter(Emitter):
    """Map values to their quantile, and that to a normal value if wanted."""

    def transform(self) -> Table:
        columns = [self._column(at) for at in range(self.width)]
        values = self.graph.concat(columns)
        if self.estimator.output_distribution == "normal":
            threshold = 1e-7
            low = float(_ppf(threshold - np.spacing(1)))
            high = float(_ppf(1 - (threshold - np.spacing(1))))
            values = normal_quantile(values).clip(low, high)
        return matrix(values, self.width, sparse=self.table.sparse)

    def _column(self, at: int) -> Value:
        x = self.x.columns([at])
        marks = np.asarray(self.estimator.quantiles_[:, at], dtype=np.float64)
        levels = np.asarray(self.estimator.references_, dtype=np.float64)
        up = interpolate(x, marks, levels)
        down = interpolate(-x, -marks[::-1], -levels[::-1])
        value = (up - down) * 0.5
        if self.estimator.output_distribution == "normal":
            above, below = x + 1e-7 > float(marks[-1]), x - 1e-7 < float(marks[0])
        else:
            above, below = x.equals(float(marks[-1])), x.equals(float(marks[0]))
        value = self.graph.where(above, 1.0, value)
        value = self.graph.where(below, 0.0, value)
        return self.graph.where(x.isnan(), x, value)


def _ppf(level: float) -> Any:
    from scipy import stats

    return stats.norm.ppf(level)


@emits("KBinsDiscretizer")
class KBinsEmitter(Emitter):
    """The number of the bin, or one column a bin."""

    def transform(self) -> Table:
        parts, widths = [], []
        for at in range(self.width):
            edges = np.asarray(self.estimator.bin_edges_[at], dtype=np.float64)[1:-1]
            x = self.x.columns([at])
            code = self._bin(x, edges)
            if self.estimator.encode == "ordinal":
                parts.append(code.cast("f8"))
                widths.append(1)
            else:
                bins = int(self.estimator.n_bins_[at])
                parts.append(code.rows_of(np.eye(bins)))
                widths.append(bins)
        sparse = self.estimator.encode == "onehot"
        return matrix(self.graph.concat(parts), sum(widths), sparse=sparse)

    def _bin(self, x: Value, edges: Array) -> Value:
        if not edges.size:
            return x.equals(x).cast("i8") * 0
        return (x >= edges.reshape(1, -1)).cast("i8").sum()


@emits("PolynomialFeatures")
class PolynomialEmitter(Emitter):
    """Products of powers of columns."""

    def transform(self) -> Table:
        powers = np.asarray(self.estimator.powers_)
        degree = max(int(powers.sum(axis=1).max()), 1)
        one = self.width
        factors = [[at for at, times in enumerate(row) for _ in range(times)] for row in powers.tolist()]
        padded = np.array([row + [one] * (degree - len(row)) for row in factors], dtype=np.int64)
        extended = self.x
        if (padded == one).any():
            extended = self.graph.concat([self.x, ones(self.x.columns([0]))])
        product = extended.columns(padded[:, 0])
        for step in range(1, degree):
            product = product * extended.columns(padded[:, step])
        return matrix(product, len(padded), sparse=self.table.sparse)


def ones(column: Value) -> Value:
    """A column of ones, one for each row."""
    return (column.equals(column) | column.isnan()).cast("f8")


@emits("SplineTransformer")
class SplineEmitter(Emitter):
    """B-spline bases, as polynomials by interval."""

    def transform(self) -> Table:
        spline = self.estimator
        if spline.extrapolation not in ("constant", "continue", "error", "linear"):
            raise self.refuse(f"no converter for extrapolation {spline.extrapolation!r}")
        if getattr(spline, "handle_missing", "error") != "error":
            raise self.refuse("no converter for missing values in splines")
        parts = [self._column(at) for at in range(self.width)]
        count = int(spline.bsplines_[0].c.shape[1])
        width = count * self.width
        value = self.graph.concat(parts)
        if not spline.include_bias:
            kept = [at for at in range(width) if (at + 1) % count]
            value, width = value.columns(kept), len(kept)
        return matrix(value, width, sparse=bool(spline.sparse_output))

    def _column(self, at: int) -> Value:
        basis, degree = self.estimator.bsplines_[at], int(self.estimator.degree)
        knots = np.asarray(basis.t, dtype=np.float64)[degree : len(basis.t) - degree]
        x = self.x.columns([at])
        inside = x
        if self.estimator.extrapolation in ("constant", "linear"):
            inside = x.clip(float(knots[0]), float(knots[-1]))
        interval = (inside >= knots[1:-1].reshape(1, -1)).cast("i8").sum() if len(knots) > 2 else None
        if interval is None:
            interval = x.equals(x).cast("i8") * 0
        offset = inside - interval.rows_of(knots[:-1].reshape(-1, 1))
        value = self._polynomial(basis, degree, knots, interval, offset)
        if self.estimator.extrapolation == "linear":
            value = self._line(basis, knots, x, value)
        return value

    def _polynomial(self, basis: Any, degree: int, knots: Array, interval: Value, offset: Value) -> Value:
        """Taylor coefficients of every basis function at the left end of each interval, by Horner's rule."""
        middle = knots[:-1]
        terms = [
            interval.rows_of(_derivative(basis, middle, power) / factorial(power)) for power in range(degree, -1, -1)
        ]
        value = terms[0]
        for term in terms[1:]:
            value = value * offset + term
        return value

    def _line(self, basis: Any, knots: Array, x: Value, value: Value) -> Value:
        """Straight lines outside the range seen, where the base function is not zero there."""
        low, high = float(knots[0]), float(knots[-1])
        degree = int(self.estimator.degree)
        slopes = basis.derivative(1)
        rise_low, rise_high = _trimmed(slopes(low), degree, left=True), _trimmed(slopes(high), degree, left=False)
        below = (x - low) * rise_low.reshape(1, -1) + basis(low).reshape(1, -1)
        above = (x - high) * rise_high.reshape(1, -1) + basis(high).reshape(1, -1)
        value = self.graph.where(x < low, below, value)
        return self.graph.where(x > high, above, value)


def _trimmed(slope: Array, degree: int, *, left: bool) -> Array:
    """The library extrapolates only the functions that reach the border."""
    reach = max(degree, 1) + (degree <= 1)
    kept = np.zeros_like(slope)
    part = slice(0, reach) if left else slice(len(slope) - reach, None)
    kept[part] = slope[part]
    return kept


def _derivative(basis: Any, points: Array, order: int) -> Array:
    """A derivative of every basis function from the right at each point."""
    function = basis.derivative(order) if order else basis
    values: Array = np.asarray(function(points), dtype=np.float64)
    return values


def _wide_enough(block: Block, *, floating: bool) -> bool:
    """Whether numpy computes with these columns as with doubles."""
    if block.is_text or block.dtype in ("object", "category", "datetime"):
        return False
    if block.value.kind == "f8" or block.dtype.lower() in ("float64", "int64", "uint64", "int32", "uint32"):
        return not floating or block.value.kind != "i8"
    return False


_EXACT_ON_INTEGERS = {"log1p", "log", "exp", "expm1", "sqrt", "sin", "cos", "tanh", "log2", "log10"}

FUNCTIONS: dict[str, Callable[[Value], Value]] = {
    "log1p": lambda x: x.log1p(),
    "expm1": lambda x: x.expm1(),
    "log": lambda x: x.log(),
    "exp": lambda x: x.exp(),
    "sqrt": lambda x: x.sqrt(),
    "absolute": lambda x: x.abs(),
    "square": lambda x: x.square(),
    "negative": lambda x: -x,
    "reciprocal": lambda x: 1.0 / x,
    "sin": lambda x: x.op("Sin"),
    "cos": lambda x: x.op("Cos"),
    "tanh": lambda x: x.tanh(),
    "floor": lambda x: x.op("Floor"),
    "ceil": lambda x: x.op("Ceil"),
    "sign": lambda x: x.op("Sign"),
    "log2": lambda x: x.log() * (1.0 / np.log(2.0)),
    "log10": lambda x: x.log() * (1.0 / np.log(10.0)),
}
"""numpy functions that a `FunctionTransformer` may name."""


def known_function(function: Any) -> Callable[[Value], Value] | None:
    """How to write a numpy function into a graph, if it is one of those."""
    name = getattr(function, "__name__", None)
    if not isinstance(name, str) or name not in FUNCTIONS or getattr(np, name, None) is not function:
        return None
    return FUNCTIONS[name]


@emits("FunctionTransformer")
class FunctionEmitter(Emitter):
    """A known numpy function, or nothing at all."""

    def transform(self) -> Table:
        step = self.estimator
        if step.func is None:
            return self.table
        written = known_function(step.func)
        if written is None or step.kw_args:
            name = getattr(step.func, "__name__", type(step.func).__name__)
            raise self.refuse(f"no converter for the function {name!r}")
        floating = step.func.__name__ not in _EXACT_ON_INTEGERS
        if not all(_wide_enough(block, floating=floating) for block in self.table.blocks):
            raise self.refuse(f"no converter for {step.func.__name__!r} on columns that are not doubles")
        made = matrix(written(self.x), self.width, sparse=self.table.sparse).renamed(self.table.names)
        return Table(self.graph, made.blocks, sparse=made.sparse, frame=self.table.frame)


def constant_table(graph: Graph, rows_like: Value, values: Array) -> Value:
    """The same line of numbers for every row."""
    one = graph.constant(np.ones((1, 1)))
    return ones(rows_like.columns([0])) @ one * values.reshape(1, -1)
