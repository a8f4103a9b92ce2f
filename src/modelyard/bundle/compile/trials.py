"""More rows than the golden set has, on which a compiled form is compared with the estimator before it is taken.

The golden set is small because it travels with the bundle. Here the estimator itself is at hand and can be asked about
as many rows as it takes to trust a graph: new combinations of known values, and numbers of every magnitude.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from modelyard.bundle.native import InProcess
from modelyard.domain.checks import offences
from modelyard.domain.compare import compare
from modelyard.domain.frame import Answers, Frame, Vector, concat_frames
from modelyard.domain.golden import GoldenSet
from modelyard.domain.manifest import Tolerance
from modelyard.domain.schema import Schema
from modelyard.errors import RowsRefused
from modelyard.runtime.interface import Runtime

_CROSSED = 192
_MAGNITUDES = (1e-6, 1e-3, 0.5, 10.0, 1e3, 1e6, 1e9)


def differs(compiled: Runtime, estimator: Any, golden: GoldenSet, schema: Schema, tolerance: Tolerance) -> str:
    """How a compiled form first differs from the estimator on rows outside of the golden set; empty if it does not.

    Rows that the schema or the estimator refuses are left out: what is refused is the golden set's to prove.
    """
    rows = _within(trial_rows(golden, schema), schema)
    if not rows.rows:
        return ""
    for frame, expected in _answered(InProcess(estimator, schema), rows):
        found = compare(expected, compiled.predict(frame), schema.outputs, tolerance, origins=["trial"] * frame.rows)
        if not found.equal:
            return f"on rows beside the golden set: {found.reason}"
    return ""


def trial_rows(golden: GoldenSet, schema: Schema) -> Frame:
    """Columns of answered rows shifted against each other, and one row with each number at several magnitudes."""
    answered = golden.inputs.take(golden.answered())
    if not answered.rows:
        return answered
    return concat_frames([_crossed(answered, schema), *_magnified(answered, schema)])


def _crossed(rows: Frame, schema: Schema) -> Frame:
    """Each column moved on by its own number of rows, so that values meet that never met before."""
    places = np.arange(min(rows.rows, _CROSSED))
    moved = {
        column.name: rows[column.name].take((places * 7 + at * 13) % rows.rows)
        for at, column in enumerate(schema.columns)
    }
    return Frame(moved, len(places))


def _magnified(rows: Frame, schema: Schema) -> Iterator[Frame]:
    factors = np.array([sign * size for size in _MAGNITUDES for sign in (1.0, -1.0)])
    base = rows.take([0] * len(factors))
    for column in schema.columns:
        values = rows[column.name].values
        if values.dtype.kind != "f" or values.ndim != 1:
            continue
        yield Frame(
            {**base.columns, column.name: Vector((factors * _typical(values)).astype(values.dtype))}, len(factors)
        )


def _typical(values: Any) -> float:
    """A number of the size that the column usually has."""
    finite = np.abs(values[np.isfinite(values) & (values != 0.0)])
    return float(np.median(finite)) if finite.size else 1.0


def _within(rows: Frame, schema: Schema) -> Frame:
    refused = offences(rows, schema)
    return rows.take([row for row in range(rows.rows) if row not in refused])


def _answered(native: InProcess, rows: Frame) -> Iterator[tuple[Frame, Answers]]:
    """Rows that the estimator answers, in as few calls as that takes."""
    try:
        answers = native.predict(rows)
    except RowsRefused:
        if rows.rows > 1:
            for half in _halves(rows.rows):
                yield from _answered(native, rows.take(half))
        return
    yield rows, answers


def _halves(count: int) -> tuple[Sequence[int], Sequence[int]]:
    return range(count // 2), range(count // 2, count)
