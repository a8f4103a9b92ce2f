"""Labelled rows of a deployment, from the records: when they were, what was asked, and what turned out to be true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from modelyard.bundle.tabular import to_arrow
from modelyard.domain.checks import check
from modelyard.domain.frame import Frame, concat_frames
from modelyard.domain.schema import Schema
from modelyard.errors import InvalidInput, InvalidRequest
from modelyard.monitoring.performance.reading import view_of
from modelyard.protocol.table import TableReader
from modelyard.records.query import RecordDatabase
from modelyard.records.sqltext import literal

_AT_ONCE = 5000
_MOMENT = "coalesce(event_time, time)"
_DOCUMENTS = msgspec.json.Decoder(dict[str, Any])


@dataclass(frozen=True, slots=True, eq=False)
class Marks:
    """When labelled rows happened, in event time, and when their calls arrived, by the clock; in the former's order."""

    moments: NDArray[np.datetime64]
    arrived: NDArray[np.datetime64]

    def __len__(self) -> int:
        return len(self.moments)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Labelled rows: what was asked as JSON documents, and a table of all else.

    The table has `prediction_id`, `label` as text (or truth value), `number` (the label as a number, if it is one),
    `labelled_at`, `event_time` (that of the call where the caller said none), `time` and `version`.
    """

    documents: Sequence[dict[str, Any]]
    table: pa.Table

    def __len__(self) -> int:
        return len(self.documents)

    def take(self, rows: NDArray[Any]) -> Rows:
        """Some of them."""
        return Rows([self.documents[at] for at in rows.tolist()], self.table.take(pa.array(rows)))


def marks(database: RecordDatabase, deployment: str) -> Marks:
    """When the labelled rows of a deployment were.

    Raises:
        NotFound: nothing of that deployment is recorded.
    """
    view_of(database, deployment)
    found = database.query(f"SELECT {_MOMENT} AS moment, time {_labelled(deployment)} ORDER BY 1")
    return Marks(_times(found["moment"]), _times(found["time"]))


def count(database: RecordDatabase, deployment: str) -> int:
    """How many labelled rows a deployment has."""
    found = database.query(f"SELECT count(*) AS number {_labelled(deployment)}")
    return int(found["number"][0].as_py())


def rows_between(
    database: RecordDatabase, deployment: str, since: np.datetime64 | None, until: np.datetime64 | None
) -> Rows:
    """The labelled rows of an event time from `since` to before `until`, in order."""
    kept = [f"{_MOMENT} >= {_timestamp(since)}"] if since is not None else []
    kept += [f"{_MOMENT} < {_timestamp(until)}"] if until is not None else []
    found = database.query(
        f"SELECT prediction_id, inputs, label, label_number AS number, labelled_at, {_MOMENT} AS event_time, time, "
        f"version {_labelled(deployment)} {''.join(f'AND {each} ' for each in kept)} ORDER BY event_time, prediction_id"
    )
    documents = [_DOCUMENTS.decode(text) for text in found["inputs"].to_pylist()]
    found = found.drop_columns(["inputs"])
    if set(pc.unique(found["label"]).to_pylist()) == {"true", "false"}:  # as a truth value it means 1 and 0 too
        truths = pc.equal(found["label"], "true")
        found = found.set_column(found.column_names.index("label"), "label", truths)
    return Rows(documents, found)


def read(documents: Sequence[dict[str, Any]], schema: Schema) -> tuple[Frame | None, NDArray[np.intp]]:
    """Documents as rows of a model, as its server would read them, and which of them could be; None: none of them."""
    reader = TableReader(schema)
    parts: list[Frame] = []
    kept: list[int] = []
    for start in range(0, len(documents), _AT_ONCE):
        _read_into(documents, range(start, min(start + _AT_ONCE, len(documents))), reader, parts, kept)
    return (concat_frames(parts) if parts else None), np.array(kept, dtype=np.intp)


def training_table(rows: Rows, schema: Schema, renamed: dict[str, str]) -> tuple[pa.Table | None, int]:
    """Rows as a table to train on, and how many were left out as they do not fit the schema any more.

    It has the inputs with the types of training, other columns that callers sent along, and ``label``,
    ``prediction_id``, ``event_time``, ``labelled_at``; `renamed` gives some of these other names.

    Raises:
        InvalidRequest: two columns would have one name.
    """
    frame, kept = read(rows.documents, schema)
    if frame is None:
        return None, len(rows)
    table, beside = to_arrow(frame, schema), rows.take(kept)
    for name in sorted({name for document in beside.documents for name in document} - set(table.column_names)):
        table = table.append_column(name, _values([document.get(name) for document in beside.documents]))
    facts = {"label": labels(beside.table)} | {
        name: beside.table[name] for name in ("prediction_id", "event_time", "labelled_at")
    }
    called = {source: name for name, source in renamed.items()}
    table = table.rename_columns([name if name in facts else called.get(name, name) for name in table.column_names])
    for name, column in facts.items():
        given = called.get(name, name)
        if given in table.column_names:
            raise InvalidRequest(
                f"an input is called {given!r}, as is the {name} of a row: give the latter another name in [retrain], "
                f'columns = {{ {given}_of_row = "{name}" }}'
            )
        table = table.append_column(given, column)
    return table, len(rows) - len(kept)


def labels(table: pa.Table) -> pa.Array:
    """Labels with the type that they have in common: whole numbers, numbers, truth values, else texts.

    >>> labels(pa.table({"label": ["1", "0"], "number": [1.0, 0.0]})).to_pylist()
    [1, 0]
    """
    if pa.types.is_boolean(table["label"].type):
        return table["label"].combine_chunks()
    if table["number"].null_count == 0:
        numbers = table["number"].to_numpy()
        return pa.array(numbers.astype(np.int64) if (numbers == np.round(numbers)).all() else numbers)
    return pa.array(table["label"].to_pylist(), pa.string())


def moment(value: np.datetime64) -> datetime:
    """As Python has it, in UTC."""
    found: datetime = value.astype("datetime64[us]").item()
    return found.replace(tzinfo=UTC)


def _read_into(
    documents: Sequence[dict[str, Any]], part: range, reader: TableReader, parts: list[Frame], kept: list[int]
) -> None:
    """A row that does not fit is found by halving, so that it costs the others nothing."""
    names = list(reader.by_name)
    try:
        frame = reader.records([{name: documents[at][name] for name in names if name in documents[at]} for at in part])
        check(frame, reader.schema)
    except InvalidInput:
        if len(part) > 1:
            middle = len(part) // 2
            _read_into(documents, part[:middle], reader, parts, kept)
            _read_into(documents, part[middle:], reader, parts, kept)
        return
    parts.append(frame)
    kept.extend(part)


def _values(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # of several types
        return pa.array([None if value is None else str(value) for value in values], pa.string())


def _labelled(deployment: str) -> str:
    return f"FROM joined WHERE deployment = {literal(deployment)} AND outcome = 'ok' AND label IS NOT NULL"


def _timestamp(value: np.datetime64) -> str:
    return f"TIMESTAMP {literal(str(value.astype('datetime64[us]')).replace('T', ' '))}"


def _times(column: Any) -> NDArray[np.datetime64]:
    found: NDArray[np.datetime64] = column.cast(pa.timestamp("us")).to_numpy().astype("datetime64[us]")
    return found
