"""What the fuzzers share: schemas to read for, what counts as a refusal, and how much a body may cost.

The first byte of an input chooses what it is read for; the rest is the body. A fuzzer is a module with `seeds`, bodies
to begin with, `one`, which looks at one input and raises where something is wrong, and `WORDS`, texts worth trying.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, Protocol

import msgspec
import numpy as np

import wire_samples as wire
from modelyard.domain.checks import check
from modelyard.domain.frame import Frame
from modelyard.domain.records import WireForm
from modelyard.domain.schema import Accepts, Column, Kind, Schema
from modelyard.errors import InvalidInput, InvalidRequest, NotOffered, RowsRefused, TooLarge, UnknownEncoding
from modelyard.protocol import decode
from modelyard.protocol.forms import FORMS
from modelyard.protocol.media import JSON, Media, described
from modelyard.protocol.quick import QuickReader
from modelyard.protocol.table import Call, Source, TableReader

REFUSALS = (InvalidInput, InvalidRequest, NotOffered, TooLarge, UnknownEncoding, RowsRefused)
"""What `modelyard.protocol.forms.Read` may raise: each is an answer from 400 to 499, or 501."""

LOOSE = replace(wire.ARRAY, columns=(replace(wire.ARRAY.columns[0], shape=(-1,)),))
"""An array whose width the rows say."""

NARROW = Schema(
    "dataframe",
    (
        Column("x", Kind.FLOAT64, nullable=False, dtype="float64", accepts=Accepts(minimum=-5.0, maximum=1e30)),
        Column("n", Kind.INT16, nullable=True, dtype="Int16"),
        Column("m", Kind.INT64, nullable=False, dtype="int64", accepts=Accepts(minimum=0)),
        Column("yes", Kind.BOOL, nullable=False, dtype="bool"),
        Column("city", Kind.STRING, nullable=False, dtype="object", accepts=Accepts(categories=("Bern", "é"))),
    ),
    wire.OUTPUTS,
)
"""Plain columns that bounds and categories make narrow."""

SCHEMAS: tuple[Schema, ...] = (wire.MIXED, wire.ARRAY, wire.SERIES, LOOSE, NARROW)
READERS = tuple(map(TableReader, SCHEMAS))


class _NothingIsQuick(QuickReader):
    def rows(self, body: bytes) -> None:
        """Left to the patient reader."""

    def tensors(self, body: bytes) -> None:
        """Left to the patient reader."""


@cache
def _patient(schema: Schema) -> TableReader:
    """A reader that has no quick way."""
    reader = TableReader(schema)
    object.__setattr__(reader, "quick", _NothingIsQuick(schema))
    return reader


REPLY = 8
"""Added to the first byte where the body is an answer."""

_BASE, _FACTOR = 64 * 1024, 64
"""A body may become this many bytes of columns, and this many more for each of its own."""


class Fuzzer(Protocol):
    """A module of this folder."""

    WORDS: Sequence[str]

    def seeds(self) -> Iterator[bytes]:
        """Inputs to begin with."""
        ...

    def one(self, data: bytes) -> None:
        """Look at one input."""
        ...


def reader_of(data: bytes) -> TableReader:
    """What an input's first byte chooses."""
    return READERS[data[0] % REPLY % len(READERS)]


def for_schema(number: int, body: bytes) -> bytes:
    """An input whose body is to be read for that schema."""
    return bytes([number]) + body


def taken(form: WireForm, data: bytes, media: Media, allowance: int = 0) -> Call | None:
    """The call in an input; None where it is refused. Everything else that may come of it is a finding.

    `allowance` are bytes that the body may become beyond what its own size allows.
    """
    reader, body = reader_of(data), data[1:]
    call = None
    with contextlib.suppress(*REFUSALS):
        call = FORMS[form].read(body, media, reader)
    msgspec.json.encode(decode.describe(form, body, b"", described(media.content_type, media.json_length)))
    _as_patiently(form, body, media, call, reader)
    if call is not None:
        _check(call.frame, reader.schema, _BASE + allowance + _FACTOR * len(body))
        _answered(form, call, reader.schema)
    return call


def _as_patiently(form: WireForm, body: bytes, media: Media, call: Call | None, reader: TableReader) -> None:
    """What a quick way takes is what the patient one takes, and has passed all that the schema asks of values."""
    again = None
    with contextlib.suppress(*REFUSALS):
        again = FORMS[form].read(body, media, _patient(reader.schema))
    assert (call is None) == (again is None)
    if call is None or again is None:
        return
    assert wire.same(call.frame, again.frame)
    for name in ("outputs", "id", "row_ids", "words", "binary", "classes"):
        assert getattr(call, name) == getattr(again, name), name
    if call.checked:
        check(again.frame, reader.schema)


def _check(frame: Frame, schema: Schema, limit: int) -> None:
    """A frame has the schema's columns, all as long as it says, and no more bytes than its body can account for."""
    assert list(frame.columns) == [column.name for column in schema.columns]
    size = 0
    for column in schema.columns:
        vector = frame[column.name]
        assert len(vector.values) == frame.rows, column.name
        assert vector.values.ndim == 1 + len(column.shape)
        assert vector.values.dtype == column.kind.numpy
        if vector.missing is not None:
            assert vector.missing.shape == vector.values.shape
            assert not vector.values[vector.missing].any()
        size += vector.values.nbytes
    assert size <= limit, f"{size} bytes of columns, {limit} allowed"
    assert frame.rows <= limit


def _answered(form: WireForm, call: Call, schema: Schema) -> None:
    """An answer to the call can be written, and read again as it was."""
    rows = call.frame.rows
    if rows > 1000:
        return
    everything = {
        output.name: np.full((rows, *output.shape), "é" if output.kind is Kind.STRING else 1, output.kind.numpy)
        for output in schema.outputs
    }
    answers = {name: everything[name] for name in call.outputs or everything}
    written = FORMS[form].write(answers, schema, call, Source("m", 1, "p", rows, call.row_ids, "live"))
    length = next((int(value) for _, value in written.headers), None)
    again = decode.read_answers(form, written.body, schema, described(written.content_type, length))
    if rows:
        plain = [name for name in answers if name not in dict(call.classes)]
        assert list(again) == plain
        assert all(np.array_equal(again[name], answers[name]) for name in plain)


def replies(form: WireForm, body: bytes, content_type: str = JSON) -> None:
    """Bytes in the place of a server's answer are read, or refused: a replay goes over whatever records hold."""
    for schema in SCHEMAS[:2]:
        with contextlib.suppress(*REFUSALS):
            decode.read_answers(form, body, schema, content_type)
    msgspec.json.encode(decode.describe(form, b"", body, response_type=content_type))


def changed(document: dict[str, Any], **members: Any) -> dict[str, Any]:
    """The document with other members; None leaves one out."""
    return {name: value for name, value in {**document, **members}.items() if value is not None}
