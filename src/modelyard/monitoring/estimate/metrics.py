"""Metrics of a binary classifier as functions of scores and of probabilities in the place of labels.

Each gives its value, and its *slope*: for every row, what the metric would gain, times the number of rows, if the row's
truth were 1 and not 0. With labels in the place of probabilities the value is the metric itself. To first order the
slope says all that is needed about its errors (the influence function; von Mises 1947).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from modelyard.domain.frame import Array

Valued: TypeAlias = tuple[float, "Slope"]
Slope: TypeAlias = Callable[[Array, Array], Array]
"""Takes scores and decisions (of any rows), gives a slope for each."""

_LEAST = 1e-15


def accuracy(score: Array, decided: Array, p: Array) -> Valued:
    """The share of right decisions.

    >>> accuracy(np.array([0.9, 0.2]), np.array([1.0, 0.0]), np.array([0.8, 0.3]))[0]
    0.75
    """
    return float(np.mean(np.where(decided > 0, p, 1 - p))), lambda score, decided: 2 * decided - 1


def brier(score: Array, decided: Array, p: Array) -> Valued:
    """The mean of (score - truth)^2."""
    return float(np.mean(p * (1 - score) ** 2 + (1 - p) * score**2)), lambda score, decided: 1 - 2 * score


def log_loss(score: Array, decided: Array, p: Array) -> Valued:
    """The mean of minus the logarithm of what was given to the truth."""

    def kept(score: Array) -> Array:
        found: Array = np.clip(score, _LEAST, 1 - _LEAST)
        return found

    value = -np.mean(p * np.log(kept(score)) + (1 - p) * np.log1p(-kept(score)))
    return float(value), lambda score, decided: np.log1p(-kept(score)) - np.log(kept(score))


def auc(score: Array, decided: Array, p: Array) -> Valued:
    """The chance that of two rows, one true and one not, the true one has the higher score; ties count half."""
    ordered, back = np.unique(score, return_inverse=True)
    ones = np.bincount(back, p, len(ordered))
    zeros = np.bincount(back, 1 - p, len(ordered))
    n1, n0, n = float(ones.sum()), float(zeros.sum()), len(score)
    if n1 <= 0 or n0 <= 0:
        return float("nan"), lambda score, decided: np.zeros(len(score))
    below0 = np.concatenate([[0.0], np.cumsum(zeros)])
    below1 = np.concatenate([[0.0], np.cumsum(ones)])
    value = float(((below0[:-1] + zeros / 2) * ones).sum() / (n1 * n0))

    def slope(score: Array, decided: Array) -> Array:
        left, right = np.searchsorted(ordered, score, "left"), np.searchsorted(ordered, score, "right")
        beaten = (below0[left] + below0[right]) / 2 / n0
        beating = 1 - (below1[left] + below1[right]) / 2 / n1
        found: Array = n * ((beaten - value) / n1 - (beating - value) / n0)
        return found

    return value, slope


def precision(score: Array, decided: Array, p: Array) -> Valued:
    """Of what was decided to be true, the share that is."""
    share = float(np.mean(decided))
    if not share:
        return float("nan"), lambda score, decided: np.zeros(len(decided))
    return float(np.mean(decided * p)) / share, lambda score, decided: decided / share


def recall(score: Array, decided: Array, p: Array) -> Valued:
    """Of what is true, the share that was decided to be."""
    share = float(np.mean(p))
    if not share:
        return float("nan"), lambda score, decided: np.zeros(len(decided))
    value = float(np.mean(decided * p)) / share
    return value, lambda score, decided: (decided - value) / share


def f1(score: Array, decided: Array, p: Array) -> Valued:
    """The harmonic mean of precision and recall."""
    whole = float(np.mean(p) + np.mean(decided))
    if not whole:
        return float("nan"), lambda score, decided: np.zeros(len(decided))
    value = 2 * float(np.mean(decided * p)) / whole
    return value, lambda score, decided: (2 * decided - value) / whole


def base_rate(score: Array, decided: Array, p: Array) -> Valued:
    """The share of what is true."""
    return float(np.mean(p)), lambda score, decided: np.ones(len(decided))


Metric: TypeAlias = Callable[[Array, Array, Array], Valued]

BINARY: Mapping[str, Metric] = {
    "accuracy": accuracy,
    "auc": auc,
    "brier": brier,
    "log_loss": log_loss,
    "precision": precision,
    "recall": recall,
    "f1": f1,
    "base_rate": base_rate,
}

LESS_IS_BETTER = frozenset({"brier", "log_loss", "mae", "rmse"})
"""Metrics of which less is better."""


def realized(name: str, score: Array, decided: Array, truth: Array) -> float:
    """The metric where the truth is known: 1 or 0.

    >>> realized("auc", np.array([0.9, 0.2]), np.array([1.0, 0.0]), np.array([1.0, 0.0]))
    1.0
    """
    return BINARY[name](score, decided, truth.astype(np.float64))[0]
