"""The README's own example, every line of it, as a stranger would run it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parents[2]
ROW = {"age": 41, "income": 52000.0, "city": "Bern"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("readme") / "home"
    subprocess.run([sys.executable, str(ROOT / "examples" / "churn.py")], env=environment(home), check=True)
    return home


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "MODELYARD_HOME": str(home)}


def modelyard(home: Path, *arguments: str) -> Any:
    command = [sys.executable, "-m", "modelyard.cli.app", *arguments, "--json"]
    done = subprocess.run(command, env=environment(home), capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def url(home: Path) -> Iterator[str]:
    assert modelyard(home, "verify", "churn@1")["passed"]
    command = [sys.executable, "-m", "modelyard.cli.app", "up", "--port", "0"]
    process = subprocess.Popen(command, env=environment(home), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        modelyard(home, "deploy", "churn@1", "--to", "churn")
        until = time.monotonic() + 30
        while not (home / "run" / "up.json").exists() and time.monotonic() < until:
            time.sleep(0.05)
        yield json.loads((home / "run" / "up.json").read_text())["data"]["url"]
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0


def test_one_request_and_one_label(home: Path, url: str) -> None:
    reply = httpx.post(f"{url}/predict/churn", content=json.dumps({"rows": [ROW]}))
    assert reply.status_code == 200, reply.text
    row = reply.json()["rows"][0]
    assert row["predict"] in {"yes", "no"}
    assert abs(sum(row["predict_proba"].values()) - 1) < 1e-6
    modelyard(home, "labels", "add", "--id", row["prediction_id"], "--value", "yes")
    answer = modelyard(home, "records", "query", "SELECT prediction_id, label FROM joined WHERE label IS NOT NULL")
    assert row["prediction_id"] in json.dumps(answer)
    modelyard(home, "replay", row["prediction_id"])


def test_the_documented_protocol_call(url: str) -> None:
    body = {
        "inputs": [
            {"name": "age", "datatype": "INT64", "shape": [1], "data": [41]},
            {"name": "income", "datatype": "FP64", "shape": [1], "data": [52000.0]},
            {"name": "city", "datatype": "BYTES", "shape": [1], "data": ["Bern"]},
        ]
    }
    reply = httpx.post(f"{url}/v2/models/churn/infer", json=body)
    assert reply.status_code == 200, reply.text
    assert {output["name"] for output in reply.json()["outputs"]} >= {"predict", "predict_proba"}


def test_a_row_that_does_not_fit_is_refused_by_name(url: str) -> None:
    reply = httpx.post(f"{url}/predict/churn", json={"rows": [{**ROW, "age": 41.5}]})
    assert reply.status_code == 400
    assert "age" in reply.json()["error"]
