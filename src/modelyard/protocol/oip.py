"""Open Inference Protocol version 2 over HTTP: requests, answers and metadata as bytes.

A data-frame model has one tensor a column, of shape ``[n]`` or ``[n, 1]``; an array model has one tensor ``[n, d]``. A
body is JSON, or JSON with the raw bytes of tensors behind it, one after another in the order in which the JSON names
them. Shared memory is not offered and refused as such.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite, prod
from typing import Any

import msgspec
import numpy as np

from modelyard.domain.frame import Answers, Array, Frame, Vector
from modelyard.domain.schema import OIP_DATATYPE, Column, Kind, Output, Schema, Seen
from modelyard.errors import InvalidInput, InvalidRequest, NotOffered
from modelyard.protocol import jsontext
from modelyard.protocol.binary import (
    HALVES,
    KINDS,
    leaves_a_row,
    read_raw,
    row_shape,
    sent_kind,
    with_length,
    write_raw,
)
from modelyard.protocol.classification import PARAMETER, is_classified, wanted_classes
from modelyard.protocol.infer import (
    InferRequest,
    InferResponse,
    InputTensor,
    OutputTensor,
    Parameters,
    WantedOutput,
)
from modelyard.protocol.missing import PARAMETER as MISSING
from modelyard.protocol.missing import only_of_texts
from modelyard.protocol.quick import Tensors
from modelyard.protocol.table import Call, ColumnReader, TableReader, checked_shape, shaped
from modelyard.protocol.values import convert, flatten, read_values, reader_of, shown, write_values

_SCHEMAS = msgspec.json.Decoder(Schema)
_REQUESTS = msgspec.json.Decoder(InferRequest)
_RESPONSES = msgspec.json.Decoder(InferResponse)

NON_FINITE = "non_finite"
"""Request parameter: ``"words"`` asks for NaN and Infinity as bare words, ``"null"`` (the default) for null."""

BINARY_SIZE = "binary_data_size"
"""Parameter of a tensor whose data lies behind the JSON: the number of its bytes."""

LENGTH_HEADER = "inference-header-content-length"
"""Header with the length of the JSON part of a body that goes on with tensors."""

_NONE: frozenset[str] = frozenset()


def read_request(body: bytes, reader: TableReader, json_length: int | None = None) -> Call:
    """Rows and wishes of an inference request.

    Args:
        body: The request.
        reader: For the schema that it has to fit.
        json_length: Bytes of `body` that are JSON; raw tensors follow. None: all of it. 0: all of it is the one row of
            the model's only input.

    Raises:
        InvalidRequest: when it is not a request of the protocol.
        InvalidInput: when tensors do not fit the schema, naming the tensor, the row and the value.
        NotOffered: when it uses an extension that is not there.
    """
    tail = None
    if json_length is None:
        quick = reader.quick.tensors(body)
        if quick is not None:
            frame, read = quick
            return _call(frame, read, reader.schema, checked=reader.quick.checks)
    else:
        if not 0 <= json_length <= len(body):
            raise InvalidRequest(
                f"{LENGTH_HEADER}: expected 0 to {len(body)}, the length of the body; got {json_length}"
            )
        if json_length == 0:
            return _read_raw_request(body, reader)
        quick = reader.quick.binary(body, json_length)
        if quick is not None:
            return _call(*quick, reader.schema)
        tail = _Tail(memoryview(body)[json_length:])
        body = body[:json_length]
    request = jsontext.parse_as(body, _REQUESTS)
    frame = _frame(request.inputs, reader, tail)
    if tail is not None and tail.rest:
        raise InvalidRequest(f"{len(tail.rest)} bytes follow the last binary tensor; check {BINARY_SIZE} of each")
    return _call(frame, request, reader.schema)


def _call(frame: Frame, request: InferRequest | Tensors, schema: Schema, *, checked: bool = False) -> Call:
    outputs = None if request.outputs is None else _wanted(request.outputs, schema)
    words = bool(request.parameters) and _wants_words(request.parameters or {})
    classes = _wanted_classes(request.outputs, schema) if request.outputs else ()
    return Call(frame, outputs, request.id, (), words, _wanted_raw(request, schema), checked, classes)


class _Tail:
    """The raw tensors of a body that have not been read yet."""

    def __init__(self, rest: memoryview) -> None:
        self.rest = rest

    def take(self, tensor: InputTensor) -> memoryview:
        size = (tensor.parameters or {}).get(BINARY_SIZE)
        if type(size) is not int or not 0 <= size <= len(self.rest):
            raise InvalidRequest(
                f"tensor {tensor.name[:128]!r}: {BINARY_SIZE} has to be from 0 to {len(self.rest)}, the bytes that are "
                f"left of the body; got {shown(size)}"
            )
        taken, self.rest = self.rest[:size], self.rest[size:]
        return taken


def _read_raw_request(body: bytes, reader: TableReader) -> Call:
    columns = list(reader.by_name.values())
    if len(columns) != 1:
        raise InvalidRequest(
            f"{LENGTH_HEADER} 0 means that the body is the model's only input, but it has {len(columns)}: "
            f"send a request with a JSON part"
        )
    [reading] = columns
    body = with_length(body) if reading.datatype == "BYTES" else body
    tensor = InputTensor(
        reading.column.name, reading.datatype, row_shape(len(body), reading), None, {BINARY_SIZE: len(body)}
    )
    frame = _frame([tensor], reader, _Tail(memoryview(body)))
    return Call(frame, binary=frozenset(output.name for output in reader.schema.outputs))


def _wanted_raw(request: InferRequest | Tensors, schema: Schema) -> frozenset[str]:
    """The outputs that are to be sent as raw bytes."""
    everything = bool(request.parameters) and (request.parameters or {}).get("binary_data_output") is True
    if not request.outputs:
        return frozenset(output.name for output in schema.outputs) if everything else _NONE
    wishes = {output.name: (output.parameters or {}).get("binary_data", everything) for output in request.outputs}
    return frozenset(name for name, wish in wishes.items() if wish is True)


def _wants_words(parameters: Parameters) -> bool:
    form = parameters.get(NON_FINITE, "null")
    if form not in ("null", "words"):
        raise InvalidRequest(f"parameter {NON_FINITE!r}: expected 'null' or 'words', got {shown(form)}")
    return bool(form == "words")


def _wanted(outputs: Sequence[WantedOutput], schema: Schema) -> tuple[str, ...]:
    known = {output.name for output in schema.outputs}
    names = [output.name for output in outputs]
    for output in outputs:
        if output.name not in known:
            raise InvalidRequest(f"unknown output {output.name[:128]!r}; there are: {', '.join(sorted(known))}")
        _refuse_shared_memory(output.parameters or {})
    if len(set(names)) != len(names):
        raise InvalidRequest("an output is asked for twice")
    return tuple(names) if names else tuple(output.name for output in schema.outputs)


def _wanted_classes(outputs: Sequence[WantedOutput], schema: Schema) -> tuple[tuple[str, int], ...]:
    """The outputs of which only the largest values are wanted, and how many."""
    wishes = [
        (one.name, one.parameters[PARAMETER]) for one in outputs if one.parameters and PARAMETER in one.parameters
    ]
    counts = [(name, wanted_classes(count, schema.output(name))) for name, count in wishes]
    return tuple((name, count) for name, count in counts if count)


SHARED_MEMORY = "the shared memory extensions are not offered here; data is in the request and in the answer"


def _refuse_shared_memory(parameters: Parameters) -> None:
    if "shared_memory_region" in parameters:
        raise NotOffered(SHARED_MEMORY)


def _frame(tensors: Sequence[InputTensor], reader: TableReader, tail: _Tail | None = None) -> Frame:
    by_name, rows = reader.by_name, -1
    read: dict[str, Vector] = {}
    for tensor in tensors:
        reading = by_name.get(tensor.name)
        if reading is None:
            raise reader.unknown(tensor.name, "inputs")
        if tensor.name in read:
            raise InvalidInput(f"column {tensor.name!r} is sent twice", column=tensor.name)
        data = tensor.data
        if data and tensor.parameters is None and reading.is_usual(tensor.datatype, tensor.shape, data):
            vector, count = reading.read(data, 1), len(data)
        else:
            vector = _vector(tensor, reading, tail)
            count = len(vector.values)
        if rows != count:
            if rows != -1:
                raise _other_length(tensor.name, count, rows)
            rows = count
        read[tensor.name] = vector
    if len(read) != len(by_name):
        raise reader.absent(next(name for name in by_name if name not in read), "inputs")
    return Frame({name: read[name] for name in by_name}, max(rows, 0))


def _other_length(name: str, count: int, rows: int) -> InvalidInput:
    return InvalidInput(f"column {name!r}: it has {count} rows, the tensors before it have {rows}", column=name)


def _vector(tensor: InputTensor, reading: ColumnReader, tail: _Tail | None) -> Vector:
    if tensor.parameters and BINARY_SIZE in tensor.parameters:
        return _binary(tensor, reading, tail)
    if tensor.parameters or tensor.data is None:
        tensor = _plain(tensor)
    shape, column = tensor.shape, reading.column
    inner = leaves_a_row(column, shape)
    leaves: Sequence[Any] = tensor.data or []
    if len(shape) != 1 or shape[0] != len(leaves) or list in set(map(type, leaves)):
        leaves = flatten(leaves, checked_shape(shape, tensor.name), f"tensor {tensor.name!r}")
    same = tensor.datatype == reading.datatype
    vector = reading.read(leaves, inner) if same else _read_as(tensor.datatype, leaves, column, inner)
    return shaped(vector, shape) if column.shape else vector


def _binary(tensor: InputTensor, reading: ColumnReader, tail: _Tail | None) -> Vector:
    if tail is None:
        raise InvalidRequest(f"tensor {tensor.name!r} has {BINARY_SIZE}, but the header {LENGTH_HEADER} is not there")
    if tensor.data is not None:
        raise InvalidRequest(f"tensor {tensor.name!r} has data as JSON and {BINARY_SIZE}; send one of them")
    shape = tensor.shape
    leaves_a_row(reading.column, shape)
    raw = tail.take(tensor)
    said = (tensor.parameters or {}).get(MISSING)
    if said is not None and tensor.datatype != "BYTES":
        raise only_of_texts(tensor.datatype, tensor.name)
    vector = read_raw(raw, tensor.datatype, shape, reading, said)
    return shaped(vector, shape) if reading.column.shape else vector


def _plain(tensor: InputTensor) -> InputTensor:
    """The tensor with its parameters obeyed; raises when they point at data that is elsewhere."""
    parameters = tensor.parameters or {}
    _refuse_shared_memory(parameters)
    if tensor.data is None:
        raise InvalidRequest(f"tensor {tensor.name!r} has no data")
    if parameters.get("content_type") == "base64" and tensor.datatype == "BYTES":
        leaves = flatten(tensor.data, checked_shape(tensor.shape, tensor.name), f"tensor {tensor.name!r}")
        texts = [_from_base64(text, tensor.name, position) for position, text in enumerate(leaves)]
        return InputTensor(tensor.name, tensor.datatype, tensor.shape, texts)
    return tensor


def _from_base64(text: Any, name: str, position: int) -> Any:
    if not isinstance(text, str):
        return text
    try:
        return base64.b64decode(text, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise InvalidInput(
            f"tensor {name!r}, element {position}: expected base64 of UTF-8 text, got {shown(text)}", column=name
        ) from None


def _read_as(datatype: str, leaves: Sequence[Any], column: Column, inner: int) -> Vector:
    sent = sent_kind(datatype, column)
    if datatype in HALVES:
        vector = read_values(leaves, replace(column, kind=sent), inner)
        return convert(Vector(_rounded(vector.values, datatype, column, inner)), sent, column, inner)
    return convert(read_values(leaves, replace(column, kind=sent), inner), sent, column, inner)


def _rounded(values: Array, datatype: str, column: Column, inner: int) -> Array:
    """Single precision rounded to one of the two half formats, as the sender's library did."""
    with np.errstate(over="ignore"):
        if datatype == "FP16":
            halved = values.astype(np.float16).astype(np.float32)
        else:
            bits = values.view(np.uint32)
            even = (bits >> np.uint32(16)) & np.uint32(1)
            rounded = ((bits + np.uint32(0x7FFF) + even) & np.uint32(0xFFFF0000)).view(np.float32)
            halved = np.where(np.isfinite(values), rounded, values)
    lost = np.isfinite(values) & ~np.isfinite(halved)
    if lost.any():
        position = int(lost.argmax())
        raise InvalidInput(
            f"column {column.name!r}, row {position // inner}: {values[position]} is out of the range of {datatype}",
            column=column.name,
            row=position // inner,
        )
    return halved


