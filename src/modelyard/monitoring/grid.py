"""Many numbers counted between bounds without sorting them: by even cells, most of which lie between two bounds.

A value's cell is found by arithmetic that rounds, but never puts a larger value into a lower cell. So all values of a
cell in which no bound lies are between the same two bounds, and are counted as a cell. In the others it is looked up
whether a value is the bound itself, as frequent values of a reference are; the few that are left are sorted. What is
counted is the same as if all were sorted.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np

from modelyard.domain.frame import Array
from modelyard.monitoring.moments import BLOCK

CELLS = 4096
"""Few enough that the counts of all cells stay in the processor's nearest cache."""

_LEFT_OUT = (0, 1, 2, 4, 8, 16)
_WORTH = 0.5
"""Where about more than this part of all values would have to be sorted after all, sorting everything is as quick."""


class Grid:
    """Cells over finite `bounds` in ascending order, at least two; `frequent` are those that are frequent values."""

    def __init__(self, bounds: Array, frequent: Collection[int]) -> None:
        self.bounds = bounds
        self._low, self._high, self._scale = _span(bounds)
        cell_of = self.cells(bounds, np.empty(len(bounds)), np.empty(len(bounds), dtype=np.intp))
        self.size = int(cell_of[-1]) + 1
        self.mixed = np.zeros(self.size, dtype=np.bool_)
        self.mixed[cell_of] = True
        self.home = np.searchsorted(cell_of, np.arange(self.size), "right")
        """How many bounds lie below or in each cell: those below its values, where none lies in it."""
        self.has_known, self.known = bool(frequent), np.full(self.size, np.nan)
        self.known_home = np.zeros(self.size, dtype=np.intp)
        for at in frequent:
            self.known[cell_of[at]] = bounds[at]
            self.known_home[cell_of[at]] = at + 1

    @classmethod
    def over(cls, bounds: Array, frequent: Collection[int]) -> Grid | None:
        """The grid of some bounds; None where it would not be quicker than sorting.

        >>> Grid.over(np.array([1.0]), ()) is None
        True
        """
        if len(bounds) < 2 or not math.isfinite(float(bounds[-1]) - float(bounds[0])):
            return None
        low, high, scale = _span(bounds)
        if not (high > low and math.isfinite(scale)):
            return None
        narrow = _narrow(bounds, low, high, scale) - len(frequent)
        return cls(bounds, frequent) if narrow <= _WORTH * len(bounds) else None

    def cells(self, values: Array, scratch: Array, found: Array) -> Array:
        """The cell of each finite value, in `found`; `scratch` is of the same length."""
        np.maximum(values, self._low, out=scratch)
        np.minimum(scratch, self._high, out=scratch)
        np.subtract(scratch, self._low, out=scratch)
        np.multiply(scratch, self._scale, out=scratch)
        np.copyto(found, scratch, casting="unsafe")
        return found


class GridCounts:
    """Counts of the values of one column on a grid.

    >>> counting = GridCounts(Grid(np.array([0.0, 1.0]), ()))
    >>> counting.add(np.array([1.0, -3.0, 0.2, 0.9, 7.0]))
    >>> counting.between().tolist()
    [1, 2, 2]
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        # Memory that is asked for and given back with each block would cost as much as the counting.
        self._scratch, self._cells = np.empty(BLOCK), np.empty(BLOCK, dtype=np.intp)
        self._flags = np.empty((2, BLOCK), dtype=np.bool_)
        self._per_cell = np.zeros(grid.size, dtype=np.int64)
        self._known = np.zeros(grid.size, dtype=np.int64)
        self._sorted, self._below = 0, np.zeros(len(grid.bounds), dtype=np.int64)

    def add(self, values: Array) -> None:
        """Count some finite values, at most `BLOCK` of them."""
        grid, many = self._grid, len(values)
        scratch, flags = self._scratch[:many], self._flags[:, :many]
        cells = grid.cells(values, scratch, self._cells[:many])
        self._per_cell += np.bincount(cells, minlength=grid.size)
        unclear = grid.mixed.take(cells, out=flags[0], mode="clip")
        if grid.has_known:
            grid.known.take(cells, out=scratch, mode="clip")
            other = np.not_equal(values, scratch, out=flags[1])
            np.logical_and(unclear, other, out=unclear)
            np.logical_not(other, out=other)
            self._known += np.bincount(cells.take(np.flatnonzero(other)), minlength=grid.size)
        rest = values.take(np.flatnonzero(unclear))
        rest.sort()
        self._sorted += len(rest)
        self._below += rest.searchsorted(grid.bounds)

    def between(self) -> Array:
        """How many lie below all bounds, from the first on up to the second, and so on; from the last on."""
        grid = self._grid
        counts = np.diff(self._below, prepend=0, append=self._sorted)
        np.add.at(counts, grid.home, np.where(grid.mixed, 0, self._per_cell))
        np.add.at(counts, grid.known_home, self._known)
        return counts


def _span(bounds: Array) -> tuple[float, float, float]:
    """Between which bounds cells lie, and how many to the unit: some outermost bounds are left out if they lie far."""
    spans = []
    for left_out in _LEFT_OUT:
        low, high = float(bounds[min(left_out, len(bounds) - 2)]), float(bounds[max(len(bounds) - 1 - left_out, 1)])
        if high > low:
            with np.errstate(over="ignore"):
                scale = float(np.float64(CELLS) / (high - low))
            spans.append((_narrow(bounds, low, high, scale), low, high, scale))
    if not spans:
        return 0.0, 0.0, 0.0
    _, low, high, scale = min(spans)
    return low, high, scale


def _narrow(bounds: Array, low: float, high: float, scale: float) -> float:
    """About how many intervals' worth of values lie in cells with a bound, if intervals hold as much as each other."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        wide = np.diff(np.clip(bounds, low, high)) * scale
        return float(np.where(wide > 1, 1 / wide, 1.0).sum())
