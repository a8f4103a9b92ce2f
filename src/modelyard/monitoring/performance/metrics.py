"""The metrics: what each means, which way is better, its value with an interval."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from modelyard.domain.frame import Array
from modelyard.errors import InvalidRequest
from modelyard.monitoring.performance import intervals
from modelyard.monitoring.performance.intervals import LEVEL, Measure
from modelyard.monitoring.performance.judged import Judged
from modelyard.monitoring.performance.task import Aim, Task

BINS = 10
"""The groups of equal size over which calibration is measured."""

_LEAST = float(np.finfo(np.float64).eps)
"""Probabilities are taken to be no smaller in a log loss, as scikit-learn does."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric: `needs` says what it is computed from, `better` which way it should go (``zero``: neither)."""

    name: str
    said: str
    better: Literal["higher", "lower", "zero"]
    aims: tuple[Aim, ...]
    measure: Callable[[Judged, float], Measure]
    needs: Literal["answer", "probabilities", "ranking"] = "answer"

    def fits(self, task: Task) -> bool:
        """Whether the task's answers are enough for it."""
        if task.aim not in self.aims:
            return False
        has_probabilities = bool(task.probabilities or task.together)
        if self.needs == "ranking":
            return has_probabilities or bool(task.score)
        return has_probabilities if self.needs == "probabilities" else bool(task.answer) or has_probabilities

    def worse_by(self, was: float, now: float) -> float:
        """How much worse `now` is than `was`, in the metric's own unit; below zero where it is better.

        >>> METRICS["auc"].worse_by(0.70, 0.65) > 0, METRICS["bias"].worse_by(-2.0, 1.0)
        (True, -1.0)
        """
        if self.better == "zero":
            return abs(now) - abs(was)
        return was - now if self.better == "higher" else now - was


def measured(judged: Judged, names: Iterable[str] = (), level: float = LEVEL) -> Mapping[str, Measure]:
    """Each metric (all that fit, if none are named) over those of the rows whose label is known.

    Raises:
        InvalidRequest: a metric is not known or does not fit the task.
    """
    wanted = chosen(judged.task, names)
    known = judged.take(judged.labelled)
    return {metric.name: metric.measure(known, level) for metric in wanted}


def chosen(task: Task, names: Iterable[str] = ()) -> tuple[Metric, ...]:
    """The metrics of these names, or all that fit the task.

    Raises:
        InvalidRequest: a metric is not known or does not fit the task.
    """
    fitting = {metric.name: metric for metric in METRICS.values() if metric.fits(task)}
    for name in names:
        if name not in fitting:
            raise InvalidRequest(f"there is no metric {name!r} for {task.aim} answers; there are {', '.join(fitting)}")
    return tuple(fitting[name] for name in names) or tuple(fitting.values())


def row_losses(judged: Judged, name: str) -> Array:
    """What each row adds to the loss whose mean the metric is, or comes from; NaN where there is no answer.

    Of accuracy and its like 1 where the answer was wrong; of `rmse` and `r2` the squared error. An area under the curve
    is no mean over rows, and neither is calibration: the squared error of the probability stands for them.
    """
    if judged.task.aim is Aim.REGRESSION:
        off = judged.answer - judged.truth
        loss = {"mae": np.abs, "bias": np.positive}.get(name, np.square)
        found: Array = loss(off)
        return found
    if judged.probabilities is None or name in ("accuracy", "f1", "precision", "recall"):
        wrong = (judged.answer != judged.truth).astype(np.float64)
        return np.where(judged.answer >= 0, wrong, np.nan)
    return _logs(judged) if name == "log_loss" else _squared(judged)


def roc_parts(scores: Array, positive: Array) -> tuple[float, Array, Array]:
    """The area under the ROC curve and, for each positive and each negative row, the share of the others it is above.

    Ties count half. DeLong, DeLong and Clarke-Pearson 1988; by ranks as Sun and Xu 2014.
    """
    above, below = scores[positive], scores[~positive]
    order_above, order_below = np.sort(above), np.sort(below)
    of_above = _share_below(order_below, above)
    of_below = 1 - _share_below(order_above, below)
    return float(of_above.mean()), of_above, of_below


def _share_below(ordered: Array, values: Array) -> Array:
    least, most = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
    found: Array = (least + most) / (2 * len(ordered))
    return found


def _accuracy(judged: Judged, level: float) -> Measure:
    told = judged.answer >= 0
    return intervals.share(int((judged.answer == judged.truth).sum()), int(told.sum()), level)