def write_response(
    answers: Answers,
    schema: Schema,
    *,
    name: str,
    version: str,
    prediction_id: str,
    id: str | None = None,  # noqa: A002
    words: bool = False,
) -> bytes:
    """An inference response with the outputs in the order of `answers`.

    NaN and infinities become null, and the response parameter ``non_finite`` says so; with `words` they stay words.
    """
    response, words, _ = _response(answers, schema, (name, version, prediction_id, id), words, frozenset())
    return jsontext.write(response, words=words)


def write_binary_response(
    answers: Answers, schema: Schema, *, name: str, version: str, prediction_id: str, call: Call
) -> tuple[bytes, int]:
    """An inference response with the outputs that `call` wants so as raw bytes, and the length of its JSON part.

    An output with a missing text stays JSON, since raw bytes cannot say that it is missing.
    """
    facts = (name, version, prediction_id, call.id)
    response, words, raw = _response(answers, schema, facts, call.words, call.binary)
    head = jsontext.write(response, words=words)
    return b"".join([head, *raw]), len(head)


def _response(
    answers: Answers, schema: Schema, facts: tuple[str, str, str, str | None], words: bool, binary: frozenset[str]
) -> tuple[InferResponse, bool, list[bytes]]:
    """The response, whether it has to be written with bare words, and the bytes of its raw tensors."""
    outputs, lossy, parts = [], False, []
    for output_name, array in answers.items():
        output = schema.output(output_name)
        datatype, shape = OIP_DATATYPE[output.kind], list(array.shape)
        if output_name in binary:
            raw, missing = write_raw(array, output.dtype)
            if not missing:  # else it stays JSON, which says it in a way that every client knows
                parts.append(raw)
                outputs.append(OutputTensor(output.name, datatype, shape, None, {BINARY_SIZE: len(raw)}))
                continue
        data = write_values(array, output.dtype)
        lossy = lossy or (array.dtype.kind == "f" and not all(map(isfinite, data)))
        outputs.append(OutputTensor(output.name, datatype, shape, data))
    name, version, prediction_id, call_id = facts
    parameters: Parameters = {"prediction_id": prediction_id}
    if lossy:
        parameters[NON_FINITE] = "words" if words else "null"
    return InferResponse(name, outputs, version, call_id, parameters), words and lossy, parts


