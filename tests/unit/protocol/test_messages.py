"""The messages are those of the stock client, field by field."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from google.protobuf.internal import api_implementation

from modelyard.protocol import messages

_DUMP = """
import json
from tritonclient.grpc import service_pb2, model_config_pb2
def dump(message):
    fields = {f.number: (f.name, f.type, f.is_repeated, f.containing_oneof.name if f.containing_oneof else None,
              f.message_type.full_name if f.message_type else None, f.enum_type.full_name if f.enum_type else None)
              for f in message.fields}
    found = {message.full_name: fields}
    for nested in message.nested_types:
        found.update(dump(nested))
    return found
found = {}
for file in (service_pb2, model_config_pb2):
    for message in file.DESCRIPTOR.message_types_by_name.values():
        found.update(dump(message))
service = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
methods = {m.name: (m.input_type.full_name, m.output_type.full_name, m.client_streaming, m.server_streaming)
           for m in service.methods}
types = {v.name: v.number for v in model_config_pb2.DESCRIPTOR.enum_types_by_name["DataType"].values}
print(json.dumps([found, methods, types]))
"""


@pytest.fixture(scope="module")
def stock() -> Any:
    """What the stock client was compiled with, told by another process: two copies of one file name clash in one."""
    return json.loads(subprocess.run([sys.executable, "-c", _DUMP], check=True, capture_output=True).stdout)


def dump(message: Any) -> dict[str, Any]:
    found = {
        message.full_name: {
            str(field.number): [
                field.name,
                field.type,
                field.is_repeated,
                field.containing_oneof.name if field.containing_oneof else None,
                field.message_type.full_name if field.message_type else None,
                field.enum_type.full_name if field.enum_type else None,
            ]
            for field in message.fields
        }
    }
    for nested in message.nested_types:
        found.update(dump(nested))
    return found


def ours() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for file in ("grpc_service.proto", "model_config.proto"):
        for message in messages.POOL.FindFileByName(file).message_types_by_name.values():
            found.update(dump(message))
    return found


def test_every_message_of_the_service_is_the_stock_clients(stock: Any) -> None:
    theirs, _, _ = stock
    properties = ours()["inference.ModelMetadataResponse"].pop("6")
    assert properties[0] == "properties"
    for name, fields in ours().items():
        if name == "inference.ModelMetadataResponse":
            fields.pop("6")
        if name != "inference.ModelMetadataResponse.PropertiesEntry":
            assert {number: theirs[name][number] for number in fields} == fields


def test_no_message_or_field_that_a_client_sends_is_left_out(stock: Any) -> None:
    theirs, methods, _ = stock
    for takes, gives, _, _ in methods.values():
        for name in (takes, gives):
            known = ours()[name]
            assert set(theirs[name]) <= set(known), name


def test_methods_and_data_types_are_the_stock_clients(stock: Any) -> None:
    _, methods, types = stock
    service = messages.POOL.FindServiceByName(messages.SERVICE)
    assert {
        method.name: [
            method.input_type.full_name,
            method.output_type.full_name,
            method.client_streaming,
            method.server_streaming,
        ]
        for method in service.methods
    } == methods
    assert {f"TYPE_{name}": number for number, name in enumerate(messages.DATA_TYPES)} == types


def test_messages_are_parsed_by_the_fast_library() -> None:
    assert api_implementation.Type() == "upb"
