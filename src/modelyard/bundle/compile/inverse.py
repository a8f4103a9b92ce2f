"""Transformers of the target, backwards."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelyard.bundle.compile.graph import Graph, NoConverter, Value
from modelyard.bundle.compile.preprocessing import known_function
from modelyard.bundle.compile.special import interpolate


def inverted(graph: Graph, transformer: Any, value: Value) -> Value:
    """What ``transformer.inverse_transform`` makes of a value.

    Raises:
        NoConverter: when it cannot be written.
    """
    name = type(transformer).__name__
    writer = _WRITERS.get(name)
    if writer is None or type(transformer).__module__.partition(".")[0] != "sklearn":
        raise NoConverter(f"TransformedTargetRegressor: no converter for {name} backwards")
    result: Value = writer(transformer, value)
    return result


def _function(step: Any, value: Value) -> Value:
    if step.inverse_func is None:
        return value
    written = known_function(step.inverse_func)
    if written is None or step.inv_kw_args:
        raise NoConverter("TransformedTargetRegressor: no converter for its inverse function")
    return written(value)


def _standard(step: Any, value: Value) -> Value:
    if step.with_std and step.scale_ is not None:
        value = value * step.scale_
    return value + step.mean_ if step.with_mean and step.mean_ is not None else value


def _robust(step: Any, value: Value) -> Value:
    if step.with_scaling:
        value = value * step.scale_
    return value + step.center_ if step.with_centering else value


def _minmax(step: Any, value: Value) -> Value:
    return (value - np.asarray(step.min_)) / np.asarray(step.scale_)


def _power(step: Any, value: Value) -> Value:
    if step.standardize:
        value = _standard(step._scaler, value)
    if len(step.lambdas_) != 1:
        raise NoConverter("TransformedTargetRegressor: no converter for several powers")
    power = float(step.lambdas_[0])
    return _box_cox(value, power) if step.method == "box-cox" else _yeo_johnson(value, power)


def _box_cox(value: Value, power: float) -> Value:
    return value.exp() if power == 0 else ((value * power).log1p() / power).exp()


def _yeo_johnson(value: Value, power: float) -> Value:
    graph = value.graph
    small = float(np.spacing(1.0))
    up = graph.where(value >= 0.0, value, 0.0)
    down = graph.where(value < 0.0, value, 0.0)
    positive = up.exp() - 1.0 if abs(power) < small else (up * power + 1.0) ** (1.0 / power) - 1.0
    other = 2.0 - power
    negative = 1.0 - (-down).exp() if abs(other) <= small else 1.0 - (down * -other + 1.0) ** (1.0 / other)
    return graph.where(value < 0.0, negative, positive)


def _quantile(step: Any, value: Value) -> Value:
    if step.output_distribution != "uniform" or step.quantiles_.shape[1] != 1:
        raise NoConverter("TransformedTargetRegressor: no converter for QuantileTransformer to normal, backwards")
    marks = np.asarray(step.references_, dtype=np.float64)
    return interpolate(value, marks, np.asarray(step.quantiles_[:, 0], dtype=np.float64))


_WRITERS = {
    "FunctionTransformer": _function,
    "StandardScaler": _standard,
    "RobustScaler": _robust,
    "MinMaxScaler": _minmax,
    "MaxAbsScaler": lambda step, value: value * step.scale_,
    "PowerTransformer": _power,
    "QuantileTransformer": _quantile,
}
