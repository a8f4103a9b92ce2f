"""The shape of inference requests and responses of the Open Inference Protocol, as JSON has them."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

Parameters: TypeAlias = dict[str, Any]


class InputTensor(msgspec.Struct):
    """One tensor of a request."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Any] | None = None
    parameters: Parameters | None = None


class WantedOutput(msgspec.Struct):
    """One output that a request asks for."""

    name: str
    parameters: Parameters | None = None


class InferRequest(msgspec.Struct, omit_defaults=True):
    """The body of an inference request. Unknown members are ignored."""

    inputs: list[InputTensor]
    id: str | None = None
    outputs: list[WantedOutput] | None = None
    parameters: Parameters | None = None


class OutputTensor(msgspec.Struct, omit_defaults=True):
    """One tensor of a response."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Any] | None = None
    parameters: Parameters | None = None


class InferResponse(msgspec.Struct, omit_defaults=True):
    """The body of an inference response."""

    model_name: str
    outputs: list[OutputTensor]
    model_version: str | None = None
    id: str | None = None
    parameters: Parameters | None = None
