"""The shapes that MLflow clients send to ``/invocations``, and the answer they read.

``dataframe_split``, ``dataframe_records``, ``instances`` and ``inputs`` are understood, and tables as CSV. The answer's
``predictions`` are what the first method of the model returns (``predict``, usually); MLflow's clients look at nothing
else in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from modelyard.domain.frame import Answers, Array, Frame
from modelyard.domain.schema import Output, Schema
from modelyard.errors import InvalidInput, InvalidRequest
from modelyard.protocol import csvtext, jsontext
from modelyard.protocol.oip import read_output
from modelyard.protocol.rows import by_row
from modelyard.protocol.table import Call, Source, TableReader, need_list, need_object
from modelyard.protocol.values import shown


class InvocationsResponse(msgspec.Struct):
    """The body of an answer. `outputs` names the outputs that `predictions` shows."""

    predictions: Any
    model: str
    version: int
    prediction_id: str
    outputs: list[str]


_RESPONSES = msgspec.json.Decoder(InvocationsResponse)


def read_request(body: bytes, reader: TableReader) -> Call:
    """Rows of a request; the outputs are those of the model's first method.

    Raises:
        InvalidRequest: when it has none of the known forms, or parameters.
        InvalidInput: when rows do not fit the schema, naming the column, the row and the value.
    """
    document = need_object(jsontext.parse(body))
    if document.get("params"):
        raise InvalidRequest("'params' were sent, but this model takes none")
    forms = [form for form in FORMS if form in document]
    if len(forms) != 1:
        raise InvalidRequest(f"expected exactly one of {', '.join(FORMS)}; got {', '.join(forms) or 'none of them'}")
    return _call(FORMS[forms[0]](document, reader), reader.schema)


def read_csv(body: bytes, reader: TableReader) -> Call:
    """Rows of a table as CSV; the outputs are those of the model's first method.

    Raises:
        InvalidRequest, InvalidInput: as `modelyard.protocol.csvtext.read_table`.
    """
    return _call(csvtext.read_table(body, reader), reader.schema)


def _call(frame: Frame, schema: Schema) -> Call:
    return Call(frame, tuple(output.name for output in shown_outputs(schema)))


def shown_outputs(schema: Schema) -> tuple[Output, ...]:
    """The outputs of the model's first method."""
    method = schema.outputs[0].method
    return tuple(output for output in schema.outputs if output.method == method)


def _split(document: dict[str, Any], reader: TableReader) -> Frame:
    table = need_object(document["dataframe_split"])
    rows = need_list(table, "data")
    if reader.single is not None:
        return _split_of_one(rows, reader)
    names = need_list(table, "columns")
    if len(set(map(str, names))) != len(names):
        raise InvalidInput("dataframe_split: a column is named twice")
    for index, row in enumerate(rows):
        if type(row) is not list or len(row) != len(names):
            came = f"{len(row)} values" if type(row) is list else shown(row)
            raise InvalidInput(f"row {index}: expected a list of {len(names)} values, got {came}", row=index)
    if not rows:
        return reader.columns({str(name): [] for name in names})
    return reader.columns(
        {str(name): list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    )


def _split_of_one(rows: list[Any], reader: TableReader) -> Frame:
    """A table for a model that takes an array or a series: positions count, names do not."""
    column = reader.schema.columns[0]
    if column.shape:
        return reader.matrix(rows)
    for index, row in enumerate(rows):
        if type(row) is not list or len(row) != 1:
            raise InvalidInput(f"row {index}: expected a list of one value", row=index)
    return reader.matrix([row[0] for row in rows])


def _records(document: dict[str, Any], reader: TableReader) -> Frame:
    return reader.records(need_list(document, "dataframe_records"))


def _instances(document: dict[str, Any], reader: TableReader) -> Frame:
    return reader.records(need_list(document, "instances"))


def _inputs(document: dict[str, Any], reader: TableReader) -> Frame:
    inputs = document["inputs"]
    if type(inputs) is dict:
        return reader.columns(inputs)
    return reader.records(need_list(document, "inputs"))


FORMS: dict[str, Callable[[dict[str, Any], TableReader], Frame]] = {
    "dataframe_split": _split,
    "dataframe_records": _records,
    "instances": _instances,
    "inputs": _inputs,
}
"""Each known form and how it is read."""


def write_response(answers: Answers, schema: Schema, source: Source) -> bytes:
    """The answer: a list with one value a row, or one object a row where the method returns several named parts."""
    outputs = [schema.output(name) for name in answers]
    columns = [_values(answers, output, source.rows) for output in outputs]
    if len(outputs) == 1 and outputs[0].container not in ("dataframe", "dict"):
        predictions = columns[0]
    else:
        keys = [str(output.name if output.part is None else output.part) for output in outputs]
        predictions = [dict(zip(keys, values, strict=True)) for values in zip(*columns, strict=True)]
    names = [output.name for output in outputs]
    return jsontext.write(InvocationsResponse(predictions, source.model, source.version, source.prediction_id, names))


def _values(answers: Answers, output: Output, rows: int) -> list[Any]:
    # MLflow shows probabilities as plain lists, in the order of the classes.
    cells = by_row(answers[output.name], output, rows)
    return [list(cell.values()) if isinstance(cell, dict) else cell for cell in cells]


def read_response(body: bytes, schema: Schema) -> Answers:
    """The answers in a response, as arrays of the schema's kinds.

    Raises:
        InvalidRequest: when it does not have the form.
    """
    response = jsontext.parse_as(body, _RESPONSES)
    known = {output.name: output for output in schema.outputs}
    if not all(name in known for name in response.outputs):
        raise InvalidRequest(f"the response has outputs that the schema does not have; there are: {', '.join(known)}")
    try:
        return {
            name: _output(response.predictions, known[name], position) for position, name in enumerate(response.outputs)
        }
    except (IndexError, TypeError):
        raise InvalidRequest("the response's predictions are ragged") from None


def _output(predictions: Any, output: Output, position: int) -> Array:
    leaves = [list(row.values())[position] if isinstance(row, dict) else row for row in predictions]
    shape = [len(leaves)]
    while leaves and isinstance(leaves[0], list):
        shape.append(len(leaves[0]))
        leaves = [item for cell in leaves for item in cell]
    return read_output(leaves, output, shape)
