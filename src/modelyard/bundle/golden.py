"""The golden set: drawn from the sample, widened by edges, answered by the estimator as packed, kept exactly."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from modelyard.bundle.drawing import SAMPLE, draw
from modelyard.bundle.tabular import arrow_array, from_arrow, from_arrow_array, to_arrow
from modelyard.domain.checks import offences
from modelyard.domain.frame import Answers, Array, Frame
from modelyard.domain.golden import GoldenSet
from modelyard.domain.schema import Column, Kind, Output, Schema
from modelyard.errors import BundleRefused, CannotPack, ModelFailed, RowsRefused

__all__ = ["Predictor", "draw", "encoded", "read", "record", "stable", "write"]

INPUTS = "inputs.parquet"
ANSWERS = "answers.parquet"

_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")
_LONGEST = 500


class Predictor(Protocol):
    """The estimator as packed."""

    def predict(self, frame: Frame, outputs: Sequence[str] | None = None) -> Answers:
        """Answer every row, or raise `RowsRefused` or `ModelFailed`."""
        ...


def record(native: Predictor, frame: Frame, origins: Sequence[str], schema: Schema) -> GoldenSet:
    """Answer every row alone, then all answered rows as one batch.

    A row that the schema does not take, or on which the estimator raises, is kept as one that must be refused. An edge
    on which it breaks in any other way is left out: nothing can be promised of it.

    Raises:
        CannotPack: it breaks on a row of the sample, answers none, or refuses rows together that it takes alone.
    """
    refused: dict[int, str] = offences(frame, schema)
    answers: dict[int, Answers] = {}
    broken: list[int] = []
    for row in range(frame.rows):
        if row in refused:
            continue
        try:
            answers[row] = native.predict(frame.row(row))
        except RowsRefused as error:
            refused[row] = stable(str(error))
        except ModelFailed as error:
            if origins[row] == SAMPLE:
                raise CannotPack(
                    f"the estimator breaks on row {row} of those drawn from the sample: {error}"
                ) from error
            broken.append(row)
    if not answers:
        raise CannotPack(f"the estimator answers no row of the sample: {next(iter(refused.values()), 'all broke')}")
    kept = [row for row in range(frame.rows) if row not in broken]
    batch = _batch(native, frame, sorted(answers))
    return GoldenSet(
        inputs=frame.take(kept),
        origins=tuple(origins[row] for row in kept),
        refused=tuple(refused.get(row) for row in kept),
        single=_gathered([answers.get(row) for row in kept], schema),
        batch=_gathered([batch.get(row) for row in kept], schema),
    )


def stable(words: str) -> str:
    """Someone else's message on one line, at most 500 characters, without memory addresses: the same in every process.

    >>> stable("cannot use <Scaler object at 0x7f12ab34cd56>")
    'cannot use <Scaler object at 0x>'
    """
    text = _ADDRESS.sub("0x", " ".join(words.split()))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _batch(native: Predictor, frame: Frame, rows: Sequence[int]) -> dict[int, Answers]:
    try:
        together = native.predict(frame.take(rows))
    except (RowsRefused, ModelFailed) as error:
        raise CannotPack(f"the estimator answers rows one at a time but not as one batch: {error}") from error
    return {row: {name: values[at : at + 1] for name, values in together.items()} for at, row in enumerate(rows)}


def _gathered(answers: Sequence[Answers | None], schema: Schema) -> Answers:
    """One array for each output; rows without an answer hold nothing that may be read."""
    gathered: Answers = {}
    for output in schema.outputs:
        blank = np.full((1, *_trailing(answers, output)), _BLANKS.get(output.kind, np.nan), dtype=output.kind.numpy)
        gathered[output.name] = np.concatenate([blank if given is None else given[output.name] for given in answers])
    return gathered


def _trailing(answers: Sequence[Answers | None], output: Output) -> tuple[int, ...]:
    first = next(given for given in answers if given is not None)
    return first[output.name].shape[1:]


_BLANKS: dict[Kind, Any] = {
    Kind.STRING: "",
    Kind.BOOL: False,
    Kind.DATETIME: np.datetime64("NaT"),
    **{kind: 0 for kind in Kind if kind.is_integer},
}


def write(golden: GoldenSet, schema: Schema, directory: Path) -> None:
    """Keep `golden` under `directory`; see `encoded`."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, raw in encoded(golden, schema).items():
        (directory / name).write_bytes(raw)


def encoded(golden: GoldenSet, schema: Schema) -> dict[str, bytes]:
    """The golden set as two Parquet files: the same set gives the same bytes, every number exact to the last bit."""
    answers: dict[str, Any] = {
        "origin": pa.array(golden.origins, pa.string()),
        "refused": pa.array(golden.refused, pa.string()),
    }
    notes: dict[str, dict[bytes, bytes]] = {}
    for way, given in (("single", golden.single), ("batch", golden.batch)):
        for output in schema.outputs:
            values = given[output.name]
            answers[f"{way}.{output.name}"] = arrow_array(values, output.kind)
            notes[f"{way}.{output.name}"] = {b"shape": ",".join(map(str, values.shape[1:])).encode()}
    fields = [pa.field(name, array.type, metadata=notes.get(name)) for name, array in answers.items()]
    table = pa.Table.from_arrays(list(answers.values()), schema=pa.schema(fields))
    return {INPUTS: _parquet(to_arrow(golden.inputs, schema)), ANSWERS: _parquet(table)}


def read(directory: Path, schema: Schema) -> GoldenSet:
    """The golden set under `directory`, exactly as it was written.

    Raises:
        BundleRefused: the files are not those of a golden set of that schema.
    """
    try:
        inputs = from_arrow(pq.read_table(directory / INPUTS, partitioning=None), schema)
        table = pq.read_table(directory / ANSWERS, partitioning=None)
        return GoldenSet(
            inputs=inputs,
            origins=tuple(table["origin"].to_pylist()),
            refused=tuple(table["refused"].to_pylist()),
            single=_answers(table, schema, "single"),
            batch=_answers(table, schema, "batch"),
        )
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise BundleRefused(f"the golden set cannot be read: {error}") from None


def _parquet(table: pa.Table) -> bytes:
    # No dictionaries: they would merge 0.0 with -0.0.
    target = io.BytesIO()
    pq.write_table(table, target, compression="zstd", use_dictionary=False, write_statistics=False)
    return target.getvalue()


def _answers(table: pa.Table, schema: Schema, way: str) -> Answers:
    return {output.name: _answer(table, f"{way}.{output.name}", output) for output in schema.outputs}


def _answer(table: pa.Table, name: str, output: Output) -> Array:
    note: Mapping[bytes, bytes] = table.schema.field(name).metadata or {}
    shape = tuple(int(size) for size in note.get(b"shape", b"").decode().split(",") if size)
    column = Column(name, output.kind, nullable=True, dtype=output.kind.numpy.name, shape=shape)
    values = from_arrow_array(table[name], column, note if shape else None).values
    return values if output.kind is not Kind.DATETIME else values.astype(np.dtype("datetime64[ns]"))
