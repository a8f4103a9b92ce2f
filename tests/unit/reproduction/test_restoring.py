"""Code and data of a run in a fresh folder: from the registry alone, and what is said where that cannot be."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

import modelyard as my
from modelyard.domain.run import Run
from modelyard.errors import Failed, InvalidRequest
from modelyard.home import Home
from modelyard.reproduction import surroundings
from modelyard.reproduction.restoring import Kept, Restored, kept_of, restore
from modelyard.runs import committed
from modelyard.runs.beginning import Within
from modelyard.runs.program import train
from modelyard.runs.yard import opened
from run_programs import git

PROGRAM = """
import shutil, sys
import helper
from shop import prices
open("data/sales.csv").read()
open("settings.toml").read()
open(sys.argv[1]).read()
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "yard").create()


@pytest.fixture
def project(tmp_path: Path, home: Home) -> Path:
    """A repository with a module below ``src``, an ignored folder of data, and changes that are not committed."""
    folder = tmp_path / "project"
    for name, text in {
        "jobs/train.py": PROGRAM,
        "jobs/helper.py": "A = 1\n",
        "src/shop/__init__.py": "",
        "src/shop/prices.py": "B = 1\n",
        "settings.toml": "depth = 6\n",
        ".gitignore": "data/\nlocal.py\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "latest").symlink_to("settings.toml")
    git(folder, "init", "-q", "-b", "trunk")
    git(folder, "add", "-A")
    git(folder, "-c", "user.name=n", "-c", "user.email=n@example.org", "commit", "-q", "-m", "first")
    (folder / "data").mkdir()
    (folder / "data" / "sales.csv").write_text("a\n1\n")
    (folder / "data" / "more.csv").write_text("b\n2\n")
    (folder / "jobs" / "helper.py").write_text("A = 2\n")
    (folder / "jobs" / "new.py").write_text("C = 3\n")
    my.data.snapshot(folder / "data", "sales", home=home, profile=False)
    return folder


@pytest.fixture
def run(project: Path, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """That reads a version of data, a file of the commit, and one of no version."""
    (tmp_path / "elsewhere.txt").write_text("of no version")
    monkeypatch.chdir(project)
    monkeypatch.setenv("PYTHONPATH", str(project / "src"))
    with Path(os.devnull).open("wb") as nowhere:
        command = [sys.executable, "jobs/train.py", "../elsewhere.txt"]
        done = train(command, streams=(nowhere, nowhere), name="shop", data=["sales@1"], home=home)
    assert done.record is not None
    assert done.exit_code == 0
    return done.record


def restored(home: Home, run: Run, into: Path) -> Restored:
    with opened(home) as yard:
        kept = kept_of(yard, run.id, into / "kept")
        return restore(kept, kept, yard.datasets, into / "code")


def test_all_is_given_back_without_the_repository(home: Home, project: Path, run: Run, tmp_path: Path) -> None:
    shutil.rmtree(project)
    (tmp_path / "elsewhere.txt").unlink()
    found = restored(home, run, tmp_path / "again")

    root = found.root
    assert root.name == "project"
    assert (root / "jobs" / "helper.py").read_text() == "A = 2\n"
    assert (root / "jobs" / "new.py").read_text() == "C = 3\n"
    assert (root / "src" / "shop" / "prices.py").read_text() == "B = 1\n"
    assert (root / "data" / "sales.csv").read_text() == "a\n1\n"
    assert (root / "data" / "more.csv").read_text() == "b\n2\n", "a program may list the folder"
    assert os.access(root / "run.sh", os.X_OK)
    assert (root / "latest").readlink() == Path("settings.toml")
    assert set(run.code.sources) == {"jobs", "src"}
    (missing,) = found.missing
    assert "../elsewhere.txt cannot be given back: it is of no version" in missing


def test_a_file_of_no_version_is_taken_from_where_it_lay_if_it_is_the_same(
    home: Home, project: Path, run: Run, tmp_path: Path
) -> None:
    found = restored(home, run, tmp_path / "again")
    assert found.missing == ()
    assert (found.root.parent / "elsewhere.txt").read_text() == "of no version"
    (tmp_path / "elsewhere.txt").write_text("something else")
    assert len(restored(home, run, tmp_path / "third").missing) == 1


def test_a_commit_that_is_nowhere_is_said(home: Home, project: Path, run: Run, tmp_path: Path) -> None:
    with opened(home) as yard:
        kept = kept_of(yard, run.id, tmp_path / "kept")
        (kept.files / committed.ARCHIVE).unlink()
        from_place = restore(kept, kept, yard.datasets, tmp_path / "again")
        assert any(f"is from the repository in {project}" in note for note in from_place.notes)
        project.rename(tmp_path / "away")
        lost = Kept(replace(kept.run, code=replace(kept.run.code, remote=None)), kept.files, kept.reads)
        with pytest.raises(Failed, match=f"commit {run.code.commit} is not kept with the run, not in {project}"):
            restore(lost, lost, yard.datasets, tmp_path / "third")


def test_what_is_named_as_keys_are_is_not_kept_and_bytes_depend_on_files_alone(project: Path, tmp_path: Path) -> None:
    (project / "prod.env").write_text("x=1\n")
    git(project, "add", "-f", "prod.env")
    git(project, "-c", "user.name=n", "-c", "user.email=n@example.org", "commit", "-q", "-m", "second")
    first = committed.keep(project, "HEAD", tmp_path / "one.tar")
    second = committed.keep(project, "HEAD", tmp_path / "two.tar")
    assert first == second == {"prod.env": "it is named as keys and passwords are"}
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    assert committed.keep(project, "0" * 40, tmp_path / "none.tar") is None
    assert not (tmp_path / "none.tar").exists()
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("../outside"))
    with pytest.raises(tarfile.TarError):
        committed.give_back(tmp_path / "evil.tar", tmp_path / "target")
    assert not (tmp_path / "outside").exists()


def test_a_command_that_cannot_be_run_again_is_refused() -> None:
    python, root = Path("/env/bin/python"), Path("/new")
    assert surroundings.command(["python3.11", "-m", "fit"], python, "/old", root) == [str(python), "-m", "fit"]
    assert surroundings.command(["make", "/older/x"], python, "/old", root) == ["make", "/older/x"]
    with pytest.raises(InvalidRequest, match="starred out"):
        surroundings.command(["python", "fit.py", "--password", "***"], python, "/old", root)
    with pytest.raises(InvalidRequest, match="notebook"):
        surroundings.command(["python", "-m", "ipykernel_launcher", "-f", "x.json"], python, "/old", root)


def test_a_repeated_program_ends_in_time_with_all_that_it_started(home: Home, tmp_path: Path) -> None:
    program = "import subprocess, time; subprocess.Popen(['sleep', '300']); time.sleep(300)"
    within = Within(tmp_path, {**os.environ, "PYTHONPATH": ""}, 2.0)
    started = time.monotonic()
    with Path(os.devnull).open("wb") as nowhere:
        command = [sys.executable, "-c", program]
        done = train(command, streams=(nowhere, nowhere), name="long", home=home, within=within)
    assert time.monotonic() - started < 120
    assert done.record is not None
    assert done.record.outcome.state == "killed"
    assert sleeping(tmp_path) == []


def sleeping(folder: Path) -> list[str]:
    """Processes that sleep in that folder."""
    listed = subprocess.run(["ps", "-eo", "pid=,args="], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if "sleep 300" in line and _is_in(line.split()[0], folder)]


def _is_in(pid: str, folder: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == folder
    except OSError:
        return False
