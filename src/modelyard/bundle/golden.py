"""The golden set: drawn from the sample, widened by edges, answered by the estimator as packed, kept exactly."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from modelyard.bundle.tabular import arrow_array, from_arrow, from_arrow_array, to_arrow
from modelyard.domain.frame import Answers, Array
from modelyard.domain.golden import GoldenSet
from modelyard.domain.schema import Column, Kind, Output, Schema
from modelyard.errors import BundleRefused

INPUTS = "inputs.parquet"
ANSWERS = "answers.parquet"


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
