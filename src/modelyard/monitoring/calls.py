"""What calls of a window were like, apart from the values in them: counts that can be added in any order."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

import msgspec

_Key = TypeVar("_Key", str, int)

_PER_DOUBLING = 4
KEPT = 128
"""So many hashes of rows are kept, to tell how many rows are repeated."""


class Repeats(msgspec.Struct, frozen=True, array_like=True):
    """How often the rows with the smallest hashes occur: an even sample of all different rows, whatever the split.

    Bottom-k sampling (Cohen and Kaplan 2007, "Summarizing data using bottom-k sketches"): ``(hash, count)`` in the
    order of the hashes; the counts are exact.

    >>> (Repeats(((1, 2), (5, 1))) + Repeats(((1, 1), (3, 1)))).kept
    ((1, 3), (3, 1), (5, 1))
    """

    kept: tuple[tuple[int, int], ...] = ()

    def __add__(self, other: Repeats) -> Repeats:
        """Those of both together."""
        together = dict(self.kept)
        for key, count in other.kept:
            together[key] = together.get(key, 0) + count
        return Repeats(tuple(sorted(together.items())[:KEPT]))

    @property
    def share(self) -> float:
        """About which part of all rows had been there before; 0 without rows.

        >>> Repeats(((1, 3), (3, 1))).share
        0.5
        """
        whole = sum(count for _, count in self.kept)
        return 1.0 - len(self.kept) / whole if whole else 0.0


class Calls(msgspec.Struct, frozen=True, kw_only=True):
    """Calls of a version, or of a deployment where no version was reached, whose event time lies in one window.

    `outcomes` counts calls by how they ended (`modelyard.domain.records.Outcome`), `refusals` those that were not
    answered by status and reason. `rows` are answered rows, `unreadable` answered calls whose bodies could not be
    decoded. `repeated` tells about repeated rows of inputs, `identities` about row ids that callers gave.
    `not_finite` is the number of answered numbers that are NaN or infinite. `latency` counts answered calls by
    `latency_bin`; `late` are calls that arrived more than an hour after their event time. `largest_call` is the
    largest number of rows that came in one call.
    """

    outcomes: Mapping[str, int] = {}
    refusals: Mapping[str, int] = {}
    rows: int = 0
    unreadable: int = 0
    repeated: Repeats = Repeats()
    identities: Repeats = Repeats()
    not_finite: int = 0
    latency: Mapping[int, int] = {}
    late: int = 0
    largest_call: int = 0
    request_bytes: int = 0
    memory: int | None = None
    """The largest resident memory of the version in bytes, where it is known."""

    def __add__(self, other: Calls) -> Calls:
        """Both together."""
        return Calls(
            outcomes=_added(self.outcomes, other.outcomes),
            refusals=_added(self.refusals, other.refusals),
            rows=self.rows + other.rows,
            unreadable=self.unreadable + other.unreadable,
            repeated=self.repeated + other.repeated,
            identities=self.identities + other.identities,
            not_finite=self.not_finite + other.not_finite,
            latency=_added(self.latency, other.latency),
            late=self.late + other.late,
            largest_call=max(self.largest_call, other.largest_call),
            request_bytes=self.request_bytes + other.request_bytes,
            memory=max((each for each in (self.memory, other.memory) if each is not None), default=None),
        )

    @property
    def total(self) -> int:
        """All calls, whatever became of them."""
        return sum(self.outcomes.values())

    def latency_quantile(self, share: float) -> float | None:
        """So many seconds or less were taken by this share of answered calls, within a fifth; None without calls.

        >>> Calls(latency={latency_bin(1_000_000): 9, latency_bin(1_000_000_000): 1}).latency_quantile(0.5) < 0.002
        True
        """
        return quantile(self.latency, share)


def quantile(latency: Mapping[int, int], share: float) -> float | None:
    """The upper end, in seconds, of the bin in which this share of the calls is reached; None without calls."""
    whole = sum(latency.values())
    reached = 0
    for at in sorted(latency):
        reached += latency[at]
        if reached >= share * whole:
            return latency_end(at)
    return None


def latency_bin(nanoseconds: int) -> int:
    """Which bin a latency is counted in: four to each doubling, from a microsecond on.

    >>> latency_bin(500), latency_bin(1_000_000_000)
    (0, 80)
    """
    return 0 if nanoseconds < 1000 else 1 + math.floor(_PER_DOUBLING * math.log2(nanoseconds / 1000))


def latency_end(at: int) -> float:
    """Where a bin ends, in seconds.

    >>> latency_end(0), round(latency_end(80), 3)
    (1e-06, 1.049)
    """
    return float(2.0 ** (at / _PER_DOUBLING) * 1e-6)


def _added(one: Mapping[_Key, int], other: Mapping[_Key, int]) -> dict[_Key, int]:
    together = dict(one)
    for key, count in other.items():
        together[key] = together.get(key, 0) + count
    return dict(sorted(together.items()))
