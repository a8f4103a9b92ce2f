"""Versions that are trained again from their record, where nothing is left of the folder that they were trained in."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import modelyard as my
from handmade_wheels import write_wheel
from modelyard.bundle import uv
from modelyard.domain.reproduction import Reproduction
from run_programs import Terminal, git

LONG = pytest.mark.skipif(not os.environ.get("MODELYARD_FAULTS"), reason="the long form, as in make faults")

PACKAGE = "handmadefactor"

TRAIN = """
import os
import sys

import numpy as np
from sklearn.linear_model import Ridge

import features
import modelyard as my

with my.run("points") as run:
    table = np.loadtxt("data/points.csv", delimiter=",", skiprows=1)
    X, y = features.of(table), table[:, 2]
    if "chance" in sys.argv:
        y = y + 0.01 * np.random.default_rng().normal(size=len(y))
    parts = np.array_split(np.arange(len(X)), int(os.environ.get("OMP_NUM_THREADS", "2")))
    model = Ridge().fit(X, y)
    model.coef_ = sum((X[part].sum(axis=0) for part in parts), start=np.zeros(2)) * model.coef_
    run.log_metrics({"score": model.score(X, y)})
    run.pack(model, sample=X, golden_rows=8, runtime="python")
"""
FEATURES = """
def of(table):
    return table[:, :2]
