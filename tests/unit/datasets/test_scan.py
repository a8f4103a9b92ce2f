"""What a snapshot is taken of: names are the same wherever the data lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from data_stores import write
from modelyard.datasets.scan import find
from modelyard.errors import InvalidRequest

FILES = {"2013/jan.csv": b"1", "2013/feb.csv": b"2", "2014/jan.csv": b"3", "notes.txt": b"", ".hidden": b"4"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write(tmp_path / "data", FILES)
    return tmp_path / "data"


def names(*sources: str | Path) -> list[str]:
    return [os.fsdecode(found.name) for found in find(sources)]


def test_a_folder_gives_all_its_files(data: Path) -> None:
    assert names(data) == sorted(FILES)


def test_a_file_has_its_own_name(data: Path) -> None:
    assert names(data / "2013" / "jan.csv") == ["jan.csv"]


def test_a_pattern_names_files_below_its_fixed_part(data: Path) -> None:
    assert names(f"{data}/*/jan.csv") == ["2013/jan.csv", "2014/jan.csv"]
    assert names(f"{data}/**/*.csv") == ["2013/feb.csv", "2013/jan.csv", "2014/jan.csv"]
    assert names(f"{data}/201*") == ["2013/feb.csv", "2013/jan.csv", "2014/jan.csv"]


def test_several_sources_are_named_below_what_holds_them_all(data: Path) -> None:
    assert names(data / "2013", data / "2014") == ["2013/feb.csv", "2013/jan.csv", "2014/jan.csv"]
    assert names(data / "2013" / "jan.csv", data / "notes.txt") == ["2013/jan.csv", "notes.txt"]
    assert names(data / "2013", data / "2013" / "jan.csv") == ["feb.csv", "jan.csv"]


def test_a_name_with_wildcards_that_exists_is_a_name(tmp_path: Path) -> None:
    write(tmp_path, {"a[1].csv": b"1"})
    assert names(tmp_path / "a[1].csv") == ["a[1].csv"]


def test_links_are_followed(data: Path, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", {"big.bin": b"big"})
    (data / "linked").symlink_to(tmp_path / "elsewhere")
    (data / "one").symlink_to(tmp_path / "elsewhere" / "big.bin")
    assert {"linked/big.bin", "one"} <= set(names(data))


def test_what_cannot_be_kept_is_refused_by_name(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no such file"):
        find([tmp_path / "nothing"])
    with pytest.raises(InvalidRequest, match="nothing matches"):
        find([f"{data}/*.parquet"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidRequest, match="no file in"):
        find([tmp_path / "empty"])
    (data / "round").symlink_to(data)
    with pytest.raises(InvalidRequest, match="round links to a folder that it lies in"):
        find([data])
    (data / "round").unlink()
    (data / "broken").symlink_to(tmp_path / "nothing")
    with pytest.raises(InvalidRequest, match="broken cannot be read"):
        find([data])
    (data / "broken").unlink()
    os.mkfifo(data / "pipe")
    with pytest.raises(InvalidRequest, match="pipe is neither a file nor a folder"):
        find([data])
