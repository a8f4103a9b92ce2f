"""FastAPI by hand: ``uvicorn on_fastapi:app``. With INSIDE=1 the event loop itself predicts, not a thread of it."""

from __future__ import annotations

import os

import joblib
import pandas as pd
from fastapi import FastAPI
from pydantic import BaseModel

model = joblib.load(os.environ["MODEL_FILE"])
columns = list(model.feature_names_in_)
app = FastAPI()


class Asked(BaseModel):
    """The body of a request."""

    rows: list[dict[str, float | str | None]]


class Answered(BaseModel):
    """The body of an answer."""

    predictions: list[float]


def predict(asked: Asked) -> Answered:
    """The probability of class 1 for every row."""
    frame = pd.DataFrame(asked.rows, columns=columns)
    return Answered(predictions=model.predict_proba(frame)[:, 1].tolist())


async def predict_inside(asked: Asked) -> Answered:
    """The same, in the event loop."""
    return predict(asked)


app.post("/predict")(predict_inside if os.environ.get("INSIDE") else predict)
