"""Requests and answers of the Open Inference Protocol as protobuf messages, for calls over gRPC.

A request's tensors are raw bytes or typed lists, never both; the answer takes the form of the request. Protobuf itself
is loaded with the first message that is read, so that a server without gRPC does without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any, Literal

from modelyard.domain.frame import Answers, Frame, Vector
from modelyard.domain.schema import OIP_DATATYPE, Column, Kind, PerSchema, Schema
from modelyard.errors import InvalidInput, InvalidRequest, NotOffered
from modelyard.protocol.binary import HALVES, KINDS, read_leaves, read_raw, text_of, write_raw
from modelyard.protocol.classification import PARAMETER, is_classified, wanted_classes
from modelyard.protocol.media import MOST_VALUES, too_many
from modelyard.protocol.missing import PARAMETER as MISSING
from modelyard.protocol.missing import only_of_texts, positions, with_missing
from modelyard.protocol.oip import SHARED_MEMORY, read_output, reading_of
from modelyard.protocol.table import Call, ColumnReader, Source, TableReader, checked_shape, shaped
from modelyard.protocol.values import write_values

CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""The typed list in which the elements of each datatype are; the half formats have none and are raw only."""


@cache
def _message(name: str) -> Any:
    from modelyard.protocol.messages import message

    return message(name)


def read_request(body: bytes, reader: TableReader) -> Call:
    """Rows and wishes of a ``ModelInferRequest``.

    Raises:
        InvalidRequest: when it is not such a message, or mixes raw and typed contents.
        InvalidInput: when tensors do not fit the schema, naming the tensor, the row and the value.
        NotOffered: when it uses an extension that is not there.
    """
    quick = _layouts(reader.schema).read(opened_envelope(body), reader)
    if quick is not None:
        return quick
    request = _parsed("ModelInferRequest", body)
    tensors, raws = request.inputs, request.raw_input_contents
    if raws and len(raws) != len(tensors):
        raise InvalidRequest(f"{len(tensors)} inputs need as many raw_input_contents, got {len(raws)}")
    by_name, rows = reader.by_name, -1
    read: dict[str, Vector] = {}
    for index, tensor in enumerate(tensors):
        name = tensor.name
        reading = by_name.get(name)
        if reading is None:
            raise reader.unknown(name, "inputs")
        if name in read:
            raise InvalidInput(f"column {name!r} is sent twice", column=name)
        vector = _vector(tensor, reading, raws[index] if raws else None)
        count = len(vector.values)
        if rows not in (-1, count):
            raise InvalidInput(f"column {name!r}: it has {count} rows, the tensors before it have {rows}", column=name)
        rows, read[name] = count, vector
    if len(read) != len(by_name):
        raise reader.absent(next(name for name in by_name if name not in read), "inputs")
    frame = Frame({name: read[name] for name in by_name}, max(rows, 0))
    outputs = _wanted(request.outputs, reader.schema) if request.outputs else None
    classes = _wanted_classes(request.outputs, reader.schema) if outputs else ()
    binary = _binary(outputs, reader.schema) if raws else frozenset()
    return Call(frame, outputs, request.id or None, binary=binary, classes=classes)


def opened_envelope(body: bytes) -> Any:
    """A ``ModelInferRequest`` with its inner messages still as bytes.

    Raises:
        InvalidRequest: when it is no such message, as far as can be seen from outside.
        TooLarge: when it has very many fields.
    """
    from google.protobuf.message import DecodeError

    few_fields(body)
    try:
        return _envelope().FromString(body)
    except DecodeError:
        raise InvalidRequest("the body is not a ModelInferRequest message") from None


@cache
def _envelope() -> Any:
    from modelyard.protocol.messages import envelope

    return envelope()


@dataclass(frozen=True, slots=True)
class _Layout:
    """What the tensors of a request are, but for their bytes: where each column is among them, and how many rows."""

    places: tuple[int, ...]
    rows: int
    outputs: tuple[str, ...] | None
    binary: frozenset[str]
    classes: tuple[tuple[str, int], ...]


