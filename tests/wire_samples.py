"""A schema with every kind of column, and rows for it, for tests of the wire."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from modelyard.domain.frame import Answers, Frame, Vector
from modelyard.domain.schema import Column, Kind, Output, Schema

COLUMNS = (
    Column("temp", Kind.FLOAT64, nullable=True, dtype="float64"),
    Column("gust", Kind.FLOAT32, nullable=True, dtype="float32"),
    Column("seats", Kind.INT64, nullable=True, dtype="Int64"),
    Column("engines", Kind.UINT8, nullable=False, dtype="uint8"),
    Column("night", Kind.BOOL, nullable=True, dtype="boolean"),
    Column("carrier", Kind.STRING, nullable=True, dtype="object", missing="none"),
    Column("leaves", Kind.DATETIME, nullable=True, dtype="datetime64[ns, UTC]", missing="NaT"),
)
OUTPUTS = (
    Output("predict", Kind.STRING, "label", "predict", classes=("late", "on time"), dtype="object"),
    Output("predict_proba", Kind.FLOAT64, "probability", "predict_proba", shape=(2,), classes=("late", "on time")),
)
MIXED = Schema("dataframe", COLUMNS, OUTPUTS)

ARRAY = Schema(
    "array",
    (Column("X", Kind.FLOAT64, nullable=True, dtype="float64", shape=(3,)),),
    (Output("predict", Kind.FLOAT64, "value", "predict"),),
)
SERIES = Schema(
    "series",
    (Column("text", Kind.STRING, nullable=False, dtype="object"),),
    (Output("predict", Kind.INT64, "label", "predict", dtype="int64", classes=(0, 1)),),
)

ROW: dict[str, Any] = {
    "temp": 21.5,
    "gust": None,
    "seats": 180,
    "engines": 2,
    "night": False,
    "carrier": "UA",
    "leaves": "2013-01-01T05:15:00Z",
}

_cells: dict[str, st.SearchStrategy[Any]] = {
    "temp": st.floats() | st.none(),
    "gust": st.floats(width=32) | st.none(),
    "seats": st.integers(-(2**63), 2**63 - 1) | st.none(),
    "engines": st.integers(0, 255),
    "night": st.booleans() | st.none(),
    "carrier": st.text(st.characters(codec="utf-8")) | st.none(),
    "leaves": st.integers(-(2**63) + 1, 2**63 - 1) | st.none(),
}


def vector(column: Column, cells: list[Any]) -> Vector:
    """A column from Python values, None where missing."""
    gone = np.array([cell is None for cell in cells], dtype=np.bool_)
    if column.kind is Kind.STRING:
        values = np.empty(len(cells), dtype=object)
        values[:] = cells
        return Vector(values)
    if column.kind is Kind.DATETIME:
        ticks = [-(2**63) if cell is None else cell for cell in cells]
        return Vector(np.array(ticks, dtype=np.int64).view("datetime64[ns]"))
    if column.kind.is_float:
        return Vector(np.array([np.nan if cell is None else cell for cell in cells], dtype=column.kind.numpy))
    return Vector(np.array([cell or 0 for cell in cells], dtype=column.kind.numpy), gone if gone.any() else None)


@st.composite
def frames(draw: st.DrawFn, most: int = 4) -> Frame:
    """Any frame of the mixed schema."""
    rows = draw(st.integers(0, most))
    return Frame(
        {
            column.name: vector(column, draw(st.lists(_cells[column.name], min_size=rows, max_size=rows)))
            for column in COLUMNS
        },
        rows,
    )


def same(one: Frame, other: Frame) -> bool:
    """Whether two frames hold the same values, bit for bit but for the sign of a missing float."""
    return one.rows == other.rows and all(_same_vector(one[name], other[name]) for name in one.columns)


def _same_vector(one: Vector, other: Vector) -> bool:
    gone = one.is_missing()
    if one.values.dtype != other.values.dtype or not np.array_equal(gone, other.is_missing()):
        return False
    return one.values[~gone].tolist() == other.values[~gone].tolist()


def answers(rows: int) -> Answers:
    """Answers of the mixed schema."""
    late = np.linspace(0.1, 0.9, rows) if rows else np.empty(0)
    labels = np.array(["late" if share > 0.5 else "on time" for share in late], dtype=object)
    return {"predict": labels, "predict_proba": np.stack([late, 1 - late], axis=1)}
