"""The compiled runtime: ONNX in this process, no model code at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as _state

from modelyard.domain.frame import Answers, Array, Frame
from modelyard.domain.manifest import CompiledForm, Feed, Fetch
from modelyard.domain.schema import Kind, Output, Schema
from modelyard.errors import ModelFailed, RowsRefused
from modelyard.runtime.feeding import filler, row_filler

_ROWS_PER_RUN = "modelyard.rows_per_run"
_DEFAULT_ROWS_PER_RUN = 1 << 14
_REFUSALS = (_state.InvalidArgument, _state.RuntimeException)


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
        shared = [(tensor, feeds, wanted[tensor]) for tensor, feeds in sharing.items()]
        self._fillers = [(tensor, filler(feeds, schema, shape, notes)) for tensor, feeds, shape in shared]
        self._row_fillers = [(tensor, row_filler(feeds, schema, shape, notes)) for tensor, feeds, shape in shared]
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
        columns, rows, scalars = frame.columns, frame.rows, frame.scalars
        if scalars is not None:
            tensors = {tensor: fill_row(scalars) for tensor, fill_row in self._row_fillers}
        else:
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
        values = np.asarray(result)
        if values.shape != (rows, *shape):
            values = values.reshape(rows, *shape)
        return values if values.dtype == dtype else values.astype(dtype)

    return plain


def _nothing(output: Output) -> Array:
    return np.empty((0, *output.shape), dtype=output.kind.numpy if output.kind is not Kind.STRING else object)
