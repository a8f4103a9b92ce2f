"""Many labels as one frame of the label log: an Arrow stream, so that a million cost seconds and not minutes.

A frame of one label is a map in msgpack; a batch begins with the continuation mark of an Arrow stream, which msgpack
never begins a map with. All labels of a batch were received at one moment from one source; both are in the stream's
metadata.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from modelyard.domain.records import Label
from modelyard.domain.schema import Scalar

BATCH_SCHEMA = pa.schema(
    [
        ("prediction_id", pa.string()),
        ("deployment", pa.string()),
        ("key", pa.string()),
        ("value", pa.string()),
        ("kind", pa.string()),
        ("known_ns", pa.int64()),
    ]
)
"""One line a label; see `Label`. `value` is text (null: no longer known), `kind` says what it is the text of."""

BATCH_ROWS = 16_384

_MARK = b"\xff\xff\xff\xff"
_json = msgspec.json.Encoder()
_RECEIVED, _SOURCE = b"modelyard.received_ns", b"modelyard.source"


def table_of(labels: Iterable[Label]) -> Any:
    """Labels as a table of `BATCH_SCHEMA`; when they were received, and from whom, is left out."""
    lines = [
        (one.prediction_id, one.deployment, one.key, text_of(one.value), kind_of(one.value), one.known_ns)
        for one in labels
    ]
    columns = list(zip(*lines, strict=True)) if lines else [() for _ in BATCH_SCHEMA]
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, BATCH_SCHEMA, strict=True)], schema=BATCH_SCHEMA)


def is_batch(payload: bytes) -> bool:
    """Whether a frame of the label log holds a batch."""
    return payload.startswith(_MARK)


def written(table: Any, received_ns: int, source: str) -> Iterator[bytes]:
    """The payloads of the frames for a table of `BATCH_SCHEMA`, some thousand labels each."""
    schema = BATCH_SCHEMA.with_metadata({_RECEIVED: str(received_ns).encode(), _SOURCE: source.encode()})
    for batch in table.cast(BATCH_SCHEMA).to_batches(max_chunksize=BATCH_ROWS):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema) as stream:
            stream.write_batch(batch)
        yield sink.getvalue().to_pybytes()


def opened(payload: bytes) -> tuple[Any, int, str]:
    """The table of a batch, when it was received, and from whom."""
    with pa.ipc.open_stream(payload) as stream:
        table, metadata = stream.read_all(), stream.schema.metadata
    return table.replace_schema_metadata(None), int(metadata[_RECEIVED]), metadata[_SOURCE].decode()


def kind_of(value: Scalar | None) -> str:
    """The word for the type of a label's value: ``bool``, ``int``, ``float``, ``text``, or ``null``.

    >>> kind_of(True), kind_of(3), kind_of("late"), kind_of(None)
    ('bool', 'int', 'text', 'null')
    """
    for kind, word in ((bool, "bool"), (int, "int"), (float, "float"), (str, "text")):
        if isinstance(value, kind):
            return word
    return "null"


def text_of(value: Scalar | None) -> str | None:
    """A label's value as SQL sees it: as JSON writes it, texts without quotes.

    >>> text_of(True), text_of(0.5), text_of("late"), text_of(None)
    ('true', '0.5', 'late', None)
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return _json.encode(value).decode()


def value_of(kind: str, text: str | None) -> Scalar | None:
    """A label's value from its text and what that is the text of.

    >>> value_of("int", "3"), value_of("bool", "false"), value_of("text", "3"), value_of("null", None)
    (3, False, '3', None)
    """
    if text is None:
        return None
    if kind == "bool":
        return text == "true"
    return int(text) if kind == "int" else float(text) if kind == "float" else text


def numbers(table: Any) -> Any:
    """The values of a batch as doubles; null where one is no number."""
    kind, value = table["kind"], table["value"]
    truth = pc.if_else(pc.equal(value, "true"), "1", "0")
    text = pc.if_else(pc.equal(kind, "bool"), truth, value)
    numeric = pc.is_in(kind, pa.array(["bool", "int", "float"]))
    return pc.if_else(numeric, text, pa.scalar(None, pa.string())).cast(pa.float64())
