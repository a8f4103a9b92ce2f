"""What begins a retraining: an alert of the monitor, a schedule, a call over HTTP; and rows of a database for it."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from modelyard.cli.app import app
from modelyard.control import announce
from modelyard.home import Home
from modelyard.monitoring.alerts import Alerts
from modelyard.registry import Registry
from modelyard.retraining import retrain, watched
from modelyard.retraining.looking import gather, plan_for
from modelyard.retraining.report import Report
from modelyard.retraining.triggers import due
from modelyard.retraining.turns import Turns
from retrained_lines import PLAN, answered, deploy_first, followed, make_project
from scenarios.test_up_deploy import eventually

QUIET = PLAN.replace("[retrain]", '[retrain]\npause = "0s"\nstrategy = "none"')

FEW = "window = '1ms'\n"
"""So few rows that it fails before anything is trained."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, Path]]:
    """A home in which line@1 answers 2x and the truth is 3x; since a day the inputs are others too."""
    folder = tmp_path_factory.mktemp("triggers")
    home, project = Home(folder / "home").create(), make_project(folder / "project")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_CEILING_DIRECTORIES", str(folder))
        deploy_first(home, project)
        answered(home, range(3, 1, -1), slope=3.0, each=400)
        answered(home, range(1, 0, -1), slope=3.0, each=400, name="moved", mean=4.0)
        yield home, project
        watched.unwatch(home, "live")


def newest(home: Home, trigger: str) -> Report | None:
    """The newest retraining that began so, once it has ended."""
    with Registry.open(home) as registry:
        found = [each for each in Turns(registry.database).listed("live") if each.trigger == trigger]
    return found[0] if found and found[0].state != "running" else None


def test_an_alert_of_the_monitor_begins_a_retraining(place: tuple[Home, Path]) -> None:
    home, project = place
    make_project(project, QUIET + 'on = ["alert"]\nalerts = ["drift"]\n' + FEW)
    watched.watch(home, "live", project, "ada")
    looked = CliRunner().invoke(app, ["monitor", "run", "--once"], env={"MODELYARD_HOME": str(home.path)})
    assert looked.exit_code == 0, looked.output
    with Registry.open(home) as registry:
        alerts = [alert for alert in Alerts(registry.database).listed("live") if "drift" in str(alert.parts)]
    with followed(home):
        report = eventually(lambda: newest(home, "alert"), 120)
    assert (report.state, report.alerts) == ("failed", (alerts[0].id,)), report.reason
    assert report.why == f"alert {alerts[0].id}: {alerts[0].title}"
    watch = watched.watches(home)[0]
    with Registry.open(home) as registry:  # the alert goes on, and has had its retraining
        assert due(plan_for(watch), gather(registry, watch, None)) is None


def test_a_schedule_begins_a_retraining(place: tuple[Home, Path]) -> None:
    home, project = place
    make_project(project, QUIET + 'on = ["schedule"]\nevery = "1s"\n' + FEW)
    watched.watch(home, "live", project, "ada")
    with followed(home):
        report = eventually(lambda: newest(home, "schedule"), 60)
    assert (report.state, report.why.split(",")[0]) == ("failed", "every 1s")
    assert "labelled records lie before" in report.reason


@contextmanager
def control_plane(home: Home) -> Iterator[httpx.Client]:
    """The control plane with the routes that `modelyard up` gives it."""
    file = home.run / "control.json"
    words = ["--home", str(home.path), "--announce", str(file), "--routes", "modelyard.retraining.routes"]
    file.parent.mkdir(exist_ok=True)
    process = subprocess.Popen([sys.executable, "-P", "-m", "modelyard.control", *words])
    try:
        there = eventually(lambda: announce.read(file))
        with httpx.Client(base_url=there.url, trust_env=False, timeout=60) as client:
            yield client
    finally:
        process.terminate()
        assert process.wait(60) in (0, -signal.SIGTERM)
        file.unlink()


def test_a_retraining_is_begun_and_looked_at_over_http_and_ends_with_the_control_plane(
    place: tuple[Home, Path],
) -> None:
    home, project = place
    make_project(project, QUIET.replace('parquet"]', 'parquet", "--ballast"]'))
    watched.watch(home, "live", project, "ada")
    with control_plane(home) as call:
        begun = call.post("/deployments/live/retrainings", json={"why": "a new terminal", "by": "ada"})
        assert begun.status_code == 200, begun.text
        told = begun.json()["retraining"]
        assert (told["state"], told["trigger"], told["why"], told["by"]) == ("running", "hand", "a new terminal", "ada")
        where = f"/retrainings/{told['id']}"
        eventually(lambda: call.get(where).json()["retraining"]["stage"] == "training", 60)
        again = call.post("/deployments/live/retrainings", json={})
        assert (again.status_code, "is being trained again already" in again.json()["error"]) == (409, True)
        listed = call.get("/retrainings", params={"deployment": "live", "most": 1}).json()["retrainings"]
        assert [each["id"] for each in listed] == [told["id"]]
        assert call.post("/deployments/nobody/retrainings", json={}).status_code == 404
        assert call.post("/deployments/live/retrainings", json={"command": "id"}).status_code == 422
        assert call.get("/retrainings/999").status_code == 404
        assert "/deployments/{name}/retrainings" in call.get("/openapi.json").json()["paths"]
    ended = eventually(lambda: newest(home, "hand"))
    assert (ended.id, ended.state) == (told["id"], "stopped")


def test_rows_of_a_database_are_trained_on(
    place: tuple[Home, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, project = place
    x = np.random.default_rng(6).normal(size=300)
    with closing(sqlite3.connect(tmp_path / "points.db")) as database, database:
        database.execute("CREATE TABLE points (x REAL, y REAL, at TEXT)")
        rows = [(float(each), 3 * float(each), "2020-01-01 00:00:00") for each in x]
        # What is newer than the rows that are judged on must not be learned from.
        database.executemany("INSERT INTO points VALUES (?, ?, ?)", [*rows, (1.0, 1e6, "2999-01-01 00:00:00")])
    plan = QUIET + "url_from = 'POINTS'\nquery = \"SELECT x, y AS label FROM points WHERE at < '{until}'\"\n"
    make_project(project, plan)
    unset = retrain(home, "live", project=project)
    assert (unset.state, "POINTS is not set" in unset.reason) == ("failed", True)
    monkeypatch.setenv("POINTS", f"sqlite:///{tmp_path / 'points.db'}")
    report = retrain(home, "live", project=project)
    assert (report.state, report.run_metrics["slope"]) == ("accepted", pytest.approx(3.0)), report.reason
    assert report.data is not None
    assert (report.data.origin, report.data.rows) == ("the rows of the project's query", 300)
    assert report.evaluation is not None
    assert report.evaluation.since is not None
    assert report.data.until is not None
    assert report.data.until <= report.evaluation.since
