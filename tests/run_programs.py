"""A small training program in a project of its own, and the command line in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from modelyard.cli.app import app

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


def make_project(folder: Path) -> Path:
    """The program, a module of its own, and data."""
    (folder / "data").mkdir(parents=True)
    points = [(index / 40, (index * 7 % 40) / 40) for index in range(40)]
    lines = ["a,b,label", *(f"{a},{b},{int(a + b > 1)}" for a, b in points)]
    (folder / "data" / "points.csv").write_text("\n".join(lines) + "\n")
    (folder / "train.py").write_text(TRAIN)
    (folder / "features.py").write_text(FEATURES)
    return folder


def make_repository(project: Path) -> Path:
    """A commit of all but the data."""
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
        source = Path(__file__).parents[1] / "src"
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
        at = 2 if words[0] in ("data", "runs") else 1
        code, said, complained = self(*words[:at], "--json", *words[at:])
        assert code == 0, complained
        return json.loads(said)


PROGRAM = ("--", sys.executable, "train.py", "--depth", "2")