def _precision(judged: Judged, level: float) -> Measure:
    said = judged.answer == 1
    return intervals.share(int((said & (judged.truth == 1)).sum()), int(said.sum()), level)


def _recall(judged: Judged, level: float) -> Measure:
    so = (judged.truth == 1) & (judged.answer >= 0)
    return intervals.share(int((so & (judged.answer == 1)).sum()), int(so.sum()), level)


def _f1(judged: Judged, level: float) -> Measure:
    """F1 = 2J / (1 + J), where J is a plain share of rows: those right of those that said or were positive.

    With more than two classes the mean over the classes that occur, by the delta method.
    """
    if judged.task.aim is Aim.BINARY:
        told = judged.answer >= 0
        said, so = (judged.answer == 1) & told, (judged.truth == 1) & told
        return intervals.share(int((said & so).sum()), int((said | so).sum()), level).mapped(lambda j: 2 * j / (1 + j))
    known = judged.take(judged.answer >= 0)
    if not len(known):
        return Measure()
    values, moved = [], np.zeros(len(known))
    for code in range(len(judged.task.classes)):
        so, said = known.truth == code, known.answer == code
        twice, either = 2.0 * (so & said), so.astype(np.float64) + said
        if either.any():
            values.append(float(twice.sum() / either.sum()))
            moved += (twice - values[-1] * either) / either.mean()
    return intervals.smooth(float(np.mean(values)), moved / len(values), level)


def _auc(judged: Judged, level: float) -> Measure:
    if judged.task.aim is Aim.MULTICLASS:
        return _auc_of_many(judged, level)
    scores = judged.score if judged.probabilities is None else judged.probabilities[:, 1]
    if scores is None:
        return Measure()
    told = np.isfinite(scores)
    positive = judged.truth[told] == 1
    many, few = int(positive.sum()), int((~positive).sum())
    if not many or not few:
        return Measure(rows=many + few)
    value, of_above, of_below = roc_parts(scores[told], positive)
    variance = sum(float(each.var(ddof=1)) / len(each) for each in (of_above, of_below) if len(each) > 1)
    return intervals.ranking(value, variance, many, few, level)


def _auc_of_many(judged: Judged, level: float) -> Measure:
    """The mean over classes of each against the rest, with how much every row moves it."""
    known = _with_probabilities(judged)
    if not len(known):
        return Measure()
    values, moved = [], np.zeros(len(known))
    for code in range(len(judged.task.classes)):
        positive = known.truth == code
        if positive.any() and not positive.all():
            value, of_above, of_below = roc_parts(_said(known)[:, code], positive)
            values.append(value)
            moved[positive] += (of_above - value) / positive.mean()
            moved[~positive] += (of_below - value) / (~positive).mean()
    if not values:
        return Measure(rows=len(known))
    found = intervals.smooth(float(np.mean(values)), moved / len(values), level)
    return Measure(found.value, _within(found.low), _within(found.high), found.rows)


def _within(value: float | None) -> float | None:
    return None if value is None else min(1.0, max(0.0, value))


def _log_loss(judged: Judged, level: float) -> Measure:
    return intervals.mean(_logs(_with_probabilities(judged)), level)


def _brier(judged: Judged, level: float) -> Measure:
    return intervals.mean(_squared(_with_probabilities(judged)), level)


def _said(judged: Judged) -> Array:
    if judged.probabilities is None:
        return np.full((len(judged), max(2, len(judged.task.classes))), np.nan)
    return judged.probabilities


def _of_truth(judged: Judged) -> Array:
    """The probability that was given to the class that came true."""
    found: Array = np.take_along_axis(_said(judged), np.maximum(judged.truth, 0)[:, None], axis=1)[:, 0]
    return found


def _logs(judged: Judged) -> Array:
    found: Array = -np.log(np.clip(_of_truth(judged), _LEAST, 1.0))
    return found


def _squared(judged: Judged) -> Array:
    """Of two classes the squared error of the second's probability; of more the sum over all, as in scikit-learn."""
    said = _said(judged)
    if judged.task.aim is Aim.BINARY:
        one: Array = np.square(said[:, 1] - (judged.truth == 1))
        return one
    found: Array = np.square(said).sum(axis=1) - 2 * _of_truth(judged) + 1
    return found