@dataclass(frozen=True, slots=True)
class Response:
    """An inference response as a client reads it."""

    answers: Answers
    version: str
    prediction_id: str
    id: str | None = None


def write_request(
    frame: Frame,
    schema: Schema,
    *,
    outputs: Sequence[str] | None = None,
    id: str | None = None,  # noqa: A002
) -> bytes:
    """An inference request for `frame`, every value exact, asking for NaN and infinities as words."""
    inputs = []
    for column in schema.columns:
        vector = frame[column.name]
        data = _with_nulls(vector, write_values(vector.values, column.dtype))
        inputs.append(InputTensor(column.name, OIP_DATATYPE[column.kind], list(vector.values.shape), data))
    wanted = None if outputs is None else [WantedOutput(output) for output in outputs]
    return jsontext.write(InferRequest(inputs, id, wanted, {NON_FINITE: "words"}), words=_has_non_finite(frame))


def _has_non_finite(frame: Frame) -> bool:
    return any(vector.values.dtype.kind == "f" and np.isinf(vector.values).any() for vector in frame.columns.values())


def _with_nulls(vector: Vector, data: list[Any]) -> list[Any]:
    if vector.missing is None:
        return data
    return [None if missing else value for value, missing in zip(data, vector.missing.ravel().tolist(), strict=True)]


