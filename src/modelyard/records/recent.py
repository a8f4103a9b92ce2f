"""The newest records of some deployments, for those who look every second: each frame of the log is decoded once.

What is shipped comes from the files of the Delta table that can have something of the time that is asked for, by the
statistics that the table keeps of each file; what is not, from frames that are kept decoded until they are shipped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from modelyard.errors import InvalidRequest
from modelyard.records import segments
from modelyard.records.delta import TablesRoot, shown_schema, stored_schema
from modelyard.records.keeping import Rules, rules
from modelyard.records.log import LABELS, PREDICTIONS, decode_record
from modelyard.records.query import LOCKED_DOWN
from modelyard.records.shipping import Shipment
from modelyard.records.tables import LABEL_SCHEMA, PREDICTION_SCHEMA, label_table, prediction_table

if TYPE_CHECKING:
    from deltalake import DeltaTable

_HEAVY = ("record", "columns", "day", "digest", "form", "event_time")
"""Columns that nobody who looks every second needs."""

CALLS = tuple(name for name in PREDICTION_SCHEMA.names if name not in _HEAVY)
"""The columns of the rows of calls that can be asked for."""

_LABELS = tuple(name for name in LABEL_SCHEMA.names if name not in _HEAVY)


class RecentRecords:
    """The records of `directory` as they grow, for one thread. Close it at the end.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     RecentRecords(folder).calls(["live"], datetime(2026, 3, 1)).num_rows
    0
    """

    def __init__(self, directory: str | Path) -> None:
        self._directory = Path(directory)
        self._root = TablesRoot.of(self._directory)
        self._connection = duckdb.connect(":memory:", config={**LOCKED_DOWN, "threads": 2})
        self._deployments: frozenset[str] = frozenset()
        self._rules: Rules = {}
        self._calls = _Growing(Shipment(PREDICTIONS, PREDICTIONS, PREDICTION_SCHEMA, (), self._call_table))
        self._labels = _Growing(Shipment(LABELS, LABELS, LABEL_SCHEMA, (), label_table))

    def close(self) -> None:
        """Close the database in memory. The log is not touched."""
        self._connection.close()

    def calls(
        self,
        deployments: Sequence[str],
        since: datetime,
        columns: Sequence[str] = CALLS,
        *,
        until: datetime | None = None,
        ended: datetime | None = None,
    ) -> Any:
        """The rows of calls of `deployments` that arrived from `since` on (UTC), as a `pyarrow.Table`.

        With `until`, only of those that arrived before it; with `ended`, only of those whose answer was ready then or
        later.

        Raises:
            Unavailable, Failed: the table of what was shipped cannot be reached or read.
        """
        self._want(deployments)
        asked = _Asked(_utc(since), tuple(columns), tuple(deployments), until and _utc(until), ended and _utc(ended))
        return self._calls.read(self._directory, self._root, asked)

    def history(self, deployments: Sequence[str], since: datetime, until: datetime | None = None) -> dict[str, Any]:
        """Tables for `query` that hold the rows of `calls`, and others, for those who have a long time to look through.

        They are read as the query goes, so they need not fit into memory: ``waiting`` has what is not shipped, and
        ``shipped`` the rest, whose moments are in a zone (UTC).

        Raises:
            Unavailable, Failed: see `calls`.
        """
        self._want(deployments)
        asked = _Asked(_utc(since), CALLS, tuple(deployments), until and _utc(until))
        waiting, stored = self._calls.parts(self._directory, self._root, asked)
        empty = stored_schema(PREDICTION_SCHEMA).empty_table()
        return {"waiting": pa.concat_tables(waiting), "shipped": empty if stored is None else stored}

    def labels(self, since: datetime, columns: Sequence[str] = _LABELS) -> Any:
        """All labels that were received from `since` (UTC) on, corrections included, as a `pyarrow.Table`.

        Raises:
            Unavailable, Failed: see `calls`.
        """
        return self._labels.read(self._directory, self._root, _Asked(_utc(since), tuple(columns)))

    def query(self, sql: str, tables: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What a SELECT over `tables` gives, row by row.

        Raises:
            InvalidRequest: the SQL is wrong.
        """
        try:
            for name, table in tables.items():
                self._connection.register(name, table)
            found: list[dict[str, Any]] = self._connection.sql(sql).to_arrow_table().to_pylist()
            return found
        except duckdb.Error as error:
            raise InvalidRequest(str(error).strip()) from None
        finally:
            for name in tables:
                self._connection.unregister(name)

    def _want(self, deployments: Sequence[str]) -> None:
        if not self._deployments.issuperset(deployments):
            self._deployments |= set(deployments)
            self._calls.forget()
        self._rules = rules(self._directory)

    def _call_table(self, segment: Path, frames: list[tuple[int, bytes]]) -> Any:
        """Only of calls that somebody asked for are the bodies decoded."""
        mine = [(at, frame) for at, frame in frames if decode_record(frame).deployment in self._deployments]
        return prediction_table(segment, mine, self._rules)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Which rows are wanted; `deployments` is empty for labels."""

    since: datetime
    columns: tuple[str, ...]
    deployments: tuple[str, ...] = ()
    until: datetime | None = None
    ended: datetime | None = None

    def files(self, files: Any) -> Any:
        """Which files of the table can have such rows, by what is known of each."""
        wanted = _or_unknown(pc.greater_equal(files["max.time"], _moment(self.since, "UTC")))
        if self.deployments:
            wanted = pc.and_(wanted, pc.is_in(files["partition.deployment"], pa.array(self.deployments)))
        if self.until is not None:
            wanted = pc.and_(wanted, _or_unknown(pc.less(files["min.time"], _moment(self.until, "UTC"))))
        if self.ended is not None:
            last = _ready(files["max.time"], files["max.latency_ms"])
            wanted = pc.and_(wanted, _or_unknown(pc.greater_equal(last, _moment(self.ended, "UTC"))))
        return files.filter(wanted)

    def rows(self, zone: str | None) -> Any:
        """The condition on the rows of a table whose moments are said to be in that zone."""
        wanted = ds.field("time") >= _moment(self.since, zone)
        if self.until is not None:
            wanted = wanted & (ds.field("time") < _moment(self.until, zone))
        if self.deployments:
            wanted = wanted & ds.field("deployment").isin(self.deployments) & ds.field("dropped").is_null()
        return wanted

    def still(self, table: Any) -> Any:
        """Those rows of a table whose answer was ready late enough."""
        if self.ended is None or not table.num_rows:
            return table
        return table.filter(pc.greater_equal(_ready(table["time"], table["latency_ms"]), _moment(self.ended, None)))

    @property
    def needed(self) -> list[str]:
        """The columns that have to be read."""
        return list(dict.fromkeys((*self.columns, *(("time", "latency_ms") if self.ended is not None else ()))))


@dataclass(slots=True)
class _Segment:
    """How far a segment was read, and what was in it, stretch by stretch."""

    end: int
    tables: list[Any] = field(default_factory=list)


class _Growing:
    """One table and the segments that it is made from."""

    def __init__(self, shipment: Shipment) -> None:
        self._shipment = shipment
        self._kept = [part.name for part in shipment.schema if part.name not in _HEAVY]
        self._read: dict[Path, _Segment] = {}
        self._table: DeltaTable | None = None

    def forget(self) -> None:
        """Read the segments from their beginning again."""
        self._read.clear()

    def read(self, directory: Path, root: TablesRoot, asked: _Asked) -> Any:
        """The rows that are wanted, as they are now."""
        parts, stored = self.parts(directory, root, asked)
        if stored is not None:
            with root.reported(self._shipment.table):
                rows = stored.to_table(columns=asked.needed, filter=asked.rows("UTC"))
                parts.append(rows.cast(parts[0].schema))
        return asked.still(pa.concat_tables(parts)).select(asked.columns)

    def parts(self, directory: Path, root: TablesRoot, asked: _Asked) -> tuple[list[Any], Any | None]:
        """The rows that are not shipped, in at least one table, and a dataset of files that can have the others."""
        # First the segments, then the table: one that is gone by then was shipped before, so the table has it.
        there = segments.segments(directory / self._shipment.folder)
        for path in there:
            self._read_on(path, root)
        table = self._opened(root)
        schema = shown_schema(pa.schema([self._shipment.schema.field(name) for name in asked.needed]))
        waiting = [
            part.filter(asked.rows(None)).select(asked.needed).cast(schema) for part in self._unshipped(there, table)
        ]
        stored = None
        if table is not None:
            with root.reported(self._shipment.table):
                files = asked.files(pa.table(table.get_add_actions(flatten=True)))
                stored = _dataset(table, files, self._shipment.schema) if files.num_rows else None
        return [schema.empty_table(), *waiting], stored

    def _read_on(self, path: Path, root: TablesRoot) -> None:
        known = self._read.get(path)
        try:
            if known is None:
                # What was shipped long ago need not be decoded; a table that is older than it says too little only.
                known = _Segment(self._shipment.reached(self._table or self._opened(root), path))
            elif path.stat().st_size <= known.end:
                return
            found = segments.scan(path, known.end)
        except FileNotFoundError:
            return
        self._read[path] = known
        if found is not None and found.frames.found:
            made = self._shipment.build(path, found.frames.found)
            known.tables.append(made.select(self._kept))
            known.end = found.end

    def _opened(self, root: TablesRoot) -> DeltaTable | None:
        if self._table is None:
            self._table = root.open(self._shipment.table)
        else:
            with root.reported(self._shipment.table):
                self._table.update_incremental()
        return self._table

    def _unshipped(self, there: Sequence[Path], table: DeltaTable | None) -> list[Any]:
        found = []
        for path in list(self._read):
            known, reached = self._read[path], self._shipment.reached(table, path)
            known.tables = [one for one in known.tables if one.num_rows and _last(one) >= reached]
            found += [one.filter(pc.field("position") >= reached) for one in known.tables]
            if path not in there and not known.tables:
                del self._read[path]
        return found


def _last(table: Any) -> int:
    found: int = table["position"][-1].as_py()
    return found


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _moment(moment: datetime, zone: str | None) -> Any:
    """A moment in UTC as Arrow has it, with or without saying so."""
    return pa.scalar(moment if zone else moment.replace(tzinfo=None), pa.timestamp("us", zone))


def _ready(time: Any, latency_ms: Any) -> Any:
    """When answers were ready, rounded up."""
    taken = pc.cast(pc.ceil(pc.multiply(latency_ms, 1000.0)), pa.int64())
    return pc.add(time, pc.cast(taken, pa.duration("us")))


def _or_unknown(condition: Any) -> Any:
    """True also where the file does not say."""
    return pc.fill_null(condition, True)


def _dataset(table: DeltaTable, files: Any, schema: Any) -> Any:
    """Some files of a table; the values of partitions are not in the files."""
    import pyarrow.fs as pa_fs
    from deltalake.fs import DeltaStorageHandler

    sizes = dict(zip(files["path"].to_pylist(), files["size_bytes"].to_pylist(), strict=True))
    filesystem = pa_fs.PyFileSystem(DeltaStorageHandler.from_table(table._table, table._storage_options, sizes))  # noqa: SLF001
    form = ds.ParquetFileFormat()
    names = [name for name in files.column_names if name.startswith("partition.")]
    fragments = []
    for row in files.select(["path", *names]).to_pylist():
        said = ds.field("day") == row["partition.day"]
        if "partition.deployment" in row:
            said = said & (ds.field("deployment") == row["partition.deployment"])
        fragments.append(form.make_fragment(row["path"], filesystem=filesystem, partition_expression=said))
    return ds.FileSystemDataset(fragments, stored_schema(schema), form, filesystem)
