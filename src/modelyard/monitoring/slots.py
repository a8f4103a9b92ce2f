"""Into which slot of a reference a value falls, and how many values of a column fall into each.

A *slot* is where a value is counted: a bin between two quantiles of the reference, a single value that was frequent
there (an atom), a text by its name, or one for what is missing, infinite, below or above all that was seen.
A row is in exactly one slot of each column, so counts of any number of windows taken with the same slots can be added.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from modelyard.domain.frame import Array
from modelyard.monitoring.grid import Grid, GridCounts
from modelyard.monitoring.moments import BLOCK, Moments, moments_of, unit_for
from modelyard.monitoring.newcomers import Newcomers, as_texts, hashes, newcomers_of

Counts: TypeAlias = NDArray[np.int64]

_HUGE = float(np.finfo(np.float64).max)
_PROBES = 4
_MANY = 4096
"""From so many values on they are counted by a grid, which for fewer is not worth to be made."""


class Tally(msgspec.Struct, frozen=True, eq=False):
    """One column of a window: a count for each slot, moments of numbers, newcomers among texts."""

    counts: Counts
    moments: Moments | None = None
    newcomers: Newcomers | None = None

    def __add__(self, other: Tally) -> Tally:
        """Both together."""
        moments, newcomers = self.moments, self.newcomers
        if moments is not None and other.moments is not None:
            moments = moments + other.moments
        if newcomers is not None and other.newcomers is not None:
            newcomers = newcomers + other.newcomers
        return Tally(self.counts + other.counts, moments, newcomers)


class NumberSlots:
    """Slots of a column of numbers: missing, infinite, below, bins, above, atoms, in this order."""

    kind: Literal["numbers"] = "numbers"
    MISSING, INFINITE, BELOW, FIRST = 0, 1, 2, 3

    def __init__(self, profile: Mapping[str, Any]) -> None:
        self.least: float | None = profile["min"]
        self.largest: float | None = profile["max"]
        self.atoms: tuple[float, ...] = tuple(value for value, _ in profile["atoms"])
        edges, counts = list(profile["edges"]), list(profile["counts"])
        self.starts, self.end, inner = _extended(edges, counts, self.least, self.largest)
        self.above = self.FIRST + len(self.starts)
        self.size = self.above + 1 + len(self.atoms)
        self.unit = unit_for(max(abs(self.least or 0.0), abs(self.largest or 0.0)))
        heavy = [count for _, count in profile["atoms"]]
        self.reference: Counts = np.array(
            [profile["missing"], profile["infinite"], profile["below"], *inner, profile["above"], *heavy],
            dtype=np.int64,
        )

    @cached_property
    def _bounds(self) -> tuple[Array, Array]:
        """Where intervals begin, in ascending order, and the slot of each."""
        begins: list[tuple[float, int]] = [(-math.inf, self.INFINITE), (-_HUGE, self.BELOW)]
        begins += [(start, self.FIRST + at) for at, start in enumerate(self.starts)]
        begins += [] if self.end is None else [(self.end, self.above)]
        for at, atom in enumerate(self.atoms):
            after = math.nextafter(atom, math.inf)
            begins = [*begins, (atom, self.above + 1 + at), (after, self._spread_slot(after))]
        begins.sort(
            key=lambda begin: begin[0]
        )  # stable: where an atom begins with its bin, the atom comes last and has it
        begins = [each for at, each in enumerate(begins) if at + 1 == len(begins) or begins[at + 1][0] != each[0]]
        begins += [(math.inf, self.INFINITE), (math.nan, self.MISSING)]
        return np.array([begin for begin, _ in begins]), np.array([slot for _, slot in begins])

    def _spread_slot(self, value: float) -> int:
        """The slot of a value that is no atom."""
        if value in self.atoms:
            return self.above + 1 + self.atoms.index(value)
        if self.end is not None and value >= self.end:
            return self.above
        return self.BELOW + int(np.searchsorted(self.starts, value, "right"))

    @cached_property
    def _grid(self) -> Grid | None:
        bounds, slot_of = self._bounds
        atoms = frozenset(np.flatnonzero(slot_of[_FINITE] > self.above).tolist())
        return Grid.over(bounds[_FINITE], atoms)

    @cached_property
    def line(self) -> tuple[int, ...]:
        """The slots of finite values in their order along the line; a bin comes before the atoms inside it."""
        places = [(-math.inf, 0, self.BELOW), (math.inf, 0, self.above)]
        places += [(start, 1, self.FIRST + at) for at, start in enumerate(self.starts)]
        places += [(atom, 0, self.above + 1 + at) for at, atom in enumerate(self.atoms)]
        return tuple(slot for _, _, slot in sorted(places))

    def around(self, slot: int) -> int | None:
        """The bin that has the atom of `slot` inside it; None for a bin, or an atom where a bin begins."""
        if slot <= self.above:
            return None
        atom = self.atoms[slot - self.above - 1]
        if self.end is None or atom in self.starts or not self.starts or not self.starts[0] <= atom < self.end:
            return None
        return self.BELOW + int(np.searchsorted(self.starts, atom, "right"))

    def label(self, slot: int) -> str:
        """What is counted in a slot, for people."""
        plain = {self.MISSING: "missing", self.INFINITE: "infinite"}
        if slot in plain:
            return plain[slot]
        if slot in (self.BELOW, self.above):
            side, edge = ("below", self.least) if slot == self.BELOW else ("above", self.largest)
            return side if edge is None else f"{side} {edge:.6g}"
        if slot > self.above:
            return f"{self.atoms[slot - self.above - 1]:.6g}"
        at = slot - self.FIRST
        end = self.starts[at + 1] if at + 1 < len(self.starts) else self.end
        return f"{self.starts[at]:.4g} to {end:.4g}"

    def tally(self, values: Array) -> Tally:
        """Count floats, with NaN for what is missing.

        >>> from modelyard.domain.profile import numbers_described
        >>> slots = NumberSlots(numbers_described(np.arange(100.0), 0))
        >>> slots.tally(np.array([-1.0, 50.0, np.nan])).counts[: slots.FIRST].tolist()
        [1, 0, 1]
        """
        bounds, slot_of = self._bounds
        grid = self._grid if len(values) >= _MANY else None
        within, moments = _by_sorting(values, bounds, self.unit) if grid is None else _by_grid(values, grid, self.unit)
        counts = np.zeros(self.size, dtype=np.int64)
        np.add.at(counts, slot_of, within)
        return Tally(counts, moments)


_FINITE = slice(2, -2)
"""Where among its bounds a column's own are: before them what is infinite or below all, after them what is no value."""


