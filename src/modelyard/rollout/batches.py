"""What came of a rollout in a stretch of time, as counts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec


class Divided(msgspec.Struct, frozen=True, array_like=True):
    """Calls of both versions, and how many of them were bad; parts of calls where some rows of one are."""

    baseline: float = 0.0
    baseline_bad: float = 0.0
    candidate: float = 0.0
    candidate_bad: float = 0.0

    def __add__(self, other: Divided) -> Divided:
        """Both together."""
        return Divided(
            self.baseline + other.baseline,
            self.baseline_bad + other.baseline_bad,
            self.candidate + other.candidate,
            self.candidate_bad + other.candidate_bad,
        )

    @property
    def calls(self) -> float:
        """Calls of both."""
        return self.baseline + self.candidate


class Paired(msgspec.Struct, frozen=True, array_like=True):
    """How much worse the candidate was on the same rows: ``(difference, how many)``, and the sums for both versions.

    `least` are the differences as good for the candidate as they can have been, where it was not asked for the same as
    the baseline because that had failed; evidence of harm rests on them, evidence of safety on `differences`.
    """

    differences: tuple[tuple[float, float], ...] = ()
    least: tuple[tuple[float, float], ...] = ()
    sums: Divided = Divided()


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """What came from `since` to before `until`, by metric. `broken` says what could not be known, and why.

    Of a metric that has parts, such as the classes that are answered, each is there by its own, as in ``answers=EV``.
    """

    since: datetime
    until: datetime
    divided: Mapping[str, Divided] = {}
    paired: Mapping[str, Paired] = {}
    broken: Mapping[str, str] = {}
