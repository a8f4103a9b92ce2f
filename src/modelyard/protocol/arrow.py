"""Tables as Arrow IPC streams: rows in, one field an output back.

A request has one field a column, found by name. A null is missing, as NaN is; texts may be dictionaries. A column of an
array is lists of numbers, of fixed size or not. What was sent as another type is taken if it is exact in the column's
own, and refused by row otherwise, as in the other forms.

The schema's metadata may name the outputs that are wanted (`OUTPUTS`); without them all are sent.

An answer has a list of fixed size where an output has several numbers a row; the field's metadata name the classes.
The schema's metadata say which version answered and under which prediction id.

Arrow itself is loaded with the first stream, so that a server that never gets one does without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from math import prod
from struct import Struct, error
from typing import Any

import msgspec
import numpy as np

from modelyard.domain.frame import Answers, Array, Frame, Vector
from modelyard.domain.schema import Column, Kind, Output, Scalar, Schema
from modelyard.errors import InvalidInput, InvalidRequest, TooLarge
from modelyard.protocol.rows import checked_outputs
from modelyard.protocol.table import Call, ColumnReader, Source, TableReader, named_twice, shaped
from modelyard.protocol.values import class_key, convert, expected, has_zone, write_values

LARGEST = 64 * 1024 * 1024
"""The most bytes that the buffers of a stream may have without their compression."""

MOST_CELLS = 8 * 1024 * 1024
"""The most values of all columns together: nulls take no bytes at all in a stream."""

OUTPUTS = b"modelyard.outputs"
"""In a request's metadata: the names of the wanted outputs as a JSON list."""

CLASSES = b"modelyard.classes"
"""In an output field's metadata: the classes of its numbers as a JSON list, in order."""

_NUMBERS = {
    **{kind.value: kind for kind in Kind if kind.is_integer},
    "halffloat": Kind.FLOAT32,
    "float": Kind.FLOAT32,
    "double": Kind.FLOAT64,
}
_TEXTS = ("string", "large_string", "string_view")
_TICKS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_DAYS: dict[str, tuple[np.dtype[Any], int]] = {
    "date32[day]": (np.dtype(np.int32), 86400 * 10**9),
    "date64[ms]": (np.dtype(np.int64), 10**6),
}
_NAT = -(2**63)
_NAMES = msgspec.json.Decoder(list[str])


@cache
def _arrow() -> Any:
    import pyarrow as pa
    import pyarrow.ipc

    return pa


def read_request(body: bytes, reader: TableReader) -> Call:
    """Rows of a stream.

    Raises:
        InvalidRequest: when it is not an Arrow stream, or cut short.
        InvalidInput: when its columns do not fit the schema, naming the column and the row.
        TooLarge: when it unpacks to more than is taken.
    """
    with _guarded():
        schema, batches = _opened(body)
        names = schema.names
        _check_names(names, reader)
        rows = sum(batch.num_rows for batch in batches)
        read = {}
        for name, reading in reader.by_name.items():
            at = names.index(name)
            read[name] = _vector(_Field.of(schema.field(at), batches, at), reading, rows)
        wanted = (schema.metadata or {}).get(OUTPUTS)
    return Call(Frame(read, rows), None if wanted is None else _wanted(wanted, reader.schema))


def _wanted(names: bytes, schema: Schema) -> tuple[str, ...] | None:
    try:
        return checked_outputs(_NAMES.decode(names), schema)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise InvalidRequest(f"{OUTPUTS.decode()} in the Arrow schema has to be a JSON list of texts") from None


def _check_names(names: Sequence[str], reader: TableReader) -> None:
    twice = named_twice(names)
    if twice is not None:
        raise InvalidInput(f"column {twice[:128]!r} is sent twice", column=twice)
    for name in names:
        if name not in reader.by_name:
            raise reader.unknown(name, "the Arrow schema")
    if len(names) != len(reader.by_name):
        raise reader.absent(next(name for name in reader.by_name if name not in names), "the Arrow schema")


