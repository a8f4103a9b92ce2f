"""Saves the pipeline as MLflow has it, for ``mlflow models serve``."""

from __future__ import annotations

import os

import joblib
import mlflow.sklearn

if __name__ == "__main__":
    mlflow.sklearn.save_model(
        joblib.load(os.environ["MODEL_FILE"]),
        "saved",
        pyfunc_predict_fn="predict_proba",
        serialization_format="cloudpickle",
    )
