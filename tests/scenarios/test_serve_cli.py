"""``modelyard serve`` and ``modelyard predict`` as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

import compiled_bundles
from modelyard.registry import Registry
from serving_process import until

MODELYARD = [sys.executable, "-m", "modelyard.cli.app"]
PLANE = ["--workers", "1", "--max-rows", "3", "--max-body", "4096", "--objective-ms", "5000", "--fsync", "always"]
PLANE += ["--drain-seconds", "20", "--grpc-port", "0"]
TABLE = pd.DataFrame(
    {
        "note": ["a", "b", "c"],
        "x0": [0.25, None, 1.5],
        "x1": [1.0, 2.0, -3.0],
        "x2": [0.5, 0.0, 0.1],
        "carrier": ["UA", None, "DL"],
    }
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    with Registry.open(home) as registry:
        registry.register(compiled_bundles.write_compiled(home / "made", name="toy"))
    return home


@pytest.fixture(scope="module")
def url(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    said = tmp_path_factory.mktemp("serve") / "said.json"
    with said.open("wb") as file:
        command = [*MODELYARD, "serve", "toy@1", "--port", "0", "--name", "live", "--json", *PLANE]
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.DEVNULL, env=_environment(home))
    try:
        until(lambda: said.read_bytes().endswith(b"}\n"), "the address")
        document = json.loads(said.read_bytes())
        assert (document["deployment"], document["model"], document["version"]) == ("live", "toy", 1)
        assert document["pid"] == process.pid
        until(lambda: httpx.get(f"{document['url']}/v2/health/ready", trust_env=False).status_code == 200, "ready")
        yield document["url"]
    finally:
        process.terminate()
        assert process.wait(60) == 0


def _environment(home: Path) -> dict[str, str]:
    return os.environ | {"MODELYARD_HOME": str(home)}


def modelyard(home: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [*MODELYARD, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=_environment(home), timeout=120, check=False)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    file = tmp_path / "rows.csv"
    TABLE.to_csv(file, index=False)
    return file


@pytest.mark.parametrize("what", ["live", "toy@1"])
def test_a_file_is_answered_with_ids_that_can_be_labelled(home: Path, url: str, table: Path, what: str) -> None:
    done = modelyard(home, "predict", what, "--input", table, "--url", url, "--json")
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)["rows"]
    assert [row["predict"] for row in rows] == ["late", "late", "on time"]
    assert set(rows[0]) == {"prediction_id", "predict", "predict_proba_late", "predict_proba_on time"}
    labelled = modelyard(home, "labels", "add", "--id", rows[0]["prediction_id"], "--value", "late", "--json")
    assert labelled.returncode == 0, labelled.stderr


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_answers_go_to_a_file(home: Path, url: str, table: Path, tmp_path: Path, ending: str) -> None:
    target = tmp_path / f"answers.{ending}"
    done = modelyard(home, "predict", "live", "--input", table, "--output", target, "--url", url)
    assert (done.returncode, "3 rows answered by live" in done.stdout) == (0, True)
    read = pd.read_csv(target) if ending == "csv" else pd.read_parquet(target)
    assert read["predict"].tolist() == ["late", "late", "on time"]
    assert read["prediction_id"].nunique() == 3


def test_answers_are_shown_in_the_terminal(home: Path, url: str, table: Path) -> None:
    done = modelyard(home, "predict", "live", "--input", table, "--url", url)
    assert "prediction_id" in done.stdout
    assert "on time" in done.stdout


@pytest.mark.parametrize(
    ("what", "status", "says"),
    [
        ("other", 3, "no deployment 'other'; there are: live"),
        ("toy@2", 7, "deployed there: live (toy@1)"),
        ("toy@champion", 5, "versions by number"),
    ],
)
def test_what_is_not_there_is_said(home: Path, url: str, table: Path, what: str, status: int, says: str) -> None:
    done = modelyard(home, "predict", what, "--input", table, "--url", url)
    assert (done.returncode, says in done.stderr) == (status, True), done.stderr


def test_a_bad_file_is_refused_with_column_and_row(home: Path, url: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.csv"
    TABLE.assign(x1=["1", "two", "3"]).to_csv(file, index=False)
    done = modelyard(home, "predict", "live", "--input", file, "--url", url)
    assert done.returncode == 5
    assert "'x1'" in done.stderr
    assert "two" in done.stderr


def test_without_a_server_the_way_to_one_is_named(home: Path, table: Path) -> None:
    done = modelyard(home, "predict", "live", "--input", table)
    assert (done.returncode, "modelyard up" in done.stderr) == (7, True)


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["toy@9"], 3, "has no version 9"),
        (["nothing"], 3, "no model 'nothing'"),
        (["./nothing"], 5, "nothing"),
        (["toy", "--host", "0.0.0.0"], 5, "--allow-remote"),
    ],
)
def test_what_cannot_be_served_is_said_at_once(home: Path, arguments: list[str], status: int, says: str) -> None:
    done = modelyard(home, "serve", *arguments, "--port", "0")
    assert (done.returncode, says in done.stderr) == (status, True), done.stderr


def test_options_of_the_data_plane_reach_it(url: str) -> None:
    row = {"x0": 0.25, "x1": 1.0, "x2": 0.5, "carrier": "UA"}
    many = httpx.post(f"{url}/predict/live", json={"rows": [row] * 4}, trust_env=False)
    assert (many.status_code, "3" in many.json()["error"]) == (413, True), many.text
    large = httpx.post(f"{url}/predict/live", content=b" " * 5000, trust_env=False)
    assert (large.status_code, "4096" in large.text) == (413, True), large.text
    assert len(httpx.get(f"{url}/status", trust_env=False).json()["workers"]) == 1


@pytest.mark.parametrize("wrong", [("--workers", "0"), ("--fsync", "sometimes"), ("--objective-ms", "soon")])
def test_a_wrong_option_is_said_before_anything_starts(home: Path, wrong: tuple[str, str]) -> None:
    done = modelyard(home, "serve", "toy@1", "--port", "0", *wrong)
    assert (done.returncode, wrong[0] in done.stderr) == (2, True), done.stderr