def _calibration_error(judged: Judged, level: float) -> Measure:
    """The mean gap between what was said and what came true, over groups of like probability and equal size.

    Of more than two classes, what was said is the largest probability, and what came true that this class was right.
    Noise alone makes it larger than zero; its interval starts at zero where that explains it.
    """
    known = _with_probabilities(judged)
    if not len(known):
        return Measure()
    if judged.task.aim is Aim.BINARY:
        said, so = _said(known)[:, 1], known.truth == 1
    else:
        said, so = _said(known).max(axis=1), _said(known).argmax(axis=1) == known.truth
    weights, off, errors = calibration_gaps(said, so)
    return intervals.gaps(off, errors, weights, len(known), level)


def calibration_gaps(said: Array, so: Array, bins: int = BINS) -> tuple[Array, Array, Array]:
    """For groups between quantiles of `said`: the share of rows, what came true less what was said, its standard error.

    The error is of a share with one row added on each side, so that a group in which all came true has one too.
    """
    inner = np.unique(np.quantile(said, np.linspace(0, 1, bins + 1)[1:-1], method="inverted_cdf"))
    group = np.searchsorted(inner, said, "left")
    rows = np.bincount(group, minlength=len(inner) + 1).astype(np.float64)
    held = rows > 0
    so_sum, said_sum = (np.bincount(group, each, len(inner) + 1)[held] for each in (so, said))
    rows = rows[held]
    likely = (so_sum + 1) / (rows + 2)
    return rows / len(said), (so_sum - said_sum) / rows, np.sqrt(likely * (1 - likely) / rows)


def _calibration_bias(judged: Judged, level: float) -> Measure:
    known = _with_probabilities(judged)
    return intervals.mean(_said(known)[:, 1] - (known.truth == 1), level)


def _with_probabilities(judged: Judged) -> Judged:
    told = np.atleast_1d(np.isfinite(_said(judged)).all(axis=1))
    return judged if bool(told.all()) else judged.take(told)


def _errors(judged: Judged) -> Array:
    off: Array = judged.answer - judged.truth
    found: Array = off[np.isfinite(off)]
    return found


def _mae(judged: Judged, level: float) -> Measure:
    return intervals.mean(np.abs(_errors(judged)), level)


def _rmse(judged: Judged, level: float) -> Measure:
    found = intervals.mean(np.square(_errors(judged)), level)
    return found.mapped(lambda each: max(0.0, each) ** 0.5)


def _bias(judged: Judged, level: float) -> Measure:
    return intervals.mean(_errors(judged), level)


def _r2(judged: Judged, level: float) -> Measure:
    told = np.isfinite(judged.answer - judged.truth)
    truth, off = judged.truth[told], (judged.answer - judged.truth)[told]
    around = np.square(truth - truth.mean()) if len(truth) else truth
    if len(truth) < 2 or not around.sum() > 0:
        return Measure(rows=len(truth))
    left = float(np.square(off).mean() / around.mean())
    if left == 0:
        return Measure(1.0, 1.0, 1.0, len(truth))
    moved = (np.square(off) - left * around) / around.mean() / left
    logs = intervals.smooth(float(np.log(left)), moved, level)
    return Measure(1 - left, _unlogged(logs.high), _unlogged(logs.low), len(truth))


def _unlogged(end: float | None) -> float | None:
    return None if end is None else 1 - float(np.exp(min(end, 700.0)))


_CLASSES = (Aim.BINARY, Aim.MULTICLASS)
_BINARY, _NUMBERS = (Aim.BINARY,), (Aim.REGRESSION,)

METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "share of right answers", "higher", _CLASSES, _accuracy),
        Metric("auc", "area under the ROC curve", "higher", _CLASSES, _auc, "ranking"),
        Metric("log_loss", "log loss", "lower", _CLASSES, _log_loss, "probabilities"),
        Metric("brier", "Brier score", "lower", _CLASSES, _brier, "probabilities"),
        Metric(
            "calibration_error", "expected calibration error", "lower", _CLASSES, _calibration_error, "probabilities"
        ),
        Metric("calibration_bias", "probability said less rate", "zero", _BINARY, _calibration_bias, "probabilities"),
        Metric("f1", "F1", "higher", _CLASSES, _f1),
        Metric("precision", "precision", "higher", _BINARY, _precision),
        Metric("recall", "recall", "higher", _BINARY, _recall),
        Metric("mae", "mean absolute error", "lower", _NUMBERS, _mae),
        Metric("rmse", "root mean squared error", "lower", _NUMBERS, _rmse),
        Metric("bias", "mean of answer less truth", "zero", _NUMBERS, _bias),
        Metric("r2", "R²", "higher", _NUMBERS, _r2),
    )
}
"""All metrics by name."""