@dataclass(frozen=True, slots=True)
class _Field:
    """One field as it was sent: flat values, what is missing of them, and the trailing dimensions.

    `kind` is None for a field of nothing but nulls. `type` is that of the values, as Arrow writes it.
    """

    name: str
    type: str
    kind: Kind | None
    values: Array
    missing: Array | None
    shape: tuple[int, ...]

    @staticmethod
    def of(field: Any, batches: Sequence[Any], at: int) -> _Field:
        """The field at position `at` of all batches."""
        name, kind = field.name, field.type
        arrays, shape = [batch.column(at) for batch in batches], list[int]()
        while _is_list(kind):
            arrays, width = _flattened(arrays, name, max(prod(shape), 1))
            shape.append(width)
            kind = kind.value_type
        values, missing, sent = _leaves(arrays, kind, name)
        return _Field(name, str(kind), sent, values, missing, tuple(shape))

    def vector(self) -> Vector:
        """The values, flat, with what is missing in them as their kind says it."""
        if self.missing is not None and self.values.dtype.kind == "f":
            self.values[self.missing] = np.nan
        return Vector(self.values, self.missing if self.values.dtype.kind in "iub" else None)


def _vector(sent: _Field, reading: ColumnReader, rows: int) -> Vector:
    column, kind = reading.column, sent.kind
    shape = _fitting(sent, column, rows)
    inner = max(prod(shape[1:]), 1)
    if kind is None or (kind is Kind.STRING and column.kind is Kind.DATETIME):
        vector = reading.read(sent.values.tolist(), inner)
    else:
        number = _is_number(kind) and _is_number(column.kind)
        if kind is not column.kind and not number:
            raise InvalidInput(
                f"column {column.name!r}: expected {expected(column.kind)}, got an Arrow column of {sent.type}",
                column=column.name,
            )
        if kind is Kind.DATETIME and ("tz=" in sent.type) != has_zone(column.dtype):
            why = "a time zone is needed" if has_zone(column.dtype) else "training had no time zone"
            raise InvalidInput(
                f"column {column.name!r}: expected {expected(column.kind)}, got {sent.type}: {why}", column=column.name
            )
        vector = convert(sent.vector(), kind, column, inner)
    return shaped(vector, shape) if column.shape else vector


def _fitting(sent: _Field, column: Column, rows: int) -> list[int]:
    """The shape of the column with its rows; raises when the field has another one."""
    wanted, width = column.shape, prod(sent.shape)
    if len(sent.shape) == 1 < len(wanted) and prod(wanted) == width and -1 not in wanted:
        return [rows, *wanted]
    fits = len(sent.shape) == len(wanted) and all(
        size in (-1, got) for size, got in zip(wanted, sent.shape, strict=True)
    )
    if not fits and rows:
        shown = ", ".join("any" if size == -1 else str(size) for size in wanted)
        what = f"a list of {shown} values in every row" if wanted else "one value a row"
        came = f"lists of shape {list(sent.shape)}" if sent.shape else f"an Arrow column of {sent.type}"
        raise InvalidInput(f"column {column.name!r}: expected {what}, got {came}", column=column.name)
    return [rows, *(sent.shape if fits else (max(size, 0) for size in wanted))]


def _is_number(kind: Kind) -> bool:
    return kind.is_integer or kind.is_float


# A stream to arrays.


@contextmanager
def _guarded() -> Iterator[None]:
    """Whatever Arrow says of a stream is an error of the sender's."""
    arrow = _arrow()
    try:
        yield
    except (
        arrow.ArrowException,
        OSError,
        ValueError,
        LookupError,
        TypeError,
        OverflowError,
        MemoryError,
        error,
    ) as why:
        text = str(why).partition("\n")[0][:200]
        raise InvalidRequest(f"the body is not a valid Arrow stream: {text}") from None