class _Layouts:
    """The layouts of raw requests that came before: a client sends the same one again and again."""

    def __init__(self, schema: Schema) -> None:
        self._known: dict[tuple[bytes, ...], _Layout | None] = {}

    def read(self, request: Any, reader: TableReader) -> Call | None:
        """A request of one row (or a matrix) in raw bytes; None when it has to be read patiently."""
        raws = request.raw_input_contents
        if len(raws) != len(reader.by_name):
            return None
        key = (*request.inputs, b"", *request.outputs)
        layout = self._known.get(key)
        if layout is None:
            if key in self._known:
                return None
            layout = self._learn(key, request, reader)
            if layout is None:
                return None
        frame = reader.quick.raw([raws[place] for place in layout.places], layout.rows)
        if frame is None:
            return None
        return Call(frame, layout.outputs, request.id or None, binary=layout.binary, classes=layout.classes)

    def _learn(self, key: tuple[bytes, ...], request: Any, reader: TableReader) -> _Layout | None:
        layout = _layout(request, reader)
        if sum(map(len, key)) <= _LONGEST_LAYOUT:
            if len(self._known) >= _MOST_LAYOUTS:
                self._known.clear()
            self._known[key] = layout
        return layout


_layouts = PerSchema(_Layouts)
_MOST_LAYOUTS, _LONGEST_LAYOUT = 64, 16 * 1024


def _layout(request: Any, reader: TableReader) -> _Layout | None:
    """The layout of a request whose tensors are the schema's as they stand; None for any other."""
    tensors = [_parsed("ModelInferRequest.InferInputTensor", tensor) for tensor in request.inputs]
    places = {tensor.name: place for place, tensor in enumerate(tensors)}
    if set(places) != set(reader.by_name) or len(tensors) != len(places):
        return None
    for tensor in tensors:
        usual = tensor.datatype == reader.by_name[tensor.name].datatype
        if not usual or tensor.parameters or tensor.HasField("contents"):
            return None
    rows = reader.quick.rows_of([list(tensors[places[name]].shape) for name in reader.by_name])
    if rows is None:
        return None
    asked = [_parsed("ModelInferRequest.InferRequestedOutputTensor", output) for output in request.outputs]
    outputs = _wanted(asked, reader.schema) if asked else None
    return _Layout(
        tuple(places[name] for name in reader.by_name),
        rows,
        outputs,
        _binary(outputs, reader.schema),
        _wanted_classes(asked, reader.schema) if outputs else (),
    )


def _binary(outputs: tuple[str, ...] | None, schema: Schema) -> frozenset[str]:
    return frozenset([output.name for output in schema.outputs] if outputs is None else outputs)


def write_response(answers: Answers, schema: Schema, call: Call, source: Source) -> bytes:
    """A ``ModelInferResponse`` with the outputs in the order of `answers`, raw if the request was."""
    if call.binary:
        return _write_raw(answers, schema, call, source)
    response = _response(source, call)
    for name, array in answers.items():
        output = schema.output(name)
        datatype = OIP_DATATYPE[output.kind]
        tensor = response.outputs.add(name=name, datatype=datatype, shape=array.shape)
        values: Sequence[Any] = write_values(array, output.dtype)
        if datatype == "BYTES":
            gone = positions(values)
            if gone:
                tensor.parameters[MISSING].string_param = gone
            values = [("" if value is None else str(value)).encode() for value in values]
        getattr(tensor.contents, CONTENTS[datatype]).extend(values)
    written: bytes = response.SerializeToString()
    return written


