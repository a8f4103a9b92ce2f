"""What MLflow's clients send to ``/invocations``, and its answers."""

from __future__ import annotations

import json
from collections.abc import Iterator

import wire_samples as wire
from fuzz.parts import REPLY, for_schema, replies, taken
from modelyard.protocol.media import PLAIN

WORDS = (
    '"dataframe_split"', '"dataframe_records"', '"instances"', '"inputs"', '"columns"', '"index"', '"data"', '"params"',
    '"predictions"', '"outputs"', '"predict"', '"X"', '"temp"', "NaN", "Infinity", "null", "true", "1e400", "[[", "]]",
)  # fmt: skip


def seeds() -> Iterator[bytes]:
    """Valid requests in all forms, and an answer."""
    names, values = list(wire.ROW), list(wire.ROW.values())
    said = {"model": "m", "version": 1, "prediction_id": "p"}
    for number, document in (
        (0, {"dataframe_split": {"columns": names, "index": [0, 1], "data": [values, values]}}),
        (0, {"dataframe_split": {"columns": names, "data": []}}),
        (0, {"dataframe_records": [wire.ROW]}),
        (0, {"inputs": {name: [value] for name, value in wire.ROW.items()}}),
        (0, {"inputs": wire.ROW}),
        (1, {"instances": [[1, 2, 3]]}),
        (1, {"inputs": {"X": [[1, 2, 3]]}}),
        (1, {"dataframe_split": {"data": [[1, 2, 3]]}}),
        (2, {"dataframe_split": {"columns": ["text"], "data": [["a"]]}}),
        (3, {"instances": [[1, 2], [3, 4]], "params": {}}),
        (REPLY, {"predictions": [1.5], **said, "outputs": ["predict"]}),
        (
            REPLY,
            {"predictions": [{"a": [1]}], **said, "outputs": ["predict"]},
        ),
    ):
        yield for_schema(number, json.dumps(document).encode())


def one(data: bytes) -> None:
    """As a request, or as an answer, as the first byte says."""
    if data and data[0] & REPLY:
        replies("invocations", data[1:])
    elif data:
        taken("invocations", data, PLAIN)
