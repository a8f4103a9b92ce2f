"""Metrics as means of values between 0 and 1, larger when they are worse, so that evidence can be gathered."""

from __future__ import annotations

import msgspec
import numpy as np

from modelyard.domain.frame import Array
from modelyard.monitoring.performance.judged import Judged
from modelyard.monitoring.performance.metrics import row_losses
from modelyard.monitoring.performance.task import Aim, Task

COVERAGE = "coverage"
"""The share of rows whose label has come; worse when it falls."""

_PER_BLOCK = 5
"""So many rows of the rarer class a block has, for an area under the curve to be found in it."""

_LOG_LOSS_MOST = 7.0
"""A probability of 0.001 for what came true."""


class Unit(msgspec.Struct, frozen=True):
    """How a metric's loss becomes a value: it is moved by `shift`, divided by `scale`, and held between 0 and 1."""

    scale: float = 1.0
    shift: float = 0.0
    block: int = 1
    """Rows of a block, where a value is of a block."""


def watched(task: Task) -> tuple[str, ...]:
    """The metrics that are watched of such a task, the most usual first."""
    if task.aim is Aim.REGRESSION:
        return ("mae", "rmse", "bias+", "bias-")
    has_probabilities = bool(task.probabilities or task.together)
    found = ["accuracy"]
    if has_probabilities:
        found += ["brier", "log_loss"]
    if task.aim is Aim.BINARY and (has_probabilities or task.score):
        found.append("auc")
    return tuple(found)


def unit(judged: Judged, metric: str) -> Unit:
    """The unit that fits a metric in the reference. Errors beyond four times its 99th percentile count as that."""
    if metric == "auc":
        rare = float(np.mean(judged.truth == 1))
        rare = max(min(rare, 1 - rare), 0.005)
        return Unit(block=int(np.ceil(_PER_BLOCK / rare)))
    if metric == "log_loss":
        return Unit(_LOG_LOSS_MOST)
    if metric == "brier":
        return Unit(1.0 if judged.task.aim is Aim.BINARY else 2.0)
    if judged.task.aim is not Aim.REGRESSION:
        return Unit()
    losses = np.abs(row_losses(judged, metric.rstrip("+-")))
    losses = losses[np.isfinite(losses)]
    most = float(np.quantile(losses, 0.99)) * (16 if metric == "rmse" else 4) if len(losses) else 1.0
    most = most or 1.0
    return Unit(2 * most, most) if metric.startswith("bias") else Unit(most)


def values(judged: Judged, metric: str, unit: Unit, steps: Array) -> tuple[Array, Array]:
    """The values of labelled rows, in the order of time, and to which step each belongs; `steps` is of the rows."""
    if metric == "auc":
        return _blocks(judged, unit.block, steps)
    losses = row_losses(judged, metric.rstrip("+-"))
    if metric == "bias-":
        losses = -losses
    told = np.isfinite(losses)
    found: Array = np.clip((losses[told] + unit.shift) / unit.scale, 0.0, 1.0)
    return found, steps[told]


def as_metric(value: float, metric: str, unit: Unit) -> float:
    """A mean of values as the metric is written.

    >>> as_metric(0.2, "accuracy", Unit()), as_metric(0.5, "mae", Unit(4.0)), as_metric(0.25, "rmse", Unit(16.0))
    (0.8, 2.0, 2.0)
    """
    if metric in ("accuracy", "auc", COVERAGE):
        return 1 - value
    loss = value * unit.scale - unit.shift
    if metric == "rmse":
        return float(np.sqrt(max(0.0, loss)))
    return -loss if metric == "bias-" else loss


def _blocks(judged: Judged, size: int, steps: Array) -> tuple[Array, Array]:
    """The part of pairs in each block that are ranked wrongly, where both classes are in it.

    Given the labels, each pair is as likely ranked wrongly as 1 - AUC says, so this is the mean of every block. Blocks
    do not reach beyond a step.
    """
    scores = judged.score if judged.probabilities is None else judged.probabilities[:, 1]
    if scores is None:
        return np.zeros(0), np.zeros(0, dtype=np.int64)
    told = np.isfinite(scores)
    scores, truth, steps = scores[told], judged.truth[told] == 1, steps[told]
    if not len(scores):
        return np.zeros(0), np.zeros(0, dtype=np.int64)
    first = np.flatnonzero(np.diff(steps, prepend=steps[0] - 1))
    lengths = np.diff([*first, len(steps)])
    place = np.arange(len(steps)) - np.repeat(first, lengths)
    starts = np.flatnonzero(place % size == 0)
    block = np.cumsum(place % size == 0) - 1
    padded = np.full((len(starts), size), np.nan)
    positive = np.zeros((len(starts), size), dtype=bool)
    padded[block, place % size] = scores
    positive[block, place % size] = truth
    wrong, pairs = _pairs(padded, positive)
    both = pairs > 0
    return wrong[both] / pairs[both], steps[starts][both]


def _pairs(scores: Array, positive: Array) -> tuple[Array, Array]:
    """For each block, the wrongly ranked pairs of a positive and a negative row (ties count half), and all of them."""
    there = np.isfinite(scores)
    wrong, pairs = np.zeros(len(scores)), np.zeros(len(scores))
    at_once = max(1, 4_000_000 // scores.shape[1] ** 2)
    for start in range(0, len(scores), at_once):
        rows = slice(start, start + at_once)
        part, yes = scores[rows], positive[rows]
        no = there[rows] & ~yes
        with np.errstate(invalid="ignore"):
            below = (part[:, :, None] < part[:, None, :]) + 0.5 * (part[:, :, None] == part[:, None, :])
        mixed = yes[:, :, None] & no[:, None, :]
        wrong[rows] = np.where(mixed, below, 0.0).sum(axis=(1, 2))
        pairs[rows] = mixed.sum(axis=(1, 2))
    return wrong, pairs
