"""Which inputs move the score: by asking the model, and from its recorded answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from compiled_bundles import write_compiled
from modelyard.domain.frame import Answers, Frame, Vector
from modelyard.domain.schema import Column, Kind, Output, Schema
from modelyard.monitoring.influence import explained_by, influence, moved_by

SCHEMA = Schema(
    "dataframe",
    tuple(Column(name, Kind.FLOAT64, nullable=True, dtype="float64") for name in ("strong", "weak", "idle")),
    (Output("predict", Kind.FLOAT64, "value", "predict"),),
)


def _frame() -> Frame:
    draw = np.random.default_rng(3)
    return Frame({column.name: Vector(draw.normal(size=400)) for column in SCHEMA.columns}, 400)


def _predict(frame: Frame) -> Answers:
    return {"predict": 3 * frame["strong"].values + frame["weak"].values}


def test_a_model_is_asked_column_by_column() -> None:
    found = moved_by(_frame(), _predict, SCHEMA)
    assert abs(found["strong"] - 0.75) < 0.03
    assert abs(found["weak"] - 0.25) < 0.03
    assert found["idle"] == 0.0


def test_recorded_answers_rank_columns_too() -> None:
    frame = _frame()
    found = explained_by(frame, _predict(frame)["predict"][:, None])
    assert found["strong"] > 0.8 > 0.2 > found["weak"] > found["idle"]


def test_parts_of_a_bundle_add_up_to_one_or_nothing_is_said(tmp_path: Path) -> None:
    found = influence(write_compiled(tmp_path / "bundle"))
    assert not found or abs(sum(found.values()) - 1) < 1e-9
