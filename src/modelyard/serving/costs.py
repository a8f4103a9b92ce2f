"""How long a version takes for how many rows, learnt from what it took."""

from __future__ import annotations

MEMORY = 32
"""Batches after which what was seen before counts for little more than a third."""

LEAP = 5.0
"""Times the expected seconds beyond which a batch counts as disturbed: a paused machine, a swapped-out process."""

BELIEVED = 3
"""Disturbed batches in a row that are taken for the truth: the version has become slower."""

_STIFF = 1.0
"""How much spread of batch sizes (variance, in rows squared) it takes to trust what they say about the slope."""


class CostModel:
    """Seconds for a batch as ``one + rows * more``, fitted to recent batches by least squares with fading memory.

    It is recursive least squares with exponential forgetting, kept as means and (co)variances, so that a call costs
    well under a microsecond. While all batches have the same size nothing can be learnt about the slope, and it stays.
    Both numbers are never negative. One outlier moves the fit by a few percent; a lasting change is followed at once.

    >>> model = CostModel(one=0.001, more=0.0001)
    >>> round(model.seconds(10), 4)
    0.002
    >>> for _ in range(200):
    ...     model.observe(1, 0.003)
    ...     model.observe(11, 0.005)
    >>> round(model.seconds(6), 4)
    0.004
    """

    __slots__ = ("_both", "_leaps", "_rows", "_seconds", "_seen", "_spread", "more", "one")

    def __init__(self, one: float, more: float) -> None:
        self.one, self.more = max(one, 0.0), max(more, 0.0)
        self._rows, self._seconds = 1.0, self.one + self.more
        self._spread = self._both = 0.0
        self._seen = 1
        self._leaps = 0

    def seconds(self, rows: int) -> float:
        """Expected seconds for a batch of `rows` rows."""
        return self.one + rows * self.more

    def observe(self, rows: int, seconds: float) -> None:
        """Learn that a batch of `rows` rows took `seconds`."""
        most = LEAP * (self.one + rows * self.more)
        if seconds > most > 0:
            self._leaps += 1
            if self._leaps < BELIEVED:
                seconds = most
        else:
            self._leaps = 0
        weight = 1.0 / self._seen
        if self._seen < MEMORY:
            self._seen += 1
        apart, slower = rows - self._rows, seconds - self._seconds
        mean_rows = self._rows = self._rows + weight * apart
        mean_seconds = self._seconds = self._seconds + weight * slower
        rest = 1.0 - weight
        spread = self._spread = rest * (self._spread + weight * apart * apart)
        both = self._both = rest * (self._both + weight * apart * slower)
        more = (both + _STIFF * self.more) / (spread + _STIFF)
        if more < 0.0:
            more = 0.0
        one = mean_seconds - more * mean_rows
        if one < 0.0:
            one, more = 0.0, max(mean_seconds / mean_rows, 0.0)
        self.one, self.more = one, more
