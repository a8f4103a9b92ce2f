"""Graphs of live estimators beside the estimators themselves, without a bundle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from modelyard.bundle.compile.compiler import write_graph
from modelyard.bundle.frameworks import catalogue
from modelyard.bundle.native import InProcess
from modelyard.bundle.schema import infer_columns, sample_frame
from modelyard.domain.compare import compare
from modelyard.domain.frame import Answers, Frame
from modelyard.domain.manifest import Tolerance
from modelyard.domain.schema import Schema
from modelyard.runtime.onnx import OnnxRuntime

EXACT = Tolerance(rtol=1e-9, atol=1e-9)


class Written:
    """An estimator, and its graph over the columns of a sample."""

    def __init__(self, estimator: Any, sample: Any) -> None:
        layout, columns = infer_columns(sample)
        bare = Schema(layout, columns, ())
        given = InProcess(estimator, bare).native(sample_frame(sample, layout, columns).take(slice(0, 8)))
        self.schema = Schema(layout, columns, catalogue.find(estimator).describe(estimator, given, columns))
        self.native = InProcess(estimator, self.schema)
        draft = write_graph(estimator, self.schema, "float64")
        self.model, self.form = draft.model, draft.form
        self.runtime = OnnxRuntime(draft.model, draft.form, self.schema)

    def frame(self, rows: Any) -> Frame:
        """Rows as the schema of the sample reads them."""
        return sample_frame(rows, self.schema.layout, self.schema.columns)

    def answers(self, rows: Any) -> Answers:
        """What the graph answers."""
        return self.runtime.predict(self.frame(rows))

    def difference(self, rows: Any, tolerance: Tolerance = EXACT) -> str:
        """How the graph first differs from the estimator, one row at a time or all at once; empty if it does not."""
        frame = self.frame(rows)
        for part in (frame, *(frame.row(at) for at in range(min(frame.rows, 8)))):
            found = compare(self.native.predict(part), self.runtime.predict(part), self.schema.outputs, tolerance)
            if not found.equal or found.flips:
                return found.reason or f"{found.flips} labels flipped"
        return ""


def table(rows: int, seed: int) -> pd.DataFrame:
    """Columns of every kind that estimators meet, with missing values."""
    draw = np.random.default_rng(seed)
    made = pd.DataFrame(
        {
            "temp": draw.normal(10, 8, rows),
            "wind": draw.gamma(2, 5, rows),
            "seats": draw.integers(0, 40, rows),
            "late": draw.random(rows) < 0.3,
            "day": draw.choice(["mon", "tue", "wed", "thu", "fri"], rows),
            "carrier": draw.choice(["AA", "UA", "DL", "B6", "ZZ"], rows, p=[0.4, 0.3, 0.2, 0.07, 0.03]),
            "gate": draw.choice(["p", "q", "r"], rows).astype(object),
            "stops": pd.array(draw.integers(0, 9, rows), dtype="Int64"),
            "full": pd.array(draw.random(rows) < 0.5, dtype="boolean"),
            "class": pd.Categorical(
                draw.choice(["lo", "mid", "hi"], rows), categories=["lo", "mid", "hi"], ordered=True
            ),
            "load": draw.normal(size=rows).astype("float32"),
            "zone": draw.integers(1, 5, rows),
        }
    )
    for name in ("temp", "carrier", "stops", "full"):
        made.loc[draw.random(rows) < 0.1, name] = pd.NA if name in ("stops", "full") else np.nan
    made.loc[draw.random(rows) < 0.1, "gate"] = None
    return made


def signal(rows: pd.DataFrame) -> np.ndarray[Any, Any]:
    """A number that depends on several columns."""
    noise = np.random.default_rng(9).normal(0, 0.5, len(rows))
    parts = rows["temp"].fillna(5) / 8 + rows["wind"] / 10 - rows["seats"] / 20
    return np.asarray(parts + (rows["carrier"] == "UA") * 1.5 + (rows["class"] == "hi") + (rows["zone"] == 3) + noise)


TABLE, FRESH = table(240, 0), table(120, 1)
FRESH.loc[0, "day"] = "sun"
FRESH.loc[1, "carrier"] = ""
FRESH.loc[2, "gate"] = "\x00p"
SIGNAL = signal(TABLE)
NUMBER = SIGNAL * 10
TWO = np.where(np.median(SIGNAL) < SIGNAL, "late", "on time")
THREE = np.array(["a", "b", "c"])[np.digitize(SIGNAL, np.quantile(SIGNAL, [0.33, 0.66]))]
