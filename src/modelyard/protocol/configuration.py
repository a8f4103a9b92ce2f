"""A version in the words of the Open Inference Protocol's model configuration extension."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from modelyard.domain.schema import OIP_DATATYPE, Kind, Schema

DataType: TypeAlias = str
"""A datatype as configurations name it: ``TYPE_FP64``, and ``TYPE_STRING`` for what tensors call ``BYTES``."""


def data_type(kind: Kind) -> DataType:
    """How a configuration names a kind.

    >>> data_type(Kind.FLOAT64), data_type(Kind.DATETIME)
    ('TYPE_FP64', 'TYPE_STRING')
    """
    name = OIP_DATATYPE[kind]
    return "TYPE_STRING" if name == "BYTES" else f"TYPE_{name}"


def model_configuration(
    name: str,
    version: int,
    platform: str,
    backend: str,
    schema: Schema,
    *,
    most_rows: int,
    batched: bool = False,
    parameters: dict[str, str] | None = None,
) -> dict[str, Any]:
    """The model configuration object of a version that answers as `name`.

    As `most_rows` (the most rows that a call may have) is above 0, `dims` leave the dimension of the rows out: they are
    empty for a plain column, as its tensor has the shape ``[-1]``. `batched` says that calls are computed together;
    they are never kept waiting for more, so the delay is 0.
    """
    configuration = {
        "name": name,
        "platform": platform,
        "backend": backend,
        "version_policy": {"specific": {"versions": [version]}},
        "max_batch_size": most_rows,
        "input": [_input(column.name, column.kind, column.shape) for column in schema.columns],
        "output": [
            {"name": output.name, "data_type": data_type(output.kind), "dims": list(output.shape)}
            for output in schema.outputs
        ],
        "model_transaction_policy": {"decoupled": False},
        "response_cache": {"enable": False},
        "parameters": {key: {"string_value": value} for key, value in (parameters or {}).items()},
    }
    if batched:
        configuration["dynamic_batching"] = {"preferred_batch_size": [], "max_queue_delay_microseconds": 0}
    return configuration


def _input(name: str, kind: Kind, shape: Sequence[int]) -> dict[str, Any]:
    # A column that may be missing still has to be sent: none is optional.
    return {"name": name, "data_type": data_type(kind), "dims": list(shape), "optional": False}