def _opened(body: bytes) -> tuple[Any, list[Any]]:
    """The schema and the record batches of a stream, checked through and through."""
    arrow = _arrow()
    _check_size(body)
    source = arrow.BufferReader(body)
    stream = arrow.ipc.open_stream(source, options=arrow.ipc.IpcReadOptions(use_threads=False))
    batches, cells = [], 0
    for batch in stream:
        batch.validate()
        cells += batch.num_rows * sum(_width(field.type) for field in stream.schema)
        if cells > MOST_CELLS:
            raise TooLarge(f"the Arrow stream has more than {MOST_CELLS} values; send fewer rows a request")
        batch.validate(full=True)
        batches.append(batch)
    if source.tell() != len(body):
        raise InvalidRequest(f"{len(body) - source.tell()} bytes follow the end of the Arrow stream")
    return stream.schema, batches


def _width(kind: Any) -> int:
    width = 1
    while _is_list(kind):
        width *= max(getattr(kind, "list_size", 1), 1)
        kind = kind.value_type
    return width


def _check_size(body: bytes) -> None:
    """Refuse a stream that unpacks to too much, before anything of it is unpacked."""
    arrow = _arrow()
    total = 0
    for message in arrow.ipc.MessageReader.open_stream(arrow.BufferReader(body)):
        if message.body is not None:
            total += _unpacked_size(message)
            if total > LARGEST:
                raise TooLarge(f"the Arrow stream unpacks to more than {LARGEST} bytes; send fewer rows a request")


_U16, _U32, _I32, _I64 = Struct("<H"), Struct("<I"), Struct("<i"), Struct("<q")
_HEADER, _DATA, _BUFFERS, _COMPRESSION = 2, 1, 2, 3


def _unpacked_size(message: Any) -> int:
    """How many bytes the buffers of a message have without compression, as it says itself.

    Arrow sets as much aside before it unpacks, and takes nothing that turns out to be of another length.
    """
    data, body = memoryview(message.metadata), memoryview(message.body)
    header = _pointed(data, _slot(data, _U32.unpack_from(data, 0)[0], _HEADER))
    if message.type == "dictionary":
        header = _pointed(data, _slot(data, header, _DATA))
    elif message.type != "record batch":
        return len(body)
    if not _slot(data, header, _COMPRESSION):
        return len(body)
    vector = _pointed(data, _slot(data, header, _BUFFERS))
    count: int = _U32.unpack_from(data, vector)[0]
    places = np.frombuffer(data, "<i8", 2 * count, vector + 4).reshape(count, 2).tolist()
    return sum(_said(body, offset, length) for offset, length in places if length >= _I64.size)


def _said(body: memoryview, offset: int, length: int) -> int:
    said: int = _I64.unpack_from(body, offset)[0]
    return length if said < 0 else said


def _slot(data: memoryview, table: int, number: int) -> int:
    """Where a field of a flatbuffer's table lies; 0 where it is not set."""
    places = table - _I32.unpack_from(data, table)[0]
    at = 4 + 2 * number
    place = _U16.unpack_from(data, places + at)[0] if at < _U16.unpack_from(data, places)[0] else 0
    return table + place if place else 0


def _pointed(data: memoryview, at: int) -> int:
    return at + int(_U32.unpack_from(data, at)[0])


# Arrays to values.


def _is_list(kind: Any) -> bool:
    types = _arrow().types
    return bool(types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind))


def _flattened(arrays: Sequence[Any], name: str, inner: int) -> tuple[list[Any], int]:
    """The elements of lists, and how many each list has; raises when they differ. `inner` lists are one row."""
    width, start, parts = None, 0, []
    for array in arrays:
        gone = _gone(array)
        if gone is not None:
            row = (start + int(gone.argmax())) // inner
            raise InvalidInput(f"column {name!r}, row {row}: the whole list is missing", column=name, row=row)
        lengths = _lengths(array)
        if len(lengths):
            width = int(lengths[0]) if width is None else width
            other = lengths != width
            if other.any():
                row = (start + int(other.argmax())) // inner
                raise InvalidInput(
                    f"column {name!r}, row {row}: expected {width} values, as in the first row, got "
                    f"{lengths[int(other.argmax())]}",
                    column=name,
                    row=row,
                )
        start += len(array)
        parts.append(array.flatten())
    return parts, width or 0


