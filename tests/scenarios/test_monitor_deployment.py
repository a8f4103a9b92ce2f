"""What a user does to have a deployment watched, on the command line."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from live_records import calls, register
from modelyard.cli.app import app
from modelyard.home import Home
from modelyard.registry import Registry


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("MODELYARD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    with Registry.open() as registry:
        register(registry, tmp_path)
    return Home.locate()


def run(*words: object, status: int = 0) -> Result:
    result = CliRunner().invoke(app, ["monitor", *map(str, words)])
    assert result.exit_code == status, result.output
    return result


def document(*words: object, status: int = 0) -> Any:
    return json.loads(run(*words, "--json", status=status).stdout)


def test_a_drift_is_found_shown_checked_and_reported(home: Home, tmp_path: Path) -> None:
    start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=48)
    with Registry.open(home) as registry:
        calls(registry, range(48), moved_from=30, start=start)
        calls(registry, range(48), start=start, deployment="calm")
    assert document("run", "--once")["alarms"] > 0
    assert document("check", "calm") == {
        "alerts": [],
        "deployment": "calm",
        "fail_on": "alert",
        "moved": [],
        "ok": True,
        "waiting": None,
    }
    failed = document("check", "live", "--look", "--fail-on", "alert", status=1)
    assert failed["alerts"][0]["state"] == "firing"
    run("check", "live", "--fail-on", "drift", "--hours", "12", status=1)
    text = run("show", "live").stdout
    assert "live: line@1, " in text
    assert "firing" in text
    shown = document("show", "live")
    assert {column["column"] for column in shown["columns"]} == {"x", "predict"}
    page = tmp_path / "live.html"
    run("report", "live", "--html", page)
    html = page.read_text()
    assert "<svg" in html
    assert "http" not in html.replace("http://www.w3.org", "")


def test_settings_are_kept_and_wrong_ones_refused_in_words(home: Home) -> None:
    assert document("set", "live")["false_alarms"] == "1 per quarter"
    assert document("set", "live", "false_alarms=1 per month", "slices=carrier,origin")["slices"] == [
        "carrier",
        "origin",
    ]
    assert document("set", "live")["false_alarms"] == "1 per month"
    assert "there is no setting 'windoe'" in run("set", "live", "windoe=3600", status=5).output
    assert "write KEY=VALUE" in run("set", "live", "metric", status=5).output


def test_a_deployment_that_nobody_called_is_told_so(home: Home) -> None:
    result = run("show", "nobody", status=3)
    assert "nothing of 'nobody' has been monitored" in result.output
