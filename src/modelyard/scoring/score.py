"""Predict a whole file: read a piece, check it, compute it, write it; memory does not grow with the file."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa

from modelyard.bundle.tabular import from_arrow
from modelyard.domain.checks import check, offences
from modelyard.domain.frame import Answers, Frame
from modelyard.domain.schema import Kind, Schema
from modelyard.errors import InvalidInput, InvalidRequest, RowsRefused
from modelyard.scoring.sources import Source, columns_in, opened
from modelyard.scoring.targets import REFUSED, answer_table, writing

Predict: TypeAlias = Callable[[Frame], Answers]
"""A runtime's ``predict``."""

Progress: TypeAlias = Callable[[int, float], None]
"""Is told how many rows are done and which share of the input has been read."""

BATCH_ROWS = 32_768


@dataclass(frozen=True, slots=True)
class Scored:
    """What was done: rows read, rows that the model refused (kept without an answer), and how long it took."""

    rows: int
    refused: int
    seconds: float


@dataclass(slots=True)
class _Count:
    rows: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class _Job:
    """What stays the same over all pieces."""

    predict: Predict
    schema: Schema
    keep: Sequence[str] | None
    mark: bool
    count: _Count = field(default_factory=_Count)


def score_file(
    predict: Predict,
    schema: Schema,
    source: Path,
    target: Path,
    *,
    batch_rows: int = BATCH_ROWS,
    keep: Sequence[str] | None = None,
    refused: Literal["fail", "mark"] = "fail",
    progress: Progress | None = None,
) -> Scored:
    """Write the rows of `source` with the model's answers to `target`; both may be CSV or Parquet, in any combination.

    Columns are matched by name; others are passed on. A missing value is an empty cell that is not quoted, or null.
    `target` appears when it is complete; until then, and after any error, whatever had that name is untouched.

    Args:
        predict: Answers rows that fit the schema; a runtime's method.
        schema: What the model takes and answers.
        source: The table to read, in pieces of `batch_rows` rows.
        target: The file to write.
        batch_rows: Rows computed at once.
        keep: Columns of `source` to write besides the answers (None: all).
        refused: What to do with a row that the model does not take: ``fail``, or ``mark`` it by an empty answer and
            the reason in a column ``refused``.
        progress: Called after every piece.

    Raises:
        InvalidInput: rows that do not fit the schema; names column and row of the file, from 0.
        RowsRefused: the model raised on a row, which is named.
        InvalidRequest, NotOffered: a file that cannot be read or written as asked.
    """
    started = time.perf_counter()
    job = _Job(predict, schema, keep, refused == "mark")
    with opened(source, batch_rows) as table, writing(target) as sink:
        _check_keep(keep, table.names)
        for piece in table.pieces():
            sink.add(_scored(job, table, piece))
            job.count.rows += piece.num_rows
            if progress is not None:
                progress(job.count.rows, table.share())
    return Scored(job.count.rows, job.count.refused, time.perf_counter() - started)


def _check_keep(keep: Sequence[str] | None, names: Sequence[str]) -> None:
    for name in keep or ():
        if name not in names:
            raise InvalidRequest(f"there is no column {name!r} to keep; there are: {', '.join(names)}")


def _scored(job: _Job, source: Source, piece: pa.Table) -> pa.Table:
    try:
        frame = frame_of(job.schema, source, piece)
        answers, reasons = _answered(job, frame)
    except InvalidInput as error:
        raise _moved(error, job.count.rows) from error
    missing = np.array([row in reasons for row in range(frame.rows)], dtype=np.bool_) if reasons else None
    table = answer_table(answers, job.schema.outputs, missing)
    if job.mark:
        told = pa.array([reasons.get(row) for row in range(frame.rows)], pa.string())
        table = table.append_column(REFUSED, told)
        job.count.refused += len(reasons)
    return _beside(piece if job.keep is None else piece.select(list(job.keep)), table)


def frame_of(schema: Schema, source: Source, piece: pa.Table) -> Frame:
    """A piece of a table as the model takes it; columns that it does not take are left out.

    Raises:
        InvalidInput: a column is not there, is there twice, or holds what cannot be read as its kind.
    """
    twice = [name for name in source.names if list(source.names).count(name) > 1]
    if twice:
        raise InvalidInput(f"column {twice[0]!r} is there more than once; give every column its own name")
    return from_arrow(source.typed(piece, columns_in(schema, source.names)), schema, ignore_extra=True)


def _moved(error: InvalidInput, before: int) -> InvalidInput:
    """The same error with the row counted from the start of the file."""
    if error.row is None or not before:
        return error
    row = error.row + before
    return InvalidInput(
        re.sub(rf"\brow {error.row}\b", f"row {row}", str(error), count=1), column=error.column, row=row
    )


def _answered(job: _Job, frame: Frame) -> tuple[Answers, dict[int, str]]:
    """Answers to all rows, and why some have none (those hold zeros)."""
    if not frame.rows:
        return _placeholder(job.schema, 0), {}
    if not job.mark:
        check(frame, job.schema)
        return _all_or_error(job, frame), {}
    reasons = offences(frame, job.schema)
    parts: list[tuple[list[int], Answers]] = []
    for rows, found in _tried(job.predict, frame, [row for row in range(frame.rows) if row not in reasons]):
        if isinstance(found, str):
            reasons[rows[0]] = found
        else:
            parts.append((rows, found))
    return _assembled(job.schema, frame.rows, parts), reasons


def _all_or_error(job: _Job, frame: Frame) -> Answers:
    try:
        return job.predict(frame)
    except RowsRefused as error:
        culprits = (
            rows[0] for rows, found in _tried(job.predict, frame, list(range(frame.rows))) if isinstance(found, str)
        )
        row = next(culprits, None)
        where = f"rows {job.count.rows} to {job.count.rows + frame.rows - 1}"
        raise RowsRefused(f"{where if row is None else f'row {job.count.rows + row}'}: {error}") from error


def _tried(predict: Predict, frame: Frame, rows: list[int]) -> Iterator[tuple[list[int], Answers | str]]:
    """Answers to as many rows at once as the model takes, halving where it refuses, down to single culprits."""
    if not rows:
        return
    try:
        yield rows, predict(frame.take(rows))
    except RowsRefused as error:
        if len(rows) == 1:
            yield rows, str(error)
            return
        middle = len(rows) // 2
        yield from _tried(predict, frame, rows[:middle])
        yield from _tried(predict, frame, rows[middle:])


def _placeholder(schema: Schema, rows: int) -> Answers:
    shapes = {output.name: (rows, *(max(size, 0) for size in output.shape)) for output in schema.outputs}
    fill = {output.name: "" if output.kind is Kind.STRING else 0 for output in schema.outputs}
    return {
        output.name: np.full(shapes[output.name], fill[output.name], output.kind.numpy) for output in schema.outputs
    }


def _assembled(schema: Schema, rows: int, parts: Sequence[tuple[list[int], Answers]]) -> Answers:
    whole = _placeholder(schema, rows)
    for output in schema.outputs:
        for at, answers in parts:
            found: Any = answers[output.name]
            if found.shape[1:] != whole[output.name].shape[1:]:
                whole[output.name] = np.zeros((rows, *found.shape[1:]), found.dtype)
            whole[output.name][at] = found
    return whole


def _beside(kept: pa.Table, answers: pa.Table) -> pa.Table:
    for name in answers.column_names:
        if name in kept.column_names:
            raise InvalidRequest(
                f"the input has a column {name!r}, as the answers have; leave it out by naming the columns to keep"
            )
        kept = kept.append_column(name, answers.column(name))
    return kept