def read_response(body: bytes, schema: Schema, json_length: int | None = None) -> Response:
    """The answers in an inference response, as arrays of the schema's kinds and shapes.

    Outputs of which only the largest values were asked for, as texts, are left out.

    Raises:
        InvalidRequest: when it is not a response of the protocol, or names an output that the schema does not have.
    """
    head = body if json_length is None else body[:json_length]
    tail = _Tail(memoryview(body)[len(head) :])
    response = jsontext.parse_as(head, _RESPONSES)
    known = {output.name: output for output in schema.outputs}
    answers: Answers = {}
    for tensor in response.outputs:
        output = known.get(tensor.name)
        if output is None:
            raise InvalidRequest(f"the response has an output {tensor.name!r} that the schema does not have")
        raw = tail.take(_sent(tensor)) if tensor.data is None else None
        if not is_classified(tensor.datatype, output):
            answers[tensor.name] = (
                read_output(tensor.data or [], output, tensor.shape)
                if raw is None
                else _read_raw_output(tensor, output, raw)
            )
    parameters = response.parameters or {}
    return Response(answers, response.model_version or "", str(parameters.get("prediction_id", "")), response.id)


def _sent(tensor: OutputTensor) -> InputTensor:
    return InputTensor(tensor.name, tensor.datatype, tensor.shape, None, tensor.parameters)


