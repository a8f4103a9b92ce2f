"""The plain form, ``{"rows": [...]}``, and its answers."""

from __future__ import annotations

import json
from collections.abc import Iterator

import wire_samples as wire
from fuzz.parts import REPLY, for_schema, replies, taken
from modelyard.protocol.media import PLAIN

WORDS = (
    '"rows"', '"ids"', '"outputs"', '"predict"', '"predict_proba"', '"prediction_id"', '"X"', '"temp"', '"leaves"',
    "NaN", "Infinity", "null", "false", "1e400", "2013-01-01T05:15:00Z", "9223372036854775808", "\\ud800", "[[", "]]",
)  # fmt: skip


def seeds() -> Iterator[bytes]:
    """Valid requests, and an answer."""
    said = {"model": "m", "version": 1, "prediction_id": "p"}
    for number, document in (
        (0, {"rows": [wire.ROW, wire.ROW], "ids": ["a", "b"], "outputs": ["predict"]}),
        (0, {"rows": [dict.fromkeys(wire.ROW)]}),
        (4, {"rows": [{"x": 1, "n": None, "m": 7, "yes": True, "city": "Bern"}]}),
        (4, {"rows": [{"x": 1e30, "n": -5, "m": 2**53, "yes": False, "city": "é"}] * 2}),
        (1, {"rows": [[1, 2.5, None], [4, 5, 6]]}),
        (1, {"rows": [{"X": [1, 2, float("nan")]}]}),
        (2, {"rows": ["a", "é"]}),
        (3, {"rows": [[1, 2], [3, 4]]}),
        (3, {"rows": [[], []]}),
        (REPLY, {**said, "rows": [{"prediction_id": "p", "predict": 1.5}]}),
        (
            REPLY,
            {**said, "rows": [{"predict_proba": {"late": 1, "on time": 0}}]},
        ),
    ):
        yield for_schema(number, json.dumps(document).encode())


def one(data: bytes) -> None:
    """As a request, or as an answer, as the first byte says."""
    if data and data[0] & REPLY:
        replies("rows", data[1:])
    elif data:
        taken("rows", data, PLAIN)
