"""MLflow model directories, written by the real MLflow, are imported, verified and served."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

import mlflow_models
from modelyard.cli.app import app
from serving_process import until


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the models; the home beside it is the one that is used."""
    folder = tmp_path_factory.mktemp("mlflow")
    mlflow_models.save(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODELYARD_HOME", str(folder / "home"))
        yield folder


def modelyard(*arguments: object, expect: int = 0) -> Any:
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert done.exit_code == expect, done.output
    return json.loads(done.stdout or done.stderr)


def expected(work: Path, model: str) -> Any:
    """What MLflow itself answers for the rows."""
    return json.loads((work / "answers.json").read_text())[model]


@contextmanager
def served(ref: str, said: Path) -> Iterator[str]:
    """The address of ``modelyard serve``, once it is ready."""
    command = [sys.executable, "-m", "modelyard.cli.app", "serve", ref, "--port", "0", "--workers", "1", "--json"]
    with said.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.DEVNULL)
    try:
        until(lambda: said.read_bytes().endswith(b"}\n"), "the address")
        url = json.loads(said.read_bytes())["url"]
        until(lambda: httpx.get(f"{url}/v2/health/ready", trust_env=False).status_code == 200, "ready")
        yield url
    finally:
        process.terminate()
        assert process.wait(60) == 0


def answers(url: str, work: Path, columns: list[str]) -> Any:
    """What the server answers a client that was written for MLflow's own."""
    rows = [{name: row[name] for name in columns} for row in json.loads((work / "rows.json").read_text())]
    reply = httpx.post(f"{url}/invocations", json={"dataframe_records": rows}, trust_env=False, timeout=60)
    assert reply.status_code == 200, reply.text
    return reply.json()["predictions"]


def test_nothing_of_a_model_runs_unless_it_is_trusted(work: Path) -> None:
    refused = modelyard("import", "mlflow", work / "models" / "tariff", expect=5)
    assert refused["kind"] == "PolicyDenied"
    assert "nothing of it was run" in refused["error"]
    assert "python_model.pkl" in refused["error"]
    assert "tariff" not in [model["name"] for model in modelyard("list")["models"]]


@pytest.mark.parametrize(
    ("model", "columns", "runtime"),
    [
        ("linear", ["price", "count", "city", "sold"], "onnx"),
        ("boosted", ["price", "count"], "onnx"),
        ("tariff", ["price", "city"], "python"),
    ],
)
def test_a_model_is_imported_verified_and_served(
    work: Path, tmp_path: Path, model: str, columns: list[str], runtime: str
) -> None:
    taken = modelyard("import", "mlflow", work / "models" / model, "--trust-code")
    assert (taken["ref"], taken["runtime"], taken["is_new"]) == (f"{model}@1", runtime, True)
    report = modelyard("verify", taken["ref"])
    assert report["passed"], report
    locked = [one["name"] for one in modelyard("show", taken["ref"])["manifest"]["environment"]["distributions"]]
    assert ("mlflow-skinny" in locked) == (runtime == "python"), "only what needs MLflow has it"
    if model != "linear" and not mlflow_models.IS_LONG:
        return  # verify has asked the real server for what MLflow itself answered
    with served(taken["ref"], tmp_path / "said.json") as url:
        got = answers(url, work, columns)
    wanted = expected(work, model)
    if model == "tariff":
        assert [row["city"] for row in got] == wanted["city"]
        got, wanted = [row["fee"] for row in got], wanted["fee"]
    if model == "linear":
        assert got == wanted
    else:
        np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_the_same_again_takes_in_nothing_and_other_rows_make_another_version(work: Path) -> None:
    taken = modelyard("import", "mlflow", work / "models" / "tariff", "--trust-code")
    again = modelyard("import", "mlflow", work / "models" / "tariff")
    assert (again["ref"], again["is_new"]) == (taken["ref"], False)
    if not mlflow_models.IS_LONG:
        return
    other = modelyard(
        "import",
        "mlflow",
        work / "models" / "boosted",
        "--sample",
        work / "rows.json",
        "--trust-code",
        "--name",
        "boosted",
    )
    assert other["ref"] != again["ref"]
    assert other["is_new"]
