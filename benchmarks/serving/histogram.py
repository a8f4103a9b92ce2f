"""Histograms of latencies as the load generator writes them: steps of under 1 %, integers that add."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

_STEPS = 128


def edge(bucket: int) -> int:
    """The largest nanoseconds that fall into a bucket.

    >>> edge(7), edge(256), edge(300)
    (7, 257, 345)
    """
    shift = max(0, bucket // _STEPS - 1)
    return ((bucket - shift * _STEPS + 1) << shift) - 1


@dataclass
class Histogram:
    """How many latencies fell into which bucket.

    >>> waited = Histogram.read([(10, 98), (300, 2)])
    >>> waited.count, waited.quantile(0.5), waited.quantile(0.99)
    (100, 1e-05, 0.000345)
    """

    buckets: Counter[int] = field(default_factory=Counter)

    @classmethod
    def read(cls, pairs: Iterable[tuple[int, int]]) -> Histogram:
        """From ``[bucket, count]`` pairs."""
        return cls(Counter(dict(pairs)))

    def __add__(self, other: Histogram) -> Histogram:
        return Histogram(self.buckets + other.buckets)

    @property
    def count(self) -> int:
        """How many latencies there are."""
        return self.buckets.total()

    def quantile(self, share: float) -> float:
        """Milliseconds that this share of the latencies does not exceed; NaN when there is none."""
        wanted, seen = share * self.count, 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= wanted and seen:
                return edge(bucket) / 1e6
        return float("nan")
