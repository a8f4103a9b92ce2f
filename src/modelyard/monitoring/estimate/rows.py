"""Rows as estimates need them: inputs, one score each, what was decided, and the truth where it is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from modelyard.domain.frame import Array
from modelyard.errors import InvalidRequest
from modelyard.monitoring.columns import Table

Task: TypeAlias = Literal["binary", "classes", "numbers"]
"""``binary``: a probability of one of two classes. ``classes``: a decision. ``numbers``: a predicted number."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Answered rows in the order of time.

    Of a binary task `score` is the probability of the class that is meant, and `decided` and `truth` are 1 or 0. Of
    other tasks `score` is how sure the decision was, or the number that was predicted, and `losses` has for each metric
    what a row adds to its mean. Where no truth is known, `truth` is None and `losses` is empty.
    """

    task: Task
    inputs: Table
    score: Array
    decided: Array
    truth: Array | None = None
    losses: Mapping[str, Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.score)

    @property
    def labels(self) -> Array:
        """The truth.

        Raises:
            InvalidRequest: it is not known.
        """
        if self.truth is None:
            raise InvalidRequest("these rows have no labels; give rows whose truth is known")
        return self.truth


def numbers_losses(predicted: Array, truth: Array) -> dict[str, Array]:
    """Of predicted numbers: absolute, squared and signed errors; `rmse` is the root of the mean of its column.

    >>> sorted(numbers_losses(np.array([1.0]), np.array([3.0])).items())
    [('bias', array([-2.])), ('mae', array([2.])), ('rmse', array([4.]))]
    """
    error = predicted - truth
    return {"mae": np.abs(error), "rmse": error**2, "bias": error}


def classes_losses(
    decided: Array, truth: Array, chances: Array | None, classes: tuple[object, ...]
) -> dict[str, Array]:
    """Of decided classes: whether right; with the chances of all `classes` also Brier's score and the log loss."""
    found = {"accuracy": np.array([one == other for one, other in zip(decided, truth, strict=True)], dtype=np.float64)}
    if chances is not None:
        place = {str(name): at for at, name in enumerate(classes)}
        at = np.array([place.get(str(each), -1) for each in truth])
        known = np.where((at >= 0)[:, None], np.eye(len(classes))[at], 0.0)
        given = np.where(at >= 0, chances[np.arange(len(at)), at], 0.0)
        found["brier"] = ((chances - known) ** 2).sum(axis=1)
        found["log_loss"] = -np.log(np.clip(given, 1e-15, 1.0))
    return found
