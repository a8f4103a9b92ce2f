"""gRPC calls as HTTP/2 frames, written by hand so that the load generator has nothing to do but send them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.serving.forms import is_text, tensors
from benchmarks.serving.models import Row
from modelyard.protocol.messages import SERVICE, message

METHOD = f"/{SERVICE}/ModelInfer"
_DATA, _HEADERS, _END_STREAM, _END_HEADERS = 0, 1, 1, 4
_MOST = 16384


def request_for(rows: Sequence[Row]) -> bytes:
    """A ``ModelInferRequest`` about these rows, with raw contents."""
    asked = message("ModelInferRequest")(model_name="bench")
    for tensor in tensors(rows, not_a_number=True):
        asked.inputs.add(name=tensor["name"], datatype=tensor["datatype"], shape=tensor["shape"])
        asked.raw_input_contents.append(_raw(tensor))
    asked.outputs.add(name="predict_proba")
    content: bytes = asked.SerializeToString()
    return content


def _raw(tensor: dict[str, Any]) -> bytes:
    if is_text(tensor["name"]):
        return b"".join(struct.pack("<I", len(text)) + text for text in (value.encode() for value in tensor["data"]))
    return np.array(tensor["data"], dtype="<f8").tobytes()


def probabilities(answer: bytes) -> list[float]:
    """The probabilities of class 1 in an answer as it came over the wire, with its prefix."""
    said = message("ModelInferResponse").FromString(answer[5:])
    return [float(one) for one in np.frombuffer(said.raw_output_contents[0], "<f8")[1::2]]


def call(content: bytes, port: int) -> bytes:
    """The frames of one call; the number of its stream is left 0.

    Headers are literals that are not to be remembered, without Huffman coding (RFC 7541, 6.2.2).
    """
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": METHOD,
        ":authority": f"127.0.0.1:{port}",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    block = b"".join(b"\x00" + _text(name) + _text(value) for name, value in headers.items())
    frames = [_frame(_HEADERS, _END_HEADERS, block)]
    prefixed = b"\x00" + struct.pack(">I", len(content)) + content
    parts = [prefixed[at : at + _MOST] for at in range(0, len(prefixed), _MOST)]
    frames += [_frame(_DATA, _END_STREAM if part is parts[-1] else 0, part) for part in parts]
    return b"".join(frames)


def _text(text: str) -> bytes:
    r"""A text of fewer than 127 bytes.

    >>> _text("te")
    b'\x02te'
    """
    return bytes([len(text)]) + text.encode()


def _frame(kind: int, flags: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + bytes(4) + payload
