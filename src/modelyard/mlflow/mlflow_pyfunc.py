"""Answers as the MLflow model beside it does. A copy of this file travels with each version that was made of one."""

import os
import sys
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")


def load(files: dict[str, Any]) -> Any:
    """The model, from its directory. Nothing is written there: a bundle holds exactly the files of its manifest."""
    sys.dont_write_bytecode = True
    import mlflow.pyfunc

    return mlflow.pyfunc.load_model(str(files["model"]))


def answer(model: Any, rows: Any) -> Any:
    """What its ``predict`` answers."""
    return model.predict(rows)


def answer_list(model: Any, values: Any) -> Any:
    """What its ``predict`` answers, where that takes a list of plain values."""
    return model.predict(list(values))
