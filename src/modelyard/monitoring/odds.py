"""Odds ratios of two by two tables, given how often each column has which value alone.

Of n rows r have something in one column and c something in another; x have both. Whatever makes r and c what they are,
x given both has the law of Fisher's noncentral hypergeometric distribution, P(x) = C(r, x) C(n - r, c - x) exp(theta x)
/ Z(theta), where theta is the logarithm of the odds ratio (Fisher 1935, "The logic of inductive inference"). So what is
said about theta holds however the columns themselves move. All of it is arithmetic on arrays, a row for each table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from modelyard.domain.frame import Array

FAR = 30.0
"""Logarithms of odds ratios are kept within this; a table with an empty cell may have any beyond."""

_SPREADS = 7.0
_TABLED = 1 << 14


@dataclass(frozen=True, slots=True)
class Tables:
    """Tables: rows with both (`x`), with the first, with the second, and all (`n`), as whole numbers."""

    x: Array
    first: Array
    second: Array
    n: Array

    @property
    def least(self) -> Array:
        """The fewest rows that could have both."""
        return np.asarray(np.maximum(0, self.first + self.second - self.n))

    @property
    def most(self) -> Array:
        """The most rows that could have both."""
        return np.asarray(np.minimum(self.first, self.second))

    def expected(self, theta: Array) -> Array:
        """About how many rows have both (the mode, between whole numbers), for each of some theta."""
        return both(self.first[:, None], self.second[:, None], self.n[:, None], theta)

    def spread(self, expected: Array) -> Array:
        """About the standard deviation, where so many are expected."""
        first, second, n = (each[:, None] for each in (self.first, self.second, self.n))
        cells = (expected, first - expected, second - expected, n - first - second + expected)
        return np.asarray(1 / np.sqrt(sum(1 / (np.maximum(cell, 0.0) + 0.5) for cell in cells)))


def both(first: Array, second: Array, n: Array, theta: Array) -> Array:
    """Which x has the odds ratio exp(theta) in the table: x (n - first - second + x) / ((first - x) (second - x)).

    >>> float(both(np.array(0.5), np.array(0.5), np.array(1.0), np.array(0.0)))
    0.25
    """
    odds = np.exp(np.clip(theta, -FAR, FAR))
    half = odds * (first + second) + (n - first - second)
    inner = np.maximum(half * half - 4 * (odds - 1) * odds * first * second, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.nan_to_num(2 * odds * first * second / (half + np.sqrt(inner))))


def log_partition(tables: Tables, theta: Array) -> tuple[Array, Array]:
    """The logarithm of Z (but for a factor that does not depend on theta), and the mean of x, for each of some theta.

    Terms are added up around the largest, as far as any counts. Where they are many, every s-th is taken, with s below
    two thirds of the standard deviation: of sums over a smooth peak that is exact to exp(-2 pi^2 (sd / s)^2).
    """
    middle = tables.expected(theta)
    spread = tables.spread(middle)
    step = np.maximum(1, (spread / 1.5).astype(np.int64))
    reach = int(np.ceil((_SPREADS * spread + 5) / step).max(initial=1.0))
    x = np.rint(middle).astype(np.int64)[..., None] + step[..., None] * np.arange(-reach, reach + 1)
    least, most = tables.least[:, None, None], tables.most[:, None, None]
    inside = (x >= least) & (x <= most)
    x = np.clip(x, least, most)
    first, second, n = (each[:, None, None] for each in (tables.first, tables.second, tables.n))
    logs = theta[..., None] * x - log_factorial(x) - log_factorial(first - x)
    logs -= log_factorial(second - x) + log_factorial(n - first - second + x)
    logs[~inside] = -np.inf
    top = logs.max(axis=-1, keepdims=True)
    terms = np.exp(logs - top)
    whole = terms.sum(axis=-1)
    return top[..., 0] + np.log(whole * step), (terms * x).sum(axis=-1) / whole


def likely(tables: Tables, error: float) -> tuple[Array, Array]:
    """Between which theta the true one lies; each end fails with probability exp(-error) at most.

    By Chernoff's bound, as for any family of exponential form: where the likelihood has fallen by exp(-error) from its
    largest value. Beyond `FAR` there is no end.
    """
    peak = _bisected(tables, lambda theta: log_partition(tables, theta)[1][:, 0] <= tables.x)
    best = tables.x * peak - log_partition(tables, peak[:, None])[0][:, 0]

    def far(theta: Array) -> Array:
        return np.asarray(best - (tables.x * theta[:, 0] - log_partition(tables, theta)[0][:, 0]) > error)

    low = _bisected(tables, far, np.full(len(peak), -FAR), peak)
    high = _bisected(tables, lambda theta: ~far(theta), peak, np.full(len(peak), FAR))
    low = np.where(tables.x > tables.least, low, -FAR)
    return low, np.where(tables.x < tables.most, high, FAR)


def _bisected(
    tables: Tables, below: Callable[[Array], Array], low: Array | None = None, high: Array | None = None
) -> Array:
    """Where something that holds up to a point ceases to."""
    low = np.full(len(tables.x), -FAR) if low is None else low
    high = np.full(len(tables.x), FAR) if high is None else high
    for _ in range(40):
        middle = (low + high) / 2
        holds = below(middle[:, None])
        low, high = np.where(holds, middle, low), np.where(holds, high, middle)
    return (low + high) / 2


def moved(first: Array, second: Array, theta: Array, by: Array) -> Array:
    """Theta after a part `by` of rows more has both, in a table with these shares; infinite where there is no room."""
    x = both(first, second, np.ones_like(first), theta) + by
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.log(x) + np.log(1 - first - second + x) - np.log(first - x) - np.log(second - x)
    room = (x > np.maximum(0.0, first + second - 1)) & (x < np.minimum(first, second))
    return np.where(room, np.clip(found, -FAR, FAR), np.where(by > 0, np.inf, -np.inf))


_FACTORIALS = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, _TABLED, dtype=np.float64)))])


def log_factorial(whole: Array) -> Array:
    """Logarithms of factorials; of large numbers by Stirling's series, which is exact to a float there.

    >>> log_factorial(np.array([0, 4])).round(6).tolist()
    [0.0, 3.178054]
    """
    if whole.max(initial=0) < _TABLED:
        return np.asarray(_FACTORIALS[whole])
    n = np.maximum(whole, 1).astype(np.float64)
    series = n * np.log(n) - n + 0.5 * np.log(2 * np.pi * n) + 1 / (12 * n) - 1 / (360 * n**3)
    return np.where(whole < _TABLED, _FACTORIALS[np.minimum(whole, _TABLED - 1)], series)
