"""Comparing two versions: only what differs is taken out of the store and read."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from modelyard.datasets.checkout import write_files
from modelyard.datasets.describing import Described
from modelyard.datasets.differing import DataDiff, TableDiff, compare_files, pair
from modelyard.datasets.facts import TableFacts
from modelyard.datasets.moving import moves
from modelyard.datasets.rowdiff import Shared, compare_rows
from modelyard.datasets.store import ChunkStore
from modelyard.datasets.tables import database, load
from modelyard.datasets.tree import Tree, below
from modelyard.errors import Failed, InvalidRequest

MEMORY = "3GB"
"""What a comparison takes at most before it goes to disk."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of two versions that are compared."""

    ref: str
    tree: Tree
    described: Described


def compare(before: Side, after: Side, store: ChunkStore, scratch: Path, key: Sequence[str] = ()) -> DataDiff:
    """All that differs. Rows are told apart by `key`, else by the key that the newer version was given.

    Raises:
        InvalidRequest: no table that differs has the columns of `key`.
        DataDamaged: content that is needed is not what was stored.
    """
    pairs = pair(before.described.facts, after.described.facts)
    different = [(old, new) for old, new in pairs.both if old.content != new.content]
    if key and different and not any(_has(old, new, key) for old, new in different):
        there = "; ".join(f"{new.name}: {', '.join(column.name for column in new.columns)}" for _, new in different)
        raise InvalidRequest(f"no table has the columns {', '.join(key)} in both versions; there are {there}")
    tables = []
    for old, new in different:
        chosen = [part for part in (key, new.key, old.key) if part and _has(old, new, part)]
        profile = before.described.profile.get(old.name, {})
        with tempfile.TemporaryDirectory(dir=scratch, prefix="diff-") as folder:
            tables.append(_table(before, after, (old, new), store, folder, chosen[0] if chosen else (), profile))
    return DataDiff(
        before=before.ref,
        after=after.ref,
        same=before.tree.digest == after.tree.digest,
        files=compare_files(before.tree, after.tree),
        tables=tuple(tables),
        tables_added=tuple(table.name for table in pairs.added),
        tables_removed=tuple(table.name for table in pairs.removed),
        tables_same=tuple(new.name for old, new in pairs.both if old.content == new.content),
    )


def _has(old: TableFacts, new: TableFacts, key: Sequence[str]) -> bool:
    return all({column.name for column in table.columns}.issuperset(key) for table in (old, new))


def _table(
    before: Side,
    after: Side,
    pair: tuple[TableFacts, TableFacts],
    store: ChunkStore,
    folder: str,
    key: Sequence[str],
    profile: Mapping[str, Any],
) -> TableDiff:
    old, new = pair
    with database(Path(folder), MEMORY) as connection:
        types_a = _loaded(connection, "a", before.tree, old, store, folder)
        types_b = _loaded(connection, "b", after.tree, new, store, folder)
        shared = [Shared(name, kind, types_b[name]) for name, kind in types_a.items() if name in types_b]
        try:
            rows = compare_rows(connection, shared, key)
            worth = _worth_looking_at(shared, rows.key, rows.changed_by_column, rows)
            moved = moves(connection, worth, profile, [column for column in shared if column.name in rows.key])
        except duckdb.Error as error:
            raise Failed(f"table {new.name} cannot be compared: {str(error).splitlines()[0]}") from error
    kept_a, kept_b = [name for name in types_a if name in types_b], [name for name in types_b if name in types_a]
    return TableDiff(
        name=new.name,
        rows_before=old.rows,
        rows_after=new.rows,
        columns_added=tuple((name, kind) for name, kind in types_b.items() if name not in types_a),
        columns_removed=tuple((name, kind) for name, kind in types_a.items() if name not in types_b),
        types_changed=tuple((each.name, each.before, each.after) for each in shared if each.before != each.after),
        reordered=kept_a != kept_b,
        rows=rows,
        moves=moved,
    )


def _worth_looking_at(
    shared: Sequence[Shared], key: Sequence[str], changed: Mapping[str, int], rows: Any
) -> list[Shared]:
    """All columns where rows came or went; else those in which a value changed."""
    if rows.added or rows.removed or not key:
        return list(shared)
    return [column for column in shared if column.name in changed]


def _loaded(
    connection: duckdb.DuckDBPyConnection, name: str, tree: Tree, table: TableFacts, store: ChunkStore, folder: str
) -> dict[str, str]:
    """The files of one table, taken out of the store and made known as `name`; gives column to SQL type."""
    wanted = set(table.files)
    target = str(Path(folder) / name)
    write_files([entry for entry in tree.entries if entry.path in wanted], target, store)
    types = {column.name: column.type for column in table.columns}
    return dict(load(connection, name, table.format, [below(target, path) for path in table.files], types))
