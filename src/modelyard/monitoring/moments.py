"""Sums and sums of squares that come out the same bit for bit, whatever the order and the split of the values.

Adding floats rounds, and rounds differently in another order. Here every value is first rounded to a whole number of
*units*, a power of two fixed by the reference (2**-36 of the largest power of two around its values), and whole numbers
are added. Values beyond the reference's range take coarser units, each by its own size, so that any float can be added;
what is rounded off is at most 2**-19 of such a value.

All arithmetic on arrays is on whole numbers that floats hold exactly (below 2**53), so that neither the order nor fused
instructions change a bit.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np

from modelyard.domain.frame import Array

BLOCK = 1 << 13
"""So many values at most are added in one go."""

_BITS = 36
_STEP = 18
_HALF = float(1 << _STEP)
_LEAST = -960


class Moments(msgspec.Struct, frozen=True):
    """Number, sum and sum of squares of finite values in units of ``2**unit`` and ``2**(2 * unit)``, and extremes."""

    unit: int
    n: int = 0
    total: int = 0
    squares: int = 0
    least: float | None = None
    largest: float | None = None

    @property
    def mean(self) -> float | None:
        """The mean; None without values.

        >>> moments_of(np.array([1.0, 2.0, 6.0]), unit_for(6.0)).mean
        3.0
        """
        return _scaled(self.total, self.n, self.unit) if self.n else None

    @property
    def deviation(self) -> float | None:
        """The standard deviation (of the values as they are, not of a larger whole); None without values.

        >>> moments_of(np.array([1e9 + 1, 1e9 + 3]), unit_for(1e9)).deviation
        1.0
        """
        if not self.n:
            return None
        spread = self.n * self.squares - self.total * self.total
        return math.sqrt(_scaled(spread, self.n * self.n, 2 * self.unit) or 0.0)

    def __add__(self, other: Moments) -> Moments:
        """Those of both together.

        Raises:
            ValueError: they are in different units, hence of different references.
        """
        if self.unit != other.unit:
            raise ValueError(f"sums in units of 2**{self.unit} and 2**{other.unit} cannot be added")
        return Moments(
            self.unit,
            self.n + other.n,
            self.total + other.total,
            self.squares + other.squares,
            _best(min, self.least, other.least),
            _best(max, self.largest, other.largest),
        )


def unit_for(largest: float) -> int:
    """The unit, as a power of two, for a reference whose values lie within plus and minus `largest`.

    >>> unit_for(100.0)
    -29
    """
    return max(math.frexp(largest)[1], _LEAST) - _BITS


def moments_of(values: Array, unit: int) -> Moments:
    """Those of finite values in any order, at most `BLOCK` of them."""
    if not len(values):
        return Moments(unit)
    total = squares = 0
    least, largest = float(values.min()) + 0.0, float(values.max()) + 0.0
    within = max(-least, largest) < _limit(unit, 0)
    level, rest = 0, [values if within else np.sort(values)]
    while rest:
        inner, rest = (rest, []) if within else _by_size(rest, _limit(unit, level))
        for some in inner:
            one, two = _whole(some, unit + level)
            total += one << level
            squares += two << (2 * level)
        level += _STEP
    return Moments(unit, len(values), total, squares, least, largest)


def _limit(unit: int, level: int) -> float:
    """Values below it are rounded to whole numbers of ``2**(unit + level)``."""
    return math.ldexp(1.0, _BITS + unit + level) if _BITS + unit + level < 1024 else math.inf


def _by_size(parts: list[Array], limit: float) -> tuple[list[Array], list[Array]]:
    """What of these ordered values is below `limit` in size, and the rest."""
    inner, rest = [], []
    for part in parts:
        if -limit < part[0] and part[-1] < limit:
            inner.append(part)
            continue
        low, high = part.searchsorted(-limit, "right"), part.searchsorted(limit, "left")
        inner.append(part[low:high])
        rest += [each for each in (part[:low], part[high:]) if len(each)]
    return inner, rest


def _whole(values: Array, unit: int) -> tuple[int, int]:
    """Sum and sum of squares of values as whole numbers of ``2**unit``, each below 2**36 in size."""
    whole = values * math.ldexp(1.0, -unit)
    np.rint(whole, out=whole)
    high = whole * (1.0 / _HALF)
    np.rint(high, out=high)
    low = high * -_HALF
    low += whole
    squares = (int(high @ high) << 2 * _STEP) + (int(high @ low) << _STEP + 1) + int(low @ low)
    return int(whole.sum()), squares


def _scaled(whole: int, by: int, unit: int) -> float | None:
    """``whole / by * 2**unit``, rounded once; None where no float is as large."""
    try:
        return (whole << unit) / by if unit >= 0 else whole / (by << -unit)
    except OverflowError:
        return None


def _best(choose: Any, one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    found: float = choose(one, other)
    return found
