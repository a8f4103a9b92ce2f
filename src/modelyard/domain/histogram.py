"""Observations counted in classes: integers that add across processes and machines."""

from __future__ import annotations

from collections.abc import Sequence
from operator import add, sub

import msgspec


class Histogram(msgspec.Struct, frozen=True):
    """How many observations fell in which class, and their sum. `counts` has one class more than there are bounds."""

    counts: tuple[int, ...]
    sum: int = 0

    @property
    def count(self) -> int:
        """The number of observations."""
        return sum(self.counts)

    def __add__(self, other: Histogram) -> Histogram:
        """Both together."""
        return Histogram(tuple(map(add, self.counts, other.counts)), self.sum + other.sum)

    def __sub__(self, before: Histogram) -> Histogram:
        """What was added since `before`, an earlier state of the same."""
        return Histogram(tuple(map(sub, self.counts, before.counts)), self.sum - before.sum)

    def quantile(self, q: float, bounds: Sequence[int]) -> float | None:
        """The value below which a share `q` of the observations lies, as far as the classes tell; None of none at all.

        Inside a class observations are taken to lie evenly; beyond the last bound it is that bound.

        >>> Histogram((0, 4, 0), 6).quantile(0.5, (1, 2))
        1.5
        """
        left = q * self.count
        if not self.count:
            return None
        low = 0
        for count, high in zip(self.counts, bounds, strict=False):
            if count and left <= count:
                return low + (high - low) * max(left, 0.0) / count
            left, low = left - count, high
        return float(bounds[-1])
