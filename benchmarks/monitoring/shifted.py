"""A source of rows whose inputs, base rate or concept can be moved, and a model of it that is wrong in known ways."""

from __future__ import annotations

import numpy as np
import pandas as pd

from modelyard.domain.frame import Array
from modelyard.monitoring.columns import table_of
from modelyard.monitoring.estimate.rows import Rows, numbers_losses

NAMES = ("a", "b", "c", "d")
LETTERS = np.array(list("pqrst"))


def draw(rng: np.random.Generator, rows: int, kind: str = "steady", size: float = 0.0) -> tuple[pd.DataFrame, Array]:
    """Rows and their truth. `kind`: steady, covariate (moved), unsure (less spread), label, concept."""
    if kind == "label":
        x, y = draw(rng, 8 * rows)
        weights = np.where(y > 0, 1 + 3 * size, 1.0)
        chosen = rng.choice(len(y), rows, p=weights / weights.sum())
        return x.iloc[chosen].reset_index(drop=True), y[chosen]
    shift = size if kind == "covariate" else 0.0
    spread = 1 - size if kind == "unsure" else 1.0
    a, b = rng.normal(shift, spread, rows), rng.normal(-shift, spread, rows)
    c, d = rng.integers(0, 5, rows), rng.exponential(1, rows)
    odds = 1.2 * a - 0.8 * b + 0.5 * a * b + 0.4 * (c - 2) - 0.7 * (d - 1) - 1.0
    if kind == "concept":
        odds = odds + size * np.where(a > 0, -1.5, 1.0)
    truth = (rng.random(rows) < 1 / (1 + np.exp(-odds))).astype(float)
    return pd.DataFrame({"a": a, "b": b, "c": LETTERS[c], "d": d}), truth


def scores(x: pd.DataFrame) -> Array:
    """What the model says: too sure, and blind to how `a` and `b` hang together."""
    c = x["c"].map(dict(zip(LETTERS, range(5), strict=True))).to_numpy()
    odds = 1.6 * (1.1 * x["a"] - 0.6 * x["b"] + 0.4 * (c - 2) - 0.4 * (x["d"] - 1) - 0.7).to_numpy()
    found: Array = 1 / (1 + np.exp(-odds))
    return found


def answered(x: pd.DataFrame, y: Array | None = None) -> Rows:
    """The rows as they were answered, with their labels if these are given."""
    score = scores(x)
    return Rows("binary", table_of(x), score, (score > 0.5).astype(float), y)


def numbers(rng: np.random.Generator, rows: int, shift: float = 0.0, noise: float = 1.0) -> Rows:
    """Rows of a regression whose error grows with `a`."""
    a, b = rng.normal(shift, 1, rows), rng.normal(0, 1, rows)
    truth = 3 * a + b + noise * np.exp(0.4 * a) * rng.normal(0, 1, rows)
    predicted = 3 * a + 0.8 * b
    losses = numbers_losses(predicted, truth)
    return Rows("numbers", table_of({"a": a, "b": b}), predicted, predicted, truth, losses)
