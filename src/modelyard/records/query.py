"""SQL over prediction records and labels, in a database that can see nothing else.

Tables and views: ``predictions``, ``labels``, ``labels_history``, ``labels_unknown``, ``joined``, and one flat view for
each deployment, under its own name, with a typed column for every input and output. ``docs/records.md`` describes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import duckdb
import msgspec
import pyarrow as pa

from modelyard.errors import InvalidRequest
from modelyard.records.kinds import ColumnKinds, merged_kinds
from modelyard.records.label_views import (
    KEYS_IN_USE,
    KINDS_BY_DEPLOYMENT,
    UNKNOWN_AMONG_WANTED,
    KeyColumns,
    label_views,
)
from modelyard.records.reading import Recorded, recorded
from modelyard.records.segments import Damage
from modelyard.records.shipping import record_shipments
from modelyard.records.sqltext import literal, pointer, quoted

LOCKED_DOWN: dict[str, str | bool | int | float | list[str]] = {
    # Files, other databases, HTTP, extensions: all of it is external access. Tables handed over from Python are not.
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "allow_persistent_secrets": "false",
    # An unknown table name must not be looked up among Python's variables.
    "python_enable_replacements": "false",
    "temp_directory": "",
    "memory_limit": "4GB",
}
"""Settings of every connection; they are locked before a user's SQL runs."""

_ALLOWED = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)

_PREDICTIONS = "SELECT * EXCLUDE (segment, position, record, columns, day) FROM predictions_stored"

_DROPPED = """
    SELECT deployment, day, error AS reason, sum(dropped)::BIGINT AS number FROM predictions_all
    WHERE dropped IS NOT NULL GROUP BY ALL ORDER BY ALL"""

OWN_TABLES = ("predictions", "labels", "joined", "labels_history", "labels_unknown", "predictions_dropped")
"""The tables of every database, in the order in which they are told."""

_INNER = ("predictions_all", "predictions_stored", "labels_stored", "labels_counting", "labels_found", "wanted")

_FLAT = (
    "prediction_id",
    "request_id",
    "row",
    "model",
    "version",
    "time",
    "event_time",
    "latency_ms",
    "status",
    "outcome",
    "error",
)
"""What a deployment's flat view has before the inputs."""


