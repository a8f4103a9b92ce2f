"""``ModelInferRequest`` and ``ModelInferResponse`` messages, typed and raw."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from fuzz.parts import REPLY, for_schema, replies, taken
from modelyard.protocol.media import PLAIN
from modelyard.protocol.messages import message
from modelyard.protocol.protobuf import CONTENTS

WORDS = (
    "FP64", "FP32", "FP16", "BF16", "BYTES", "BOOL", "INT8", "INT64", "UINT8", "UINT64", "X", "text", "temp", "seats",
    "predict", "classification", "shared_memory_region", "binary_data", "missing", "0,1",
)  # fmt: skip

_MIXED: dict[str, tuple[str, list[Any]]] = {
    "temp": ("FP64", [21.5, 1.0]),
    "gust": ("FP32", [1.5, 2.5]),
    "seats": ("INT64", [180, 2]),
    "engines": ("UINT8", [2, 4]),
    "night": ("BOOL", [True, False]),
    "carrier": ("BYTES", [b"UA", b"AA"]),
    "leaves": ("BYTES", [b"2013-01-01T05:15:00Z"] * 2),
}


def _request(raws: list[bytes], **tensors: tuple[str, list[int], list[Any] | None]) -> bytes:
    asked = message("ModelInferRequest")(model_name="m", id="7", raw_input_contents=raws)
    for name, (datatype, shape, leaves) in tensors.items():
        tensor = asked.inputs.add(name=name, datatype=datatype, shape=shape)
        if leaves is not None:
            getattr(tensor.contents, CONTENTS[datatype]).extend(leaves)
    asked.outputs.add(name="predict").parameters["binary_data"].bool_param = True
    written: bytes = asked.SerializeToString()
    return written


def seeds() -> Iterator[bytes]:
    """Valid requests of every datatype, and an answer."""
    yield for_schema(0, _request([], **{name: (kind, [2], leaves) for name, (kind, leaves) in _MIXED.items()}))
    raws = [
        struct.pack("<2d", 21.5, 1),
        struct.pack("<2f", 1.5, 2.5),
        struct.pack("<2q", 180, 2),
        b"\2\4",
        b"\0\1",
        b"\2\0\0\0UA\2\0\0\0AA",
        2 * (b"\x14\0\0\0" + b"2013-01-01T05:15:00Z"),
    ]
    yield for_schema(0, _request(raws, **{name: (kind, [2, 1], None) for name, (kind, _) in _MIXED.items()}))
    yield for_schema(1, _request([], X=("FP64", [1, 3], [1.0, 2.0, 3.0])))
    asked = message("ModelInferRequest").FromString(
        _request([], **{name: (kind, [2], leaves) for name, (kind, leaves) in _MIXED.items()})
    )
    asked.outputs.add(name="predict_proba").parameters["classification"].int64_param = 2
    yield for_schema(0, asked.SerializeToString())
    for datatype, dtype in (("FP16", "<f2"), ("BF16", "<u2"), ("INT8", "<i1"), ("UINT64", "<u8"), ("FP32", "<f4")):
        yield for_schema(1, _request([np.arange(6).astype(dtype).tobytes()], X=(datatype, [2, 3], None)))
    yield for_schema(2, _request([], text=("BYTES", [1], ["é".encode()])))
    asked = message("ModelInferRequest").FromString(_request([b"\2\0\0\0UA\0\0\0\0"], text=("BYTES", [2], None)))
    asked.inputs[0].parameters["missing"].string_param = "1"
    yield for_schema(2, asked.SerializeToString())
    yield for_schema(3, _request([b""], X=("FP64", [2**40, 0], None)))
    yield for_schema(3, _request([bytes(8)], X=("FP64", [1] * 2500, None)))
    answer = message("ModelInferResponse")(model_name="m", raw_output_contents=[bytes(16)])
    answer.outputs.add(name="predict", datatype="FP64", shape=[2])
    yield for_schema(REPLY, answer.SerializeToString())


def one(data: bytes) -> None:
    """As a request, or as an answer, as the first byte says."""
    if data and data[0] & REPLY:
        replies("grpc", data[1:])
    elif data:
        taken("grpc", data, PLAIN)
