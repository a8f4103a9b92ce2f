"""Intervals around measured performance, each with the source of its formula. Rows are taken to be independent.

How often they really cover the truth was simulated; docs/performance.md has the figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import msgspec
import numpy as np

from modelyard.domain.frame import Array

LEVEL = 0.95
_NORMAL = NormalDist()


class Measure(msgspec.Struct, frozen=True):
    """A value of one metric with the ends of its interval, and over how many rows. None: too few rows to say."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    rows: int = 0

    def mapped(self, change: Callable[[float], float]) -> Measure:
        """Value and ends put through a rising function.

        >>> Measure(4.0, 1.0, 9.0, 5).mapped(math.sqrt)
        Measure(value=2.0, low=1.0, high=3.0, rows=5)
        """
        value, low, high = (None if each is None else change(each) for each in (self.value, self.low, self.high))
        return Measure(value, low, high, self.rows)


def share(hits: int, rows: int, level: float = LEVEL) -> Measure:
    """A share of rows: Wilson's score interval with continuity correction.

    Newcombe 1998, "Two-sided confidence intervals for the single proportion", method 4: it covers at least as often as
    stated, but for a hair at few shares.

    >>> found = share(81, 263)
    >>> found.low, found.high
    (0.2535086822951852, 0.3681762010430035)
    """
    if not rows:
        return Measure()
    z, p = _z(level), hits / rows
    middle, scale = 2 * hits + z * z, 2 * (rows + z * z)
    low = (middle - 1 - z * math.sqrt(max(0.0, z * z - 2 - 1 / rows + 4 * p * (rows * (1 - p) + 1)))) / scale
    high = (middle + 1 + z * math.sqrt(max(0.0, z * z + 2 - 1 / rows + 4 * p * (rows * (1 - p) - 1)))) / scale
    return Measure(p, max(0.0, low) if hits else 0.0, min(1.0, high) if hits < rows else 1.0, rows)


def mean(values: Array, level: float = LEVEL) -> Measure:
    """A mean of values of any distribution, skewed ones too.

    Hall 1992, "On the removal of skewness by transformation" (JRSS B 54): the studentised mean W is put through
    W + g W^2 / 3 + g^2 W^3 / 27 + g / (6n), with the skewness g, which is nearly normal; here Student's.
    """
    rows = len(values)
    if rows < 2:
        return Measure(float(values[0]) if rows else None, rows=rows)
    middle = float(values.mean())
    off = values - middle
    spread = math.sqrt(float(np.square(off).sum()) / (rows - 1))
    if spread <= 1e-12 * max(1.0, abs(middle)):
        return Measure(middle, middle, middle, rows)
    skewness = float(np.mean(off**3)) / float(np.mean(off**2)) ** 1.5
    reach = student(level, rows - 1) / math.sqrt(rows)
    ends = [middle - spread * _unskewed(side * reach, skewness, rows) for side in (1, -1)]
    return Measure(middle, min(ends), max(ends), rows)


def _unskewed(y: float, skewness: float, rows: int) -> float:
    if abs(skewness) < 1e-6:
        return y
    return 3 / skewness * (float(np.cbrt(1 + skewness * (y - skewness / (6 * rows)))) - 1)


def smooth(value: float, influence: Array, level: float = LEVEL) -> Measure:
    """A smooth function of means, by how much each row moves it (the delta method)."""
    rows = len(influence)
    if rows < 2:
        return Measure(value, rows=rows)
    reach = student(level, rows - 1) * float(influence.std(ddof=1)) / math.sqrt(rows)
    return Measure(value, value - reach, value + reach, rows)


def ranking(value: float, variance: float, positives: int, negatives: int, level: float = LEVEL) -> Measure:
    """An area under the ROC curve with the variance that DeLong gives.

    The ends are found on the scale of log odds, where it is closer to normal. At the edge, or with few rows of a class,
    its variance is too small;
    there the wider of it and of the score interval over Hanley and McNeil's variance is taken (Newcombe 2006,
    "Confidence intervals for an effect size measure based on the Mann-Whitney statistic", part 2, method 5).
    """
    rows = positives + negatives
    few = min(positives, negatives) < 50 or not 0.02 < value < 0.98
    score = _newcombe(value, positives, negatives, level) if few else (1.0, 0.0)
    if not 0 < value < 1 or not variance > 0:
        return Measure(value, *score, rows)
    odds = math.log(value / (1 - value))
    reach = _z(level) * math.sqrt(variance) / (value * (1 - value))
    low, high = (1 / (1 + math.exp(-max(-500.0, min(500.0, odds + side * reach)))) for side in (-1, 1))
    return Measure(value, min(low, score[0]), max(high, score[1]), rows)


def _newcombe(value: float, positives: int, negatives: int, level: float) -> tuple[float, float]:
    """Where |value - theta| meets z times Hanley and McNeil's standard error at theta."""
    z = _z(level)
    both = (positives + negatives) / 2 - 1

    def beyond(theta: float) -> bool:
        ease = both * (1 - theta) / (2 - theta) + both * theta / (1 + theta)
        variance = theta * (1 - theta) * (1 + ease) / (positives * negatives)
        return abs(value - theta) > z * math.sqrt(variance)

    return _edge(beyond, 0.0, value), _edge(beyond, 1.0, value)


def _edge(beyond: Callable[[float], bool], outside: float, inside: float) -> float:
    if not beyond(outside):
        return outside
    for _ in range(40):
        middle = (outside + inside) / 2
        outside, inside = (middle, inside) if beyond(middle) else (outside, middle)
    return outside


def gaps(off: Array, errors: Array, weights: Array, rows: int, level: float = LEVEL) -> Measure:
    """A weighted mean of the sizes of gaps that are known up to normal errors.

    By the triangle inequality it is wrong by at most the weighted mean of the errors' sizes. That is a sum of folded
    normals, whose quantile is taken from its mean and variance. It covers at least as often as stated.
    """
    value = float((weights * np.abs(off)).sum())
    usual = math.sqrt(2 / math.pi) * float((weights * errors).sum())
    spread = math.sqrt((1 - 2 / math.pi) * float(np.square(weights * errors).sum()))
    reach = usual + _NORMAL.inv_cdf(level) * spread
    return Measure(value, max(0.0, value - reach), min(1.0, value + reach), rows)


def student(level: float, freedom: int) -> float:
    """The two-sided quantile of Student's distribution (Hill 1970, algorithm 396 of the ACM, but for few rows exact).

    >>> round(student(0.95, 1), 3), round(student(0.95, 2), 3), round(student(0.95, 29), 3)
    (12.706, 4.303, 2.045)
    """
    tail = 1 - level
    if freedom == 1:
        return 1 / math.tan(tail * math.pi / 2)
    if freedom == 2:
        return math.sqrt(2 / (tail * (2 - tail)) - 2)
    z, n = _z(level), freedom
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / float(n) ** (at + 1) for at, term in enumerate(terms))


def _z(level: float) -> float:
    return _NORMAL.inv_cdf((1 + level) / 2)
