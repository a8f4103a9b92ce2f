"""Records and their tables from the command line, in a folder and in an object store that two homes share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from modelyard.cli.app import app
from modelyard.home import Home
from modelyard.records.log import LabelLog, PredictionLog
from unit.records.samples import label, record


def run(home: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> Any:
    monkeypatch.setenv("MODELYARD_HOME", str(home))
    result = CliRunner().invoke(app, ["records", *words, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def served(home: Path, *names: str) -> None:
    records = Home.locate(home).create().records
    log, labels = PredictionLog(records), LabelLog(records)
    for name in names:
        log.append(record(name))
        labels.append(label(name))
    log.close()
    labels.close()


COUNT = "SELECT count(*) AS n, count(DISTINCT prediction_id) AS m, count(label) AS labelled FROM delay"


def test_ship_status_and_compact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        served(tmp_path, f"a{number}", f"b{number}")
        shipped = run(tmp_path, monkeypatch, "ship")
        assert (shipped["rows"], shipped["removed"]) == (5, 2)  # two predictions, two labels, the counts of a window
    state = run(tmp_path, monkeypatch, "status")
    assert {one["table"]: one["rows"] for one in state["shipped"]} == {"predictions": 6, "labels": 6, "profiles": 3}
    assert state["waiting"]["predictions"] == {"bytes": 0, "log_files": 0, "damaged_log_files": 0}
    done = {one["table"]: one for one in run(tmp_path, monkeypatch, "compact")}
    assert (done["predictions"]["joined"], done["predictions"]["made"]) == (3, 1)
    served(tmp_path, "c")
    assert run(tmp_path, monkeypatch, "query", COUNT) == [{"n": 7, "m": 7, "labelled": 7}]
    assert run(tmp_path, monkeypatch, "status")["waiting"]["predictions"]["bytes"] > 0


def test_rules_are_said_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served(tmp_path, "a", "b")
    assert run(tmp_path, monkeypatch, "keep", "delay", "--share", "0") == {"delay": {"share": 0.0}}
    asked = "SELECT reason, number FROM predictions_dropped"
    assert run(tmp_path, monkeypatch, "query", asked) == [{"reason": "not in the sample", "number": 2}]
    assert run(tmp_path, monkeypatch, "keep", "delay") == {"delay": {"share": 1.0}}
    assert run(tmp_path, monkeypatch, "query", asked) == []
    result = CliRunner().invoke(app, ["records", "keep", "delay", "--share", "2"])
    assert result.exit_code != 0
    assert "between 0 and 1" in result.output


def test_two_homes_share_tables_in_an_object_store(
    servers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in servers.s3.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MODELYARD_RECORDS_URL", f"{servers.s3.new()}/records")
    homes = [tmp_path / "one", tmp_path / "two"]
    for number in range(2):
        for home in homes:
            served(home, f"{home.name}{number}")
            run(home, monkeypatch, "ship")
    served(homes[0], "waits")
    assert run(homes[0], monkeypatch, "query", COUNT) == [{"n": 5, "m": 5, "labelled": 5}]
    assert run(homes[1], monkeypatch, "query", COUNT) == [{"n": 4, "m": 4, "labelled": 4}]
    assert {one["joined"] for one in run(homes[1], monkeypatch, "compact")} == {4}
    assert run(homes[1], monkeypatch, "query", COUNT) == [{"n": 4, "m": 4, "labelled": 4}]
    run(homes[0], monkeypatch, "keep", "other/one", "--days", "9")
    both = {"other/one": {"share": 1.0, "days": 9}, "delay": {"share": 0.0}}
    assert run(homes[1], monkeypatch, "keep", "delay", "--share", "0") == both
    assert run(homes[0], monkeypatch, "keep") == both
    served(homes[0], "left out")
    run(homes[0], monkeypatch, "ship")
    dropped = "SELECT reason, number FROM predictions_dropped"
    # What waited is left out as well: the rule holds for what is shipped from then on.
    assert run(homes[1], monkeypatch, "query", dropped) == [{"reason": "not in the sample", "number": 2}]
