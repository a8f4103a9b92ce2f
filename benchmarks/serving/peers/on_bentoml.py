"""BentoML: ``bentoml serve on_bentoml:Predictor``, with its adaptive batching."""

from __future__ import annotations

import os
from typing import Any

import bentoml
import joblib
import pandas as pd


@bentoml.service(workers=int(os.environ["WORKERS"]), traffic={"timeout": 30}, metrics={"enabled": True})
class Predictor:
    """The pipeline as a service."""

    def __init__(self) -> None:
        self.model = joblib.load(os.environ["MODEL_FILE"])
        self.columns = list(self.model.feature_names_in_)

    @bentoml.api
    def predict(self, rows: list[dict[str, Any]]) -> list[float]:
        """The probability of class 1 for every row."""
        frame = pd.DataFrame(rows, columns=self.columns)
        return [float(one) for one in self.model.predict_proba(frame)[:, 1]]