def _lengths(array: Any) -> Array:
    if _arrow().types.is_fixed_size_list(array.type):
        return np.full(len(array), array.type.list_size)
    dtype = np.dtype(np.int64 if _arrow().types.is_large_list(array.type) else np.int32)
    buffer = array.buffers()[1]
    if buffer is None or not len(array):
        return np.zeros(0, dtype)
    return np.diff(np.frombuffer(buffer, dtype, len(array) + 1, array.offset * dtype.itemsize))


def _leaves(arrays: Sequence[Any], kind: Any, name: str) -> tuple[Array, Array | None, Kind | None]:
    """Values of all arrays, which are of one type, what is missing, and the kind of that type."""
    text = str(kind)
    gone = [_gone(array) for array in arrays]
    missing = None
    if any(part is not None for part in gone):
        missing = np.concatenate(
            [np.zeros(len(array), np.bool_) if part is None else part for array, part in zip(arrays, gone, strict=True)]
        )
    if text == "null":
        return np.full(sum(map(len, arrays)), None, object), None, None
    if text in _NUMBERS:
        return _numbers(arrays, text, missing), missing, _NUMBERS[text]
    if text == "bool":
        bits = [_bits(array.buffers()[1], array) for array in arrays]
        values = np.concatenate([np.zeros(0, np.bool_), *bits])
        if missing is not None:
            values[missing] = False
        return values, missing, Kind.BOOL
    if text in _DAYS or text.startswith("timestamp["):
        return _moments(arrays, kind, missing, name), None, Kind.DATETIME
    if text in _TEXTS or _arrow().types.is_dictionary(kind):
        return np.concatenate([np.zeros(0, object), *(_texts(array, name) for array in arrays)]), None, Kind.STRING
    raise InvalidInput(f"column {name!r}: Arrow columns of {text[:80]} are not taken", column=name)


def _numbers(arrays: Sequence[Any], text: str, missing: Array | None) -> Array:
    kind = _NUMBERS[text]
    dtype = np.dtype(np.float16) if text == "halffloat" else kind.numpy
    values = np.concatenate([np.zeros(0, dtype), *(_plain(array, dtype) for array in arrays)])
    if missing is not None:
        values[missing] = 0
    return values.astype(kind.numpy, copy=False)


def _plain(array: Any, dtype: np.dtype[Any]) -> Array:
    """The values of an array of numbers, as they lie there."""
    buffer = array.buffers()[1]
    if buffer is None or not len(array):
        return np.zeros(len(array), dtype)
    return np.frombuffer(buffer, dtype, len(array), array.offset * dtype.itemsize)


def _bits(buffer: Any, array: Any) -> Array:
    if buffer is None or not len(array):
        return np.zeros(len(array), np.bool_)
    end = array.offset + len(array)
    return np.unpackbits(np.frombuffer(buffer, np.uint8), count=end, bitorder="little")[array.offset :].view(np.bool_)


def _gone(array: Any) -> Array | None:
    """What is null in an array; None where nothing is."""
    if not array.null_count or not len(array) or str(array.type) == "null":
        return None
    return ~_bits(array.buffers()[0], array)


def _moments(arrays: Sequence[Any], kind: Any, missing: Array | None, name: str) -> Array:
    dtype, factor = _DAYS.get(str(kind)) or (np.dtype(np.int64), _TICKS[kind.unit])
    ticks = np.concatenate([np.zeros(0, dtype), *(_plain(array, dtype) for array in arrays)]).astype(np.int64)
    if missing is not None:
        ticks[missing] = 0
    far = np.abs(ticks) > (2**63 - 1) // factor if factor > 1 else np.zeros(len(ticks), np.bool_)
    far |= (ticks == _NAT) & (factor > 1)  # which has no absolute value
    if far.any():
        row = int(far.argmax())
        raise InvalidInput(
            f"column {name!r}, row {row}: expected a date and time, got {ticks[row]} of {kind}: it must lie between "
            "1678 and 2262",
            column=name,
            row=row,
        )
    ticks *= factor
    if missing is not None:
        ticks[missing] = _NAT
    return ticks.view("datetime64[ns]")


