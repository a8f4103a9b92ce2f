"""Recorded bodies read again: with a schema for a replay, without one for people who look at records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from modelyard.domain.frame import Answers
from modelyard.domain.records import WireForm
from modelyard.domain.schema import Schema
from modelyard.errors import ModelyardError
from modelyard.protocol import arrow, csvtext, invocations, jsontext, oip, protobuf, rows
from modelyard.protocol.forms import FORMS
from modelyard.protocol.media import CSV, JSON, json_length_of, media_of
from modelyard.protocol.table import Call, TableReader, checked_shape


def read_request(form: WireForm, body: bytes, schema: Schema, content_type: str = JSON) -> Call:
    """A recorded request as the server read it; `content_type` is the record's.

    Raises:
        InvalidRequest: when it does not have the form.
        InvalidInput: when its rows do not fit the schema.
    """
    return FORMS[form].read(body, media_of(content_type), TableReader(schema))


def read_answers(form: WireForm, body: bytes, schema: Schema, response_type: str = JSON) -> Answers:
    """The answers in a recorded response; values that had to be null (NaN, infinities) come back as NaN.

    Raises:
        InvalidRequest: when it does not have the form.
    """
    if form == "oip":
        return oip.read_response(body, schema, json_length_of(response_type)).answers
    if form == "grpc":
        return protobuf.read_response(body, schema)
    if form == "arrow":
        return arrow.read_response(body, schema)
    return rows.read_response(body, schema) if form == "rows" else invocations.read_response(body, schema)


def describe(
    form: WireForm, request: bytes, response: bytes, content_type: str = JSON, response_type: str = JSON
) -> list[dict[str, Any]]:
    """One ``{"inputs": {...}, "outputs": {...}}`` a row, read without a schema.

    What cannot be read is left out: a refused request has inputs and no outputs, a malformed one gives no rows.
    Probabilities of the Open Inference Protocol are lists there, since it does not name classes.

    >>> request = b'{"rows": [{"temp": 21.5}]}'
    >>> response = b'{"model": "m", "version": 1, "prediction_id": "a", "rows": [{"prediction_id": "a", "predict": 3}]}'
    >>> describe("rows", request, response)
    [{'inputs': {'temp': 21.5}, 'outputs': {'predict': 3}}]
    """
    read = csvtext.described if content_type == CSV else _INPUTS[form]
    inputs = _rows_of(read, request, json_length_of(content_type))
    outputs = _rows_of(_OUTPUTS[form], response, json_length_of(response_type))
    if len(outputs) != len(inputs):
        outputs = [{}] * len(inputs)
    return [{"inputs": given, "outputs": answer} for given, answer in zip(inputs, outputs, strict=True)]


def _rows_of(read: Callable[[Any], list[dict[str, Any]]], body: bytes, json_length: int | None) -> list[dict[str, Any]]:
    try:
        if read in _OF_MESSAGES:
            return read(body)
        return read(jsontext.parse(body) if json_length is None else oip.opened(body, json_length))
    except (ModelyardError, LookupError, TypeError, ValueError, AttributeError, RecursionError):
        return []


def _tensors(tensors: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    columns = {tensor["name"]: _tensor_rows(tensor["data"], tensor["shape"]) for tensor in tensors}
    return _transposed(columns)


def _tensor_rows(data: list[Any], shape: list[int]) -> list[Any]:
    checked_shape(shape, "")
    inner = shape[1:] if shape[1:] != [1] else []
    leaves = data
    while leaves and isinstance(leaves[0], list):
        leaves = [item for part in leaves for item in part]
    for size in reversed(inner):
        leaves = [leaves[at : at + size] for at in range(0, len(leaves), size)]
    return leaves


def _transposed(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    names = list(columns)
    return [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _records(records: list[Any]) -> list[dict[str, Any]]:
    return [record if isinstance(record, dict) else {"value": record} for record in records]


def _plain(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The inputs of the plain form, with the keys that were sent beside them."""
    records = _records(document["rows"])
    keys = document.get("keys")
    if not isinstance(keys, list) or len(keys) != len(records):
        return records
    return [{**key, **record} for key, record in zip(keys, records, strict=True)]


def _invoked(document: dict[str, Any]) -> list[dict[str, Any]]:
    if "dataframe_split" in document:
        table = document["dataframe_split"]
        return [dict(zip(map(str, table["columns"]), row, strict=True)) for row in table["data"]]
    table = next((document[form] for form in ("dataframe_records", "instances", "inputs") if form in document), [])
    if isinstance(table, dict):
        columns = {name: values if isinstance(values, list) else [values] for name, values in table.items()}
        return _transposed(columns)
    return _records(table)


def _predictions(document: dict[str, Any]) -> list[dict[str, Any]]:
    name = document["outputs"][0]
    return [row if isinstance(row, dict) else {name: row} for row in document["predictions"]]


def _answered_rows(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != rows.PREDICTION_ID} for row in document["rows"]]


def _asked(body: bytes) -> list[dict[str, Any]]:
    return _tensors(protobuf.opened(body, "inputs")["inputs"])


def _told(body: bytes) -> list[dict[str, Any]]:
    return _tensors(protobuf.opened(body, "outputs")["outputs"])


_OF_MESSAGES = (_asked, _told, arrow.described, csvtext.described)
"""These take a body as it is; the others take a JSON document."""

_INPUTS: dict[WireForm, Callable[[Any], list[dict[str, Any]]]] = {
    "oip": lambda document: _tensors(document["inputs"]),
    "rows": _plain,
    "invocations": _invoked,
    "arrow": arrow.described,
    "grpc": _asked,
}
_OUTPUTS: dict[WireForm, Callable[[Any], list[dict[str, Any]]]] = {
    "oip": lambda document: _tensors(document["outputs"]),
    "rows": _answered_rows,
    "invocations": _predictions,
    "arrow": arrow.described,
    "grpc": _told,
}
