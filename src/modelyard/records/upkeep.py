"""What keeps the tables of records small and quick to open: files are joined, and what nobody needs is removed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from modelyard.records.delta import TablesRoot, stored_schema
from modelyard.records.keeping import EXPIRED, rules
from modelyard.records.log import PREDICTIONS
from modelyard.records.sqltext import literal

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


def expire(directory: Path, today: date | None = None) -> dict[str, int]:
    """Remove the rows that have been kept as long as the rules say; how many, by deployment. They are counted first.

    Raises:
        Unavailable, Failed: the table cannot be reached, read or written.
    """
    root, now = TablesRoot.of(directory), today or datetime.now(UTC).date()
    found = {}
    for deployment, rule in rules(directory).items():
        if rule.days is not None:
            found[deployment] = _expire(root, deployment, now - timedelta(days=rule.days))
    return found


def _expire(root: TablesRoot, deployment: str, until: date) -> int:
    from deltalake.exceptions import CommitFailedError

    table = root.open(PREDICTIONS)
    if table is None:
        return 0
    which = f"deployment = {literal(deployment)} AND day < '{until}' AND dropped IS NULL"
    wanted = (ds.field("deployment") == deployment) & (ds.field("day") < until) & ds.field("dropped").is_null()
    rows = int(table.to_pyarrow_dataset().count_rows(filter=wanted))
    if rows:
        try:
            with root.reported(PREDICTIONS):
                _count_expired(table, deployment, until, rows)
                table.delete(which)
        except CommitFailedError:  # somebody else is at it
            return 0
    return rows


def _count_expired(table: Any, deployment: str, until: date, rows: int) -> None:
    """Say in the table that rows expire; once, however often this is tried before they are gone."""
    from deltalake import CommitProperties, Transaction, write_deltalake

    from modelyard.records.tables import PREDICTION_SCHEMA, dropped_line

    application, day = f"expired/{deployment}", (until - date(1970, 1, 1)).days - 1
    before = table.transaction_version(application)
    if before is not None and before >= day:
        return
    line = dropped_line(deployment, day, EXPIRED, rows)
    columns = [pa.array([value], field.type) for value, field in zip(line, PREDICTION_SCHEMA, strict=True)]
    made = pa.table(columns, schema=PREDICTION_SCHEMA).cast(stored_schema(PREDICTION_SCHEMA))
    told = CommitProperties(app_transactions=[Transaction(application, day)])
    write_deltalake(table, made, mode="append", commit_properties=told)


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
