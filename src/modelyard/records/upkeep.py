"""What keeps the tables of records small and quick to open: files are joined, and what nobody needs is removed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from modelyard.records.delta import TablesRoot

FILE_BYTES = 128 * 1024 * 1024
"""About how large files become by compaction."""


@dataclass(frozen=True, slots=True)
class TableState:
    """A table: its version, its files with their rows and bytes, and its commits since the last checkpoint or so."""

    table: str
    version: int
    files: int
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Compacted:
    """What a compaction did to a table: files that were joined, files made of them, and old ones that are gone."""

    table: str
    joined: int
    made: int
    removed: int


def states(root: TablesRoot, tables: Iterable[str]) -> list[TableState]:
    """The tables that there are.

    Raises:
        Unavailable, Failed: one cannot be reached or read.
    """
    found = []
    for name in tables:
        table = root.open(name)
        if table is not None:
            import pyarrow as pa

            with root.reported(name):
                actions = pa.table(table.get_add_actions(flatten=True))
            rows, size = (sum(actions[column].to_pylist()) for column in ("num_records", "size_bytes"))
            found.append(TableState(name, table.version(), actions.num_rows, rows, size))
    return found


def compact(root: TablesRoot, tables: Iterable[str]) -> list[Compacted]:
    """Join the small files of each table, and remove files that no version of the last day has. Others go on meanwhile.

    Raises:
        Unavailable, Failed: a table cannot be reached, read or written.
    """
    return [done for name in tables if (done := _compact(root, name)) is not None]


def _compact(root: TablesRoot, name: str) -> Compacted | None:
    from deltalake import WriterProperties
    from deltalake.exceptions import CommitFailedError

    table = root.open(name)
    if table is None:
        return None
    try:
        with root.reported(name):
            done = table.optimize.compact(
                target_size=FILE_BYTES,
                max_concurrent_tasks=1,
                writer_properties=WriterProperties(compression="ZSTD", compression_level=3),
            )
            gone = table.vacuum(dry_run=False, full=True)
            table.cleanup_metadata()
    except CommitFailedError:  # somebody else compacts it at this moment
        return Compacted(name, 0, 0, 0)
    return Compacted(name, int(done["numFilesRemoved"]), int(done["numFilesAdded"]), len(gone))
