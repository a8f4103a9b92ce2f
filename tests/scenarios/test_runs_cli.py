"""What a user does with recorded runs: a small scikit-learn program in a real repository, run in its own process."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from modelyard.cli.app import app
from modelyard.errors import RunNotFound
from modelyard.home import Home
from modelyard.runs.shipping import recover
from modelyard.runs.yard import opened

TRAIN = """
import csv
import random
import sys

from sklearn.tree import DecisionTreeClassifier

import features
import modelyard as my

with open("data/points.csv", newline="") as handle:
    rows = [[float(cell) for cell in row] for row in list(csv.reader(handle))[1:]]
X, y = features.of(rows)
with my.run("points", params={"depth": int(sys.argv[sys.argv.index("--depth") + 1])}, tags={"kind": "tree"}) as run:
    random.seed(7)
    model = DecisionTreeClassifier(max_depth=int(sys.argv[-1])).fit(X, y)
    for step in range(5):
        run.log_metrics({"accuracy": model.score(X, y) - 0.01 * (4 - step)}, step=step)
    with open("report.txt", "w") as report:
        report.write("good")
    run.log_artifact("report.txt", "reports/last.txt")
    print("trained on", len(X), "points")
"""
FEATURES = """
def of(rows):
    return [row[:2] for row in rows], [int(row[2]) for row in rows]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "data").mkdir(parents=True)
    points = [(index / 40, (index * 7 % 40) / 40) for index in range(40)]
    lines = ["a,b,label", *(f"{a},{b},{int(a + b > 1)}" for a, b in points)]
    (folder / "data" / "points.csv").write_text("\n".join(lines) + "\n")
    (folder / "train.py").write_text(TRAIN)
    (folder / "features.py").write_text(FEATURES)
    return folder


@pytest.fixture
def repository(project: Path) -> Path:
    (project / ".gitignore").write_text("data/\nreport.txt\n")
    git(project, "init", "-q", "-b", "trunk")
    git(project, "add", "-A")
    git(project, "-c", "user.name=n", "-c", "user.email=n@example.org", "commit", "-q", "-m", "first")
    return project


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


class Terminal:
    """Runs the command line in a process of its own, in one folder and on one home."""

    def __init__(self, home: Path, folder: Path) -> None:
        self.home, self.folder = home, folder
        source = Path(__file__).parents[2] / "src"
        left = {name: value for name, value in os.environ.items() if name != "MODELYARD_RUN"}
        self.environment = left | {
            "MODELYARD_HOME": str(home),
            "COLUMNS": "200",
            "PYTHONPATH": str(source),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "CHURN_PASSWORD": "hunter2-not-to-be-kept",
        }

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "modelyard.cli.app", *map(str, words)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=pipe, stderr=pipe, text=True)

    def __call__(self, *words: str | Path) -> tuple[int, str, str]:
        """Programs in a process of their own; what only looks into the registry, in this one."""
        if words[0] != "train":
            done = CliRunner().invoke(app, [str(word) for word in words], env=self.environment, catch_exceptions=False)
            return done.exit_code, done.stdout, done.stderr
        started = self.start(*words)
        said, complained = started.communicate(timeout=200)
        return started.returncode, said, complained

    def json(self, *words: str | Path) -> Any:
        at = 1 if words[0] in ("train", "show") else 2
        code, said, complained = self(*words[:at], "--json", *words[at:])
        assert code == 0, complained
        return json.loads(said)


@pytest.fixture
def terminal(tmp_path: Path, project: Path) -> Terminal:
    return Terminal(tmp_path / "yard", project)


PROGRAM = ("--", sys.executable, "train.py", "--depth", "2")


