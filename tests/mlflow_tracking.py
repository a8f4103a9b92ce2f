"""Programs that log with the real MLflow, for what is taken in of tracking stores and of programs under way."""

from __future__ import annotations

import csv
from pathlib import Path

import mlflow_models

LOG = """
import os
import sys
import warnings

warnings.simplefilter("ignore")
import mlflow
import pandas as pd

uri, requirements = sys.argv[1], sys.argv[2].split(",")
mlflow.set_tracking_uri(uri)
X = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "b": [2.0, 1.0, 0.5, 0.0]})
mlflow.set_experiment("prices")
with mlflow.start_run(run_name="good") as run:
    mlflow.log_params({"depth": 6, "loss/name": "squared"})
    for step in range(3):
        mlflow.log_metric("rmse", 1 / (step + 1), step=step)
    mlflow.log_metric("odd", float("nan"))
    mlflow.set_tags({"team": "blue", "mlflow.note.content": "the first that worked"})
    mlflow.log_text("hello", "notes/deep/hello.txt")
    mlflow.log_input(mlflow.data.from_pandas(X, name="offers"), context="training")
    if requirements != [""]:
        from sklearn.linear_model import LinearRegression

        mlflow.sklearn.log_model(
            LinearRegression().fit(X, X["a"] * 2),
            name="model",
            signature=mlflow.models.infer_signature(X),
            input_example=X,
            pip_requirements=requirements,
            registered_model_name="Price model",
        )
        client = mlflow.MlflowClient()
        client.set_registered_model_alias("Price model", "champion", 1)
        client.update_model_version("Price model", 1, description="checked by Ada")
try:
    with mlflow.start_run(run_name="bad"):
        raise ValueError("no data")
except ValueError:
    pass
mlflow.set_experiment("other")
with mlflow.start_run(run_name="elsewhere"):
    mlflow.log_metric("rmse", 9)
mlflow.start_run(run_name="never ended")
os._exit(0)
"""

TRAIN = """
import sys
import warnings

warnings.simplefilter("ignore")
import mlflow
import pandas as pd
from sklearn.linear_model import LinearRegression

rows = pd.read_csv("rows.csv")
X = rows[["a", "b"]]
if "--autolog" in sys.argv:
    mlflow.sklearn.autolog(log_model_signatures=False, log_models=False)
    LinearRegression().fit(X, rows["y"])
    raise SystemExit
mlflow.set_experiment("tariffs")
with mlflow.start_run(run_name="first"):
    mlflow.log_param("alpha", 0.5)
    for step in range(3):
        mlflow.log_metric("rmse", 1 / (step + 1), step=step)
    mlflow.log_text("hello", "notes/hello.txt")
    if "--fail" in sys.argv:
        raise ValueError("no luck")
    mlflow.sklearn.log_model(
        LinearRegression().fit(X, rows["y"]),
        name="model",
        signature=mlflow.models.infer_signature(X),
        pip_requirements=sys.argv[1].split(","),
    )
    with mlflow.start_run(run_name="child", nested=True):
        mlflow.log_metric("share", 0.25)
"""


def log(folder: Path, uri: str, *, model: bool = False) -> None:
    """Two experiments, four runs (one never ended), and with `model` a registered version of a model."""
    (folder / "log.py").write_text(LOG)
    done = mlflow_models.run(folder, "log.py", uri, ",".join(mlflow_models.requirements()) if model else "")
    assert done.returncode == 0, done.stderr


def make_project(folder: Path) -> Path:
    """A program that logs with MLflow, and the table that it reads."""
    folder.mkdir(exist_ok=True)
    (folder / "train.py").write_text(TRAIN)
    with (folder / "rows.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["a", "b", "y"])
        writer.writerows([[index / 40, (index * 7 % 40) / 40, index] for index in range(40)])
    return folder
