"""Prediction records and labels: one of the three written forms between the planes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import msgspec

from modelyard.domain.schema import Scalar

Outcome: TypeAlias = Literal["ok", "refused", "failed", "unavailable"]
"""``ok``: answered; ``refused``: the input's fault (4xx); ``failed``: the model's (500); ``unavailable``: 503."""

WireForm: TypeAlias = Literal["oip", "rows", "invocations", "arrow", "grpc"]
"""Which shape the bodies have: Open Inference Protocol over HTTP (JSON, or JSON and binary tensors), rows, MLflow's, an
Arrow stream, the protocol's ``ModelInferRequest`` as protobuf."""


class PredictionRecord(msgspec.Struct, frozen=True):
    """One call, as raw as it came.

    `prediction_id` names the call; its rows are ``<id>-0``, ``<id>-1`` ... and, for a call of one row, the id itself
    (see `row_id`), unless the caller named them in `row_ids`. `received_ns` is nanoseconds since 1970 UTC,
    `latency_ns` the time from there to the finished answer. `event_ns` is the moment that the rows are about, likewise,
    or 0 where the caller did not say, and then it is `received_ns`. `version` is 0 and `digest` empty when no version
    was reached. The bodies are kept without compression; `content_type` and `response_type` say what they are, for one
    with binary tensors ``application/octet-stream; json=N`` with the length of its JSON part. `memory_bytes` is the
    resident memory of the model's own process, told with a call now and then; 0: not with this one, or it has none.
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
    response_type: str = "application/json"
    event_ns: int = 0
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Label:
    """The truth that arrived for one row, or for every row with one key. A later one corrects it; all are kept.

    It names its row by `prediction_id`, or by `deployment` and `key` (see `key_of`). `known_ns` is when the truth
    became known to the world, in nanoseconds since 1970 UTC; 0 where nobody said, and then `received_ns` counts. Of
    several labels for one row the one counts that became known last, and of those the one that was received last.
    """

    prediction_id: str
    value: Scalar | None
    received_ns: int
    source: str = ""
    deployment: str = ""
    key: str = ""
    known_ns: int = 0


def key_of(columns: Mapping[str, Scalar]) -> str:
    """Key columns and their values as one text: a JSON object, in the order of the names, of texts.

    >>> key_of({"flight": 1545, "carrier": "UA"})
    '{"carrier":"UA","flight":"1545"}'
    """
    return msgspec.json.encode({name: key_text(columns[name]) for name in sorted(columns)}).decode()


def key_text(value: Scalar) -> str:
    """A value of a key column as the text by which it is compared: 3, 3.0 and "3" are the same, "03" is not.

    >>> [key_text(value) for value in (3, 3.0, "3", "03", 2.5, True)]
    ['3', '3', '3', '03', '2.5', 'true']
    """
    if isinstance(value, str):
        text = value
    elif isinstance(value, bool):
        text = "true" if value else "false"
    else:
        text = str(value)
    return _WHOLE.sub(r"\1", text)


_WHOLE = re.compile(r"^(-?[0-9]+)\.0+$")


def row_id(prediction_id: str, row: int, rows: int) -> str:
    """The prediction id of one row of a call.

    >>> row_id("a1", 0, 1), row_id("a1", 0, 2)
    ('a1', 'a1-0')
    """
    return prediction_id if rows == 1 else f"{prediction_id}-{row}"