def _texts(array: Any, name: str) -> Array:
    """Texts, None where one is missing; those of a dictionary are one object however often they occur."""
    arrow, text = _arrow(), str(array.type)
    if arrow.types.is_dictionary(array.type):
        words = array.dictionary
        if str(words.type) not in _TEXTS:
            raise InvalidInput(f"column {name!r}: Arrow dictionaries of {words.type} are not taken", column=name)
        known = np.full(len(words) + 1, None, object)
        known[:-1] = _texts(words, name)
        index = _plain(array.indices, np.dtype(str(array.type.index_type))).astype(np.int64)
        gone = _gone(array)
        if gone is not None:
            index[gone] = len(known) - 1
        # However often a word is used, it stands in the stream once.
        sizes = np.array([0 if word is None else len(word) for word in known], np.int64)
        _check_texts(int(sizes[index].sum()))
        picked: Array = known[index]
        return picked
    if text == "string_view":
        _check_views(array)
    values: Array = np.empty(len(array), object)
    values[:] = array.to_pylist()
    return values


def _check_views(array: Any) -> None:
    """Views may all show the same long text."""
    views = _plain_views(array)
    _check_texts(int(views[:, 0].astype(np.int64).sum()))


def _check_texts(size: int) -> None:
    if size > LARGEST:
        raise TooLarge(f"the texts of an Arrow column have more than {LARGEST} bytes; send fewer rows a request")


def _plain_views(array: Any) -> Array:
    buffer = array.buffers()[1]
    if buffer is None or not len(array):
        return np.zeros((0, 4), np.int32)
    return np.frombuffer(buffer, np.int32, 4 * len(array), array.offset * 16).reshape(-1, 4)


def write_request(frame: Frame, schema: Schema, *, outputs: Sequence[str] | None = None) -> bytes:
    """A request for `frame` as a stream of one batch, every value exact; what is missing is null, or NaN in floats."""
    arrow = _arrow()
    vectors = [(column, frame[column.name]) for column in schema.columns]
    arrays = [_array(vector.values, column.dtype, vector.missing) for column, vector in vectors]
    fields = [arrow.field(column.name, array.type) for (column, _), array in zip(vectors, arrays, strict=True)]
    facts = None if outputs is None else {OUTPUTS: msgspec.json.encode(list(outputs))}
    return _stream(arrays, arrow.schema(fields, metadata=facts))


# Answers.


def write_response(answers: Answers, schema: Schema, source: Source) -> bytes:
    """The outputs as a stream of one batch, in the order of `answers`.

    NaN stays NaN; a text or datetime that is missing is null.
    """
    arrow = _arrow()
    arrays, fields = [], []
    for name, values in answers.items():
        output = schema.output(name)
        array = _array(values, output.dtype)
        arrays.append(array)
        fields.append(arrow.field(name, array.type, metadata=_note(output, values)))
    facts = {
        "modelyard.model": source.model,
        "modelyard.version": str(source.version),
        "modelyard.prediction_id": source.prediction_id,
    }
    return _stream(arrays, arrow.schema(fields, metadata=facts))


def _stream(arrays: Sequence[Any], schema: Any) -> bytes:
    """A stream of one batch."""
    arrow = _arrow()
    sink = arrow.BufferOutputStream()
    with arrow.ipc.new_stream(sink, schema, options=arrow.ipc.IpcWriteOptions(use_threads=False)) as stream:
        stream.write_batch(arrow.RecordBatch.from_arrays(arrays, schema=schema))
    body: bytes = sink.getvalue().to_pybytes()
    return body


def _note(output: Output, values: Array) -> dict[bytes, bytes] | None:
    if output.classes is None or output.role not in ("probability", "score") or values.ndim != 2:
        return None
    return {CLASSES: msgspec.json.encode(output.classes)} if len(output.classes) == values.shape[1] else None


