"""Answers as columns of a file, and files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from modelyard.bundle.cells import has_zone
from modelyard.bundle.tabular import arrow_array, from_arrow_array
from modelyard.domain.frame import Answers, Array
from modelyard.domain.schema import Column, Output
from modelyard.errors import Failed, InvalidRequest
from modelyard.protocol.values import class_key
from modelyard.scoring.sources import format_of, opened

REFUSED = "refused"
"""Name of the column that says why a row has no answer, where such rows are kept."""

_ALL_ROWS = 2**62


class Target(Protocol):
    """A file that takes tables of one schema."""

    def add(self, table: pa.Table) -> None:
        """Put these rows after the others."""
        ...


def answer_table(answers: Answers, outputs: Sequence[Output], missing: NDArray[np.bool_] | None = None) -> pa.Table:
    """Answers as columns: one an output, or one a class for probabilities and scores; null where `missing` says so.

    >>> from modelyard.domain.schema import Kind
    >>> proba = Output("predict_proba", Kind.FLOAT64, "probability", "predict_proba", shape=(2,), classes=("no", "yes"))
    >>> answer_table({"predict_proba": np.array([[0.25, 0.75]])}, [proba]).column_names
    ['predict_proba_no', 'predict_proba_yes']
    """
    columns: dict[str, Any] = {}
    for output in outputs:
        for name, values in _columns(output, answers[output.name]):
            columns[name] = arrow_array(values, output.kind, missing, zone=has_zone(output.dtype))
    return pa.table(columns)


def _columns(output: Output, values: Array) -> Iterator[tuple[str, Array]]:
    if values.ndim != 2 or len(output.shape) != 1 or output.shape[0] < 0:
        yield output.name, values
        return
    named = output.role in ("probability", "score") and output.classes is not None
    keys = [class_key(label) for label in output.classes or ()] if named else []
    if len(keys) != values.shape[1]:
        keys = [str(at) for at in range(values.shape[1])]
    for at, key in enumerate(keys):
        yield f"{output.name}_{key}", values[:, at]


@contextmanager
def writing(path: Path) -> Iterator[Target]:
    """A file being written beside `path` that takes its name when all went well; otherwise nothing is left of it.

    Raises:
        NotOffered: a format that is not written.
        InvalidRequest: there is no such folder.
        Failed: the disk does not take it.
    """
    kind = format_of(path)
    if not path.parent.is_dir():
        raise InvalidRequest(f"there is no folder {path.parent} to write {path.name} to; make it first")
    part = path.parent / f".{path.name}.{uuid4().hex[:8]}.part"
    try:
        with _sink(part, compressed=path.name.lower().endswith(".gz")) as sink:
            target = _Csv(sink) if kind == "csv" else _Parquet(sink)
            yield target
            target.finish()
        _settle(part, path)
    except OSError as error:
        raise Failed(
            f"{path} cannot be written: {error.strerror or error}; what was there before is untouched"
        ) from error
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _sink(part: Path, *, compressed: bool) -> Iterator[Any]:
    with pa.OSFile(str(part), "wb") as raw:
        if compressed:
            with pa.CompressedOutputStream(raw, "gzip") as stream:
                yield stream
        else:
            yield raw


def _settle(part: Path, path: Path) -> None:
    for place in (part, path.parent):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if place is part:
            part.replace(path)


class _Parquet:
    def __init__(self, sink: Any) -> None:
        self._sink = sink
        self._writer: Any = None

    def add(self, table: pa.Table) -> None:
        if self._writer is None:
            self._writer = pa.parquet.ParquetWriter(self._sink, table.schema, compression="zstd")
        self._writer.write_table(table)

    def finish(self) -> None:
        if self._writer is not None:
            self._writer.close()


class _Csv:
    def __init__(self, sink: Any) -> None:
        self._sink = sink
        self._writer: Any = None

    def add(self, table: pa.Table) -> None:
        if self._writer is None:
            for field in table.schema:
                if pa.types.is_nested(field.type):
                    raise InvalidRequest(f"column {field.name!r} holds lists, which CSV cannot; write Parquet instead")
            self._writer = pa.csv.CSVWriter(self._sink, table.schema)
        self._writer.write_table(table)

    def finish(self) -> None:
        if self._writer is not None:
            self._writer.close()


def read_answers(path: Path, outputs: Sequence[Output]) -> Answers:
    """The answers in a file that was written with them, as arrays; the inverse of `answer_table`.

    Raises:
        InvalidRequest: the file cannot be read, or lacks a column.
    """
    columns = {output.name: _columns_of(output) for output in outputs}
    with opened(path, _ALL_ROWS) as source:
        flat = [column for each in columns.values() for column in each if not column.shape]
        pieces = [source.typed(piece, flat) for piece in source.pieces()]
    table = pa.concat_tables(pieces)
    for name in [column.name for each in columns.values() for column in each]:
        if name not in table.column_names:
            raise InvalidRequest(f"{path} has no column {name!r}; there are: {', '.join(table.column_names)}")
    answers: Answers = {}
    for output in outputs:
        parts = [from_arrow_array(table.column(column.name), column).values for column in columns[output.name]]
        answers[output.name] = parts[0] if parts[0].ndim > 1 or not output.shape else np.stack(parts, axis=1)
    return answers


def _columns_of(output: Output) -> list[Column]:
    """How the columns of an output are read."""
    if len(output.shape) == 1 and output.shape[0] >= 0:
        empty = np.empty((0, output.shape[0]), output.kind.numpy)
        names, shape = [name for name, _ in _columns(output, empty)], tuple[int, ...]()
    else:
        names, shape = [output.name], output.shape
    return [Column(name, output.kind, nullable=True, dtype=output.dtype, shape=shape) for name in names]
