"""What chance alone explains when two tables are compared once, for all questions about all columns together.

Were both tables drawn from the same source, then of the rows that fall into some slots, each came from either table as
by lot: their number in one of them is hypergeometric (Fisher's exact test). The probabilities of all questions, in both
directions, are added up (Bonferroni), so that what is said holds for the whole table however many columns it has and
whatever hangs together in it. Rows have to be independent of each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from modelyard.monitoring.facets import Facet, Questions, information
from modelyard.monitoring.slots import Counts


def surprises(asked: Questions, reference: Counts, current: Counts, error: float) -> Mapping[Facet, float]:
    """For each facet the logarithm of the smallest tail probability among its questions, not yet for their number.

    A value that was chosen from many counts as that many questions. For what is left over by choosing, the rows are
    held against the share that the reference leaves possible, which fails with probability exp(-error) on each side.
    """
    least: dict[Facet, float] = {}
    here, of_here = asked.answers(current)
    there, of_there = asked.answers(reference)
    low, high = asked.likely(reference, error) if asked.left_over.any() else (None, None)
    numbers = zip(asked.facets, *(each.tolist() for each in (here, of_here, there, of_there)), strict=True)
    for at, (facet, x, n, y, m) in enumerate(numbers):
        if low is not None and high is not None and asked.left_over[at]:
            log = min(0.0, max(_beyond(x, n, float(low[at]), float(high[at])), -error) + math.log(2))
        else:
            log = min(0.0, log_tail(x, n, y, m) + math.log(asked.candidates[at]))
        least[facet] = min(least.get(facet, 0.0), log)
    return least


def _beyond(x: int, n: int, low: float, high: float) -> float:
    """Chernoff's bound on so many rows of n or more, if their share is at most `high`; or so few, at least `low`."""
    if not n or low <= x / n <= high:
        return 0.0
    nearest = high if x / n > high else low
    return float(-n * information(np.array([x / n]), np.array([nearest]))[0])


def log_tail(x: int, n: int, y: int, m: int) -> float:
    """The logarithm of the chance that of x + y rows so many or more (or: so few or fewer) are among n of n + m.

    On the side on which x lies. Beyond the first term the tail is bounded by a geometric series, since the terms fall
    ever faster: what is given is never below the exact probability.

    >>> round(math.exp(log_tail(9, 10, 1, 10)), 6)
    0.000547
    """
    if n == 0 or m == 0 or x * m == y * n:
        return 0.0
    if x * m < y * n:
        x, y = n - x, m - y
    drawn = x + y
    ratio = (n - x) * (drawn - x) / ((x + 1) * (m - drawn + x + 1))
    if ratio >= 1:
        return 0.0
    return min(0.0, _choose(n, x) + _choose(m, y) - _choose(n + m, drawn) - math.log1p(-ratio))


def noticed_from(rows: int, reference_rows: int, asked: int, level: float) -> float:
    """Distances from about this on would have been noticed with these numbers of rows; 1 where none would.

    It is where the sub-Gaussian bound of a difference of two shares (Hoeffding 1963) meets `level`, for so many
    questions as are `asked`.
    """
    if not rows or not reference_rows:
        return 1.0
    evidence = math.log(2 * max(asked, 1) / level)
    return min(1.0, math.sqrt(evidence * (rows + reference_rows) / (2 * rows * reference_rows)))


def shared_out(log_chance: float, asked: int) -> float:
    """A tail probability as one of `asked` questions, each in both directions: at most 1.

    >>> shared_out(math.log(0.001), 10)
    0.02
    """
    return float(min(1.0, np.exp(log_chance + math.log(2 * asked)).round(300)))


def _choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
