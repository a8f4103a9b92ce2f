"""The files of a commit come out of git as they are, however many they are."""

from __future__ import annotations

import subprocess
from pathlib import Path

from data_stores import content, files_in, write
from modelyard.runs import committed


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=ann", "-c", "user.email=ann@example.org"]
    return subprocess.run(
        ["git", "-C", folder, *who, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_many_files_and_larger_ones_than_a_pipe_holds(tmp_path: Path) -> None:
    files = {f"part/{at:03}.py": content(at * 37, at) for at in range(3 * committed._ASKED_AT_ONCE + 1)}
    write(tmp_path / "repo", {**files, "large.bin": content(1 << 20), "empty": b""})
    git(tmp_path, "init", "-q", "repo")
    git(tmp_path / "repo", "add", ".")
    git(tmp_path / "repo", "commit", "-q", "-m", "all")
    commit = git(tmp_path / "repo", "rev-parse", "HEAD")
    assert committed.keep(tmp_path / "repo", commit, tmp_path / "kept.tar") == {}
    committed.give_back(tmp_path / "kept.tar", tmp_path / "out")
    expected = {name: raw for name, raw in files_in(tmp_path / "repo").items() if not name.startswith(".git/")}
    assert files_in(tmp_path / "out") == expected