@dataclass(frozen=True, slots=True)
class TableInfo:
    """A table or view as SQL sees it: its name and its columns ``(name, type)``."""

    name: str
    columns: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A recorded call as it came (`PredictionRecord` as msgpack), and which row of it was asked for; None for all."""

    payload: bytes
    row: int | None


class RecordDatabase:
    """The records of `directory` as they are at this moment, open for questions. Use it in a ``with`` statement.

    `damage` lists what of the log could not be read; the answers cover all else.
    """

    def __init__(self, directory: str | Path) -> None:
        predictions, labels = (recorded(Path(directory), shipment) for shipment in record_shipments(Path(directory)))
        self.damage: tuple[Damage, ...] = (*predictions.damage, *labels.damage)
        self._connection = duckdb.connect(":memory:", config=LOCKED_DOWN)
        self._add_table("predictions_all", predictions)
        kept = "SELECT * EXCLUDE (dropped) FROM predictions_all WHERE dropped IS NULL"
        self._connection.execute(f"CREATE VIEW predictions_stored AS {kept}")
        self._add_table("labels_stored", labels)
        for name, sql in {
            "predictions": _PREDICTIONS,
            "predictions_dropped": _DROPPED,
            **label_views(self._keys()),
        }.items():
            self._connection.execute(f"CREATE VIEW {name} AS {sql}")
        self._views = [*OWN_TABLES, *self._add_flat_views(self._kinds())]
        self._connection.execute("SET lock_configuration = true")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database. The log is not touched."""
        self._connection.close()

    def query(self, sql: str) -> Any:
        """The result of one SELECT (or EXPLAIN) as a `pyarrow.Table`. Times are UTC.

        Raises:
            InvalidRequest: the SQL is something else, is wrong, or needs what is closed to it (files, network,
                settings, more than 4 GB of memory).
        """
        try:
            statements = self._connection.extract_statements(sql)
            self._check(statements)
            return self._connection.sql(statements[0]).to_arrow_table()
        except duckdb.Error as error:
            raise InvalidRequest(f"{str(error).strip()}\ntables: {', '.join(self._views)}") from None

    def tables(self) -> list[TableInfo]:
        """The tables that a query can name, with their columns."""
        return [TableInfo(name, self._columns(name)) for name in self._views]

    def unknown(self, labels: Any) -> list[str]:
        """The ids and keys of `labels` that name no recorded prediction, in their order, each once.

        `labels` is a table (`batches.BATCH_SCHEMA`); they must have been kept already.
        """
        self._connection.register("wanted", labels.append_column("place", pa.array(range(labels.num_rows), pa.int64())))
        try:
            rows = self._connection.execute(UNKNOWN_AMONG_WANTED).fetchall()
        finally:
            self._connection.unregister("wanted")
        return [str(row[0]) for row in rows]

    def calls(self, prediction_id: str) -> list[Call]:
        """The calls of that id, oldest first: of one row, or of a call, which means all of its rows."""
        rows = self._connection.execute(
            "SELECT DISTINCT segment, position, CASE WHEN prediction_id = $1 THEN row END, time FROM predictions_stored"
            " WHERE prediction_id = $1 OR request_id = $1 ORDER BY time, segment, position",
            [prediction_id],
        ).fetchall()
        asked = "SELECT record FROM predictions_stored WHERE segment = $1 AND position = $2 AND record IS NOT NULL"
        return [
            Call(payload, row)
            for segment, position, row, _ in rows
            for (payload,) in self._connection.execute(asked, [segment, position]).fetchall()
        ]

    def _check(self, statements: Sequence[Any]) -> None:
        if len(statements) != 1:
            raise InvalidRequest(f"expected one SELECT, got {len(statements) or 'no'} statements")
        if statements[0].type not in _ALLOWED:
            raise InvalidRequest(f"records can only be read: expected a SELECT, got {statements[0].type.name}")

    def _add_table(self, name: str, found: Recorded) -> None:
        parts = found.parts()
        names = [f"{name}_{number}" for number in range(len(parts))]
        for part_name, part in zip(names, parts, strict=True):
            self._connection.register(part_name, part)
        # In the files moments are said to be UTC, here they all are: a condition on one must not go down to the files.
        moments = [part.name for part in found.schema if pa.types.is_timestamp(part.type)]
        naive = ", ".join(f"make_timestamp(epoch_us({moment})) AS {moment}" for moment in moments)
        union = " UNION ALL ".join(f"SELECT * REPLACE ({naive}) FROM {one}" for one in names)  # noqa: S608 - our names
        self._connection.execute(f"CREATE VIEW {name} AS {union}")

    def _kinds(self) -> ColumnKinds:
        asked = "SELECT DISTINCT deployment, columns FROM predictions_stored WHERE columns IS NOT NULL ORDER BY ALL"
        return merged_kinds(self._connection.execute(asked).fetchall())

    def _add_flat_views(self, kinds: ColumnKinds) -> list[str]:
        label_kinds = self._label_kinds()
        taken = {*OWN_TABLES, *_INNER}
        names = []
        for deployment, seen in sorted(kinds.items()):
            name = _unused(deployment, "deployment_", taken)
            sql = flat_view(deployment, seen, label_kinds.get(deployment, set()))
            self._connection.execute(f"CREATE VIEW {quoted(name)} AS {sql}")
            names.append(name)
        return names

    def _keys(self) -> list[KeyColumns]:
        rows = self._connection.execute(KEYS_IN_USE).fetchall()
        return [KeyColumns(deployment, tuple(columns)) for deployment, columns in rows]

    def _label_kinds(self) -> dict[str, set[str]]:
        kinds: dict[str, set[str]] = {}
        for deployment, kind in self._connection.execute(KINDS_BY_DEPLOYMENT).fetchall():
            kinds.setdefault(deployment, set()).add(kind)
        return kinds

    def _columns(self, name: str) -> tuple[tuple[str, str], ...]:
        rows = self._connection.execute(f"DESCRIBE {quoted(name)}").fetchall()
        return tuple((row[0], row[1]) for row in rows)


def query(directory: str | Path, sql: str) -> Any:
    """The result of one SELECT over the records in `directory`, as a `pyarrow.Table`.

    Raises:
        InvalidRequest: the SQL is something else, is wrong, or needs what is closed to it.
    """
    with RecordDatabase(directory) as database:
        return database.query(sql)


