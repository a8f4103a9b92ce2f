r"""The messages of the Open Inference Protocol over gRPC, made from one table.

The descriptors live in a pool of their own, so that a process that also loads another package's copy of the same
protocol (a client library, say) has no clash of names. Field 6 of the model metadata is `properties`, as the
specification has it; the stream's answer is the reference server's ``ModelStreamInferResponse``.

>>> ModelReadyRequest = message("ModelReadyRequest")
>>> ModelReadyRequest(name="churn").SerializeToString()
b'\n\x05churn'
"""

from __future__ import annotations

import re
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"

UNARY = (
    "ServerLive",
    "ServerReady",
    "ModelReady",
    "ServerMetadata",
    "ModelMetadata",
    "ModelInfer",
    "ModelConfig",
    "ModelStatistics",
    "RepositoryIndex",
    "RepositoryModelLoad",
    "RepositoryModelUnload",
    "SystemSharedMemoryStatus",
    "SystemSharedMemoryRegister",
    "SystemSharedMemoryUnregister",
    "CudaSharedMemoryStatus",
    "CudaSharedMemoryRegister",
    "CudaSharedMemoryUnregister",
    "TraceSetting",
    "LogSettings",
)
"""Methods with one message each way, ``<name>Request`` and ``<name>Response``."""

_CONFIG = """
ModelInput: string name=1; DataType data_type=2; repeated int64 dims=4; bool optional=8
ModelOutput: string name=1; DataType data_type=2; repeated int64 dims=3
ModelVersionPolicy.Latest: uint32 num_versions=1
ModelVersionPolicy.All
ModelVersionPolicy.Specific: repeated int64 versions=1
ModelVersionPolicy: ModelVersionPolicy.Latest latest=1 of policy_choice;
    ModelVersionPolicy.All all=2 of policy_choice; ModelVersionPolicy.Specific specific=3 of policy_choice
ModelDynamicBatching: repeated int32 preferred_batch_size=1; uint64 max_queue_delay_microseconds=2
ModelTransactionPolicy: bool decoupled=1
ModelResponseCache: bool enable=1
ModelParameter: string string_value=1
ModelConfig: string name=1; string platform=2; ModelVersionPolicy version_policy=3; int32 max_batch_size=4;
    repeated ModelInput input=5; repeated ModelOutput output=6;
    ModelDynamicBatching dynamic_batching=11 of scheduling_choice; map string ModelParameter parameters=14;
    string backend=17; ModelTransactionPolicy model_transaction_policy=19; ModelResponseCache response_cache=24
"""

