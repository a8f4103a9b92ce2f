"""The flights model through its versions: data and code change, and both versions are told apart and made again."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from modelyard.bundle import uv
from modelyard.demo import flights, training
from run_programs import Terminal, git

EVERY = 9


def make_project(folder: Path) -> Path:
    """The demo's training program in a repository, and some flights of January and February beside it, in no commit."""
    (folder / "data").mkdir(parents=True)
    past = flights.between(flights.load(), "2013-01-01", "2013-03-01")
    past.iloc[::EVERY].reset_index(drop=True).to_parquet(folder / training.DATA)
    shutil.copyfile(training.__file__, folder / "train.py")
    (folder / ".gitignore").write_text("data/\n")
    git(folder, "init", "-q", "-b", "trunk")
    git(folder, "add", "-A")
    git(folder, "-c", "user.name=n", "-c", "user.email=n@example.org", "commit", "-q", "-m", "first")
    return folder


def change_one_row(project: Path) -> None:
    import pandas as pd

    table = pd.read_parquet(project / training.DATA)
    table.loc[17, "distance"] += 400
    table.to_parquet(project / training.DATA)


def change_one_line(project: Path) -> None:
    program = project / "train.py"
    program.write_text(program.read_text().replace("random_state=0", "random_state=0, learning_rate=0.3"))


def snapshot_and_train(terminal: Terminal, data: str) -> dict[str, Any]:
    project = terminal.folder
    taken = terminal.json("data", "snapshot", project / training.DATA, "--name", "flights", "--key", "flight_id")
    assert taken["ref"] == data
    run: dict[str, Any] = terminal.json(
        "train", "--data", data, "--", sys.executable, "train.py", "--iterations", "20"
    )["run"]
    return run


@pytest.mark.timeout(600)
def test_the_flights_model_through_two_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_CACHE_DIR", uv.run(["cache", "dir"]).strip())
    project = make_project(tmp_path / "project")
    here = Terminal(tmp_path / "yard", project)
    runs = [snapshot_and_train(here, "flights@1")]
    change_one_row(project)
    change_one_line(project)
    runs.append(snapshot_and_train(here, "flights@2"))
    assert [run["versions"] for run in runs] == [["flights-delay@1"], ["flights-delay@2"]]
    assert [run["data"]["versions"] for run in runs] == [["flights@1"], ["flights@2"]]

    data = here.json("data", "diff", "flights@1", "flights@2")
    (table,) = data["tables"]
    assert (table["rows"]["added"], table["rows"]["removed"], table["rows"]["changed"]) == (0, 0, 1)
    (_, said, _) = here("diff", "flights-delay@1", "flights-delay@2", "--on", project / training.DATA)
    assert "-    pipeline = make_pipeline(columns, HistGradientBoostingClassifier(" in said
    assert "learning_rate=0.3" in said
    assert "flights@1" in said

    (_, tree, _) = here("lineage", "flights-delay@2", "--html", tmp_path / "lineage.html")
    for part in ("flights@2", runs[1]["id"], "flights-delay@2"):
        assert part in tree
        assert part in (tmp_path / "lineage.html").read_text()
    (_, down, _) = here("lineage", "data:flights@1", "--down")
    assert "flights-delay@1" in down
    assert "flights-delay@2" not in down

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for ref in ("flights-delay@1", "flights-delay@2"):
        here.json("push", ref, "--to", elsewhere)
    shutil.rmtree(project)
    shutil.rmtree(here.home)

    fresh = tmp_path / "fresh"
    fresh.mkdir()
    there = Terminal(elsewhere, fresh)
    code, _, complained = there("reproduce", "flights-delay@1")
    assert code == 5
    assert "nothing of it was run" in complained, "a program from another home is trusted only if the user says so"
    for ref, run in zip(("flights-delay@1", "flights-delay@2"), runs, strict=True):
        found = there.json("reproduce", ref, "--trust-code")
        assert found["verdict"] == "bit-equal", found
        assert found["missing"] == []
        metrics = {pair["name"]: pair["after"] for pair in found["metrics"]}
        assert metrics == {name: metric["last"] for name, metric in run["metrics"].items()}
