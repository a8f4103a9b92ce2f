"""Two small fits with a ridge: a logistic one and a linear one. Deterministic, and all that estimates need."""

from __future__ import annotations

import numpy as np

from modelyard.domain.frame import Array

_ROUNDS = 300
_CLOSE = 1e-4
_LARGEST = 30.0


def logistic(design: Array, truth: Array, offset: Array, ridge: Array, weights: Array | None = None) -> Array:
    """Coefficients of P(truth) = sigmoid(offset + design @ coefficients) with sum(ridge * coefficients^2) / 2 as cost.

    Böhning and Lindsay 1988 ("Monotonicity of quadratic-approximation algorithms"): the curvature is never above that
    at 1/2, so one factorisation serves all steps and each of them gains. Steps are accelerated (Nesterov), and begin
    anew where that overshoots.

    >>> found = logistic(np.ones((4, 1)), np.array([1.0, 1.0, 1.0, 0.0]), np.zeros(4), np.array([1e-9]))
    >>> round(float(found[0]), 2)  # log odds of three in four
    1.1
    """
    w = np.ones(len(truth)) if weights is None else weights
    design = design.astype(np.float32, copy=False)
    bound = (design.T * w.astype(np.float32)) @ design / 4.0
    factor = np.linalg.inv(bound.astype(np.float64) + np.diag(ridge))
    at = ahead = np.zeros(design.shape[1])
    momentum = 1.0
    for _ in range(_ROUNDS):
        error = w * (truth - sigmoid(offset + design @ ahead.astype(np.float32)))
        gradient = design.T @ error.astype(np.float32) - ridge * ahead
        step = factor @ gradient
        new = ahead + step
        if float(gradient @ (new - at)) < 0:
            momentum = 1.0
        following = (1.0 + np.sqrt(1.0 + 4.0 * momentum * momentum)) / 2.0
        ahead = new + (momentum - 1.0) / following * (new - at)
        at, momentum = new, following
        if float(np.abs(step).max(initial=0.0)) < _CLOSE:
            break
    return at


def linear(design: Array, truth: Array, ridge: Array, weights: Array | None = None) -> Array:
    """Coefficients of least squares with sum(ridge * coefficients^2) as cost.

    >>> linear(np.ones((4, 1)), np.array([1.0, 2.0, 3.0, 6.0]), np.array([0.0])).tolist()
    [3.0]
    """
    weighed = design if weights is None else design * weights[:, None]
    found: Array = np.linalg.solve((weighed.T @ design).astype(np.float64) + np.diag(ridge), weighed.T @ truth)
    return found


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow."""
    found: Array = 1.0 / (1.0 + np.exp(-np.clip(x, -_LARGEST, _LARGEST)))
    return found


def logit(p: Array) -> Array:
    """The logarithm of the odds, for p between 1e-6 and 1 - 1e-6.

    >>> logit(np.array([0.5])).tolist()
    [0.0]
    """
    kept = np.clip(p, 1e-6, 1 - 1e-6)
    found: Array = np.log(kept) - np.log1p(-kept)
    return found
