"""The plain form for people: ``{"rows": [{...}]}`` in, rows with a prediction id out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from modelyard.domain.frame import Answers, Array, Frame
from modelyard.domain.records import row_id
from modelyard.domain.schema import Output, PerSchema, Scalar, Schema
from modelyard.errors import InvalidRequest
from modelyard.protocol import jsontext
from modelyard.protocol.oip import read_output
from modelyard.protocol.quick import PlainRows, can_be_member
from modelyard.protocol.table import Call, Source, TableReader
from modelyard.protocol.values import class_key, shown, write_values

LONGEST_ID = 256


class RowsRequest(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """The body of a request: rows, and optionally one id a row, keys, and the names of the wanted outputs.

    `keys` are columns beside the inputs, one object a row. The model does not see them; they are recorded with the row,
    and labels find it by them.
    """

    rows: list[Any]
    ids: list[str] | None = None
    outputs: list[str] | None = None
    keys: list[dict[str, Scalar | None]] | None = None


class RowsResponse(msgspec.Struct):
    """The body of an answer. Every row has its ``prediction_id`` and one member an output."""

    model: str
    version: int
    prediction_id: str
    rows: list[dict[str, Any]]


_REQUESTS = msgspec.json.Decoder(RowsRequest)
_RESPONSES = msgspec.json.Decoder(RowsResponse)

PREDICTION_ID = "prediction_id"

_MOST_CHOICES = 64
"""Choices of outputs for which a type of rows is kept."""

_ColumnWriter: TypeAlias = Callable[[Array], Iterable[Any]]


def read_request(body: bytes, reader: TableReader) -> Call:
    """Rows and wishes of a request.

    Raises:
        InvalidRequest: when it does not have the form, or ids do not fit the rows.
        InvalidInput: when rows do not fit the schema, naming the column, the row and the value.
    """
    quick = reader.quick.rows(body)
    request: RowsRequest | PlainRows
    if quick is not None:
        frame, request = quick
    else:
        request = jsontext.parse_as(body, _REQUESTS)
        frame = reader.records(request.rows)
    ids = () if request.ids is None else checked_ids(request.ids, frame.rows)
    if request.keys is not None:
        check_keys(request.keys, reader.schema, frame.rows)
    outputs = None if request.outputs is None else checked_outputs(request.outputs, reader.schema)
    return Call(frame, outputs, None, ids, checked=quick is not None and reader.quick.checks)


def checked_ids(ids: Sequence[str], rows: int) -> tuple[str, ...]:
    """The caller's prediction ids, if there is one a row and no two are the same.

    Raises:
        InvalidRequest: otherwise.
    """
    if len(ids) != rows:
        raise InvalidRequest(f"'ids' has {len(ids)} entries for {rows} rows; send one a row or leave it out")
    if len(set(ids)) != rows:
        raise InvalidRequest("'ids' holds an id twice; labels could not be told apart")
    for row, name in enumerate(ids):
        if not 0 < len(name) <= LONGEST_ID:
            raise InvalidRequest(f"'ids', row {row}: an id has 1 to {LONGEST_ID} characters, got {len(name)}")
    return tuple(ids)


def check_keys(keys: Sequence[Mapping[str, Scalar | None]], schema: Schema, rows: int) -> None:
    """Make sure that there is one object a row, and that no key has the name of an input.

    Raises:
        InvalidRequest: otherwise.
    """
    if len(keys) != rows:
        raise InvalidRequest(f"'keys' has {len(keys)} entries for {rows} rows; send one a row or leave it out")
    inputs = {column.name for column in schema.columns}
    for row, key in enumerate(keys):
        twice = inputs.intersection(key)
        if twice:
            raise InvalidRequest(f"'keys', row {row}: {min(twice)!r} is an input; labels find rows by inputs too")


def checked_outputs(names: Sequence[str], schema: Schema) -> tuple[str, ...] | None:
    """The wanted outputs, if all exist; None when the list is empty.

    Raises:
        InvalidRequest: when one does not exist or is named twice.
    """
    known = [output.name for output in schema.outputs]
    for name in names:
        if name not in known:
            raise InvalidRequest(f"unknown output {shown(name)}; there are: {', '.join(known)}")
    if len(set(names)) != len(names):
        raise InvalidRequest("an output is asked for twice")
    return tuple(names) or None


def write_response(answers: Answers, schema: Schema, source: Source) -> bytes:
    """One object a row: its prediction id, then each output, with probabilities and scores named by class.

    NaN and infinities become null.
    """
    rows = source.rows
    named = source.ids or [row_id(source.prediction_id, row, rows) for row in range(rows)]
    row, columns = _writers(schema).of(tuple(answers))
    values = [write(answers[name]) for name, write in zip(answers, columns, strict=True)]
    table = list(map(row, named, *values))
    return jsontext.write(RowsResponse(source.model, source.version, source.prediction_id, table))


class _Writers:
    """Makes rows of answers, as types that are made for the outputs which are asked for."""

    def __init__(self, schema: Schema) -> None:
        self._outputs = {output.name: output for output in schema.outputs}
        self._made: dict[tuple[str, ...], tuple[Callable[..., Any], list[_ColumnWriter]]] = {}

    def of(self, names: tuple[str, ...]) -> tuple[Callable[..., Any], list[_ColumnWriter]]:
        """What makes a row of its prediction id and the values of these outputs, and what makes the values."""
        found = self._made.get(names)
        if found is None:
            row = _object("Row", [PREDICTION_ID, *names])
            found = row, [_column_writer(self._outputs[name]) for name in names]
            if len(self._made) < _MOST_CHOICES:
                self._made[names] = found
        return found


_writers = PerSchema(_Writers)


def _object(name: str, members: Sequence[str]) -> Callable[..., Any]:
    """What makes a JSON object with these members of their values, in order."""
    if len(set(members)) < len(members) or not all(map(can_be_member, members)):
        return lambda *values: dict(zip(members, values, strict=True))
    fields = [(f"member{at}", Any) for at in range(len(members))]
    names = {f"member{at}": member for at, member in enumerate(members)}
    return msgspec.defstruct(name, fields, rename=names, gc=False)


def _column_writer(output: Output) -> _ColumnWriter:
    """What makes one JSON value a row of an output: as `by_row`, but for many rows at once."""
    if output.classes is None or output.role not in ("probability", "score"):
        return lambda array: by_row(array, output, len(array))
    width = len(output.classes)
    shares = _object("Shares", [class_key(label) for label in output.classes])

    def write(array: Array) -> Iterable[Any]:
        if array.ndim != 2 or array.shape[1] != width or array.dtype.kind == "M":
            return by_row(array, output, len(array))
        return map(shares, *array.T.tolist())

    return write


def by_row(array: Array, output: Output, rows: int) -> list[Any]:
    """One JSON value a row: a scalar, an object with one member a class, or nested lists."""
    flat = write_values(array, output.dtype)
    if array.ndim == 1:
        return flat
    if output.classes is not None and output.role in ("probability", "score") and array.ndim == 2:
        keys, width = [class_key(label) for label in output.classes], array.shape[1]
        if len(keys) == width:
            return [dict(zip(keys, flat[at : at + width], strict=True)) for at in range(0, rows * width, width)]
    return _nested(flat, array.shape)


def _nested(flat: list[Any], shape: Sequence[int]) -> list[Any]:
    for size in reversed(shape[1:]):
        flat = [flat[at : at + size] for at in range(0, len(flat), size)] if size else flat
    return flat if flat else [[] for _ in range(shape[0])]


def write_request(
    frame: Frame, schema: Schema, *, ids: Sequence[str] | None = None, outputs: Sequence[str] | None = None
) -> bytes:
    """A request for `frame`, every value exact; missing values are null."""
    columns = {}
    for column in schema.columns:
        vector = frame[column.name]
        leaves = write_values(vector.values, column.dtype)
        gone = vector.is_missing().ravel().tolist()
        leaves = [None if missing else value for value, missing in zip(leaves, gone, strict=True)]
        columns[column.name] = _nested(leaves, vector.values.shape) if vector.values.ndim > 1 else leaves
    names = list(columns)
    rows = [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    request = RowsRequest(rows, None if ids is None else list(ids), None if outputs is None else list(outputs))
    return jsontext.write(request, words=True)


def read_response(body: bytes, schema: Schema) -> Answers:
    """The answers in a response, as arrays of the schema's kinds; null in a float output is NaN.

    Raises:
        InvalidRequest: when it does not have the form, or a row lacks an output that another has.
    """
    response = jsontext.parse_as(body, _RESPONSES)
    first = response.rows[0] if response.rows else {}
    answers: Answers = {}
    for output in schema.outputs:
        if output.name in first:
            cells = [row.get(output.name) for row in response.rows]
            answers[output.name] = _output(cells, output)
    return answers


def _output(cells: list[Any], output: Output) -> Array:
    leaves, shape = cells, [len(cells)]
    while leaves and isinstance(leaves[0], dict | list):
        shape.append(len(leaves[0]))
        leaves = [item for cell in leaves for item in (cell.values() if isinstance(cell, dict) else cell)]
    try:
        return read_output(leaves, output, shape)
    except (ValueError, AttributeError, TypeError):
        raise InvalidRequest(f"the response's output {output.name!r} is ragged or has another shape") from None
