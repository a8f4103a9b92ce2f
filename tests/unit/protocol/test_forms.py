"""Bodies of few bytes that would take much memory are refused before they take it."""

from __future__ import annotations

import json
import struct
import tracemalloc
from typing import Any

import pytest

import wire_samples as wire
from modelyard.errors import InvalidInput, InvalidRequest, TooLarge
from modelyard.protocol import decode
from modelyard.protocol.forms import FORMS
from modelyard.protocol.media import CSV, MOST_VALUES, PLAIN, Media, few_values
from modelyard.protocol.messages import message
from modelyard.protocol.table import TableReader

MANY = MOST_VALUES + 1
TENSORS = b'{"inputs": [{"name": "X", "datatype": "FP64", "shape": [1, 3], "data": ['


def typed() -> bytes:
    request = message("ModelInferRequest")(model_name="m")
    tensor = request.inputs.add(name="text", datatype="BYTES", shape=[MANY])
    tensor.contents.bytes_contents.extend([b""] * MANY)
    return bytes(request.SerializeToString())


def binary() -> tuple[bytes, Media]:
    parameters = {"binary_data_size": 4 * MANY}
    tensor = {"name": "text", "datatype": "BYTES", "shape": [MANY], "parameters": parameters}
    head = json.dumps({"inputs": [tensor]}).encode()
    return head + bytes(4 * MANY), Media(json_length=len(head))


@pytest.mark.parametrize(
    ("form", "body", "media", "schema"),
    [
        ("rows", b'{"rows": [' + b"{}," * MANY + b"{}]}", PLAIN, wire.MIXED),
        ("rows", b'{"rows": ' + b"[" * MANY, PLAIN, wire.ARRAY),
        ("oip", TENSORS + b"1," * MANY + b"1]}]}", PLAIN, wire.ARRAY),
        ("oip", *binary(), wire.SERIES),
        ("invocations", b'{"instances": [' + b"[]," * MANY + b"[]]}", PLAIN, wire.ARRAY),
        ("invocations", b"a,b,c\n" + b",,\n" * (MANY // 3 + 1), Media(CSV), wire.ARRAY),
        ("grpc", typed(), PLAIN, wire.SERIES),
    ],
    ids=["objects", "depth", "numbers", "texts as bytes", "lists", "CSV", "typed texts"],
)
def test_more_values_than_are_taken_are_refused_unread(form: Any, body: bytes, media: Media, schema: Any) -> None:
    reader = TableReader(schema)
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge, match=f"more than {MOST_VALUES} values"):
            FORMS[form].read(body, media, reader)
        assert tracemalloc.get_traced_memory()[1] < 2 * len(body) + 2**20
    finally:
        tracemalloc.stop()


def test_raw_numbers_and_marks_within_them_are_not_counted() -> None:
    head = b'{"inputs": [{"name": "X", "datatype": "FP64", "shape": [%d, 3], "parameters": {"binary_data_size": %d}}]}'
    rows = MOST_VALUES // 16
    head = head % (rows, rows * 24)
    tail = struct.pack("<d", float.fromhex("0x1.c2c2c2c2c2c2cp+3")) * 3 * rows
    assert tail.count(b",") > MOST_VALUES
    body = head + tail
    assert FORMS["oip"].read(body, Media(json_length=len(head)), TableReader(wire.ARRAY)).frame.rows == rows
    few_values(body, end=len(head))


def test_a_message_of_very_many_fields_is_not_parsed() -> None:
    empty_inputs = b"\x2a\x00" * (MOST_VALUES // 2 + 1)
    with pytest.raises(TooLarge):
        FORMS["grpc"].read(empty_inputs, PLAIN, TableReader(wire.SERIES))
    for damaged in (b"\x0b" + empty_inputs, b"\xff" * (MOST_VALUES + 1), b"\x0a\xff\xff\xff\x7f" + bytes(MOST_VALUES)):
        with pytest.raises(InvalidRequest, match="not a ModelInferRequest"):
            FORMS["grpc"].read(damaged, PLAIN, TableReader(wire.SERIES))


@pytest.mark.parametrize("form", ["oip", "grpc"])
def test_a_shape_of_very_many_dimensions_is_refused_and_shown_as_nothing(form: Any) -> None:
    shape = [2] * 100_000
    request = message("ModelInferRequest")(model_name="m", raw_input_contents=[bytes(8)])
    request.inputs.add(name="X", datatype="FP64", shape=shape)
    document = {"inputs": [{"name": "X", "datatype": "FP64", "shape": shape, "data": [5]}]}
    body = request.SerializeToString() if form == "grpc" else json.dumps(document).encode()
    with pytest.raises(InvalidInput) as caught:
        FORMS[form].read(body, PLAIN, TableReader(wire.ARRAY))
    assert len(str(caught.value)) < 200
    assert decode.describe(form, body, b"") == []


def test_a_very_long_name_is_told_in_short() -> None:
    body = json.dumps({"rows": [{"x" * 5_000_000: 1}]}).encode()
    with pytest.raises(InvalidInput, match="unknown column 'xxx") as caught:
        FORMS["rows"].read(body, PLAIN, TableReader(wire.MIXED))
    assert len(str(caught.value)) < 500
    assert len(caught.value.column or "") < 500