def _read_raw_output(tensor: OutputTensor, output: Output, raw: memoryview) -> Array:
    reading = reading_of(Column(output.name, output.kind, nullable=True, dtype=output.dtype))
    flat = [prod(checked_shape(tensor.shape, tensor.name))]
    vector = read_raw(raw, tensor.datatype, flat, reading)
    return vector.values.reshape(tuple(tensor.shape))


def opened(body: bytes, json_length: int) -> dict[str, Any]:
    """A request or response with binary tensors as the JSON document that would say the same; needs no schema.

    Raises:
        InvalidRequest, InvalidInput: when it is not such a body.
    """
    document: dict[str, Any] = jsontext.parse(body[:json_length])
    tail = _Tail(memoryview(body)[json_length:])
    for tensor in document.get("inputs" if "inputs" in document else "outputs") or ():
        if BINARY_SIZE not in (tensor.get("parameters") or {}):
            continue
        name, datatype, shape = tensor["name"], tensor["datatype"], tensor["shape"]
        kind = KINDS.get(datatype, Kind.FLOAT32)
        reading = reading_of(Column(name, kind, nullable=True, dtype=kind.value))
        raw = tail.take(InputTensor(name, datatype, shape, None, tensor["parameters"]))
        said = tensor["parameters"].get(MISSING)
        tensor["data"] = read_raw(raw, datatype, [prod(checked_shape(shape, name))], reading, said).values.tolist()
    return document


def reading_of(column: Column) -> ColumnReader:
    """What reads tensors of that column."""
    return ColumnReader(column, OIP_DATATYPE[column.kind], reader_of(column))


class _VersionOnly(msgspec.Struct):
    model_version: str = ""


_VERSIONS = msgspec.json.Decoder(_VersionOnly)


def version_of(body: bytes) -> str:
    """The version that an inference response is from, whatever its outputs are.

    Raises:
        InvalidRequest: when it is not a response of the protocol.
    """
    return jsontext.parse_as(body, _VERSIONS).model_version


def read_output(leaves: Sequence[Any], output: Output, shape: Sequence[int]) -> Array:
    """An output's array from its flat JSON values.

    Raises:
        InvalidRequest: when they are not as many as the shape needs.
        InvalidInput: when one is not of the output's kind.
    """
    column = Column(output.name, output.kind, nullable=True, dtype=output.dtype)
    if prod(checked_shape(shape, output.name)) != len(leaves):
        raise InvalidRequest(f"output {output.name!r}: shape {list(shape)} needs other than {len(leaves)} values")
    return read_values(leaves, column, max(prod(shape[1:]), 1)).values.reshape(tuple(shape))


SCHEMA_PROPERTY = "modelyard.schema"
"""Property of the model metadata that holds the whole schema as JSON, without what training saw."""


def model_metadata(
    name: str, versions: Sequence[str], platform: str, schema: Schema, properties: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The model metadata object: tensors with the batch dimension as a leading -1, and the schema as a property."""
    public = replace(schema, columns=tuple(replace(column, seen=Seen()) for column in schema.columns))
    return {
        "name": name,
        "versions": list(versions),
        "platform": platform,
        "inputs": [_tensor_metadata(column.name, column.kind, column.shape) for column in schema.columns],
        "outputs": [_tensor_metadata(output.name, output.kind, output.shape) for output in schema.outputs],
        "properties": {**(properties or {}), SCHEMA_PROPERTY: msgspec.json.encode(public).decode()},
    }


def _tensor_metadata(name: str, kind: Kind, shape: Sequence[int]) -> dict[str, Any]:
    return {"name": name, "datatype": OIP_DATATYPE[kind], "shape": [-1, *shape]}


def schema_of(metadata: Mapping[str, Any]) -> Schema:
    """The schema in a model metadata object.

    Raises:
        InvalidRequest: when there is none, as with another server.
    """
    text = (metadata.get("properties") or {}).get(SCHEMA_PROPERTY)
    if text is None:
        raise InvalidRequest("the server's model metadata has no schema of Modelyard's; is it another server?")
    return _SCHEMAS.decode(text)
