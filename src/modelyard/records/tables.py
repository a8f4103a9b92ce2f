"""Records and labels as tables: one line per row that was predicted, one per label."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from modelyard.domain.records import Label, PredictionRecord, row_id
from modelyard.errors import ModelyardError
from modelyard.protocol import decode
from modelyard.records.batches import is_batch, kind_of, numbers, opened, text_of
from modelyard.records.log import decode_label, decode_record

PREDICTION_SCHEMA = pa.schema(
    [
        ("prediction_id", pa.string()),
        ("request_id", pa.string()),
        ("row", pa.int32()),
        ("deployment", pa.string()),
        ("model", pa.string()),
        ("version", pa.int32()),
        ("digest", pa.string()),
        ("time", pa.timestamp("us")),
        ("latency_ms", pa.float64()),
        ("status", pa.int16()),
        ("outcome", pa.string()),
        ("form", pa.string()),
        ("error", pa.string()),
        ("inputs", pa.string()),
        ("outputs", pa.string()),
        ("segment", pa.string()),
        ("position", pa.int64()),
    ]
)
"""One line per row of a call, and one for a call whose rows cannot be read; the last two say where the record lies."""

LABEL_SCHEMA = pa.schema(
    [
        ("prediction_id", pa.string()),
        ("value", pa.string()),
        ("kind", pa.string()),
        ("number", pa.float64()),
        ("time", pa.timestamp("us")),
        ("source", pa.string()),
        ("deployment", pa.string()),
        ("key", pa.string()),
        ("known_at", pa.timestamp("us")),
        ("received_ns", pa.int64()),
        ("segment", pa.string()),
        ("position", pa.int64()),
    ]
)
"""One line per label ever added; the last three order those of one row that became known at the same moment.

`prediction_id` is empty for a label by key, `deployment` and `key` for one by id. `position` grows from label to label:
it is the offset of the frame, plus the place in it where that is a batch of labels (each takes more than one byte).
"""

COLUMNS_KEY = b"modelyard.columns"

ColumnKinds: TypeAlias = dict[str, dict[str, dict[str, set[str]]]]
"""deployment → ``inputs`` or ``outputs`` → JSON path below it (keys joined by NUL) → kinds of value seen."""

_AT_ONCE = 2048

_json = msgspec.json.Encoder()


def prediction_table(segment: Path, frames: list[tuple[int, bytes]]) -> Any:
    """The table of these frames of the prediction log, with the kinds of values seen in its metadata."""
    kinds: ColumnKinds = {}
    parts = [_table(_described_lines(segment, some, kinds), PREDICTION_SCHEMA) for some in _pieces(frames)]
    return _with_kinds(pa.concat_tables(parts), kinds)


def _pieces(frames: list[tuple[int, bytes]]) -> Iterable[list[tuple[int, bytes]]]:
    """Few enough frames at a time that their Python objects do not pile up; at least one piece."""
    return (frames[start : start + _AT_ONCE] for start in range(0, max(len(frames), 1), _AT_ONCE))


def _described_lines(segment: Path, frames: list[tuple[int, bytes]], kinds: ColumnKinds) -> list[tuple[Any, ...]]:
    lines: list[tuple[Any, ...]] = []
    for position, payload in frames:
        record = decode_record(payload)
        rows = described(record)
        if record.outcome == "ok":
            _observe(kinds.setdefault(record.deployment, {"inputs": {}, "outputs": {}}), rows)
        lines.extend(_lines(record, rows, segment.name, position))
    return lines


def label_table(segment: Path, frames: list[tuple[int, bytes]]) -> Any:
    """The table of these frames of the label log."""
    parts = [LABEL_SCHEMA.empty_table()]
    for some in _pieces(frames):
        for in_batches, run in groupby(some, key=lambda frame: is_batch(frame[1])):
            if in_batches:
                parts.extend(_batch_table(payload, segment.name, at) for at, payload in run)
            else:
                lines = [_label_line(decode_label(payload), segment.name, at) for at, payload in run]
                parts.append(_table(lines, LABEL_SCHEMA))
    return pa.concat_tables(parts)


def _batch_table(payload: bytes, segment: str, position: int) -> Any:
    table, received_ns, source = opened(payload)
    rows = table.num_rows
    told = pc.if_else(pc.greater(table["known_ns"], 0), table["known_ns"], pa.scalar(None, pa.int64()))
    columns = {
        **{name: table[name] for name in ("prediction_id", "value", "kind", "deployment", "key")},
        "number": numbers(table),
        "time": pa.repeat(pa.scalar(received_ns // 1000, pa.int64()), rows),
        "source": pa.repeat(pa.scalar(source, pa.string()), rows),
        "known_at": pc.divide(told, 1000),
        "received_ns": pa.repeat(pa.scalar(received_ns, pa.int64()), rows),
        "segment": pa.repeat(pa.scalar(segment, pa.string()), rows),
        "position": pa.array(range(position, position + rows), pa.int64()),
    }
    return pa.table([columns[name] for name in LABEL_SCHEMA.names], names=LABEL_SCHEMA.names).cast(LABEL_SCHEMA)


def merged(tables: list[Any]) -> Any:
    """Tables of one of the two schemas as one, with the kinds of values seen in any of them."""
    return _with_kinds(pa.concat_tables(tables), merged_kinds(table.schema.metadata for table in tables))


def merged_kinds(metadata: Iterable[Mapping[bytes, bytes] | None]) -> ColumnKinds:
    """The kinds of values seen in any of several tables, from the metadata of their schemas."""
    kinds: ColumnKinds = {}
    for one in metadata:
        seen = msgspec.json.decode((one or {}).get(COLUMNS_KEY, b"{}"), type=ColumnKinds)
        for deployment, sides in seen.items():
            merged_sides = kinds.setdefault(deployment, {"inputs": {}, "outputs": {}})
            for side, paths in sides.items():
                for path, found in paths.items():
                    merged_sides[side].setdefault(path, set()).update(found)
    return kinds


def described(record: PredictionRecord) -> list[dict[str, Any]]:
    """The rows of a call as ``{"inputs": ..., "outputs": ...}``; none where its bodies cannot be read."""
    try:
        return decode.describe(record.form, record.request, record.response, record.content_type, record.response_type)
    except ModelyardError:
        return []


def _lines(
    record: PredictionRecord, rows: list[dict[str, Any]], segment: str, position: int
) -> Iterable[tuple[Any, ...]]:
    call = (
        record.deployment,
        record.model,
        record.version,
        record.digest,
        record.received_ns // 1000,
        record.latency_ns / 1e6,
        record.status,
        record.outcome,
        record.form,
        record.error,
    )
    if not rows:
        yield (record.prediction_id, record.prediction_id, None, *call, None, None, segment, position)
    for index, row in enumerate(rows):
        inputs, outputs = row.get("inputs"), row.get("outputs")
        yield (
            id_of_row(record, index, len(rows)),
            record.prediction_id,
            index,
            *call,
            None if inputs is None else _json.encode(inputs).decode(),
            None if outputs is None else _json.encode(outputs).decode(),
            segment,
            position,
        )


def id_of_row(record: PredictionRecord, index: int, rows: int) -> str:
    """The prediction id of one row: the caller's own where there is one."""
    if index < len(record.row_ids):
        return record.row_ids[index]
    return row_id(record.prediction_id, index, rows)