def test_a_run_keeps_code_data_environment_and_what_was_said(
    terminal: Terminal, repository: Path, tmp_path: Path
) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    (repository / "features.py").write_text(FEATURES.replace("row[:2]", "row[0:2]"))
    (repository / "notes.md").write_text("not in any commit\n")
    (repository / "settings.py").write_text('API_KEY = "9f8e7d6c5b4a39281706f5e4d3c2b1a0ffeeddcc"\n')
    terminal.json("data", "snapshot", repository / "data", "--name", "points")

    made = terminal.json("train", "--data", "points@1", "--tag", "by=hand", *PROGRAM)

    run = made["run"]
    assert (made["exit_code"], run["outcome"]["state"], run["name"]) == (0, "finished", "points")
    assert run["code"]["commit"] == commit
    assert (run["code"]["branch"], run["code"]["changed"], run["code"]["untracked"]) == (
        "trunk",
        ["features.py"],
        ["notes.md"],
    )
    assert "looks like a secret" in run["code"]["left_out"]["settings.py"]
    assert run["data"]["versions"] == run["data"]["declared"] == ["points@1"]
    assert (run["data"]["other_files"], run["data"]["watched"], run["data"]["unseen"]) == (0, "whole program", [])
    assert run["params"] == {"depth": 2}
    assert run["tags"] == {"by": "hand", "kind": "tree"}
    assert run["metrics"]["accuracy"]["count"] == 5
    assert run["metrics"]["accuracy"]["step"] == 4
    assert run["seeds"]["random"] == "seeded with 7"
    assert run["settings"]["OMP_NUM_THREADS"] == "1"
    packages = {each["name"]: each for each in run["environment"]["distributions"]}
    assert packages["scikit-learn"]["content"]
    assert run["environment"]["threads"]["openmp"] >= 1
    assert run["seconds"] > 0

    kept = tmp_path / "kept"
    terminal.json("runs", "files", made["id"], kept)
    assert "row[0:2]" in (kept / "code" / "changes.patch").read_text()
    assert (kept / "code" / "untracked" / "notes.md").read_text() == "not in any commit\n"
    assert (kept / "artifacts" / "reports" / "last.txt").read_text() == "good"
    assert gzip.decompress((kept / "output" / "stdout.txt.gz").read_bytes()) == b"trained on 40 points\n"
    assert len(gzip.decompress((kept / "metrics.jsonl.gz").read_bytes()).splitlines()) == 5
    everything = b"".join(path.read_bytes() for path in kept.rglob("*") if path.is_file())
    assert b"hunter2" not in everything
    assert b"9f8e7d6c" not in everything
    assert list((terminal.home / "runs").iterdir()) == []

    assert [each["id"] for each in terminal.json("runs", "list", "--where", "accuracy>0.5")["runs"]] == [made["id"]]
    assert terminal.json("runs", "list", "--where", "depth=3")["runs"] == []
    assert len(terminal.json("runs", "list", "points", "--data", "points@1", "--tag", "by=hand")["runs"]) == 1
    code, shown, _ = terminal("runs", "show", "points")
    assert code == 0
    assert "read points@1" in shown
    assert "trunk" in shown


def test_data_of_no_version_is_said(terminal: Terminal, repository: Path) -> None:
    run = terminal.json("train", *PROGRAM)["run"]
    assert run["data"]["others"] == ["data/points.csv"]
    assert "FILES OF NO VERSION: data/points.csv" in terminal("runs", "show", "points")[1]


def test_a_failing_program_is_recorded_with_its_last_line_and_gives_its_exit_code(
    terminal: Terminal, project: Path
) -> None:
    (project / "train.py").write_text("import features\nprint('so far')\nraise ValueError('depth must be even')\n")
    code, said, _ = terminal("train", "--name", "odd", *PROGRAM)
    assert (code, said) == (1, "so far\n")
    run = terminal.json("runs", "show", "odd")["run"]
    assert run["outcome"] == {
        "state": "failed",
        "exit_code": 1,
        "signal": "",
        "error": "ValueError: depth must be even",
    }
    assert run["code"]["commit"] is None
    assert run["code"]["loaded"] == ["features.py", "train.py"]


def test_a_program_that_is_not_there_is_said(terminal: Terminal) -> None:
    code, _, complained = terminal("train", "--", "no-such-program")
    assert code == 5
    assert "no-such-program cannot be started" in complained
    assert "Traceback" not in complained


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


def test_two_runs_at_once_do_not_mix(terminal: Terminal, repository: Path) -> None:
    started = [terminal.start("train", "--json", "--", sys.executable, "train.py", "--depth", d) for d in "12"]
    made = [json.loads(each.communicate(timeout=200)[0]) for each in started]
    assert [each["run"]["params"] for each in made] == [{"depth": 1}, {"depth": 2}]
    assert all(each["run"]["metrics"]["accuracy"]["count"] == 5 for each in made)
    with opened(Home(terminal.home)) as yard, pytest.raises(RunNotFound, match="newest: 2"):
        yard.runs.run("elsewhere")


PACKING = """
import modelyard as my
from sklearn.linear_model import LinearRegression

with my.run("line") as run:
    place = run.data("numbers@1")
    text = (place / "numbers.txt").read_text().split()
    X = [[float(each)] for each in text]
    run.pack(LinearRegression().fit(X, [2 * row[0] for row in X]), sample=X, golden_rows=4)
"""


def test_a_version_knows_the_run_that_made_it(terminal: Terminal, project: Path) -> None:
    (project / "numbers.txt").write_text("1 2 3 4 5\n")
    (project / "pack.py").write_text(PACKING)
    terminal.json("data", "snapshot", project / "numbers.txt", "--name", "numbers")
    (project / "numbers.txt").unlink()
    made = terminal.json("train", "--", sys.executable, "pack.py")
    assert made["run"]["versions"] == ["line@1"]
    assert made["run"]["data"]["versions"] == ["numbers@1"]
    assert made["run"]["data"]["other_files"] == 0
    (run,) = terminal.json("show", "line@1")["runs"]
    assert run["id"] == made["id"]
    assert made["id"] in terminal("show", "line@1")[1]
    assert len(terminal.json("runs", "list", "--version", "line@1")["runs"]) == 1


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
