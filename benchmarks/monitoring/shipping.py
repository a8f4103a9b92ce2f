"""Shipping: what it takes to decode and count recorded calls, and how large a window's profile is."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.monitoring.tables import table
from modelyard.domain.frame import Frame, Vector
from modelyard.domain.profile import build
from modelyard.domain.records import PredictionRecord, WireForm
from modelyard.domain.schema import Column, Kind, Output, Schema
from modelyard.monitoring.counting import Counted, count
from modelyard.protocol import oip, rows
from modelyard.protocol.table import Source

_OUTPUTS = (
    Output("predict", Kind.INT64, "label", "predict", classes=(0, 1), dtype="int64"),
    Output("predict_proba", Kind.FLOAT64, "probability", "predict_proba", shape=(2,), classes=(0, 1)),
)
_WHOLE = ("hour0", "count0")


@dataclass(frozen=True)
class Shipped:
    """Microseconds of processor time a row for reading bodies and counting, and for counting alone; window's bytes."""

    form: str
    rows_a_call: int
    columns: int
    rows: int
    read_and_counted: float
    counted: float
    window_bytes: int


def shipping(form: WireForm, rows_a_call: int, rows: int = 20_000) -> Shipped:
    """Calls of 20 mixed columns and two outputs, counted as one window against a reference of 100,000 rows."""
    reference, live = (_frame(seed, many) for seed, many in ((1, 100_000), (2, rows)))
    schema = _schema()
    counted = Counted.of(schema, build(reference, _answers(reference), schema))
    records = [_record(schema, live.take(slice(at, at + rows_a_call)), form, at) for at in range(0, rows, rows_a_call)]
    spent = min(_timed(lambda: _count(records, counted)) for _ in range(3))
    alone = min(_timed(lambda: counted.reference.profile_of_calls(live, _answers(live), _CLASSES)) for _ in range(3))
    [part] = _count(records, counted).values()
    assert part.profile is not None
    assert part.profile.rows == rows
    size = len(part.profile.publish()) if part.profile else 0
    return Shipped(form, rows_a_call, len(schema.columns), rows, spent / rows * 1e6, alone / rows * 1e6, size)


_CLASSES = {"predict_proba": (0, 1)}


def _count(records: list[PredictionRecord], counted: Counted) -> Any:
    return count(records, lambda digest: counted, lambda deployment: 3600.0)


def _timed(work: Any) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _schema() -> Schema:
    names = list(map(str, table(np.random.default_rng(0), 1)))
    columns = [
        Column(name, Kind.INT64, nullable=False, dtype="int64")
        if name in _WHOLE
        else Column(name, Kind.STRING, nullable=True, dtype="str")
        if name.startswith("text")
        else Column(name, Kind.FLOAT64, nullable=True, dtype="float64")
        for name in names
    ]
    return Schema("dataframe", tuple(columns), _OUTPUTS)


def _frame(seed: int, many: int) -> Frame:
    made = table(np.random.default_rng(seed), many)
    return Frame({name: Vector(made[name].to_numpy(dtype=_dtype(name))) for name in map(str, made)}, many)


def _dtype(name: str) -> Any:
    return np.int64 if name in _WHOLE else object if name.startswith("text") else np.float64


def _answers(frame: Frame) -> dict[str, Any]:
    late = 1 / (1 + np.exp(-frame["normal0"].values))
    return {"predict": (late > 0.5).astype(np.int64), "predict_proba": np.column_stack([1 - late, late])}


def _record(schema: Schema, frame: Frame, form: WireForm, at: int) -> PredictionRecord:
    source = Source("m", 1, f"p{at}", frame.rows)
    if form == "rows":
        request, response = rows.write_request(frame, schema), rows.write_response(_answers(frame), schema, source)
    else:
        request = oip.write_request(frame, schema)
        response = oip.write_response(_answers(frame), schema, name="m", version="1", prediction_id=f"p{at}")
    return PredictionRecord(
        f"p{at}", "d", "m", 1, "blake3:0", 10**18 + at, 10**6, 200, "ok", form, frame.rows, request, response
    )


CASES: tuple[tuple[WireForm, int], ...] = (("rows", 1), ("rows", 100), ("oip", 1), ("oip", 100))
