"""Labelled rows weighed so that they look like a window: how far the window lies from what was labelled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modelyard.domain.frame import Array
from modelyard.monitoring.estimate.fitting import logistic

_RIDGE = 2.0
_MOST_ODDS = 8.0


@dataclass(frozen=True, slots=True)
class Weighed:
    """Weights of the labelled rows, which sum to one, and what they are worth.

    `worth` is the number of equally weighed rows that would say as much (Kish's effective sample size).
    """

    weights: Array
    worth: float


def weighed(labelled: Array, window: Array) -> Weighed:
    """By the odds of a classifier that tells window from labelled rows (Bickel, Brückner and Scheffer 2009).

    Both are designs: a row for each row, a column for each cell. The classifier is additive in the cells, with a ridge,
    so that with few rows in the window the weights hardly depart from equal ones.
    """
    m, n = len(labelled), len(window)
    if not n:
        return Weighed(np.full(m, 1.0 / m), float(m))
    both = np.concatenate([labelled, window]).astype(np.float32, copy=False)
    both = np.concatenate([np.ones((m + n, 1), dtype=np.float32), both], axis=1)
    ridge = np.full(both.shape[1], _RIDGE)
    ridge[0] = 1e-6
    # Each side counts as much as the smaller one, so that odds are ratios of densities.
    each = np.concatenate([np.full(m, min(m, n) / m), np.full(n, min(m, n) / n)])
    truth = np.concatenate([np.zeros(m), np.ones(n)])
    found = logistic(both, truth, np.zeros(m + n), ridge, each).astype(np.float32)
    odds = np.exp(np.clip(both[:m] @ found, -_MOST_ODDS, _MOST_ODDS).astype(np.float64))
    weights = odds / odds.sum()
    return Weighed(weights, float(1.0 / (weights**2).sum()))