def _label_line(label: Label, segment: str, position: int) -> tuple[Any, ...]:
    value = label.value
    return (
        label.prediction_id,
        text_of(value),
        kind_of(value),
        None if value is None or isinstance(value, str) else float(value),
        label.received_ns // 1000,
        label.source,
        label.deployment,
        label.key,
        label.known_ns // 1000 if label.known_ns else None,
        label.received_ns,
        segment,
        position,
    )


def _observe(seen: dict[str, dict[str, set[str]]], rows: list[dict[str, Any]]) -> None:
    for row in rows:
        for side in ("inputs", "outputs"):
            values = row.get(side)
            if isinstance(values, dict):
                _observe_values(seen[side], values, "" if side == "inputs" else None)


def _observe_values(seen: dict[str, set[str]], values: dict[str, Any], prefix: str | None) -> None:
    """Note the kinds of `values`; outputs (`prefix` None) are followed one level down, into probabilities by class."""
    for name, value in values.items():
        if prefix is None and isinstance(value, dict) and value:
            _observe_values(seen, value, f"{name}\0")
        else:
            path = f"{prefix}{name}" if prefix else name
            kinds = seen.get(path)
            if kinds is None:
                kinds = seen[path] = set()
            kinds.add(_json_kind(value))


_KINDS: dict[type, str] = {bool: "bool", str: "text", type(None): "null", list: "json", dict: "json"}


def _json_kind(value: object) -> str:
    kind = _KINDS.get(type(value))
    if kind is not None:
        return kind
    if isinstance(value, int):
        return "int" if -(2**63) <= value < 2**63 else "large"
    return "float" if isinstance(value, float) and math.isfinite(value) else "null"


def _table(lines: list[tuple[Any, ...]], schema: Any) -> Any:
    columns = zip(*lines, strict=True) if lines else [() for _ in schema]
    return pa.table(
        [pa.array(values, type=part.type) for values, part in zip(columns, schema, strict=True)], schema=schema
    )


def _with_kinds(table: Any, kinds: ColumnKinds) -> Any:
    return table.replace_schema_metadata({COLUMNS_KEY: msgspec.json.encode(kinds)})