def _array(values: Array, dtype: str, missing: Array | None = None) -> Any:
    """Values of shape ``(rows, *shape)`` as lists of fixed size within each other, null where `missing`."""
    arrow = _arrow()
    flat = np.ascontiguousarray(values).reshape(-1)
    kind = flat.dtype.kind
    there = None if missing is None else _packed(~missing.reshape(-1))
    if kind == "O":
        array = arrow.array(flat.tolist(), arrow.string())
    elif kind == "M":
        stamps = flat.astype("datetime64[ns]")
        bits = _packed(~np.isnat(stamps))
        zone = arrow.timestamp("ns", tz="UTC" if has_zone(dtype) else None)
        array = arrow.Array.from_buffers(zone, len(flat), [bits, arrow.py_buffer(stamps.view(np.int64))])
    elif kind == "b":
        array = arrow.Array.from_buffers(arrow.bool_(), len(flat), [there, _packed(flat)])
    else:
        array = arrow.Array.from_buffers(arrow.from_numpy_dtype(flat.dtype), len(flat), [there, arrow.py_buffer(flat)])
    for depth in range(values.ndim - 1, 0, -1):
        array = arrow.Array.from_buffers(
            arrow.list_(array.type, values.shape[depth]), prod(values.shape[:depth]), [None], children=[array]
        )
    return array


def _packed(bits: Array) -> Any:
    return _arrow().py_buffer(np.packbits(bits, bitorder="little"))


def facts_of(body: bytes) -> tuple[str, str]:
    """The version that a response is from and its prediction id, whatever its outputs are.

    Raises:
        InvalidRequest: when it is not an Arrow stream.
    """
    with _guarded():
        said = _arrow().ipc.open_stream(body).schema.metadata or {}
    return said.get(b"modelyard.version", b"").decode(), said.get(b"modelyard.prediction_id", b"").decode()


def read_response(body: bytes, schema: Schema) -> Answers:
    """The answers in a response.

    Raises:
        InvalidRequest: when it is not an Arrow stream, or an output has another type there.
    """
    known = {output.name: output for output in schema.outputs}
    answers: Answers = {}
    with _guarded():
        sent, batches = _opened(body)
        rows = sum(batch.num_rows for batch in batches)
        for at, field in enumerate(sent):
            output = known.get(field.name)
            if output is None:
                raise InvalidRequest(f"the response has an output {field.name!r} that the schema does not have")
            found = _Field.of(field, batches, at)
            if found.kind not in (output.kind, None):
                raise InvalidRequest(f"the response's output {field.name!r} is {found.type}, not {output.kind}")
            answers[field.name] = found.vector().values.reshape((rows, *found.shape))
    return answers


def described(body: bytes) -> list[dict[str, Any]]:
    """The rows of a request or response as JSON would say them, read without a schema.

    Raises:
        InvalidRequest, InvalidInput, TooLarge: when they cannot be read.
    """
    with _guarded():
        schema, batches = _opened(body)
        columns = {field.name: _cells(field, batches, at) for at, field in enumerate(schema)}
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def _cells(field: Any, batches: Sequence[Any], at: int) -> list[Any]:
    sent = _Field.of(field, batches, at)
    vector = sent.vector()
    dtype = "datetime64[ns, UTC]" if "tz=" in sent.type else ""
    gone = vector.is_missing().tolist()
    values = write_values(vector.values, dtype)
    nested: list[Any] = [None if missing else value for value, missing in zip(values, gone, strict=True)]
    for depth in range(len(sent.shape) - 1, -1, -1):
        width = sent.shape[depth]
        nested = [nested[start : start + width] for start in range(0, len(nested), max(width, 1))]
    classes = (field.metadata or {}).get(CLASSES)
    if classes is None or len(sent.shape) != 1:
        return nested
    keys = [class_key(label) for label in msgspec.json.decode(classes, type=list[Scalar])]
    return [dict(zip(keys, row, strict=True)) for row in nested]
