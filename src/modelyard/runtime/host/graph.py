"""A finished ONNX graph as something that can be asked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any


class Session:
    """A graph opened with onnxruntime, on one thread. Inputs and outputs keep the names they have in it.

    Raises:
        Exception: whatever onnxruntime raises on what is no graph.
    """

    def __init__(self, model: bytes | str) -> None:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read by the import: nothing is sent over the network
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.inputs: dict[str, tuple[str, int]] = {
            item.name: (item.type, len(item.shape)) for item in self._session.get_inputs()
        }
        self.outputs: list[str] = [item.name for item in self._session.get_outputs()]

    def __call__(self, rows: Mapping[str, Any]) -> dict[str, Any]:
        """Every output for the given inputs; a plain column becomes a matrix where the graph wants one."""
        fed = {name: self._fitted(name, values) for name, values in rows.items()}
        try:
            answered = self._session.run(None, fed)
        except Exception as raised:
            # onnxruntime's own exceptions come from rows that do not suit the graph.
            raise ValueError(str(raised)) from raised
        return dict(zip(self.outputs, answered, strict=True))

    def _fitted(self, name: str, values: Any) -> Any:
        return values.reshape(-1, 1) if values.ndim == 1 and self.inputs[name][1] == 2 else values
