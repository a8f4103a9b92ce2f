"""The shapes that calls for answers come in: for each, how a body is read and how the answers to it are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from modelyard.domain.frame import Answers
from modelyard.domain.records import WireForm
from modelyard.domain.schema import Schema
from modelyard.protocol import arrow, invocations, oip, protobuf, rows
from modelyard.protocol.classification import classified
from modelyard.protocol.media import ARROW, BINARY, CSV, JSON, PROTOBUF, Media, few_values
from modelyard.protocol.table import Call, Source, TableReader


class Written(msgspec.Struct, frozen=True):
    """An answer's body, its type, and headers that go with it (names in lower case)."""

    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


Read: TypeAlias = Callable[[bytes, Media, TableReader], Call]
"""Raises InvalidRequest, InvalidInput or NotOffered, which say what is wrong with the body."""

Write: TypeAlias = Callable[[Answers, Schema, Call, Source], Written]


@dataclass(frozen=True, slots=True)
class Form:
    """One shape: `read` and `write` are pure and safe to call from several threads."""

    read: Read
    write: Write


def _read_oip(body: bytes, media: Media, reader: TableReader) -> Call:
    few_values(body, end=media.json_length)
    return oip.read_request(body, reader, media.json_length)


def _read_rows(body: bytes, media: Media, reader: TableReader) -> Call:
    few_values(body)
    return rows.read_request(body, reader)


def _write_oip(answers: Answers, schema: Schema, call: Call, source: Source) -> Written:
    name, version = source.deployment, str(source.version)
    if call.classes:
        answers, schema = classified(answers, schema, call.classes)
    if call.binary:
        body, length = oip.write_binary_response(
            answers, schema, name=name, version=version, prediction_id=source.prediction_id, call=call
        )
        return Written(body, BINARY, ((oip.LENGTH_HEADER, str(length)),))
    return Written(
        oip.write_response(
            answers,
            schema,
            name=name,
            version=version,
            prediction_id=source.prediction_id,
            id=call.id,
            words=call.words,
        )
    )


def _write_grpc(answers: Answers, schema: Schema, call: Call, source: Source) -> Written:
    if call.classes:
        answers, schema = classified(answers, schema, call.classes)
    return Written(protobuf.write_response(answers, schema, call, source), PROTOBUF)


def _read_invocations(body: bytes, media: Media, reader: TableReader) -> Call:
    if media.content_type == CSV:
        few_values(body, (b",", b"\n"))
        return invocations.read_csv(body, reader)
    few_values(body)
    return invocations.read_request(body, reader)


FORMS: Mapping[WireForm, Form] = {
    "oip": Form(_read_oip, _write_oip),
    "rows": Form(
        _read_rows,
        lambda answers, schema, call, source: Written(rows.write_response(answers, schema, source)),
    ),
    "invocations": Form(
        _read_invocations,
        lambda answers, schema, call, source: Written(invocations.write_response(answers, schema, source)),
    ),
    "grpc": Form(
        lambda body, media, reader: protobuf.read_request(body, reader),
        _write_grpc,
    ),
    "arrow": Form(
        lambda body, media, reader: arrow.read_request(body, reader),
        lambda answers, schema, call, source: Written(arrow.write_response(answers, schema, source), ARROW),
    ),
}


def form_of(form: WireForm, media: Media) -> WireForm:
    """The form of a body on a route for `form`: an Arrow stream may come on any of them.

    >>> form_of("rows", Media("application/json"))
    'rows'
    >>> form_of("rows", Media(ARROW))
    'arrow'
    """
    return "arrow" if media.content_type == ARROW else form
