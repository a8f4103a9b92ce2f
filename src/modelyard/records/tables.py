"""Records and labels as tables: one line per row that was predicted, one per label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from modelyard.domain.records import Label, PredictionRecord, row_id
from modelyard.errors import ModelyardError
from modelyard.protocol import decode
from modelyard.records.batches import is_batch, kind_of, numbers, opened, text_of, value_of
from modelyard.records.keeping import SAMPLED, TOO_LARGE, Rules
from modelyard.records.kinds import Observed
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
        ("event_time", pa.timestamp("us")),
        ("latency_ms", pa.float64()),
        ("status", pa.int16()),
        ("outcome", pa.string()),
        ("form", pa.string()),
        ("error", pa.string()),
        ("inputs", pa.string()),
        ("outputs", pa.string()),
        ("segment", pa.string()),
        ("position", pa.int64()),
        ("record", pa.binary()),
        ("columns", pa.string()),
        ("dropped", pa.int64()),
        ("day", pa.date32()),
    ]
)
"""One line per row of a call, and one for a call whose rows cannot be read.

`segment` and `position` tell calls apart. `record` is on the first line of a call: the call as it came
(`PredictionRecord` as msgpack), from which it can be computed again. `columns` is on one line a deployment and stretch:
the kinds of values that the stretch has. `day` (UTC) is that of `time`. A line with `dropped` is no row: it says
how many calls, or rows that were kept before, were left out for the reason in `error`.
"""

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
        ("day", pa.date32()),
    ]
)
"""One line per label ever added.

`received_ns`, `segment` and `position` order those of one row that became known at the same moment.

`prediction_id` is empty for a label by key, `deployment` and `key` for one by id. `position` grows from label to label:
it is the offset of the frame, plus the place in it where that is a batch of labels (each takes more than one byte).
"""

_AT_ONCE = 2048
_KEEP_ALL: Rules = MappingProxyType({})
_pack = msgspec.msgpack.Encoder().encode
_COLUMNS = PREDICTION_SCHEMA.names.index("columns")
_US_A_DAY = 86_400_000_000
_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)

_json = msgspec.json.Encoder()


def prediction_table(segment: Path, frames: list[tuple[int, bytes]], rules: Rules = _KEEP_ALL) -> Any:
    """The table of what the rules keep of these frames of the prediction log, and of what they leave out."""
    return pa.concat_tables(
        [_table(_described_lines(segment, some, rules), PREDICTION_SCHEMA) for some in _pieces(frames)]
    )


def _pieces(frames: list[tuple[int, bytes]]) -> Iterable[list[tuple[int, bytes]]]:
    """Few enough frames at a time that their Python objects do not pile up; at least one piece."""
    return (frames[start : start + _AT_ONCE] for start in range(0, max(len(frames), 1), _AT_ONCE))


def _described_lines(segment: Path, frames: list[tuple[int, bytes]], rules: Rules) -> list[tuple[Any, ...]]:
    lines: list[tuple[Any, ...]] = []
    kinds: dict[str, Observed] = {}
    first: dict[str, int] = {}
    dropped: Counter[tuple[str, int, str]] = Counter()
    for position, frame in frames:
        record, payload = decode_record(frame), frame
        rule = rules.get(record.deployment)
        if rule is not None:
            day = record.received_ns // 1000 // _US_A_DAY
            if rule.leaves_out(record):
                dropped[record.deployment, day, SAMPLED] += 1
                continue
            if rule.is_too_large(record):
                dropped[record.deployment, day, TOO_LARGE] += 1
                record = msgspec.structs.replace(record, request=b"", response=b"")
                payload = _pack(record)
        rows = described(record)
        if record.outcome == "ok":
            first.setdefault(record.deployment, len(lines))
            kinds.setdefault(record.deployment, Observed()).add(rows)
        lines.extend(_lines(record, rows, segment.name, position, payload))
    for deployment, at in first.items():
        lines[at] = (*lines[at][:_COLUMNS], kinds[deployment].told(), *lines[at][_COLUMNS + 1 :])
    return lines + [dropped_line(*key, number) for key, number in dropped.items()]


def dropped_line(deployment: str, day: int, reason: str, number: int) -> tuple[Any, ...]:
    """The line that says that so much was left out of what came on a day (counted from 1970)."""
    said = {"deployment": deployment, "time": day * _US_A_DAY, "day": day, "error": reason, "dropped": number}
    return tuple(said.get(name) for name in PREDICTION_SCHEMA.names)


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
        "day": pa.repeat(pa.scalar(received_ns // 1000 // _US_A_DAY, pa.int32()).cast(pa.date32()), rows),
    }
    return pa.table([columns[name] for name in LABEL_SCHEMA.names], names=LABEL_SCHEMA.names).cast(LABEL_SCHEMA)


def described(record: PredictionRecord) -> list[dict[str, Any]]:
    """The rows of a call as ``{"inputs": ..., "outputs": ...}``; none where its bodies cannot be read."""
    try:
        return decode.describe(record.form, record.request, record.response, record.content_type, record.response_type)
    except ModelyardError:
        return []


def _lines(
    record: PredictionRecord, rows: list[dict[str, Any]], segment: str, position: int, payload: bytes
) -> Iterable[tuple[Any, ...]]:
    came = record.received_ns // 1000
    call = (
        deployment_of(record),
        record.model,
        record.version,
        record.digest,
        came,
        (record.event_ns or record.received_ns) // 1000,
        record.latency_ns / 1e6,
        record.status,
        record.outcome,
        record.form,
        record.error,
    )
    if not rows:
        yield (
            record.prediction_id,
            record.prediction_id,
            None,
            *call,
            None,
            None,
            segment,
            position,
            payload,
            None,
            None,
            came // _US_A_DAY,
        )
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
            payload if index == 0 else None,
            None,
            None,
            came // _US_A_DAY,
        )


def deployment_of(record: PredictionRecord) -> str | None:
    """The deployment that was called; None where there is none of that name.

    What callers get wrong must not become names of deployments, each with a folder of its own.
    """
    return None if record.status == 404 and not record.digest else record.deployment or None


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
        label.received_ns // 1000 // _US_A_DAY,
    )


def label_of(line: Mapping[str, Any]) -> Label:
    """The label that one line of the table of labels was made of."""
    known = line["known_at"]
    return Label(
        line["prediction_id"],
        value_of(line["kind"], line["value"]),
        line["received_ns"],
        line["source"],
        line["deployment"],
        line["key"],
        0 if known is None else (known.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND * 1000,
    )


def _table(lines: list[tuple[Any, ...]], schema: Any) -> Any:
    columns = zip(*lines, strict=True) if lines else [() for _ in schema]
    return pa.table(
        [pa.array(values, type=part.type) for values, part in zip(columns, schema, strict=True)], schema=schema
    )
