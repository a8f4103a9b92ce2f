"""Requests and answers of the Open Inference Protocol, as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from fuzz.parts import REPLY, changed, for_schema, replies, taken
from modelyard.protocol.media import PLAIN

WORDS = (
    '"inputs"', '"outputs"', '"name"', '"datatype"', '"shape"', '"data"', '"parameters"', '"id"', '"FP64"', '"FP16"',
    '"BF16"', '"BYTES"', '"BOOL"', '"INT64"', '"UINT8"', '"UINT64"', "NaN", "Infinity", "null", "true", "1e400", "-0.0",
    '"non_finite"', '"words"', '"binary_data"', '"binary_data_size"', '"binary_data_output"', '"classification"',
    '"content_type"', '"base64"', '"shared_memory_region"', '"X"', '"text"', '"temp"', '"seats"', '"predict"', "[[",
    "]]", "9223372036854775808", "\\ud800",
)  # fmt: skip

MATRIX: dict[str, Any] = {"name": "X", "datatype": "FP64", "shape": [2, 3], "data": [1, 2.5, None, 4, 5, -6e10]}
MIXED: list[dict[str, Any]] = [
    {"name": "temp", "datatype": "FP64", "shape": [2], "data": [21.5, None]},
    {"name": "gust", "datatype": "FP32", "shape": [2, 1], "data": [1.5, 2.5]},
    {"name": "seats", "datatype": "INT64", "shape": [2], "data": [180, None]},
    {"name": "engines", "datatype": "UINT8", "shape": [2], "data": [2, 4]},
    {"name": "night", "datatype": "BOOL", "shape": [2], "data": [True, None]},
    {"name": "carrier", "datatype": "BYTES", "shape": [2], "data": ["UA", None]},
    {"name": "leaves", "datatype": "BYTES", "shape": [2], "data": ["2013-01-01T05:15:00Z", None]},
]
TEXT: dict[str, Any] = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["é"]}


def documents() -> Iterator[tuple[int, Any]]:
    """Which schema a request is for, and the request."""
    yield 0, {"inputs": MIXED, "id": "7", "outputs": [{"name": "predict_proba"}]}
    yield 1, {"inputs": [MATRIX], "outputs": [{"name": "predict", "parameters": {"binary_data": True}}]}
    yield 1, {"inputs": [changed(MATRIX, data=[[1, 2, 3], [4, 5, 6]])], "parameters": {"non_finite": "words"}}
    for datatype in ("FP16", "BF16", "INT8", "UINT64", "FP32"):
        yield 1, {"inputs": [changed(MATRIX, datatype=datatype, data=[1, 2, 3, 4, 5, 6])]}
    yield 2, {"inputs": [changed(TEXT, data=["w6k="], parameters={"content_type": "base64"})]}
    yield 3, {"inputs": [MATRIX]}
    for rows, shape in ((1, [1]), (2, [2, 1])):
        sent = [
            ("x", "FP64", 1.5),
            ("n", "INT16", None),
            ("m", "INT64", 7),
            ("yes", "BOOL", True),
            ("city", "BYTES", "é"),
        ]
        tensors = [
            {"name": name, "datatype": kind, "shape": shape, "data": [value] * rows} for name, kind, value in sent
        ]
        yield 4, {"inputs": tensors}
    yield 3, {"inputs": [changed(MATRIX, shape=[2**40, 0], data=[])]}
    yield 3, {"inputs": [changed(MATRIX, shape=[1] * 2500, data=[5])]}
    yield 0, {"inputs": [changed(one, datatype="FP64", data=[1, 2]) for one in MIXED]}
    classes = {"classification": 1, "binary_data": True}
    yield 0, {"inputs": MIXED, "outputs": [{"name": "predict_proba", "parameters": classes}, {"name": "predict"}]}


def seeds() -> Iterator[bytes]:
    """Valid requests, some that are nearly so, and an answer."""
    for number, document in documents():
        yield for_schema(number, json.dumps(document).encode())
    yield for_schema(1, json.dumps({"inputs": [changed(MATRIX, data=[float("nan")] * 6)]}).encode())
    yield for_schema(1, b'{"inputs": ' + b"[" * 3000)
    outputs = [changed(MATRIX, name="predict", shape=[6])]
    yield for_schema(REPLY, json.dumps({"model_name": "m", "outputs": outputs, "model_version": "1"}).encode())


def one(data: bytes) -> None:
    """As a request, or as an answer, as the first byte says."""
    if data and data[0] & REPLY:
        replies("oip", data[1:])
    elif data:
        taken("oip", data, PLAIN)
