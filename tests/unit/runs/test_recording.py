from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import modelyard as my
from modelyard.domain.run import DataUse, Run
from modelyard.errors import InvalidRequest, RunNotFound
from modelyard.home import Home
from modelyard.recording import ActiveRun
from modelyard.registry.runs import Condition, Wanted
from modelyard.runs import machine, repository, shipping
from modelyard.runs.folder import VARIABLE, RunFolder, lines
from modelyard.runs.output import LIMIT, TAIL, Output
from modelyard.runs.yard import opened


@pytest.fixture(autouse=True)
def _outside_of_any_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("MODELYARD_HOME", str(tmp_path / "yard"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def record_of(run_id: str, home: Path) -> Run:
    with opened(Home(home)) as yard:
        return yard.runs.run(run_id)


def test_a_block_that_raises_is_a_failed_run_and_the_error_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = my.run("toy", params={"depth": 6, "shape": (1, 2)}).start()
    run_id = run.id
    sys.stdout.write("before\n")
    with pytest.raises(ZeroDivisionError), _ends(run):
        1 / 0  # noqa: B018
    found = record_of(run_id, tmp_path / "yard")
    assert (found.outcome.state, found.outcome.error) == ("failed", "ZeroDivisionError: division by zero")
    assert found.params == {"depth": 6, "shape": "(1, 2)"}
    assert capsys.readouterr().out == "before\n"
    assert type(sys.stdout).__name__ != "Tee"


def test_of_the_files_that_are_read_versions_others_and_own_ones_are_told_apart(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        Path(f"{name}.csv").write_text(f"{name}\n1\n")
    my.data.snapshot(["one.csv", "two.csv"], "numbers", profile=False)
    Path("copy").mkdir()
    Path("copy", "renamed.csv").write_text("one\n1\n")
    with my.run("toy") as run:
        Path("copy", "renamed.csv").read_text()
        Path("two.csv").read_text()
        Path("three.csv").read_text()
        Path("made.csv").write_text("x")
        Path("made.csv").read_text()
        Path("two.csv").write_text("changed\n")
        with pytest.raises(FileNotFoundError):
            Path("absent.csv").read_text()
        run_id = run.id
    data = replace(record_of(run_id, tmp_path / "yard").data, unseen=())  # this process has loaded DuckDB before
    assert data == DataUse(
        versions=("numbers@1",), others=("two.csv", "three.csv"), other_files=2, watched="since the run began"
    )
    Path("later.csv").write_text("x")  # nothing is watched any more, and nothing breaks


def test_files_of_several_versions_are_taken_for_the_one_that_has_most_of_them(tmp_path: Path) -> None:
    for day in "abc":
        Path(f"{day}.csv").write_text(day)
    my.data.snapshot("*.csv", "days", profile=False)
    Path("c.csv").write_text("changed")
    my.data.snapshot("*.csv", "days", profile=False)
    my.data.checkout("days@1", "old")
    with my.run("toy") as run:
        assert [Path("old", f"{day}.csv").read_text() for day in "abc"] == list("abc")
        run_id = run.id
    assert record_of(run_id, tmp_path / "yard").data.versions == ("days@1",)
    with my.run("toy", data=["days@2"]) as run:
        Path("a.csv").read_text()
        run_id = run.id
    assert record_of(run_id, tmp_path / "yard").data.versions == ("days@2",)


def test_misuse_is_said() -> None:
    with pytest.raises(InvalidRequest, match="cannot name a run"):
        my.run("no spaces please")
    run = my.run("toy")
    with pytest.raises(InvalidRequest, match="not under way"):
        run.log_metrics({"loss": 1})
    with run:
        with pytest.raises(InvalidRequest, match="a run is under way"):
            my.run("toy").start()
        with pytest.raises(InvalidRequest, match="'loss': 'high' is no number"):
            run.log_metrics({"loss": "high"})
        with pytest.raises(InvalidRequest, match="no such file"):
            run.log_artifact("plot.png")
        with pytest.raises(InvalidRequest, match="relative path"):
            run.log_artifact(".", "../outside")
    with pytest.raises(InvalidRequest, match="not under way"):
        run.finish()


def test_the_shared_source_of_randomness_is_seen(tmp_path: Path) -> None:
    program = "import random, modelyard as my\nwith my.run('toy'):\n    random.random()\n"
    subprocess.run([sys.executable, "-c", program], check=True, env=_with_source())
    with opened(Home(tmp_path / "yard")) as yard:
        assert yard.runs.run("toy").seeds["random"] == "used, not seeded"


def test_what_a_killed_recorder_left_is_taken_in_once_and_what_is_known_is_swept(tmp_path: Path) -> None:
    program = "import os, modelyard as my\nmy.run('toy').start().log_metrics({'a': 1})\nos._exit(9)\n"
    subprocess.run([sys.executable, "-c", program], check=False, env=_with_source())
    home = Home(tmp_path / "yard")
    (left,) = home.runs.iterdir()
    kept = {path.name: path.read_bytes() for path in left.iterdir() if path.is_file()}
    with (left / "metrics.jsonl").open("a") as half:
        half.write('{"step": 2, "val')
    assert shipping.recover(home) == (left.name,)
    with opened(home) as yard:
        assert yard.runs.run(left.name).metrics["a"].count == 1
        assert yard.runs.run("toy").outcome.state == "lost"
    left.mkdir()  # as if it had been killed before the folder was removed
    for name, raw in kept.items():
        (left / name).write_bytes(raw)
    assert shipping.recover(home) == ()
    assert not left.exists()


def test_a_run_whose_folder_is_gone_is_lost(tmp_path: Path) -> None:
    program = "import os, modelyard as my\nmy.run('toy').start()\nos._exit(9)\n"
    subprocess.run([sys.executable, "-c", program], check=False, env=_with_source())
    home = Home(tmp_path / "yard")
    (left,) = home.runs.iterdir()
    for path in sorted(left.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    left.rmdir()
    assert shipping.recover(home) == (left.name,)
    with opened(home) as yard:
        assert yard.runs.run("toy").outcome.state == "lost"
        assert yard.runs.files("toy") is None
        assert yard.runs.list(Wanted(state="running")) == ()


def test_a_run_is_found_by_what_its_id_begins_with(tmp_path: Path) -> None:
    ids = []
    for _ in range(2):
        with my.run("toy") as run:
            ids.append(run.id)
    with opened(Home(tmp_path / "yard")) as yard:
        assert yard.runs.run("toy").id == ids[1]
        assert yard.runs.run(ids[0]).id == ids[0]
        with pytest.raises(RunNotFound, match="several runs begin with '20'"):
            yard.runs.run("20")
        with pytest.raises(RunNotFound, match="no run 'other'"):
            yard.runs.run("other")


@pytest.mark.parametrize("text", ["", "auc", "auc>", "depth>six", ">3"])
def test_conditions_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        Condition.parse(text)


def test_a_repository_without_a_commit_gives_its_files(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", "-b", "trunk"], check=True)
    Path("train.py").write_text("x = 1\n")
    Path("large.bin").write_bytes(bytes(repository.FILE_BYTES + 1))
    subprocess.run(["git", "add", "train.py"], check=True)
    Path("yard").mkdir()
    Path("yard", "registry.db").write_text("not part of the code")
    kept = repository.look(Path.cwd(), besides=Path.cwd() / "yard")
    assert (kept.state.commit, kept.state.branch, kept.state.untracked) == (None, "trunk", ("train.py",))
    assert kept.files == {"code/untracked/train.py": b"x = 1\n"}
    assert "at most" in kept.state.left_out["large.bin"]


def test_a_process_that_has_ended_is_gone_even_if_its_number_is_used_again() -> None:
    here = machine.process()
    assert not machine.is_gone(here)
    assert machine.is_gone(type(here)(here.pid, here.started + 1, here.boot, here.host))
    assert not machine.is_gone(type(here)(1, 1, here.boot, "another-machine"))


def test_of_a_long_stream_beginning_and_end_are_kept(tmp_path: Path) -> None:
    output = Output(tmp_path / "out.txt")
    for _ in range(LIMIT // 2**20 + 2):
        output.write(b"x" * 2**20)
    output.write(b"\nthe end\n\n")
    assert output.last_line() == "the end"
    output.close()
    text = (tmp_path / "out.txt").read_bytes()
    assert text.endswith(b"\nthe end\n\n")
    assert b"bytes are left out here" in text
    assert len(text) < LIMIT + TAIL + 100


def test_a_folder_of_a_run_that_is_not_there_surrounds_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nothing"))
    assert RunFolder.surrounding() is None
    (tmp_path / "half.jsonl").write_text(json.dumps({"a": 1}) + '\n{"b":')
    assert list(lines(tmp_path / "half.jsonl")) == [{"a": 1}]


@contextmanager
def _ends(run: ActiveRun) -> Iterator[None]:
    """What `with run` does at the end of its block."""
    try:
        yield
    except BaseException as error:
        run.__exit__(type(error), error, error.__traceback__)
        raise


def _with_source() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(my.__file__).parents[1])}