def _write_raw(answers: Answers, schema: Schema, call: Call, source: Source) -> bytes:
    response = _response(source, call)
    raws, heads = response.raw_output_contents, _heads(schema)
    head = b""
    for name, array in answers.items():
        output = schema.output(name)
        raw, gone = write_raw(array, output.dtype)
        raws.append(raw)
        shape = array.shape
        known = None if gone else heads.get((name, shape))
        if known is None:
            tensor = {"name": name, "datatype": OIP_DATATYPE[output.kind], "shape": shape}
            parameters = {"parameters": {MISSING: {"string_param": gone}}} if gone else {}
            known = _message("ModelInferResponse")(outputs=[tensor | parameters]).SerializeToString()
            if not gone and len(heads) < _MOST_LAYOUTS:
                heads[name, shape] = known
        head += known
    # Messages one after another are one message.
    written: bytes = head + response.SerializeToString()
    return written


def _no_heads(schema: Schema) -> dict[tuple[str, tuple[int, ...]], bytes]:
    return {}


_heads = PerSchema(_no_heads)
"""Responses that say of one output what it is, by its name and shape."""


def _response(source: Source, call: Call) -> Any:
    response = _message("ModelInferResponse")(
        model_name=source.deployment or source.model, model_version=str(source.version), id=call.id or ""
    )
    response.parameters["prediction_id"].string_param = source.prediction_id
    return response


def read_response(body: bytes, schema: Schema) -> Answers:
    """The answers in a ``ModelInferResponse``.

    Outputs of which only the largest values were asked for, as texts, are left out.

    Raises:
        InvalidRequest, InvalidInput: when it is not such a message, or not one of a model with that schema.
    """
    tensors = opened(body, "outputs")["outputs"]
    known = {output.name: output for output in schema.outputs}
    unknown = next((tensor["name"] for tensor in tensors if tensor["name"] not in known), None)
    if unknown is not None:
        raise InvalidRequest(f"unknown output {unknown[:128]!r}; there are: {', '.join(known)}")
    plain = [one for one in tensors if not is_classified(one["datatype"], known[one["name"]])]
    return {one["name"]: read_output(one["data"], known[one["name"]], one["shape"]) for one in plain}


def opened(body: bytes, side: Literal["inputs", "outputs"]) -> dict[str, Any]:
    """A request (`side` is its inputs) or a response as a JSON document that would say the same; needs no schema.

    Raises:
        InvalidRequest, InvalidInput: when it is not such a message.
    """
    if side == "inputs":
        message = _parsed("ModelInferRequest", body)
        tensors, raws = message.inputs, message.raw_input_contents
    else:
        message = _parsed("ModelInferResponse", body)
        tensors, raws = message.outputs, message.raw_output_contents
    if raws and len(raws) != len(tensors):
        raise InvalidRequest(f"{len(tensors)} {side} need as many raw contents, got {len(raws)}")
    return {side: [_opened(tensor, raws[index] if raws else None) for index, tensor in enumerate(tensors)]}


def _opened(tensor: Any, raw: bytes | None) -> dict[str, Any]:
    name, datatype, shape = tensor.name, tensor.datatype, list(tensor.shape)
    kind = KINDS.get(datatype, Kind.FLOAT32)
    reading = reading_of(Column(name, kind, nullable=True, dtype=kind.value))
    if raw is None:
        data = list(_leaves(tensor, reading.column))
    else:
        data = read_raw(raw, datatype, [prod(checked_shape(shape, name))], reading, _missing(tensor)).values.tolist()
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


MOST_FIELDS = 64 * 1024
"""The most fields that a message has of its own: tensors, their bytes, wanted outputs."""


def few_fields(body: bytes) -> None:
    """Let a message pass that has no more fields of its own than may be; each takes far more memory than bytes.

    Raises:
        TooLarge: when there are more; the message is not parsed for that.

    >>> few_fields(b"")
    """
    if len(body) <= MOST_VALUES:
        return
    at, end = 0, len(body)
    try:
        for _ in range(MOST_FIELDS):
            if at >= end:
                return
            at = _after(body, at)
    except IndexError:
        return  # it ends within a field, which the parser says better
    raise too_many()


_WIDTHS = {1: 8, 5: 4}


