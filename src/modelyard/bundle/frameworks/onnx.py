"""A finished ONNX file: the graph is the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from modelyard.bundle.frameworks.base import Meaning, NativeFormat, ask_once, outputs_of
from modelyard.domain.schema import Column, Output
from modelyard.errors import CannotPack
from modelyard.runtime.host.graph import Session


class Graph:
    """An ONNX graph that can be asked. `raw` is the file; inputs and outputs keep the names they have in it."""

    def __init__(self, raw: bytes, title: str = "model.onnx") -> None:
        self.raw, self.title = raw, title

    @cached_property
    def _session(self) -> Session:
        try:
            return Session(self.raw)
        except Exception as raised:
            raise CannotPack(f"{self.title} is no ONNX graph that can be run here: {raised}") from raised

    @property
    def inputs(self) -> dict[str, tuple[str, int]]:
        """Type and number of dimensions of each input."""
        return self._session.inputs

    def __call__(self, rows: Mapping[str, Any]) -> dict[str, Any]:
        """Every output for the given inputs."""
        return self._session(rows)

    def tensors(self, sample: Any) -> dict[str, Any]:
        """A sample as named arrays of the graph's own types.

        Takes a mapping or DataFrame with an entry for each input, or one array for a graph of one input.

        Raises:
            CannotPack: an input is not in the sample, or does not have its type.
        """
        named = self._named(sample)
        missing = [name for name in self.inputs if name not in named]
        if missing:
            raise CannotPack(f"the sample has no {missing[0]!r}; {self.title} takes: {', '.join(self.inputs)}")
        return {name: self._typed(name, named[name]) for name in self.inputs}

    def _named(self, sample: Any) -> dict[str, Any]:
        if isinstance(sample, Mapping):
            return dict(sample)
        if hasattr(sample, "columns") and set(self.inputs) <= set(sample.columns):
            return {name: sample[name].to_numpy() for name in self.inputs}
        if len(self.inputs) == 1:
            return {next(iter(self.inputs)): np.asarray(sample)}
        raise CannotPack(f"{self.title} takes {', '.join(self.inputs)}; pass the sample as a dict of arrays by name")

    def _typed(self, name: str, values: Any) -> Any:
        wanted, dimensions = self.inputs[name]
        array = np.asarray(values)
        if array.ndim == 2 and array.shape[1] == 1 and dimensions == 2:
            array = array[:, 0]
        if wanted == "tensor(string)":
            return array.astype(object)
        dtype = _DTYPES.get(wanted)
        if dtype is None:
            raise CannotPack(f"input {name!r} of {self.title} is a {wanted}, which no column carries")
        return array.astype(dtype)


_DTYPES = {f"tensor({name})": name for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")} | {
    "tensor(uint64)": "uint64",
    "tensor(bool)": "bool",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
}


def as_graph(model: Any) -> Any:
    """A `Graph` for an ONNX file, its bytes or an ``onnx.ModelProto``; anything else as it is.

    Raises:
        CannotPack: the file is not there.
    """
    if isinstance(model, (str, Path)) and str(model).endswith(".onnx"):
        path = Path(model)
        if not path.is_file():
            raise CannotPack(f"there is no file {path.name!r} where it should be")
        return Graph(path.read_bytes(), path.name)
    if isinstance(model, (bytes, bytearray)):
        return Graph(bytes(model))
    if type(model).__name__ == "ModelProto" and hasattr(model, "SerializeToString"):
        return Graph(model.SerializeToString(deterministic=True))
    return model


class OnnxFramework:
    """A graph that something else has converted or written."""

    name = "onnx"
    formats: tuple[NativeFormat, ...] = ("onnx",)

    def handles(self, estimator: Any) -> bool:
        """Whether it is a `Graph`."""
        return isinstance(estimator, Graph)

    def title(self, estimator: Any) -> str:
        """The name of the file."""
        return str(estimator.title)

    def describe(self, estimator: Any, sample: Any, columns: Sequence[Column]) -> tuple[Output, ...]:
        """One output for each of the graph's, under its own name."""
        returned = ask_once(self.title(estimator), estimator, sample)
        rows = len(next(iter(sample.values())))
        return outputs_of("__call__", "output", returned, rows, Meaning("value"))