_MESSAGES = """
ServerLiveRequest
ServerLiveResponse: bool live=1
ServerReadyRequest
ServerReadyResponse: bool ready=1
ModelReadyRequest: string name=1; string version=2
ModelReadyResponse: bool ready=1
ServerMetadataRequest
ServerMetadataResponse: string name=1; string version=2; repeated string extensions=3
ModelMetadataRequest: string name=1; string version=2
ModelMetadataResponse.TensorMetadata: string name=1; string datatype=2; repeated int64 shape=3
ModelMetadataResponse: string name=1; repeated string versions=2; string platform=3;
    repeated ModelMetadataResponse.TensorMetadata inputs=4; repeated ModelMetadataResponse.TensorMetadata outputs=5;
    map string string properties=6

InferParameter: bool bool_param=1 of parameter_choice; int64 int64_param=2 of parameter_choice;
    string string_param=3 of parameter_choice; double double_param=4 of parameter_choice;
    uint64 uint64_param=5 of parameter_choice
InferTensorContents: repeated bool bool_contents=1; repeated int32 int_contents=2; repeated int64 int64_contents=3;
    repeated uint32 uint_contents=4; repeated uint64 uint64_contents=5; repeated float fp32_contents=6;
    repeated double fp64_contents=7; repeated bytes bytes_contents=8
ModelInferRequest.InferInputTensor: string name=1; string datatype=2; repeated int64 shape=3;
    map string InferParameter parameters=4; InferTensorContents contents=5
ModelInferRequest.InferRequestedOutputTensor: string name=1; map string InferParameter parameters=2
ModelInferRequest: string model_name=1; string model_version=2; string id=3; map string InferParameter parameters=4;
    repeated ModelInferRequest.InferInputTensor inputs=5;
    repeated ModelInferRequest.InferRequestedOutputTensor outputs=6; repeated bytes raw_input_contents=7
ModelInferResponse.InferOutputTensor: string name=1; string datatype=2; repeated int64 shape=3;
    map string InferParameter parameters=4; InferTensorContents contents=5
ModelInferResponse: string model_name=1; string model_version=2; string id=3; map string InferParameter parameters=4;
    repeated ModelInferResponse.InferOutputTensor outputs=5; repeated bytes raw_output_contents=6
ModelStreamInferResponse: string error_message=1; ModelInferResponse infer_response=2

ModelConfigRequest: string name=1; string version=2
ModelConfigResponse: ModelConfig config=1
ModelStatisticsRequest: string name=1; string version=2
StatisticDuration: uint64 count=1; uint64 ns=2
InferStatistics: StatisticDuration success=1; StatisticDuration fail=2; StatisticDuration queue=3;
    StatisticDuration compute_input=4; StatisticDuration compute_infer=5; StatisticDuration compute_output=6;
    StatisticDuration cache_hit=7; StatisticDuration cache_miss=8
InferResponseStatistics: StatisticDuration compute_infer=1; StatisticDuration compute_output=2;
    StatisticDuration success=3; StatisticDuration fail=4; StatisticDuration empty_response=5;
    StatisticDuration cancel=6
InferBatchStatistics: uint64 batch_size=1; StatisticDuration compute_input=2; StatisticDuration compute_infer=3;
    StatisticDuration compute_output=4
MemoryUsage: string type=1; int64 id=2; uint64 byte_size=3
ModelStatistics: string name=1; string version=2; uint64 last_inference=3; uint64 inference_count=4;
    uint64 execution_count=5; InferStatistics inference_stats=6; repeated InferBatchStatistics batch_stats=7;
    repeated MemoryUsage memory_usage=8; map string InferResponseStatistics response_stats=9
ModelStatisticsResponse: repeated ModelStatistics model_stats=1

ModelRepositoryParameter: bool bool_param=1 of parameter_choice; int64 int64_param=2 of parameter_choice;
    string string_param=3 of parameter_choice; bytes bytes_param=4 of parameter_choice
RepositoryIndexRequest: string repository_name=1; bool ready=2
RepositoryIndexResponse.ModelIndex: string name=1; string version=2; string state=3; string reason=4
RepositoryIndexResponse: repeated RepositoryIndexResponse.ModelIndex models=1
RepositoryModelLoadRequest: string repository_name=1; string model_name=2;
    map string ModelRepositoryParameter parameters=3
RepositoryModelLoadResponse
RepositoryModelUnloadRequest: string repository_name=1; string model_name=2;
    map string ModelRepositoryParameter parameters=3
RepositoryModelUnloadResponse

SystemSharedMemoryStatusRequest: string name=1
SystemSharedMemoryStatusResponse.RegionStatus: string name=1; string key=2; uint64 offset=3; uint64 byte_size=4
SystemSharedMemoryStatusResponse: map string SystemSharedMemoryStatusResponse.RegionStatus regions=1
SystemSharedMemoryRegisterRequest: string name=1; string key=2; uint64 offset=3; uint64 byte_size=4
SystemSharedMemoryRegisterResponse
SystemSharedMemoryUnregisterRequest: string name=1
SystemSharedMemoryUnregisterResponse
CudaSharedMemoryStatusRequest: string name=1
CudaSharedMemoryStatusResponse.RegionStatus: string name=1; uint64 device_id=2; uint64 byte_size=3
CudaSharedMemoryStatusResponse: map string CudaSharedMemoryStatusResponse.RegionStatus regions=1
CudaSharedMemoryRegisterRequest: string name=1; bytes raw_handle=2; int64 device_id=3; uint64 byte_size=4
CudaSharedMemoryRegisterResponse
CudaSharedMemoryUnregisterRequest: string name=1
CudaSharedMemoryUnregisterResponse
TraceSettingRequest.SettingValue: repeated string value=1
TraceSettingRequest: map string TraceSettingRequest.SettingValue settings=1; string model_name=2
TraceSettingResponse.SettingValue: repeated string value=1
TraceSettingResponse: map string TraceSettingResponse.SettingValue settings=1
LogSettingsRequest.SettingValue: bool bool_param=1 of parameter_choice; uint32 uint32_param=2 of parameter_choice;
    string string_param=3 of parameter_choice
LogSettingsRequest: map string LogSettingsRequest.SettingValue settings=1
LogSettingsResponse.SettingValue: bool bool_param=1 of parameter_choice; uint32 uint32_param=2 of parameter_choice;
    string string_param=3 of parameter_choice
LogSettingsResponse: map string LogSettingsResponse.SettingValue settings=1
"""

DATA_TYPES = (
    "INVALID",
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "STRING",
    "BF16",
)
"""Names of the model configuration's data types, each with ``TYPE_`` before it, in the order of their numbers."""

