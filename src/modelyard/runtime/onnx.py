"""The compiled runtime: ONNX in this process, no model code at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as _state

from modelyard.domain.frame import Answers, Array, Frame, Vector
from modelyard.domain.manifest import CompiledForm, Feed, Fetch
from modelyard.domain.schema import Column, Kind, Output, Schema
from modelyard.errors import ModelFailed, RowsRefused

_ROWS_PER_RUN = "modelyard.rows_per_run"
_DEFAULT_ROWS_PER_RUN = 1 << 14
_REFUSALS = (_state.InvalidArgument, _state.RuntimeException)

_Feeder: TypeAlias = Callable[[Vector], Array]
_Filler: TypeAlias = Callable[[Mapping[str, Vector], int], Array]


class OnnxRuntime:
    """Implements `modelyard.runtime.interface.Runtime` with onnxruntime on the CPU.

    Safe to call from several threads: a run keeps no state. Idle threads sleep; they never spin. Batches larger than
    what the graph was made for are run in pieces.

    Args:
        model: the graph, as bytes or as a file.
        compiled: how columns enter it and outputs leave it.
        schema: columns and outputs.
        threads: how many threads one run may use.

    Raises:
        ModelFailed: when onnxruntime cannot open the graph.
    """

    def __init__(self, model: bytes | Path, compiled: CompiledForm, schema: Schema, threads: int = 1) -> None:
        self._session: onnxruntime.InferenceSession | None = _session(model, threads)
        notes = self._session.get_modelmeta().custom_metadata_map
        given = notes.get(_ROWS_PER_RUN)
        self._rows_per_run = int(given) if given else _DEFAULT_ROWS_PER_RUN
        wanted = {item.name: item.shape for item in self._session.get_inputs()}
        sharing: dict[str, list[Feed]] = {}
        for feed in compiled.feeds:
            if feed.tensor in wanted:
                sharing.setdefault(feed.tensor, []).append(feed)
        self._fillers = [(tensor, _filler(feeds, schema, wanted[tensor], notes)) for tensor, feeds in sharing.items()]
        fetches = {fetch.output: fetch for fetch in compiled.fetches}
        self._outputs = {output.name: output for output in schema.outputs}
        self._fetches = {name: fetches[name] for name in self._outputs}
        self._readers = {name: _reader(self._fetches[name], output) for name, output in self._outputs.items()}
        self._all = tuple(self._outputs)

    def predict(self, frame: Frame, outputs: Sequence[str] | None = None) -> Answers:
        """Answer every row of `frame`, for the named outputs (None: all, in schema order).

        Raises:
            RowsRefused: the graph cannot take these rows.
            ModelFailed: the graph broke, or the runtime is closed.
        """
        names = self._all if outputs is None else tuple(outputs)
        if frame.rows == 0:
            return {name: _nothing(self._outputs[name]) for name in names}
        if frame.rows <= self._rows_per_run:
            return self._run(frame, names)
        pieces = [
            self._run(frame.take(slice(start, min(start + self._rows_per_run, frame.rows))), names)
            for start in range(0, frame.rows, self._rows_per_run)
        ]
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in names}

    def close(self) -> None:
        """Give the graph back. Calling it twice is harmless."""
        self._session = None

    def _run(self, frame: Frame, names: tuple[str, ...]) -> Answers:
        session = self._session
        if session is None:
            raise ModelFailed("this runtime is closed; open the version again")
        columns, rows = frame.columns, frame.rows
        tensors = {tensor: fill(columns, rows) for tensor, fill in self._fillers}
        try:
            results = session.run([self._fetches[name].tensor for name in names], tensors)
        except _REFUSALS as error:
            raise RowsRefused(f"the compiled model cannot take these rows: {error}") from error
        except (_state.Fail, RuntimeError, ValueError) as error:
            raise ModelFailed(f"the compiled model failed: {error}") from error
        return {name: self._readers[name](result, rows) for name, result in zip(names, results, strict=True)}


def _session(model: bytes | Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 4
    source = model if isinstance(model, bytes) else str(model)
    try:
        return onnxruntime.InferenceSession(source, sess_options=options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelFailed(f"onnxruntime {onnxruntime.__version__} cannot open the compiled model: {error}") from error


def _filler(feeds: Sequence[Feed], schema: Schema, shape: Sequence[Any], notes: Mapping[str, str]) -> _Filler:
    """How the columns that share a tensor become it."""
    first = feeds[0]
    if len(feeds) == 1 and first.codes is None:
        column, feeder = first.column, _feeder(first, schema.column(first.column), shape)
        return lambda columns, rows: feeder(columns[column])
    made = [
        (feed.column, _code_feeder(notes[feed.codes]) if feed.codes else _feeder(feed, schema.column(feed.column), ()))
        for feed in feeds
    ]

    def fill(columns: Mapping[str, Vector], rows: int) -> Array:
        parts = [feeder(columns[column]) for column, feeder in made]
        # One row needs no interleaving; for more, each column is written where it belongs.
        joined = np.concatenate(parts)
        if rows == 1:
            return joined.reshape(1, -1)
        return np.ascontiguousarray(joined.reshape(-1, rows).T)

    return fill


class _Codes(dict[str | None, int]):
    """Text to number; what is no text counts as its spelling, and what is not known as the number `other`."""

    def __init__(self, note: str) -> None:
        told = json.loads(note)
        super().__init__(told["texts"])
        self[None] = int(told["missing"])
        self.other = int(told["other"])

    def __missing__(self, value: Any) -> int:
        return self.other if isinstance(value, str) else self.get(str(value), self.other)


def _code_feeder(note: str) -> _Feeder:
    """Texts as the numbers by which the graph knows them. A dictionary here is quicker than texts in onnxruntime."""
    number = _Codes(note).__getitem__

    def codes(vector: Vector) -> Array:
        return np.array([number(value) for value in vector.values.tolist()], dtype=np.int64)

    return codes


def _feeder(feed: Feed, column: Column, shape: Sequence[Any]) -> _Feeder:
    """How the values of one column become the tensor the graph wants."""
    trailing = _trailing(column, shape)
    if feed.dtype == "string":
        return _text_feeder(str(feed.missing) if feed.missing is not None else "", trailing)
    dtype = np.dtype(feed.dtype)
    instead = feed.missing if feed.missing is not None else (np.nan if dtype.kind == "f" else 0)

    def numbers(vector: Vector) -> Array:
        values = vector.values.astype(dtype, copy=False)
        if vector.missing is not None:
            values = np.where(vector.missing, np.asarray(instead, dtype=dtype), values)
        elif feed.missing is not None:
            values = np.where(vector.is_missing(), np.asarray(instead, dtype=dtype), values)
        return values.reshape(len(values), *trailing)

    return numbers


def _trailing(column: Column, shape: Sequence[Any]) -> tuple[int, ...]:
    """Dimensions after the rows: those of the column, and of a plain column 1 where the graph wants a matrix."""
    if column.shape:
        return tuple(size if size >= 0 else -1 for size in column.shape)
    return (1,) if len(shape) == 2 else ()


def _text_feeder(missing: str, trailing: tuple[int, ...]) -> _Feeder:
    """Texts with `missing` for None. A text that equals it, or that is not Unicode, becomes one that no model knows."""

    def clean(value: Any) -> str:
        if value is None:
            return missing
        text = str(value)
        if text == missing and missing:
            return missing + "?"
        if text.isascii():
            return text
        return text.encode("utf-8", "backslashreplace").decode("utf-8")

    def texts(vector: Vector) -> Array:
        values = vector.values
        listed = values.ravel().tolist()
        for value in listed:
            if not isinstance(value, str) or not value.isascii() or value == missing:
                break
        else:
            return values.reshape(len(values), *trailing)
        cleaned = np.empty(len(listed), dtype=object)
        cleaned[:] = [clean(value) for value in listed]
        return cleaned.reshape(len(values), *trailing)

    return texts


def _reader(fetch: Fetch, output: Output) -> Callable[[Array, int], Array]:
    """How one tensor of the graph becomes an answer."""
    shape = output.shape
    dtype = output.kind.numpy
    if fetch.decode:
        classes = np.empty(len(output.classes or ()), dtype=dtype)
        classes[:] = list(output.classes or ())

        def decoded(result: Array, rows: int) -> Array:
            found: Array = classes[np.asarray(result).reshape(rows, *shape)]
            return found

        return decoded

    def plain(result: Array, rows: int) -> Array:
        values = np.asarray(result).reshape(rows, *shape)
        return values.astype(dtype, copy=False)

    return plain


def _nothing(output: Output) -> Array:
    return np.empty((0, *output.shape), dtype=output.kind.numpy if output.kind is not Kind.STRING else object)
