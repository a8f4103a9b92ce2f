"""Pairs of columns of a reference: which there are, and how often their levels meet in a table of rows.

A pair is named by its place in the reference, so that counts of windows taken with one reference can be added.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from modelyard.domain import pairs
from modelyard.domain.pairs import MISSING, WIDTH, Levels
from modelyard.monitoring.columns import Column, Table
from modelyard.monitoring.slots import Counts

Met: TypeAlias = Mapping[int, Counts]
"""For some pairs, by their places, how often each two levels met: ``WIDTH * WIDTH`` counts, row after row."""


class Pairs:
    """The pairs of a reference profile (its ``pairs``), with their own counts in `reference`."""

    def __init__(self, described: Mapping[str, Any]) -> None:
        self._levels: Mapping[str, Mapping[str, Any]] = described["levels"]
        found = list(pairs.pairs_of(described))
        self.names: tuple[tuple[str, str], ...] = tuple(names for names, _ in found)
        self.reference: tuple[Counts, ...] = tuple(table.reshape(-1) for _, table in found)

    def met(self, table: Table) -> Met:
        """Count a table's rows; pairs of which it lacks a column are left out."""
        level = self.levels(table)
        return {
            at: pairs.counted(level[one], level[other])
            for at, (one, other) in enumerate(self.names)
            if one in level and other in level
        }

    def levels(self, table: Table) -> dict[str, Levels]:
        """The level of each row in the columns that are in some pair; of pairs that it has both columns of."""
        there = {name for names in self.names if all(name in table.columns for name in names) for name in names}
        return {name: level_of(self._levels[name], table.columns[name]) for name in sorted(there)}

    def labels(self, name: str) -> tuple[str, ...]:
        """The levels of a column, for people; the first is what is missing."""
        how = self._levels[name]
        if "values" in how:
            return ("missing", "others", *map(str, how["values"]))
        cuts = [f"{cut:.4g}" for cut in how["cuts"]]
        between = [f"{one} to {other}" for one, other in pairwise(cuts)]
        return ("missing", f"below {cuts[0]}", *between, f"from {cuts[-1]}")


def pairs_of_table(table: Table, columns: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """The pairs of a table as a reference profile has them, with its columns as they are described there."""
    moments = {name for name, column in table.columns.items() if column.family == "moments"}
    how = {
        name: levels for name, column in columns.items() if name not in moments and (levels := pairs.levels_of(column))
    }
    return pairs.described(how, {name: level_of(each, table.columns[name]) for name, each in how.items()}, {})


def level_of(levels: Mapping[str, Any], column: Column) -> Levels:
    """The level of each value of a column; none is there where it is of another sort than before."""
    if "cuts" in levels:
        return pairs.of_numbers(levels, column.numbers())
    if column.sort == "other":
        return np.zeros(len(column.values), dtype=np.uint8)
    distinct, codes = column.coded()
    found = np.append(pairs.of_values(levels, distinct), np.uint8(MISSING))
    return found[codes]


__all__ = ["WIDTH", "Met", "Pairs", "level_of", "pairs_of_table"]