def flat_view(deployment: str, seen: dict[str, dict[str, set[str]]], label_kinds: set[str]) -> str:
    """The SELECT behind a deployment's flat view: every input and output as a column of its own type.

    A name that is taken already gets ``input_`` or ``output_`` in front; names that differ only in case get a number.
    """
    taken = {*_FLAT, "label", "labelled_at", "inputs_", "outputs_"}
    inputs, input_struct = _side_columns("inputs", seen["inputs"], taken)
    outputs, output_struct = _side_columns("outputs", seen["outputs"], taken)
    label = f"TRY_CAST(label AS {label_type_of(label_kinds)}) AS label"
    columns = ", ".join([*map(quoted, _FLAT), *inputs, *outputs, label, "labelled_at"])
    source = ", ".join(["*", *input_struct, *output_struct])
    # Every name and text in it is quoted; the user's own SQL is not part of it.
    return f"SELECT {columns} FROM (SELECT {source} FROM joined WHERE deployment = {literal(deployment)})"  # noqa: S608


def _side_columns(side: str, seen: dict[str, set[str]], taken: set[str]) -> tuple[list[str], list[str]]:
    """The columns of one side, and what makes the struct that most of them are fields of (at most one)."""
    regular = _fields(seen)
    structure: dict[str, Any] = {}
    columns = []
    for path, kinds in seen.items():
        keys, sql_type = path.split("\0"), type_of(kinds)
        if path in regular:
            _nest(structure, keys, sql_type)
            value = ".".join([f"{side}_", *map(quoted, keys)])
        else:
            value = f"TRY_CAST(json_extract_string({side}, {literal(pointer(keys))}) AS {sql_type})"
        alias = _unused("_".join(keys), f"{side.removesuffix('s')}_", taken)
        columns.append(f"{value} AS {quoted(alias)}")
    if not structure:
        return columns, []
    text = msgspec.json.encode(structure).decode()
    return columns, [f"json_transform({side}, {literal(text)}) AS {side}_"]


def type_of(kinds: set[str]) -> str:
    """The SQL type that holds all JSON values of these kinds.

    >>> type_of({"int", "null"}), type_of({"int", "float"}), type_of({"text"}), type_of({"text", "int"})
    ('BIGINT', 'DOUBLE', 'VARCHAR', 'JSON')
    """
    kinds = kinds - {"null"}
    for known, sql_type in _TYPES:
        if kinds <= known:
            return sql_type
    return "JSON"


_TYPES: tuple[tuple[set[str], str], ...] = (
    (set(), "VARCHAR"),
    ({"bool"}, "BOOLEAN"),
    ({"int"}, "BIGINT"),
    ({"int", "large"}, "HUGEINT"),
    ({"int", "large", "float"}, "DOUBLE"),
    ({"text"}, "VARCHAR"),
)


def label_type_of(kinds: set[str]) -> str:
    """The SQL type of a label column: that of its values where they agree, text where they do not."""
    sql_type = type_of(kinds)
    return "VARCHAR" if sql_type == "JSON" else sql_type


def _unused(name: str, prefix: str, taken: set[str]) -> str:
    """A name that no other has, in SQL's eyes (which do not see case); it is added to `taken`."""
    chosen, number = name, 2
    if chosen.casefold() in taken:
        chosen = f"{prefix}{name}"
    while chosen.casefold() in taken:
        chosen, number = f"{prefix}{name}_{number}", number + 1
    taken.add(chosen.casefold())
    return chosen


def _fields(paths: Iterable[str]) -> set[str]:
    """Paths that can be fields of one SQL struct: not alike but for case, and none inside another."""
    folded = {path: path.casefold() for path in paths}
    times = Counter(folded.values())
    tops = Counter(low.split("\0")[0] for low in folded.values() if "\0" in low)
    spelled = Counter(top.casefold() for top in {path.split("\0")[0] for path in folded if "\0" in path})

    def fits(low: str) -> bool:
        top, _, rest = low.partition("\0")
        return times[low] == 1 and (top not in times and spelled[top] == 1 if rest else top not in tops)

    return {path for path, low in folded.items() if fits(low)}


def _nest(structure: dict[str, Any], keys: list[str], sql_type: str) -> None:
    for key in keys[:-1]:
        structure = structure.setdefault(key, {})
    structure[keys[-1]] = sql_type