def _by_sorting(values: Array, bounds: Array, unit: int) -> tuple[Counts, Moments]:
    """How many values lie from each bound up to the next, and the moments of the finite ones."""
    below, moments = np.zeros(len(bounds), dtype=np.int64), Moments(unit)
    for start in range(0, len(values), BLOCK):
        ordered = np.sort(values[start : start + BLOCK])
        at = ordered.searchsorted(bounds, "left")
        below += at
        moments += moments_of(ordered[at[1] : at[-2]], unit)
    return np.diff(below, append=len(values)), moments


def _by_grid(values: Array, grid: Grid, unit: int) -> tuple[Counts, Moments]:
    """As `_by_sorting`, of many values."""
    counting, moments = GridCounts(grid), Moments(unit)
    infinite = missing = 0
    for start in range(0, len(values), BLOCK):
        block = values[start : start + BLOCK]
        if not (math.isfinite(block.min()) and math.isfinite(block.max())):
            finite = block[np.isfinite(block)]
            gone = int(np.isnan(block).sum())
            infinite, missing = infinite + len(block) - len(finite) - gone, missing + gone
            block = finite
        counting.add(block)
        moments += moments_of(block, unit)
    return np.concatenate([[infinite], counting.between(), [0, missing]]), moments


def _extended(
    edges: list[float], counts: list[int], least: float | None, largest: float | None
) -> tuple[list[float], float | None, list[int]]:
    """Where bins start, where the last ends, and their counts; bins with nothing in them reach to the extremes.

    The last bin of a reference holds its upper edge, so it ends just after it.
    """
    if least is None or largest is None:
        return [], None, []
    if not counts:
        return [least], math.nextafter(largest, math.inf), [0]
    starts, inner, end = edges[:-1], counts, math.nextafter(edges[-1], math.inf)
    if least < starts[0]:
        starts, inner = [least, *starts], [0, *inner]
    if largest >= end:
        starts, inner, end = [*starts, end], [*inner, 0], math.nextafter(largest, math.inf)
    return starts, end, inner


