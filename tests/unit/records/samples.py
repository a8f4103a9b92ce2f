"""Records and labels for the tests of the log and of what is built on it."""

import json
from typing import Any

from modelyard.domain.records import Label, Outcome, PredictionRecord, WireForm


def record(prediction_id: str = "a1", **changes: Any) -> PredictionRecord:
    """One answered call of one row, as the plain form has it, with `changes`."""
    row = {"temp": 21.5, "city": "Bern"}
    answer = {"prediction_id": prediction_id, "predict": "late", "predict_proba": {"late": 0.75, "on time": 0.25}}
    return call(prediction_id, [row], [answer], **changes)


def call(prediction_id: str, rows: list[Any], answers: list[Any], /, **changes: Any) -> PredictionRecord:
    """One call in the plain form with these rows and these answers."""
    response = {"model": "delay", "version": 3, "prediction_id": prediction_id, "rows": answers}
    outcome: Outcome = "ok"
    form: WireForm = "rows"
    facts: dict[str, Any] = {
        "deployment": "delay",
        "model": "delay",
        "version": 3,
        "digest": "blake3:" + "a" * 64,
        "received_ns": 1_700_000_000_000_000_000,
        "latency_ns": 1_500_000,
        "status": 200,
        "outcome": outcome,
        "form": form,
        "rows": len(rows),
        "request": json.dumps({"rows": rows}).encode(),
        "response": json.dumps(response).encode(),
    }
    return PredictionRecord(prediction_id, **{**facts, **changes})


def label(prediction_id: str = "a1", value: Any = "late", received_ns: int = 1_700_000_100_000_000_000) -> Label:
    """One label."""
    return Label(prediction_id, value, received_ns, "test")
