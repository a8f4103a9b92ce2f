"""PyTriton: Triton with a Python function, an instance of it a worker, and Triton's dynamic batching."""

from __future__ import annotations

import os
import sys

import joblib
import numpy as np
import numpy.typing as npt
import pandas as pd
from numpy.random import _pickle
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

Values = npt.NDArray[np.generic]


class MT19937(np.random.MT19937):
    """A random generator that takes no state: numpy 2 writes it otherwise, and no prediction draws random numbers."""

    def __setstate__(self, state: object) -> None:
        """Forget it."""


def readable_here() -> None:
    """Let the numpy 1 that PyTriton demands read what numpy 2 has pickled: modules moved, generators changed."""
    for name in [name for name in sys.modules if name.startswith("numpy.core.")]:
        sys.modules.setdefault(name.replace(".core.", "._core."), sys.modules[name])
    setattr(_pickle, "__bit_generator_ctor", lambda kind: MT19937())
    setattr(_pickle, "__randomstate_ctor", np.random.RandomState)
    setattr(_pickle, "__generator_ctor", np.random.Generator)


class Predictor:
    """The pipeline as an inference function. Each instance has one."""

    def __init__(self) -> None:
        readable_here()
        self.model = joblib.load(os.environ["MODEL_FILE"])
        self.columns = list(self.model.feature_names_in_)

    @batch
    def __call__(self, **tensors: Values) -> dict[str, Values]:
        """The probability of class 1 for every row."""
        values = {name: _texts(one) if one.dtype == object else one[:, 0] for name, one in tensors.items()}
        frame = pd.DataFrame({name: values[name] for name in self.columns})
        return {"predictions": self.model.predict_proba(frame)[:, 1:]}


def _texts(values: Values) -> Values:
    return np.array([one.decode() for one in values[:, 0]], dtype=object)


def main() -> None:
    """Serve until told to stop."""
    functions = [Predictor() for _ in range(int(os.environ["WORKERS"]))]
    inputs = [
        Tensor(name=name, dtype=bytes if name.startswith("c") else np.float64, shape=(1,))
        for name in functions[0].columns
    ]
    settings = TritonConfig(
        http_address="127.0.0.1",
        http_port=int(os.environ["PORT"]),
        grpc_port=int(os.environ["GRPC_PORT"]),
        allow_metrics=False,
    )
    with Triton(config=settings) as triton:
        triton.bind(
            model_name="bench",
            infer_func=functions,
            inputs=inputs,
            outputs=[Tensor(name="predictions", dtype=np.float64, shape=(1,))],
            config=ModelConfig(max_batch_size=256, batcher=DynamicBatcher()),
            strict=False,
        )
        triton.serve()


if __name__ == "__main__":
    main()