def _after(body: bytes, at: int) -> int:
    """Where the field that begins at `at` ends."""
    tag, at = _number(body, at)
    kind = tag & 7
    if kind == 2:
        size, at = _number(body, at)
        return at + size
    if kind == 0:
        return _number(body, at)[1]
    if kind not in _WIDTHS:
        raise InvalidRequest("the body is not a ModelInferRequest message")
    return at + _WIDTHS[kind]


def _number(body: bytes, at: int) -> tuple[int, int]:
    """A number of variable length, and where it ends."""
    number = shift = 0
    while body[at] & 0x80:
        number |= (body[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if shift > 63:
            raise InvalidRequest("the body is not a ModelInferRequest message")
    return number | body[at] << shift, at + 1


def _parsed(name: str, body: bytes) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return _message(name).FromString(body)
    except DecodeError:
        raise InvalidRequest(f"the body is not a {name} message") from None


def _vector(tensor: Any, reading: ColumnReader, raw: bytes | None) -> Vector:
    shape, datatype, name = list(tensor.shape), tensor.datatype, tensor.name
    if "shared_memory_region" in tensor.parameters:
        raise NotOffered(SHARED_MEMORY)
    typed = tensor.HasField("contents")
    if MISSING in tensor.parameters and datatype != "BYTES":
        raise only_of_texts(datatype, name)
    if raw is not None:
        if typed:
            raise InvalidRequest(f"tensor {name!r} has typed contents beside raw_input_contents; send one of them")
        vector = read_raw(raw, datatype, shape, reading, _missing(tensor))
    elif datatype in HALVES:
        raise InvalidRequest(f"tensor {name!r}: {datatype} has no typed contents; send it in raw_input_contents")
    else:
        vector = read_leaves(_leaves(tensor, reading.column), datatype, shape, reading)
    return shaped(vector, shape) if reading.column.shape else vector


def _missing(tensor: Any) -> Any:
    """What a tensor says of its missing texts; None when nothing."""
    return _value(tensor.parameters[MISSING]) or "" if MISSING in tensor.parameters else None


def _leaves(tensor: Any, column: Column) -> Sequence[Any]:
    """The elements of a typed tensor; raises when they are in the list of another datatype."""
    wanted = CONTENTS.get(tensor.datatype)
    other = next((field.name for field, _ in tensor.contents.ListFields() if field.name != wanted), None)
    if wanted is not None and other is not None:
        raise InvalidRequest(f"tensor {tensor.name!r}: {tensor.datatype} belongs in {wanted}, it has {other}")
    if wanted is None:
        return ()
    if len(getattr(tensor.contents, wanted)) > MOST_VALUES:
        raise too_many()
    leaves = list(getattr(tensor.contents, wanted))
    if wanted == "bytes_contents":
        inner = max(prod(tensor.shape[1:]), 1)
        texts = [text_of(leaf, position // inner, column) for position, leaf in enumerate(leaves)]
        said = _missing(tensor)
        return texts if said is None else with_missing(texts, said, tensor.name)
    return leaves


def _wanted(outputs: Any, schema: Schema) -> tuple[str, ...]:
    known = {output.name for output in schema.outputs}
    names = tuple(output.name for output in outputs)
    for output in outputs:
        if output.name not in known:
            raise InvalidRequest(f"unknown output {output.name[:128]!r}; there are: {', '.join(sorted(known))}")
        if "shared_memory_region" in output.parameters:
            raise NotOffered(SHARED_MEMORY)
    if len(set(names)) != len(names):
        raise InvalidRequest("an output is asked for twice")
    return names


def _wanted_classes(outputs: Any, schema: Schema) -> tuple[tuple[str, int], ...]:
    """The outputs of which only the largest values are wanted, and how many."""
    wishes = [(output.name, output.parameters[PARAMETER]) for output in outputs if PARAMETER in output.parameters]
    counts = [(name, wanted_classes(_value(wish), schema.output(name))) for name, wish in wishes]
    return tuple((name, count) for name, count in counts if count)


def _value(parameter: Any) -> Any:
    choice = parameter.WhichOneof("parameter_choice")
    return None if choice is None else getattr(parameter, choice)
