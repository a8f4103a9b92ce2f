"""The project file."""

from pathlib import Path

import pytest

from modelyard.errors import InvalidRequest
from modelyard.project import read, seconds


def said(folder: Path, text: str) -> Path:
    (folder / "modelyard.toml").write_text(text, "utf-8")
    return folder


def test_tables_are_given_as_they_are_written(tmp_path: Path) -> None:
    project = read(said(tmp_path, '[rollout]\nsteps = ["1%", 1.0]\n\n[retrain.limits]\nmemory = 5\n'))

    assert project is not None
    assert (project.folder, project.rollout) == (tmp_path, {"steps": ["1%", 1.0]})
    assert project.retrain == {"limits": {"memory": 5}}


def test_a_folder_without_the_file_is_no_project(tmp_path: Path) -> None:
    assert read(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[rolout]\n", r"rolout means nothing; there are \[rollout\], \[retrain\]"),
        ("retrain = 5\n", r"retrain is no table; write \[retrain\]"),
        ("[retrain\n", "cannot be read"),
    ],
)
def test_what_is_written_wrongly_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        read(said(tmp_path, text))


@pytest.mark.parametrize("text", ["5", "m", "-3s", "5 parsecs", -1, True])
def test_what_is_no_length_of_time_is_refused(text: str | float) -> None:
    with pytest.raises(InvalidRequest, match=r"least: .* is no length of time"):
        seconds(text, "least")
