"""Prediction records and labels: one of the three written forms between the planes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from modelyard.domain.schema import Scalar

Outcome: TypeAlias = Literal["ok", "refused", "failed", "unavailable"]
"""``ok``: answered; ``refused``: the input's fault (4xx); ``failed``: the model's (500); ``unavailable``: 503."""

WireForm: TypeAlias = Literal["oip", "rows", "invocations"]
"""Which shape the request and response bodies have."""


@dataclass(frozen=True, slots=True)
class PredictionRecord:
    """One call, as raw as it came.

    `prediction_id` names the call; its rows are ``<id>-0``, ``<id>-1`` ... and, for a call of one row, the id itself
    (see `row_id`), unless the caller named them in `row_ids`. `received_ns` is nanoseconds since 1970 UTC,
    `latency_ns` the time from there to the finished answer. `version` is 0 and `digest` empty when no version
    was reached.
    """

    prediction_id: str
    deployment: str
    model: str
    version: int
    digest: str
    received_ns: int
    latency_ns: int
    status: int
    outcome: Outcome
    form: WireForm
    rows: int
    request: bytes
    response: bytes
    error: str | None = None
    row_ids: tuple[str, ...] = ()
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Label:
    """The truth that arrived for one row. A later one for the same id corrects it; both are kept."""

    prediction_id: str
    value: Scalar | None
    received_ns: int
    source: str = ""


def row_id(prediction_id: str, row: int, rows: int) -> str:
    """The prediction id of one row of a call.

    >>> row_id("a1", 0, 1), row_id("a1", 0, 2)
    ('a1', 'a1-0')
    """
    return prediction_id if rows == 1 else f"{prediction_id}-{row}"
