"""A finished ONNX graph, taken as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

from modelyard.bundle.compile.graph import NoConverter
from modelyard.bundle.frameworks.onnx import Graph
from modelyard.domain.manifest import Feed, Fetch
from modelyard.domain.schema import Schema

_NAMES = {
    TensorProto.DOUBLE: "float64",
    TensorProto.FLOAT: "float32",
    TensorProto.INT64: "int64",
    TensorProto.INT32: "int32",
    TensorProto.INT16: "int16",
    TensorProto.INT8: "int8",
    TensorProto.UINT64: "uint64",
    TensorProto.UINT32: "uint32",
    TensorProto.UINT16: "uint16",
    TensorProto.UINT8: "uint8",
    TensorProto.BOOL: "bool",
    TensorProto.STRING: "string",
}


def finished(model: Any, schema: Schema) -> tuple[bytes, tuple[Feed, ...], tuple[Fetch, ...]]:
    """The bytes of a graph, given as bytes or as a path, and how the schema's columns and outputs are called in it.

    Raises:
        NoConverter: when an input or output of the graph is of a type that no column carries.
    """
    raw = model_bytes(model)
    graph = onnx.load_from_string(raw).graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = {item.name: item for item in graph.input if item.name not in constants}
    names = {item.name for item in graph.output}
    feeds = tuple(Feed(column.name, column.name, _dtype(inputs, column.name)) for column in schema.columns)
    missing = [output.name for output in schema.outputs if _tensor(output.name, output.part, names) is None]
    if missing:
        raise NoConverter(f"the graph has no output {missing[0]!r}; it has: {', '.join(sorted(names))}")
    fetches = tuple(Fetch(o.name, str(_tensor(o.name, o.part, names))) for o in schema.outputs)
    return raw, feeds, fetches


def model_bytes(model: Any) -> bytes:
    """The graph itself, from bytes, a path, or an onnx model."""
    if isinstance(model, Graph):
        return model.raw
    if isinstance(model, (bytes, bytearray)):
        return bytes(model)
    if isinstance(model, onnx.ModelProto):
        raw: bytes = model.SerializeToString(deterministic=True)
        return raw
    return Path(model).read_bytes()


def _dtype(inputs: dict[str, Any], name: str) -> str:
    if name not in inputs:
        raise NoConverter(f"the graph has no input {name!r}; it has: {', '.join(inputs)}")
    code = inputs[name].type.tensor_type.elem_type
    if code not in _NAMES:
        raise NoConverter(f"input {name!r} of the graph has a type that no column carries")
    return _NAMES[code]


def _tensor(name: str, part: Any, names: set[str]) -> str | None:
    if name in names:
        return name
    return str(part) if part is not None and str(part) in names else None
