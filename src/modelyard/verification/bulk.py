"""The golden rows as files, scored in bulk and read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from modelyard.bundle.parity import Predict
from modelyard.bundle.tabular import arrow_array, to_arrow
from modelyard.domain.frame import Answers, Frame
from modelyard.domain.schema import Schema
from modelyard.scoring import score_file
from modelyard.scoring.targets import read_answers


def through_files(predict: Predict, schema: Schema, folder: Path, ending: str) -> Predict:
    """Something that answers a frame by way of a file of that kind (``parquet``, ``csv``), scored to another."""
    folder.mkdir(parents=True, exist_ok=True)
    source, target = folder / f"golden.{ending}", folder / f"answers.{ending}"

    def ask(frame: Frame) -> Answers:
        table = as_table(frame, schema)
        if ending == "csv":
            pa.csv.write_csv(table, source)
        else:
            pa.parquet.write_table(table, source)
        score_file(predict, schema, source, target, keep=())
        return read_answers(target, schema.outputs)

    return ask


def fits_csv(schema: Schema) -> bool:
    """Whether rows and answers can be written as CSV: one value a cell, or one array spread over columns."""
    flat = all(not column.shape for column in schema.columns)
    spread = schema.layout == "array" and len(schema.columns[0].shape) == 1
    return (flat or spread) and all(len(output.shape) <= 1 and -1 not in output.shape for output in schema.outputs)


def as_table(frame: Frame, schema: Schema) -> pa.Table:
    """The rows as users keep them: a table with one column each, also where the model takes one array."""
    first = schema.columns[0]
    if schema.layout != "array" or len(first.shape) != 1:
        return to_arrow(frame, schema)
    vector = frame[first.name]
    width = vector.values.shape[1]
    missing = None if vector.missing is None else np.broadcast_to(_aligned(vector.missing), vector.values.shape)
    return pa.table(
        {
            f"{first.name}_{at}": arrow_array(
                vector.values[:, at], first.kind, None if missing is None else missing[:, at]
            )
            for at in range(width)
        }
    )


def _aligned(
    missing: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    return missing if missing.ndim > 1 else missing[:, None]