_CONFIG_FILE, _SERVICE_FILE = "model_config.proto", "grpc_service.proto"
_FIELD = re.compile(r"(?:(repeated) |map (\w+) )?([\w.]+) (\w+)=(\d+)(?: of (\w+))?")
_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    name: getattr(_Field, f"TYPE_{name.upper()}")
    for name in ("bool", "int32", "int64", "uint32", "uint64", "float", "double", "string", "bytes")
}


def _lines(table: str) -> list[tuple[str, list[str]]]:
    """Each message's name with its fields; a line that is set in goes on with the one before."""
    whole = re.sub(r"\n +", " ", table).split("\n")
    found = []
    for line in filter(None, whole):
        name, _, fields = line.partition(":")
        found.append((name, [field.strip() for field in fields.split(";") if field.strip()]))
    return found


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _set_type(field: Any, kind: str) -> None:
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type = _Field.TYPE_ENUM if kind == "DataType" else _Field.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{kind}"


def _add_field(message: Any, full_name: str, text: str) -> None:
    match = _FIELD.fullmatch(text)
    if match is None:
        raise ValueError(f"not a field: {text}")
    repeated, key, kind, name, number, choice = match.groups()
    field = message.field.add(name=name, number=int(number), label=_Field.LABEL_OPTIONAL)
    if repeated or key:
        field.label = _Field.LABEL_REPEATED
    if key:
        entry = message.nested_type.add(name=f"{_camel(name)}Entry")
        entry.options.map_entry = True
        for number_of, (part, part_kind) in enumerate((("key", key), ("value", kind)), start=1):
            _set_type(entry.field.add(name=part, number=number_of, label=_Field.LABEL_OPTIONAL), part_kind)
        kind = f"{full_name}.{entry.name}"
    _set_type(field, kind)
    if choice:
        known = [oneof.name for oneof in message.oneof_decl]
        if choice not in known:
            message.oneof_decl.add(name=choice)
            known.append(choice)
        field.oneof_index = known.index(choice)


def _add_messages(file: Any, table: str) -> None:
    # A message that holds another may stand after it in the table, so the outer ones are made first.
    lines = _lines(table)
    outer = {name: file.message_type.add(name=name) for name, _ in lines if "." not in name}
    for name, fields in lines:
        holder, _, inner = name.partition(".")
        message = outer[holder].nested_type.add(name=inner) if inner else outer[name]
        for field in fields:
            _add_field(message, name, field)


def _add_service(file: Any) -> None:
    service = file.service.add(name=SERVICE.rpartition(".")[2])
    for name in UNARY:
        service.method.add(name=name, input_type=f".{PACKAGE}.{name}Request", output_type=f".{PACKAGE}.{name}Response")
    service.method.add(
        name="ModelStreamInfer",
        input_type=f".{PACKAGE}.ModelInferRequest",
        output_type=f".{PACKAGE}.ModelStreamInferResponse",
        client_streaming=True,
        server_streaming=True,
    )


def _pool() -> Any:
    config = descriptor_pb2.FileDescriptorProto(name=_CONFIG_FILE, package=PACKAGE, syntax="proto3")
    types = config.enum_type.add(name="DataType")
    for number, name in enumerate(DATA_TYPES):
        types.value.add(name=f"TYPE_{name}", number=number)
    _add_messages(config, _CONFIG)
    service = descriptor_pb2.FileDescriptorProto(
        name=_SERVICE_FILE, package=PACKAGE, syntax="proto3", dependency=[_CONFIG_FILE]
    )
    _add_messages(service, _MESSAGES)
    _add_service(service)
    pool = descriptor_pool.DescriptorPool()
    for file in (config, service):
        pool.AddSerializedFile(file.SerializeToString())
    return pool


POOL: Any = _pool()
"""Holds the descriptors of the protocol's two files, and of nothing else."""


def message(name: str) -> Any:
    """The class of one message of the protocol; KeyError when there is none of that name."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))


_ENVELOPE = """
Envelope: string model_name=1; string model_version=2; string id=3; repeated bytes parameters=4;
    repeated bytes inputs=5; repeated bytes outputs=6; repeated bytes raw_input_contents=7
"""


def envelope() -> Any:
    r"""The class of a ``ModelInferRequest`` whose inner messages are left as bytes: on the wire they are the same.

    >>> request = message("ModelInferRequest")(model_name="churn", inputs=[{"name": "x"}])
    >>> list(envelope().FromString(request.SerializeToString()).inputs)
    [b'\n\x01x']
    """
    file = descriptor_pb2.FileDescriptorProto(name="envelope.proto", package=PACKAGE, syntax="proto3")
    _add_messages(file, _ENVELOPE)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.Envelope"))
