"""The same bad request is refused with the same words, however the Open Inference Protocol carries it."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

import wire_samples as wire
from modelyard.errors import ModelyardError
from modelyard.protocol.forms import FORMS
from modelyard.protocol.media import PLAIN, Media
from modelyard.protocol.messages import message
from modelyard.protocol.protobuf import CONTENTS
from modelyard.protocol.table import TableReader

_DTYPES = {
    "FP64": "<f8",
    "FP32": "<f4",
    "FP16": "<f2",
    **{f"{sign}INT{8 * size}": f"<{sign.lower() or 'i'}{size}" for sign in ("", "U") for size in (1, 2, 4, 8)},
    "BOOL": "?",
}


@dataclass(frozen=True)
class Tensor:
    """One tensor of a request, its elements flat."""

    name: str
    datatype: str
    shape: list[int]
    leaves: list[Any]

    @property
    def raw(self) -> bytes:
        if self.datatype == "BYTES":
            texts = [leaf.encode() for leaf in self.leaves]
            return b"".join(struct.pack("<I", len(text)) + text for text in texts)
        return np.array(self.leaves, _DTYPES.get(self.datatype, "<f8")).tobytes()


class Raw(Tensor):
    """A tensor whose bytes are given."""

    def __init__(self, like: Tensor, raw: bytes) -> None:
        super().__init__(like.name, like.datatype, like.shape, like.leaves)
        object.__setattr__(self, "given", raw)

    @property
    def raw(self) -> bytes:
        return bytes(self.__dict__["given"])


@dataclass(frozen=True)
class Asked:
    """A request: tensors, wanted outputs and parameters of those."""

    tensors: tuple[Tensor, ...]
    outputs: tuple[str, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)
    schema: Any = wire.MIXED

    def changed(self, name: str, **changes: Any) -> Asked:
        """With another datatype, shape, name or other elements of one tensor."""
        assert name in [tensor.name for tensor in self.tensors]
        return replace(
            self, tensors=tuple(replace(one, **changes) if one.name == name else one for one in self.tensors)
        )

    def without(self, name: str) -> Asked:
        return replace(self, tensors=tuple(one for one in self.tensors if one.name != name))

    def beside(self, tensor: Tensor) -> Asked:
        return replace(self, tensors=(*self.tensors, tensor))


GOOD = Asked(
    (
        Tensor("temp", "FP64", [2], [21.5, 3.0]),
        Tensor("gust", "FP32", [2], [1.5, 2.5]),
        Tensor("seats", "INT64", [2], [180, 20]),
        Tensor("engines", "UINT8", [2], [2, 4]),
        Tensor("night", "BOOL", [2], [False, True]),
        Tensor("carrier", "BYTES", [2], ["UA", "AA"]),
        Tensor("leaves", "BYTES", [2], ["2013-01-01T05:15:00Z", "2013-01-02T05:15:00Z"]),
    )
)
LOOSE = replace(wire.ARRAY, columns=(replace(wire.ARRAY.columns[0], shape=(-1,)),))
MATRIX = Asked((Tensor("X", "FP64", [2, 3], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),), schema=wire.ARRAY)


def as_json(asked: Asked, *, binary: bool = False) -> tuple[bytes, Media]:
    inputs: list[dict[str, Any]] = []
    for one in asked.tensors:
        tensor = {"name": one.name, "datatype": one.datatype, "shape": one.shape}
        inputs.append(tensor | ({"parameters": {"binary_data_size": len(one.raw)}} if binary else {"data": one.leaves}))
    document: dict[str, Any] = {"inputs": inputs}
    if asked.outputs:
        document["outputs"] = [{"name": name, "parameters": asked.parameters} for name in asked.outputs]
    head = json.dumps(document).encode()
    tail = b"".join(one.raw for one in asked.tensors) if binary else b""
    return head + tail, Media(json_length=len(head)) if binary else PLAIN


def as_message(asked: Asked, *, raw: bool = False) -> tuple[bytes, Media]:
    request = message("ModelInferRequest")(model_name="live")
    for one in asked.tensors:
        tensor = request.inputs.add(name=one.name, datatype=one.datatype, shape=one.shape)
        if raw:
            request.raw_input_contents.append(one.raw)
        else:
            leaves = [leaf.encode() if isinstance(leaf, str) else leaf for leaf in one.leaves]
            getattr(tensor.contents, CONTENTS.get(one.datatype, "fp64_contents")).extend(leaves)
    for name in asked.outputs:
        output = request.outputs.add(name=name)
        for key, value in asked.parameters.items():
            setattr(output.parameters[key], "string_param" if isinstance(value, str) else "int64_param", value)
    return request.SerializeToString(), PLAIN


CARRIED: dict[str, tuple[Any, Callable[[Asked], tuple[bytes, Media]]]] = {
    "HTTP, JSON": ("oip", as_json),
    "HTTP, binary": ("oip", lambda asked: as_json(asked, binary=True)),
    "gRPC, typed": ("grpc", as_message),
    "gRPC, raw": ("grpc", lambda asked: as_message(asked, raw=True)),
}


def refusals(asked: Asked) -> dict[str, str]:
    """What each way of sending is told; empty where it is taken."""
    told = {}
    for way, (form, written) in CARRIED.items():
        body, media = written(asked)
        try:
            FORMS[form].read(body, media, TableReader(asked.schema))
            told[way] = ""
        except ModelyardError as error:
            told[way] = f"{type(error).__name__}: {error}"
    return told


def test_what_is_good_is_taken_by_all() -> None:
    for good in (GOOD, MATRIX, replace(GOOD, outputs=("predict",))):
        assert set(refusals(good).values()) == {""}


TEMP = Tensor("temp", "FP64", [2], [1.0, 2.0])
BAD: dict[str, tuple[Asked, str]] = {
    "unknown": (GOOD.beside(Tensor("tmp", "FP64", [2], [1.0, 2.0])), "unknown column 'tmp'; did you mean 'temp'?"),
    "absent": (GOOD.without("carrier"), "column 'carrier' is missing"),
    "nothing": (Asked(()), "column 'temp' is missing"),
    "twice": (GOOD.beside(TEMP), "'temp' is sent twice"),
    "text for a number": (
        GOOD.changed("temp", datatype="BYTES", leaves=["a", "b"]),
        "expected datatype FP64, got BYTES",
    ),
    "number for a text": (GOOD.changed("carrier", datatype="FP64", leaves=[1.0, 2.0]), "expected datatype BYTES"),
    "number for a truth": (GOOD.changed("night", datatype="UINT8", leaves=[0, 1]), "expected datatype BOOL"),
    "number for a moment": (GOOD.changed("leaves", datatype="INT64", leaves=[0, 1]), "expected datatype BYTES"),
    "truth for a number": (GOOD.changed("engines", datatype="BOOL", leaves=[True, False]), "expected datatype UINT8"),
    "no datatype": (GOOD.changed("temp", datatype="FP65"), "unknown datatype 'FP65'"),
    "too wide": (GOOD.changed("temp", shape=[2, 2]), "expected shape [n] or [n, 1], got [2, 2]"),
    "no shape": (GOOD.changed("temp", shape=[]), "expected shape [n] or [n, 1], got []"),
    "other width": (MATRIX.changed("X", shape=[3, 2]), "expected shape [n, 3], got [3, 2]"),
    "negative": (GOOD.changed("temp", shape=[-2]), "a shape cannot be negative, got [-2]"),
    "negative width": (GOOD.changed("temp", shape=[-2, 1]), "a shape cannot be negative, got [-2, 1]"),
    "too large": (GOOD.changed("temp", shape=[2**62]), "no tensor is as large"),
    "too large and nothing": (MATRIX.changed("X", shape=[2**62, 3], leaves=[]), "no tensor is as large"),
    "rows of nothing": (
        Asked((Tensor("X", "FP64", [2**40, 0], []),), schema=LOOSE),
        "tensor 'X': a row needs elements, got shape [1099511627776, 0]",
    ),
    "rows": (GOOD.changed("gust", shape=[1], leaves=[1.5]), "column 'gust': it has 1 rows, the tensors before"),
    "range": (GOOD.changed("engines", datatype="INT64", leaves=[2, 256]), "column 'engines', row 1: expected a whole"),
    "sign": (GOOD.changed("engines", datatype="INT8", leaves=[2, -1]), "column 'engines', row 1: expected a whole"),
    "fraction": (GOOD.changed("seats", datatype="FP64", leaves=[1.0, 1.5]), "column 'seats', row 1: expected a whole"),
    "not exact": (GOOD.changed("temp", datatype="INT64", leaves=[1, 2**53 + 1]), "column 'temp', row 1: expected"),
    "not exact in single": (GOOD.changed("gust", datatype="INT32", leaves=[1, 2**24 + 1]), "column 'gust', row 1"),
    "not a moment": (GOOD.changed("leaves", leaves=["2013-01-01T05:15:00Z", "soon"]), "column 'leaves', row 1: expe"),
    "no zone": (GOOD.changed("leaves", leaves=["2013-01-01T05:15:00"] * 2), "column 'leaves', row 0"),
    "unknown output": (replace(GOOD, outputs=("prediction",)), "unknown output 'prediction'; there are: predict, pre"),
    "output twice": (replace(GOOD, outputs=("predict", "predict")), "an output is asked for twice"),
    "classes of a label": (
        replace(GOOD, outputs=("predict",), parameters={"classification": 2}),
        "output 'predict' has no number for each class",
    ),
    "fewer than no classes": (
        replace(GOOD, outputs=("predict_proba",), parameters={"classification": -1}),
        "parameter 'classification': expected a whole number from 0, got -1",
    ),
    "classes in words": (
        replace(GOOD, outputs=("predict_proba",), parameters={"classification": "2"}),
        "parameter 'classification': expected a whole number from 0, got the text '2'",
    ),
    "shared memory": (
        replace(GOOD, outputs=("predict",), parameters={"shared_memory_region": "here"}),
        "shared memory",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_refusal_has_the_same_words_however_it_was_sent(case: str) -> None:
    asked, says = BAD[case]
    told = refusals(asked)
    assert all(says in text and text for text in told.values()), told
    assert len(set(told.values())) == 1, "\n".join(f"{way}: {text}" for way, text in told.items())


@pytest.mark.parametrize("datatype", ["FP64", "BYTES"])
def test_a_length_that_is_not_the_shape_s_is_told_in_elements_or_in_bytes(datatype: str) -> None:
    column = "temp" if datatype == "FP64" else "carrier"
    told = refusals(GOOD.changed(column, shape=[3]))
    assert (
        told["HTTP, JSON"]
        == told["gRPC, typed"]
        == (f"InvalidInput: tensor {column!r}: shape [3] has 3 elements, data has 2")
    )
    assert told["HTTP, binary"] == told["gRPC, raw"] != told["HTTP, JSON"]
    assert "24 bytes, got 16" in told["gRPC, raw"] or "its bytes have 2" in told["gRPC, raw"]


def test_a_text_that_is_not_utf_8_is_refused_alike() -> None:
    request = message("ModelInferRequest").FromString(as_message(GOOD)[0])
    request.inputs[5].contents.bytes_contents[1] = b"\xff"
    with pytest.raises(ModelyardError, match="column 'carrier', row 1: expected a text in UTF-8"):
        FORMS["grpc"].read(request.SerializeToString(), PLAIN, TableReader(wire.MIXED))


@pytest.mark.parametrize(
    ("column", "raw", "says"),
    [
        ("night", b"\0\2", "column 'night', row 1: expected a byte 0 or 1, got 2"),
        ("carrier", b"\1\0\0\0a\1\0\0\0\xff", "column 'carrier', row 1: expected a text in UTF-8"),
        ("carrier", b"\1\0\0\0a\x09\0\0\0b", "its bytes end within element 1"),
        ("carrier", b"\1\0\0\0a\1\0\0\0bcc", "its bytes have more"),
    ],
)
def test_raw_bytes_that_are_no_values_are_refused_alike(column: str, raw: bytes, says: str) -> None:
    told = {}
    for way in ("HTTP, binary", "gRPC, raw"):
        form, written = CARRIED[way]
        body, media = written(Asked(tuple(Raw(one, raw) if one.name == column else one for one in GOOD.tensors)))
        with pytest.raises(ModelyardError) as caught:
            FORMS[form].read(body, media, TableReader(wire.MIXED))
        told[way] = str(caught.value)
    assert says in told["gRPC, raw"]
    assert told["HTTP, binary"] == told["gRPC, raw"]