"""


@dataclass(frozen=True)
class Yard:
    """A home with two versions, the second of changed data and code; the project that they came from is gone."""

    terminal: Terminal
    runs: tuple[dict[str, Any], ...]

    def reproduce(self, ref: str, **options: Any) -> Reproduction:
        return my.reproduce(ref, home=self.terminal.home, **options)


def make_project(folder: Path) -> Path:
    (folder / "data").mkdir(parents=True)
    rows = [f"{index / 61},{(index * 17 % 61) / 7},{(index * 29 % 13) / 3}" for index in range(61)]
    (folder / "data" / "points.csv").write_text("a,b,target\n" + "\n".join(rows) + "\n")
    (folder / "train.py").write_text(TRAIN)
    (folder / "features.py").write_text(FEATURES)
    (folder / ".gitignore").write_text("data/\n")
    git(folder, "init", "-q", "-b", "trunk")
    git(folder, "add", "-A")
    git(folder, "-c", "user.name=n", "-c", "user.email=n@example.org", "commit", "-q", "-m", "first")
    return folder


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    root = tmp_path_factory.mktemp("reproduce")
    project = make_project(root / "project")
    terminal = Terminal(root / "yard", project)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UV_CACHE_DIR", uv.run(["cache", "dir"]).strip())
        runs = [train(terminal, "points@1")]
        data = project / "data" / "points.csv"
        data.write_text(data.read_text().replace("\n0.0,", "\n0.5,", 1))
        (project / "features.py").write_text(FEATURES.replace("table[:, :2]", "table[:, :2] + 1"))
        runs.append(train(terminal, "points@2"))
        if os.environ.get("MODELYARD_FAULTS"):
            runs.append(train(terminal, "points@2", "chance"))
        shutil.rmtree(project)
        yield Yard(terminal, tuple(runs))


def train(terminal: Terminal, data: str, *more: str) -> dict[str, Any]:
    terminal.json("data", "snapshot", terminal.folder / "data", "--name", "points", "--no-profile")
    found: dict[str, Any] = terminal.json("train", "--data", data, "--", sys.executable, "train.py", *more)["run"]
    return found


def test_a_version_of_uncommitted_changes_comes_out_bit_equal_without_its_project(yard: Yard) -> None:
    """One row of the data and one line of the code were changed before it was trained, and never committed."""
    found = yard.reproduce("points@2")

    assert found.verdict == "bit-equal", found
    assert found.learned is not None
    assert found.learned.equal
    assert found.answers is not None
    assert found.answers.means == "as both recorded them"
    assert [(pair.name, pair.equal) for pair in found.metrics] == [("score", True)]
    assert found.missing == ()

    shown = yard.terminal.json("show", "points@2")
    assert [each["reproduction"]["verdict"] for each in shown["reproductions"]] == ["bit-equal"]
    assert "bit-equal" in yard.terminal("show", "points@2")[1]
    assert len(yard.terminal.json("runs", "list")["runs"]) == len(yard.runs), (
        "reproductions are no runs of the registry"
    )
    assert list((yard.terminal.home / "cache" / "reproductions").iterdir()) == [], "nothing is left behind"


def test_explain_names_the_threads_that_moved_the_result(yard: Yard) -> None:
    found = yard.reproduce("points@1", threads=7, explain=True)
    assert found.verdict != "bit-equal"
    assert found.explanation is not None
    assert [(cause.kind, cause.before, cause.after) for cause in found.explanation.causes] == [("threads", "1", "7")]
    assert [(trial.moved, trial.verdict) for trial in found.explanation.trials][-1] == (True, "bit-equal"), "as it was"
    assert found.what_if == ("7 threads",)
    assert not found.counts


@LONG
def test_the_first_version_comes_out_bit_equal_too(yard: Yard) -> None:
    first, second = (yard.reproduce(f"points@{number}") for number in (1, 2))
    assert (first.verdict, second.verdict) == ("bit-equal", "bit-equal")
    assert first.learned is not None
    assert second.learned is not None
    assert first.learned.digest != second.learned.digest


@LONG
def test_explain_finds_a_program_out_that_draws_without_a_seed(yard: Yard) -> None:
    found = yard.reproduce("points@3", explain=True)
    assert found.verdict != "bit-equal"
    assert found.explanation is not None
    assert [cause.kind for cause in found.explanation.causes] == ["randomness"]


@LONG
def test_a_program_that_goes_on_from_an_earlier_version_finds_it(yard: Yard) -> None:
    yard.terminal("alias", "points", "champion", "1")
    folder = make_project(yard.terminal.folder)
    going_on = TRAIN.replace("run.pack(", 'model.alpha = my.load("points@champion").predict(X).sum()\n    run.pack(')
    (folder / "train.py").write_text(going_on)
    made = train(yard.terminal, "points@1")
    assert made["loaded"] == ["points@1"]
    shutil.rmtree(folder)
    yard.terminal("alias", "points", "champion", "2")
    found = yard.reproduce(made["versions"][0])
    assert found.verdict == "bit-equal", found


@LONG
def test_explain_names_the_package_that_moved_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of its own in two versions, so that no index is asked."""
    for version, factor in (("1.0", 1.0), ("2.0", 1.5)):
        files = {f"{PACKAGE}.py": f"FACTOR = {factor}\n"}
        write_wheel(tmp_path / "wheels", PACKAGE, version, files)
        write_wheel(tmp_path / "wheels", f"{PACKAGE}idle", version, {f"{PACKAGE}idle.py": "X = 1\n"})
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("UV_CACHE_DIR", uv.run(["cache", "dir"]).strip())
    site, project = tmp_path / "site", make_project(tmp_path / "project")
    pins = [f"{PACKAGE}==1.0", f"{PACKAGE}idle==1.0"]
    uv.run(["pip", "install", "--quiet", "--no-deps", "--offline", "--target", str(site), *pins])
    using = TRAIN.replace("import features", f"import features\nimport {PACKAGE}, {PACKAGE}idle")
    using = using.replace("run.pack(", f"model.coef_ = model.coef_ * {PACKAGE}.FACTOR\n    run.pack(")
    (project / "train.py").write_text(using)
    terminal = Terminal(tmp_path / "yard", project)
    terminal.environment["PYTHONPATH"] += os.pathsep + str(site)
    train(terminal, "points@1")

    changed = [f"{PACKAGE}==2.0", f"{PACKAGE}idle==2.0"]
    found = my.reproduce("points@1", packages=changed, explain=True, home=terminal.home)

    assert found.explanation is not None
    causes = [(cause.kind, cause.name, cause.before, cause.after) for cause in found.explanation.causes]
    assert causes == [("package", PACKAGE, "1.0", "2.0")]
    assert {str(one) for one in found.differences} >= {f"package {PACKAGE}: 1.0, now 2.0"}


@LONG
def test_explain_says_what_moved_one_version_away_from_another(yard: Yard) -> None:
    found = yard.reproduce("points@2", against="points@1", explain=True)
    assert found.explanation is not None
    assert {cause.kind for cause in found.explanation.causes} == {"code", "data"}
