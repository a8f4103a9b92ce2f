"""By how much one version is worse than another on the same rows, in any metric, with an interval.

Each metric is, to first order, a mean over rows of how much each row moves it (its influence). The difference of two
versions is then a mean of differences of influences, and each row is its own control: what makes a row hard for both
falls out. Of plain means the interval is Hall's, for skewness; of the share of wrong answers that of Agresti and Min
2005 ("Simple improved confidence intervals for comparing matched proportions", Statistics in Medicine 24), which adds
half a row to each cell; of areas under the curve that of DeLong, DeLong and Clarke-Pearson 1988 for correlated curves.

Rows of one hour or one day often hang together. So the interval is also computed with whole hours and whole days as
what is independent (the sandwich estimator for clusters, Liang and Zeger 1986, with Student's quantile), where there
are enough of them, and the widest is taken.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from modelyard.domain.frame import Array
from modelyard.errors import InvalidRequest
from modelyard.monitoring.performance import intervals
from modelyard.monitoring.performance.intervals import Measure, student
from modelyard.monitoring.performance.judged import Judged
from modelyard.monitoring.performance.metrics import METRICS, chosen, roc_parts, row_losses
from modelyard.monitoring.performance.task import Aim
from modelyard.retraining.report import Compared
from modelyard.rollout import pairs

BLOCKS = 8
"""So many hours or days at least have to be there for an interval by hours or days."""

_LEAST_OF_A_CLASS = 10
_BOUNDED = ("accuracy", "brier")
_MOST_BETS = 200_000
_PLAIN = ("log_loss", "brier", "calibration_bias", "mae", "bias")


def pairable(champion: Judged, challenger: Judged) -> tuple[str, ...]:
    """The metrics in which the two can be compared row by row."""
    fitting = {metric.name for metric in chosen(champion.task)} & {metric.name for metric in chosen(challenger.task)}
    return tuple(name for name in METRICS if name in fitting and name != "calibration_error")


def compared(champion: Judged, challenger: Judged, name: str, level: float, margin: float | None = None) -> Compared:
    """Both in one metric, on the same labelled rows. With a `margin` there is evidence by betting too.

    Raises:
        InvalidRequest: rows are no part of what that metric is made of.
    """
    metric = METRICS[name]
    measures = [metric.measure(each, level) for each in (champion, challenger)]
    worse, blocks = _worse(champion, challenger, name, level)
    harm, safety = _bets(champion, challenger, name, margin) if margin is not None else (None, None)
    return Compared(
        metric=name,
        champion=measures[0],
        challenger=measures[1],
        worse=worse,
        blocks=blocks,
        harm=harm,
        safety=safety,
    )


def influence(judged: Judged, name: str) -> tuple[float, Array] | None:
    """A metric's value and by how much each row moves it (zero on average); None where it has no value.

    Raises:
        InvalidRequest: rows are no part of what that metric is made of.
    """
    if not len(judged):
        return None
    if name == "accuracy" or name in _PLAIN:
        values = _row_values(judged, name)
        return float(values.mean()), values - values.mean()
    if name in ("rmse", "r2"):
        return _of_numbers(judged, name)
    if name in ("auc", "f1"):
        codes = [1] if judged.task.aim is Aim.BINARY else range(len(judged.task.classes))
        return _mean_of([_ranking(judged, code) if name == "auc" else _f1(judged, code) for code in codes])
    if name in ("precision", "recall"):
        said, so = judged.answer == 1, judged.truth == 1
        among, hit = (said, so) if name == "precision" else (so, said)
        return _share(hit.astype(float), among.astype(float))
    raise InvalidRequest(f"two versions cannot be compared row by row in {name}; take log_loss or brier")


def _row_values(judged: Judged, name: str) -> Array:
    if name == "accuracy":
        right: Array = (judged.answer == judged.truth).astype(float)
        return right
    if name == "calibration_bias" and judged.probabilities is not None:
        found: Array = judged.probabilities[:, 1] - (judged.truth == 1)
        return found
    return row_losses(judged, name)


def _of_numbers(judged: Judged, name: str) -> tuple[float, Array] | None:
    squares = np.square(judged.answer - judged.truth)
    mean = float(squares.mean())
    if name == "rmse":
        root = math.sqrt(mean)
        return root, (squares - mean) / (2 * root) if root else np.zeros(len(squares))
    around = np.square(judged.truth - judged.truth.mean())
    if not around.sum() > 0:
        return None
    left = mean / float(around.mean())
    return 1 - left, -(squares - left * around) / around.mean()


def _share(hit: Array, among: Array) -> tuple[float, Array] | None:
    if not among.any():
        return None
    value = float((hit * among).sum() / among.sum())
    return value, among * (hit - value) / among.mean()


def _f1(judged: Judged, code: int) -> tuple[float, Array] | None:
    so, said = judged.truth == code, judged.answer == code
    either = said.astype(float) + so
    if not either.any():
        return None
    value = float(2 * (so & said).sum() / either.sum())
    return value, (2.0 * (so & said) - value * either) / either.mean()


def _ranking(judged: Judged, code: int) -> tuple[float, Array] | None:
    positive = judged.truth == code
    few = min(int(positive.sum()), int((~positive).sum()))
    scores = judged.score if judged.probabilities is None else judged.probabilities[:, code]
    if few < _LEAST_OF_A_CLASS or scores is None:
        return None
    value, of_above, of_below = roc_parts(scores, positive)
    moved = np.zeros(len(positive))
    moved[positive] = (of_above - value) / positive.mean()
    moved[~positive] = (of_below - value) / (~positive).mean()
    return value, moved


def _mean_of(parts: list[tuple[float, Array] | None]) -> tuple[float, Array] | None:
    there = [part for part in parts if part is not None]
    if not there:
        return None
    return float(np.mean([value for value, _ in there])), np.mean([moved for _, moved in there], axis=0)


def _worse(champion: Judged, challenger: Judged, name: str, level: float) -> tuple[Measure, str]:
    old, new = influence(champion, name), influence(challenger, name)
    if old is None or new is None:
        return Measure(rows=len(champion)), "rows"
    metric = METRICS[name]
    value = metric.worse_by(old[0], new[0])
    signs = (1.0, -1.0) if metric.better == "higher" else (-1.0, 1.0)
    if metric.better == "zero":
        signs = (-math.copysign(1, old[0]), math.copysign(1, new[0]))
    moved = signs[0] * old[1] + signs[1] * new[1]
    found = {"rows": _by_rows(champion, challenger, name, value, moved, level)}
    for blocks, unit in (("hours", "h"), ("days", "D")):
        clustered = _by_blocks(value, moved, champion.moments.astype(f"datetime64[{unit}]"), level)
        if clustered is not None:
            found[blocks] = clustered
    widest = max(found, key=lambda each: _width(found[each]))
    return found[widest], widest


def _width(measure: Measure) -> float:
    return math.inf if measure.low is None or measure.high is None else measure.high - measure.low


def _by_rows(champion: Judged, challenger: Judged, name: str, value: float, moved: Array, level: float) -> Measure:
    if name == "accuracy":
        was, is_ = champion.answer == champion.truth, challenger.answer == challenger.truth
        return matched(int((was & ~is_).sum()), int((is_ & ~was).sum()), len(was), level)
    if name in _PLAIN and METRICS[name].better != "zero":
        return intervals.mean(moved + value, level)
    return intervals.smooth(value, moved, level)


def matched(lost: int, won: int, rows: int, level: float) -> Measure:
    """The difference of two shares of the same rows: `lost` are wrong by the second only, `won` by the first only.

    >>> found = matched(20, 4, 200, 0.95)
    >>> round(found.value, 3), round(found.low, 3), round(found.high, 3)
    (0.08, 0.032, 0.127)
    """
    if rows < 2:
        return Measure(rows=rows)
    b, c, n = lost + 0.5, won + 0.5, rows + 2.0
    middle = (b - c) / n
    reach = student(level, rows - 1) * math.sqrt(max(0.0, b + c - (b - c) ** 2 / n)) / n
    return Measure((lost - won) / rows, max(-1.0, middle - reach), min(1.0, middle + reach), rows)


def _by_blocks(value: float, moved: Array, blocks: NDArray[np.datetime64], level: float) -> Measure | None:
    """With rows of one block taken together; None where there are too few blocks."""
    _, codes = np.unique(blocks, return_inverse=True)
    sums = np.bincount(codes, moved)
    many = len(sums)
    if many < BLOCKS:
        return None
    spread = math.sqrt(many / (many - 1) * float(np.square(sums).sum())) / len(moved)
    reach = student(level, many - 1) * spread
    return Measure(value, value - reach, value + reach, len(moved))


def _bets(champion: Judged, challenger: Judged, name: str, margin: float) -> tuple[float | None, float | None]:
    if name not in _BOUNDED or len(champion) > _MOST_BETS or not -1.0 <= margin < 1.0:
        return None, None
    if champion.task.aim is not Aim.BINARY and name == "brier":  # a sum over classes: up to 2
        return None, None
    differences = row_losses(challenger, name) - row_losses(champion, name)
    evidence = pairs.observe(pairs.start([margin]), np.clip(differences, -1.0, 1.0))
    return tuple(math.exp(min(700.0, float(each[0]))) for each in (evidence.harm, evidence.safety))  # type: ignore[return-value]
