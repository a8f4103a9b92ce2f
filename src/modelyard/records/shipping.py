"""Shipping: the frames of write-ahead segments go to Delta tables, each exactly once.

Every commit says, in the same transaction as its rows, up to which offset of which segment it shipped (a Delta
application transaction: ``<table>/<segment>`` and the offset). Whoever ships reads these offsets and goes on there. Two
that ship the same stretch at once conflict, and one of them is refused; a process that is killed has committed or has
not. Segments are removed when every table that is made from them is past their end and their writer is gone.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from modelyard.records import segments
from modelyard.records.delta import TablesRoot, stored_schema
from modelyard.records.framing import HEADER_BYTES
from modelyard.records.keeping import rules
from modelyard.records.log import LABELS, PREDICTIONS
from modelyard.records.segments import Damage

if TYPE_CHECKING:
    from deltalake import DeltaTable

Build: TypeAlias = Callable[[Path, list[tuple[int, bytes]]], Any]
"""Makes the table (`pyarrow.Table`) of frames ``(offset, payload)`` of a segment; always the same columns."""

AT_ONCE = 16 * 1024 * 1024
"""About so many bytes of segments go with one commit."""

DAMAGED = "damaged"
"""Where segments go that were shipped as far as they could be read."""


@dataclass(frozen=True, slots=True)
class Shipment:
    """One table that is made from the segments of one folder of the records."""

    table: str
    folder: str
    schema: Any
    partitions: tuple[str, ...]
    build: Build

    def application(self, segment: Path) -> str:
        """The name under which the table remembers how far a segment is shipped."""
        return f"{self.table}/{segment.stem}"

    def reached(self, table: DeltaTable | None, segment: Path) -> int:
        """The offset in `segment` up to which `table` has it."""
        known = None if table is None else table.transaction_version(self.application(segment))
        return HEADER_BYTES if known is None else known


@dataclass(slots=True)
class Shipped:
    """What a pass did. `busy` says that somebody else shipped the same at the same moment."""

    rows: int = 0
    bytes: int = 0
    commits: int = 0
    removed: int = 0
    busy: bool = False
    damage: list[Damage] = field(default_factory=list)

    def __iadd__(self, other: Shipped) -> Self:
        self.rows += other.rows
        self.bytes += other.bytes
        self.commits += other.commits
        self.removed += other.removed
        self.busy |= other.busy
        self.damage += other.damage
        return self


def record_shipments(directory: Path) -> tuple[Shipment, Shipment]:
    """The tables of predictions and of labels, by the rules of a records folder.

    Raises:
        DataDamaged: the rules cannot be read.
    """
    known = rules(directory)
    from modelyard.records.tables import LABEL_SCHEMA, PREDICTION_SCHEMA, label_table, prediction_table

    def build(segment: Path, frames: list[tuple[int, bytes]]) -> Any:
        return prediction_table(segment, frames, known)

    return (
        Shipment(PREDICTIONS, PREDICTIONS, PREDICTION_SCHEMA, ("deployment", "day"), build),
        Shipment(LABELS, LABELS, LABEL_SCHEMA, ("day",), label_table),
    )


def ship(directory: Path, shipment: Shipment, root: TablesRoot | None = None) -> Shipped:
    """Ship what is not shipped yet. Any number of processes may do so at once.

    Raises:
        Unavailable, Failed: the table cannot be reached, read or written; nothing is lost.
    """
    root, shipped = root or TablesRoot.of(directory), Shipped()
    waiting = segments.segments(directory / shipment.folder)
    if not waiting:
        return shipped
    table: DeltaTable | None = root.make(shipment.table, shipment.schema, shipment.partitions)
    load = _Load(shipment, root)
    for segment in waiting:
        while table is not None and load.take(segment, table):
            if load.bytes >= AT_ONCE:
                table = load.send(table, shipped)
    if table is not None:
        load.send(table, shipped)
    return shipped


class _Load:
    """Rows of one or more segments that go with the same commit."""

    def __init__(self, shipment: Shipment, root: TablesRoot) -> None:
        self._shipment, self._root = shipment, root
        self._clear()

    def _clear(self) -> None:
        self.bytes = 0
        self._tables: list[Any] = []
        self._ends: dict[Path, int] = {}
        self._damage: list[Damage] = []

    def take(self, segment: Path, table: DeltaTable) -> bool:
        """Add the next stretch of `segment`; False where there is none."""
        start = self._ends.get(segment) or self._shipment.reached(table, segment)
        try:
            found = segments.scan(segment, start, AT_ONCE) if segment.stat().st_size > start else None
        except FileNotFoundError:  # somebody else has shipped it all
            return False
        if found is None or not found.frames.found:
            return False
        self._tables.append(self._shipment.build(segment, found.frames.found))
        self._ends[segment] = found.end
        self._damage += found.damage
        self.bytes += found.end - start
        return True

    def send(self, table: DeltaTable, shipped: Shipped) -> DeltaTable | None:
        """Commit what was added, on `table` as it was when the offsets were read; the table after it, or None."""
        if not self._ends:
            return table
        import pyarrow as pa
        from deltalake import CommitProperties, Transaction, WriterProperties, write_deltalake
        from deltalake.exceptions import CommitFailedError

        now = time.time_ns() // 1_000_000
        ends = [Transaction(self._shipment.application(segment), end, now) for segment, end in self._ends.items()]
        rows = pa.concat_tables(self._tables).cast(stored_schema(self._shipment.schema))
        known = {part.name for part in table.schema().fields}
        try:
            with self._root.reported(self._shipment.table):
                write_deltalake(
                    table,
                    rows,
                    mode="append",
                    schema_mode=None if known.issuperset(rows.column_names) else "merge",
                    commit_properties=CommitProperties(app_transactions=ends),
                    writer_properties=WriterProperties(compression="ZSTD", compression_level=1),
                )
        except CommitFailedError:
            # Somebody else shipped one of these stretches first. What this one wrote belongs to no commit.
            shipped.busy = True
            return None
        shipped.rows += rows.num_rows
        shipped.bytes += self.bytes
        shipped.commits += 1
        shipped.damage += self._damage
        for one in self._damage:
            _mark_damaged(one.path)
        self._clear()
        return table


def damaged(segment: Path) -> list[Damage]:
    """What of `segment` could not be shipped although it was come past."""
    if not _mark_of(segment).exists():
        return []
    whole = segments.scan(segment)
    return [] if whole is None else list(whole.damage)


def _mark_of(segment: Path) -> Path:
    return segment.parent / DAMAGED / f"{segment.stem}.seen"


def _mark_damaged(segment: Path) -> None:
    with suppress(OSError):
        _mark_of(segment).parent.mkdir(mode=0o700, exist_ok=True)
        _mark_of(segment).touch()


def remove_shipped(directory: Path, shipments: Sequence[Shipment], root: TablesRoot | None = None) -> int:
    """Remove segments that all of `shipments` are past and that nobody writes any more; how many.

    `shipments` has to name every table that is made from a folder: what one of them has not shipped is lost to it.

    Raises:
        Unavailable, Failed: a table cannot be reached or read.
    """
    root, removed = root or TablesRoot.of(directory), 0
    for folder in sorted({shipment.folder for shipment in shipments}):
        waiting = segments.segments(directory / folder)
        if not waiting:
            continue
        made = [(one, root.open(one.table)) for one in shipments if one.folder == folder]
        for segment in waiting:
            reached = min(one.reached(table, segment) for one, table in made)
            removed += _remove(segment, reached)
    return removed


def _remove(segment: Path, reached: int) -> bool:
    """Remove `segment` if nobody writes it and it ends at `reached`, but for what was never acknowledged."""
    try:
        descriptor = os.open(segment, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # Held by its writer while that lives; and while it is held here, no writer goes on in it.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found = segments.scan(segment, reached)
        if found is None or found.frames.found:
            return False
        whole = segments.scan(segment)
        if whole is not None and whole.damage:
            kept = segment.parent / DAMAGED
            kept.mkdir(mode=0o700, exist_ok=True)
            segment.rename(kept / segment.name)
        else:
            segment.unlink()
    except BlockingIOError:
        return False
    finally:
        with suppress(OSError):
            os.close(descriptor)
    return True
