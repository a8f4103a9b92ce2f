"""Texts that the reference never had: a bounded collection that does not depend on order or split.

Of all different newcomers those with the smallest hashes are kept, with how often each occurs. One that is among the
smallest of all is among the smallest wherever it occurs, so it is never pushed out anywhere and its count is exact.
(Bottom-k sampling of distinct values: Cohen and Kaplan 2007, "Summarizing data using bottom-k sketches".) As long as
there are at most `KEPT` different newcomers all are kept; of more, an even sample, which also tells about how many
there are. Names of what occurs fewer than five times are taken out before a window is published.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from modelyard.domain.frame import Array
from modelyard.domain.profile import LEAST_NAMED

KEPT = 1024
"""So many different newcomers are kept while a window is open."""

NAMED = 12
"""So many are named, with their counts, once it is published."""

_LONGEST = 80
_HASHES = float(2**64)


class Newcomers(msgspec.Struct, frozen=True):
    """``(hash, name, count)`` in the order of the hashes, and whether others were left out."""

    kept: tuple[tuple[int, str, int], ...] = ()
    more: bool = False

    def __add__(self, other: Newcomers) -> Newcomers:
        """Those of both together."""
        if not other.kept or not self.kept:
            return self if self.kept else other
        together = {key: (name, count) for key, name, count in self.kept}
        for key, name, count in other.kept:
            known = together.get(key)
            # Two names with one hash share an entry, under the first of the two, so that order does not matter.
            together[key] = (name, count) if known is None else (min(known[0], name), known[1] + count)
        return _smallest(together, self.more or other.more)

    @property
    def distinct(self) -> int:
        """About how many different ones there are; exact up to `KEPT`."""
        if not self.more:
            return len(self.kept)
        return round((len(self.kept) - 1) / (self.kept[-1][0] / _HASHES)) if self.kept else 0

    def named(self) -> tuple[tuple[str, int], ...]:
        """The commonest that occur at least five times, with how often."""
        often = [(name, count) for _, name, count in self.kept if count >= LEAST_NAMED]
        return tuple(sorted(often, key=lambda item: (-item[1], item[0]))[:NAMED])


def hashes(texts: Array) -> Array:
    """64-bit hashes of texts (an object array), the same on every machine."""
    found: Array = pd.util.hash_array(texts, categorize=False)
    return found


def as_texts(values: Sequence[Any]) -> Array:
    """Values as an object array of texts, cut where they are very long."""
    texts = np.empty(len(values), dtype=object)
    texts[:] = [str(value)[:_LONGEST] for value in values]
    return texts


def newcomers_of(texts: Array, keys: Array, counts: Array) -> Newcomers:
    """From different texts, their `hashes` and how often each occurs."""
    if not len(texts):
        return Newcomers()
    chosen = np.argsort(keys, kind="stable")[: KEPT + 64]
    together: dict[int, tuple[str, int]] = {}
    for key, name, count in zip(keys[chosen].tolist(), texts[chosen].tolist(), counts[chosen].tolist(), strict=True):
        known = together.get(key)
        together[key] = (name, count) if known is None else (min(known[0], name), known[1] + count)
    return _smallest(together, len(texts) > len(chosen))


def _smallest(together: dict[int, tuple[str, int]], more: bool) -> Newcomers:
    ordered = sorted(together)
    kept = tuple((key, *together[key]) for key in ordered[:KEPT])
    return Newcomers(kept, more or len(ordered) > KEPT)
