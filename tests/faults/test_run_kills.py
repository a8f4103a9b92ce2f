"""Runs whose program or recorder is killed, and runs at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from modelyard.errors import RunNotFound
from modelyard.home import Home
from modelyard.runs.shipping import recover
from modelyard.runs.yard import opened
from run_programs import Terminal, make_project, make_repository

LONG = pytest.mark.skipif(not os.environ.get("MODELYARD_FAULTS"), reason="in the long form, `make faults`")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path / "project")


@pytest.fixture
def repository(project: Path) -> Path:
    return make_repository(project)


@pytest.fixture
def terminal(tmp_path: Path, project: Path) -> Terminal:
    return Terminal(tmp_path / "yard", project)


WAITING = """
import os, signal, sys, time
import modelyard as my

with my.run("waiting") as run:
    for step in range(100):
        run.log_metrics({"loss": 1 / (step + 1)}, step=step)
    print("ready", flush=True)
    if "--die" in sys.argv:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(200)
"""


def test_a_killed_program_keeps_its_metrics(terminal: Terminal, project: Path) -> None:
    (project / "wait.py").write_text(WAITING)
    code, said, _ = terminal("train", "--", sys.executable, "wait.py", "--die")
    assert (code, said) == (137, "ready\n")
    run = terminal.json("runs", "show", "waiting")["run"]
    assert (run["outcome"]["state"], run["outcome"]["signal"]) == ("killed", "SIGKILL")
    assert run["metrics"]["loss"] == {"last": 0.01, "least": 0.01, "most": 1.0, "count": 100, "step": 99}
    assert any("not come to its own end" in note for note in run["notes"])


@LONG
def test_stopping_the_recorder_stops_the_program(terminal: Terminal, project: Path) -> None:
    (project / "wait.py").write_text(WAITING)
    recorder = terminal.start("train", "--", sys.executable, "wait.py")
    with _ended_at_last(recorder):
        assert recorder.stdout is not None
        assert recorder.stdout.readline() == "ready\n"
        recorder.send_signal(signal.SIGTERM)
        assert recorder.wait(100) == 143
    assert terminal.json("runs", "list", "--state", "killed")["runs"][0]["outcome"]["signal"] == "SIGTERM"


def test_a_script_that_was_killed_is_found_as_lost(terminal: Terminal, project: Path) -> None:
    (project / "wait.py").write_text(WAITING)
    environment = terminal.environment
    script = subprocess.Popen([sys.executable, "wait.py"], cwd=project, env=environment, stdout=-1, text=True)
    with _ended_at_last(script):
        assert script.stdout is not None
        assert script.stdout.readline() == "ready\n"
        assert [run["outcome"]["state"] for run in terminal.json("runs", "list")["runs"]] == ["running"]
        script.kill()
        script.wait(100)
    (run,) = terminal.json("runs", "list")["runs"]
    assert run["outcome"]["state"] == "lost"
    assert run["metrics"]["loss"]["count"] == 100
    assert run["data"]["watched"] == "since the run began"
    assert recover(Home(terminal.home)) == ()


@LONG
def test_two_runs_at_once_do_not_mix(terminal: Terminal, repository: Path) -> None:
    started = [terminal.start("train", "--json", "--", sys.executable, "train.py", "--depth", d) for d in "12"]
    made = [json.loads(each.communicate(timeout=200)[0]) for each in started]
    assert [each["run"]["params"] for each in made] == [{"depth": 1}, {"depth": 2}]
    assert all(each["run"]["metrics"]["accuracy"]["count"] == 5 for each in made)
    with opened(Home(terminal.home)) as yard, pytest.raises(RunNotFound, match="newest: 2"):
        yard.runs.run("elsewhere")


class _ended_at_last:  # noqa: N801  # reads as a phrase
    """Ends the process, if it is still there."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        if self.process.stderr is not None:
            self.process.stderr.close()
