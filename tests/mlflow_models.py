"""A program that writes MLflow model directories with the real MLflow, as users have them."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

IS_LONG = bool(os.environ.get("MODELYARD_MLFLOW"))
long_form = pytest.mark.skipif(not IS_LONG, reason="part of the long form, make mlflow")
"""Tests that make several environments, or one with the whole MLflow."""

SAVE = """
import json
import sys
import warnings

warnings.simplefilter("ignore")
import mlflow
import numpy as np
import pandas as pd
from mlflow.models import infer_signature
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from xgboost import XGBRegressor

import shop

rng = np.random.default_rng(0)
X = pd.DataFrame(
    {
        "price": rng.normal(10, 3, 60),
        "count": rng.integers(0, 5, 60),
        "city": rng.choice(["Bern", "Basel"], 60),
        "sold": pd.date_range("2024-01-01", periods=60),
    }
)
y = np.where(X["price"] + X["count"] > 12, "dear", "cheap")
requirements = sys.argv[1].split(",")

pipeline = make_pipeline(
    make_column_transformer((OneHotEncoder(), ["city"]), ("passthrough", ["price", "count"])), LogisticRegression()
).fit(X, y)
mlflow.sklearn.save_model(
    pipeline, "models/linear", signature=infer_signature(X, y), input_example=X.head(8), pip_requirements=requirements
)

numbers = X[["price", "count"]]
booster = XGBRegressor(n_estimators=5, max_depth=3).fit(numbers, X["price"] * 2)
mlflow.xgboost.save_model(
    booster,
    "models/boosted",
    signature=infer_signature(numbers),
    input_example=numbers.head(8),
    pip_requirements=requirements,
)


class Tariff(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        with open(context.artifacts["factor"]) as handle:
            self.factor = float(handle.read())

    def predict(self, context, model_input, params=None):
        fees = shop.fee(model_input["price"], self.factor)
        return pd.DataFrame({"fee": fees, "city": model_input["city"].str.upper()})


with open("factor.txt", "w") as handle:
    handle.write("2.5")
mlflow.pyfunc.save_model(
    "models/tariff",
    python_model=Tariff(),
    artifacts={"factor": "factor.txt"},
    code_paths=["shop.py"],
    signature=infer_signature(X[["price", "city"]]),
    input_example=X[["price", "city"]].head(8),
    pip_requirements=requirements,
)
rows = X.head(12)
rows.to_json("rows.json", orient="records", date_format="iso")
answers = {}
for name in ("linear", "boosted", "tariff"):
    model = mlflow.pyfunc.load_model(f"models/{name}")
    answer = model.predict(rows[[one.name for one in model.metadata.signature.inputs]])
    answers[name] = answer.to_dict("list") if hasattr(answer, "to_dict") else answer.tolist()
with open("answers.json", "w") as handle:
    json.dump(answers, handle)
"""
SHOP = """
def fee(price, factor):
    return price * factor + 1
"""


def requirements() -> list[str]:
    """One set for all models, so that they share an environment; skinny, since the whole MLflow takes minutes."""
    names = ("mlflow-skinny", "scikit-learn", "xgboost-cpu", "pandas", "cloudpickle", "skops")
    return [f"{name}=={version(name)}" for name in names]


def save(folder: Path) -> Path:
    """Write the models ``linear``, ``boosted`` and ``tariff`` below `folder`, and give back the folder of all."""
    (folder / "shop.py").write_text(SHOP)
    (folder / "save.py").write_text(SAVE)
    done = run(folder, "save.py", ",".join(requirements()))
    assert done.returncode == 0, done.stderr
    return folder / "models"


def run(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A Python program in `folder`, in a process without MLflow's telemetry."""
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ALLOW_FILE_STORE": "true", **settings}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=240
    )
