"""Requests and answers of the Open Inference Protocol whose tensors follow the JSON as bytes.

After the first byte come two with the length of the JSON part, counted from the end of the body where it is larger.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from fuzz import oip_json
from fuzz.parts import REPLY, changed, for_schema, replies, taken
from modelyard.protocol.media import BINARY, Media, described

WORDS = (*oip_json.WORDS, "missing", "0,1")
_LENGTH = struct.Struct("<H")


def _bytes(*texts: str) -> bytes:
    return b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in texts)


def _input(number: int, tensors: list[dict[str, Any]], tail: bytes, **members: Any) -> bytes:
    head = json.dumps({"inputs": tensors, **members}).encode()
    return for_schema(number, _LENGTH.pack(len(head)) + head + tail)


def _raw(tensor: dict[str, Any], size: int, **members: Any) -> dict[str, Any]:
    return changed(tensor, data=None, parameters={"binary_data_size": size}, **members)


def seeds() -> Iterator[bytes]:
    """Valid requests with tensors of every width, some as JSON, and bodies that are one row."""
    matrix, text = oip_json.MATRIX, oip_json.TEXT
    yield _input(1, [_raw(matrix, 48)], bytes(48), outputs=[{"name": "predict", "parameters": {"binary_data": True}}])
    yield _input(3, [_raw(matrix, 48)], bytes(48), parameters={"binary_data_output": True})
    yield _input(3, [_raw(matrix, 0, shape=[2**40, 0])], b"")
    for datatype, dtype in (("FP16", "<f2"), ("BF16", "<u2"), ("INT8", "<i1"), ("UINT64", "<u8"), ("FP32", "<f4")):
        tail = np.arange(6).astype(dtype).tobytes()
        yield _input(1, [_raw(matrix, len(tail), datatype=datatype)], tail)
    yield _input(2, [_raw(text, 6)], _bytes("é"))
    yield _input(2, [_raw(text, 2**32, shape=[2**40])], struct.pack("<I", 2**32 - 1))
    tails = [
        np.array([21.5, np.nan]).tobytes(),
        np.array([1.5, 2.5], "<f4").tobytes(),
        np.array([180, 2]).tobytes(),
        b"\2\4",
        b"\0\1",
        _bytes("UA", "AA"),
        _bytes("2013-01-01T05:15:00Z", "2013-01-01T05:15:00Z"),
    ]
    tensors = [_raw(one, len(tail)) for one, tail in zip(oip_json.MIXED, tails, strict=True)]
    yield _input(0, tensors, b"".join(tails))
    yield _input(0, [*oip_json.MIXED[:3], *tensors[3:]], b"".join(tails[3:]))
    yield for_schema(1, _LENGTH.pack(0) + bytes(24))
    yield for_schema(2, _LENGTH.pack(0) + "é".encode())
    yield for_schema(3, _LENGTH.pack(0) + bytes(80))
    output = {"name": "predict", "datatype": "FP64", "shape": [2], "parameters": {"binary_data_size": 16}}
    head = json.dumps({"model_name": "m", "outputs": [output]}).encode()
    yield for_schema(REPLY, _LENGTH.pack(len(head)) + head + bytes(16))


def one(data: bytes) -> None:
    """As a request, or as an answer, as the first byte says."""
    if len(data) < 3:
        return
    length, body = _LENGTH.unpack(data[1:3])[0], data[3:]
    length = length if length <= len(body) else length % (len(body) + 1)
    if data[0] & REPLY:
        replies("oip", body, described(BINARY, length))
    else:
        taken("oip", data[:1] + body, Media(BINARY, json_length=length))
