"""The demo tells its story from end to end on real flights."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

WHOLE = pytest.mark.skipif(not os.environ.get("MODELYARD_DEMO"), reason="the whole year, as in make story")


@pytest.mark.timeout(900)
def test_the_demo_ends_by_itself_with_live_figures(tmp_path: Path) -> None:
    home = tmp_path / "demo"
    command = [sys.executable, "-m", "modelyard.cli.app", "demo", "--exit", "--weeks", "2", "--json"]
    done = subprocess.run([*command, "--home", str(home)], capture_output=True, text=True, timeout=880, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["dataset"], told["version"]) == ("flights@1", "flights-delay@1")
    assert told["metrics"]["auc"] > 0.6
    tree = "\n".join(told["lineage"])
    assert "data flights@1" in tree
    assert f"run flights-delay {told['run']}" in tree
    assert "13,084 predictions" in tree
    assert "<svg" in Path(told["addresses"]["lineage"]).read_text()
    assert told["parity"]["passed"]
    assert told["reproduction"] == "bit-equal"
    assert told["failed"] == 0, told["first_error"]
    assert told["flights"] == told["records"] == 2 * 13_084
    assert 0.9 * told["flights"] < told["labels"] <= told["flights"]
    assert_the_year_drifts(told["watched"])
    assert_nothing_is_said_of_the_twin(told["twin"])
    assert told["updates"] is None, "two weeks are not enough for these"
    assert not (home / "run" / "up.json").exists(), "the services are stopped"


def assert_the_year_drifts(watched: Any) -> None:
    """March is warmer than January; who could tell the model?"""
    assert watched["windows"] >= 13
    drift = [alert for alert in watched["alerts"] if any("temp" in part for part in alert["parts"])]
    assert drift, watched["alerts"]
    assert "temp" in [column["column"] for column in watched["columns"]]
    first = watched["weeks"][0]
    assert first["labelled"] > 0.9
    assert 0.55 < first["auc_interval"][0] < first["auc"] < first["auc_interval"][1] < 0.85
    assert watched["expected"], "the monitor says why it expects nothing yet"
    assert "<svg" in Path(watched["report"]).read_text()


def assert_nothing_is_said_of_the_twin(twin: Any) -> None:
    assert twin["windows"] >= 13
    assert (twin["alerts"], twin["columns"]) == ([], [])


@WHOLE
@pytest.mark.timeout(3600)
def test_the_whole_year_with_its_three_updates(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "modelyard.cli.app", "demo", "--exit", "--json", "--home", str(tmp_path / "demo")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["failed"] == 0, told["first_error"]
    assert_the_year_drifts(told["watched"])
    assert told["twin"]["alerts"] == []
    updates = told["updates"]
    retrained, rolled_out = updates["retrained"], updates["rolled_out"]
    assert "alert" in retrained["why"]
    assert (retrained["state"], rolled_out["state"]) == ("accepted", "promoted")
    assert retrained["metrics"]["brier"][1] < retrained["metrics"]["brier"][0]
    assert rolled_out["last_day"].startswith("2013-07"), "it wins, and in July"
    assert [each.split()[2] for each in rolled_out["steps"]][-2:] == ["promote", "finish"]
    assert updates["harmful"]["state"] == "rolled back"
    assert "wrong" in updates["harmful"]["reason"]
    assert (updates["short"]["state"], updates["short_rolled_out"]) == ("declined", None)
    known = [each for each in told["watched"]["expected"] if each["turned_out"] is not None]
    assert len(known) > 40
    assert sum(each["value"] is not None for each in known) > len(known) / 2, "estimates are there all year"


def test_the_demo_never_empties_a_folder_that_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    command = [sys.executable, "-m", "modelyard.cli.app", "demo", "--exit", "--home", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"}, check=False)
    assert done.returncode == 4
    assert "holds something else" in done.stderr
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
