"""What is different between two versions of data: the result, and the comparison of their files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from modelyard.datasets.facts import Facts, TableFacts
from modelyard.datasets.tree import Tree, shown


class FileDiff(msgspec.Struct, frozen=True):
    """Files by name. `moved` have the same content under another name (before, after)."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    moved: tuple[tuple[str, str], ...] = ()
    unchanged: int = 0


class Bin(msgspec.Struct, frozen=True):
    """A part of a distribution: what is in it, and its share of the values that are there, before and after."""

    label: str
    before: float
    after: float


class ColumnMove(msgspec.Struct, frozen=True):
    """How far a column's distribution is from where it was.

    `distance` lies between 0 and 1: for numbers the largest difference of the two cumulative distributions (Kolmogorov
    and Smirnov), for values half the sum of the differences of their shares (total variation). `by_chance` is what it
    would be at most, in 99 of 100 tables, were both versions drawn from the same source. `moved` is said where the
    distance, or the change in what is missing, is beyond that and at least 0.01.
    """

    column: str
    kind: Literal["numbers", "values"]
    distance: float
    by_chance: float
    moved: bool
    missing_before: float
    missing_after: float
    mean_before: float | None = None
    mean_after: float | None = None
    bins: tuple[Bin, ...] = ()


class Example(msgspec.Struct, frozen=True):
    """A row that differs: its key, and of a changed row the columns that changed (name, before, after)."""

    change: Literal["added", "removed", "changed"]
    key: dict[str, Any]
    values: tuple[tuple[str, Any, Any], ...] = ()


class RowDiff(msgspec.Struct, frozen=True):
    """Rows that differ. Without a `key` whole rows are compared, and a changed one is a removed and an added one."""

    key: tuple[str, ...]
    added: int
    removed: int
    changed: int
    unchanged: int
    changed_by_column: dict[str, int] = {}
    examples: tuple[Example, ...] = ()
    note: str = ""


class TableDiff(msgspec.Struct, frozen=True):
    """A table that is in both versions and differs. Columns are ``(name, type)``, changed types ``(name, was, is)``."""

    name: str
    rows_before: int
    rows_after: int
    columns_added: tuple[tuple[str, str], ...]
    columns_removed: tuple[tuple[str, str], ...]
    types_changed: tuple[tuple[str, str, str], ...]
    reordered: bool
    rows: RowDiff
    moves: tuple[ColumnMove, ...]


class DataDiff(msgspec.Struct, frozen=True):
    """All that differs between two dataset versions."""

    before: str
    after: str
    same: bool
    files: FileDiff
    tables: tuple[TableDiff, ...] = ()
    tables_added: tuple[str, ...] = ()
    tables_removed: tuple[str, ...] = ()
    tables_same: tuple[str, ...] = ()


def compare_files(before: Tree, after: Tree) -> FileDiff:
    """Which files are new, gone, different, or the same under another name."""
    old = {entry.path: entry.content.digest for entry in before.entries}
    new = {entry.path: entry.content.digest for entry in after.entries}
    gone: dict[bytes, list[bytes]] = defaultdict(list)
    for path in old.keys() - new.keys():
        gone[old[path]].append(path)
    moved: list[tuple[bytes, bytes]] = []
    for path in sorted(new.keys() - old.keys()):
        if gone.get(new[path]):
            moved.append((min(gone[new[path]]), path))
            gone[new[path]].remove(min(gone[new[path]]))
    changed = {path for path in old.keys() & new.keys() if old[path] != new[path]}
    return FileDiff(
        added=_names(new.keys() - old.keys() - {to for _, to in moved}),
        removed=_names(old.keys() - new.keys() - {origin for origin, _ in moved}),
        changed=_names(changed),
        moved=tuple((shown(origin), shown(to)) for origin, to in moved),
        unchanged=len(old.keys() & new.keys()) - len(changed),
    )


def _names(paths: set[bytes]) -> tuple[str, ...]:
    return tuple(shown(path) for path in sorted(paths))


class Pairs(msgspec.Struct, frozen=True):
    """Which tables of two versions belong together, and which are alone."""

    both: tuple[tuple[TableFacts, TableFacts], ...]
    removed: tuple[TableFacts, ...]
    added: tuple[TableFacts, ...]


def pair(before: Facts, after: Facts) -> Pairs:
    """Tables of the same name; and where one is left on each side and both are of one format, these two."""
    old, new = _by_name(before.tables), _by_name(after.tables)
    both = [(old[name], new[name]) for name in old if name in new]
    removed = [table for name, table in old.items() if name not in new]
    added = [table for name, table in new.items() if name not in old]
    if len(removed) == len(added) == 1 and removed[0].format == added[0].format:
        return Pairs((*both, (removed[0], added[0])), (), ())
    return Pairs(tuple(both), tuple(removed), tuple(added))


def _by_name(tables: Sequence[TableFacts]) -> dict[str, TableFacts]:
    return {table.name: table for table in tables}
