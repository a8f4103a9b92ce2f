"""What MLflow's clients send to ``/invocations``, and its answers."""

from __future__ import annotations

import json
from collections.abc import Iterator

import wire_samples as wire
from fuzz.parts import REPLY, for_schema, replies, taken
from modelyard.protocol.media import CSV, PLAIN, Media

WORDS = (
    '"dataframe_split"', '"dataframe_records"', '"instances"', '"inputs"', '"columns"', '"index"', '"data"', '"params"',
    '"predictions"', '"outputs"', '"predict"', '"X"', '"temp"', "NaN", "Infinity", "null", "true", "1e400", "[[", "]]",
    ",,", '""',
)  # fmt: skip


TABLE = 16
"""Added to the first byte where the body is CSV."""


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
    text = ",".join(names) + "\r\n" + ",".join("" if value is None else str(value) for value in values) + "\r\n"
    yield for_schema(TABLE, text.encode())
    yield for_schema(TABLE + 1, b"0,1,2\n1,2.5,\n-inf,NaN,1e-3\n")
    yield for_schema(TABLE + 2, '\ufefftext\n"a ""b"", c"\né\n'.encode())
    yield for_schema(TABLE + 4, "x,n,m,yes,city\n1,,7,True,Bern\n1e30,-5,3,false,é\n".encode())


def one(data: bytes) -> None:
    """As a request, or as an answer, as the first byte says."""
    if data and data[0] & REPLY:
        replies("invocations", data[1:])
    elif data:
        taken("invocations", data, Media(CSV) if data[0] & TABLE else PLAIN)