class ValueSlots:
    """Slots of a column of texts, truth values or classes: missing, rare, new, and the named values, in this order.

    *Rare* is what the reference had but does not name; *new* is what it never had. `known` is a Bloom filter over what
    it had and does not name. Without it the two are told apart only where the reference names all that it had;
    elsewhere what is not named counts as rare.
    """

    kind: Literal["values"] = "values"
    MISSING, RARE, NEW, FIRST = 0, 1, 2, 3

    def __init__(self, profile: Mapping[str, Any], known: bytes | None = None) -> None:
        self.names: tuple[Any, ...] = tuple(value for value, _ in profile["values"])
        self.size = self.FIRST + len(self.names)
        self.distinct: int = max(profile.get("distinct", 0), len(self.names), 1)
        self.tells_new = known is not None or profile["other"] == 0
        self._known = None if not known else np.frombuffer(known, dtype=np.uint8)
        self._slot = {name: self.FIRST + at for at, name in enumerate(self.names)}
        named = [count for _, count in profile["values"]]
        self.reference: Counts = np.array([profile["missing"], profile["other"], 0, *named], dtype=np.int64)

    def label(self, slot: int) -> str:
        """What is counted in a slot, for people."""
        rare = "rare" if self.tells_new else "not named"
        return {self.MISSING: "missing", self.RARE: rare, self.NEW: "new"}.get(slot) or str(
            self.names[slot - self.FIRST]
        )

    def tally(self, distinct: Sequence[Any], occurring: Array, missing: int) -> Tally:
        """Count different values, which occur as often as `occurring` says; `missing` more are missing.

        >>> from modelyard.domain.profile import values_described
        >>> slots = ValueSlots(values_described([("a", 9)], 9, 0, 1, free=True))
        >>> slots.tally(["a", "b"], np.array([2, 5]), 1).counts.tolist()
        [1, 0, 5, 2]
        """
        counts = np.zeros(self.size, dtype=np.int64)
        counts[self.MISSING] = missing
        slot = np.array([self._slot.get(value, self.NEW) for value in distinct], dtype=np.intp)
        at = np.flatnonzero(slot == self.NEW)
        newcomers = Newcomers()
        if len(at):
            if not self.tells_new:
                slot[at] = self.RARE
            else:
                texts = as_texts([distinct[each] for each in at.tolist()])
                keys = hashes(texts)
                rare = self._is_known(keys)
                slot[at[rare]] = self.RARE
                newcomers = newcomers_of(texts[~rare], keys[~rare], occurring[at[~rare]])
        np.add.at(counts, slot, occurring)
        return Tally(counts, None, newcomers)

    def _is_known(self, keys: Array) -> NDArray[np.bool_]:
        if self._known is None:
            return np.zeros(len(keys), dtype=np.bool_)
        where = _places(keys, len(self._known) * 8)
        found: NDArray[np.bool_] = (self._known[where >> 3] >> (where & 7) & 1).all(axis=0)
        return found


Slots: TypeAlias = NumberSlots | ValueSlots


def known_filter(texts: Array) -> bytes:
    """A Bloom filter over texts: of what is not among them, about one in a hundred is taken for known."""
    if not len(texts):
        return b""
    bits = 1 << max(6, min(23, (10 * len(texts)).bit_length()))
    field = np.zeros(bits, dtype=np.uint8)
    field[_places(hashes(texts), bits)] = 1
    return np.packbits(field, bitorder="little").tobytes()


def _places(keys: Array, bits: int) -> Array:
    """Four bits a key, from the two halves of its hash (Kirsch and Mitzenmacher 2006)."""
    low, high = keys & np.uint64(0xFFFFFFFF), keys >> np.uint64(32)
    steps = np.arange(_PROBES, dtype=np.uint64)[:, None]
    found: Array = ((low + steps * high) % np.uint64(bits)).astype(np.int64)
    return found


def slots_of(profile: Mapping[str, Any], known: bytes | None = None) -> Slots | None:
    """The slots that a column of a reference profile makes; None where it is described by nothing to count with.

    >>> slots_of({"type": "other", "n": 3, "missing": 0}) is None
    True
    """
    if profile["type"] == "numbers":
        return NumberSlots(profile)
    return ValueSlots(profile, known) if profile["type"] == "values" else None
