"""What a user does with recorded runs: a small scikit-learn program in a real repository, run in its own process."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import pytest

from run_programs import FEATURES, PROGRAM, Terminal, git, make_project, make_repository


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path / "project")


@pytest.fixture
def repository(project: Path) -> Path:
    return make_repository(project)


@pytest.fixture
def terminal(tmp_path: Path, project: Path) -> Terminal:
    return Terminal(tmp_path / "yard", project)


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
    """Its wheels cannot be had without a connection, which is said and changes nothing else."""
    terminal.environment["UV_OFFLINE"] = "1"
    (project / "numbers.txt").write_text("1 2 3 4 5\n")
    (project / "pack.py").write_text(PACKING)
    terminal.json("data", "snapshot", project / "numbers.txt", "--name", "numbers")
    (project / "numbers.txt").unlink()
    code, said, complained = terminal("train", "--vault", "--json", "--", sys.executable, "pack.py")
    assert (code, "no wheel of line@1 can be had" in complained) == (0, True)
    made = json.loads(said)
    assert made["run"]["versions"] == ["line@1"]
    assert made["run"]["data"]["versions"] == ["numbers@1"]
    assert made["run"]["data"]["other_files"] == 0
    (run,) = terminal.json("show", "line@1")["runs"]
    assert run["id"] == made["id"]
    assert made["id"] in terminal("show", "line@1")[1]
    assert len(terminal.json("runs", "list", "--version", "line@1")["runs"]) == 1


def test_of_a_program_that_is_not_python_nothing_is_claimed(terminal: Terminal) -> None:
    code, said, _ = terminal("train", "--name", "shell", "--", "sh", "-c", "echo one; exit 3")
    assert (code, said) == (3, "one\n")
    run = terminal.json("runs", "show", "shell")["run"]
    assert (run["data"]["watched"], run["environment"]) == ("not watched", None)
    assert any("could be watched" in note for note in run["notes"])
