"""Versions of data looked up without SQLAlchemy are those that are looked up with it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from data_stores import content, files_in, write
from modelyard import data
from modelyard.collecting.removing import remove
from modelyard.domain.names import Named
from modelyard.errors import (
    DatasetNotFound,
    Failed,
    InvalidRequest,
    ModelyardError,
    Rejected,
    VersionNotFound,
    VersionRemoved,
)
from modelyard.home import Home
from modelyard.registry import Datasets
from modelyard.registry.database import Database
from modelyard.registry.lookup import Lookup
from modelyard.registry.quick_datasets import QuickDatasets

LOADED = """
import sys
from modelyard.cli.app import app
try:
    app(sys.argv[1:])
except SystemExit as done:
    assert not done.code, done.code
print(sorted({"sqlalchemy", "duckdb", "pyarrow", "numpy", "rich"} & sys.modules.keys()), file=sys.stderr)
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """With two versions of one dataset and one of another."""
    write(tmp_path / "data", {f"{at // 10}/{at}": content(2000, at) for at in range(40)})
    data.snapshot(tmp_path / "data", "toy", note="first", home=tmp_path / "home")
    write(tmp_path / "data", {"more.csv": b"a,b\n1,x\n2,y\n", "large": content(3 * 2**20)})
    data.snapshot(tmp_path / "data", "toy", key=["a"], home=tmp_path / "home")
    data.snapshot(tmp_path / "data" / "0", "another", home=tmp_path / "home")
    return Home(tmp_path / "home")


@pytest.fixture
def both(home: Home) -> Iterator[tuple[QuickDatasets, Datasets]]:
    with closing(Database(home.database)) as database:
        quick, whole = QuickDatasets(home), Datasets(home, database)
        with closing(quick), closing(whole):
            yield quick, whole


def test_both_say_the_same(both: tuple[QuickDatasets, Datasets]) -> None:
    quick, whole = both
    assert quick.newest() == whole.newest()
    assert quick.removed("toy") == whole.removed("toy") == ()
    assert quick.versions("toy") == whole.versions("toy")
    for ref in ("toy", "toy@1", "toy@2", "another@1"):
        version = whole.version(ref)
        assert quick.version(ref) == version
        assert quick.having(version.dataset, version.digest) == version
        assert quick.tree(ref) == whole.tree(ref)
    assert quick.having("another", whole.version("toy@1").digest) is None
    chunks = {chunk for entry in whole.tree("toy@2").entries for chunk in entry.content.chunks}
    assert quick.find([*chunks, bytes(32)]) == whole.store.index.find([*chunks, bytes(32)])
    assert set(quick.find(chunks)) == chunks
    assert "_whole" not in quick.__dict__, "nothing of this needed SQLAlchemy"


def test_what_was_removed_is_told_alike(home: Home, both: tuple[QuickDatasets, Datasets]) -> None:
    quick, whole = both
    with closing(Database(home.database)) as database:
        remove(database, Named.parse("data:toy@1"), why="wrong")
    assert quick.removed("toy") == whole.removed("toy") != ()
    assert quick.versions("toy") == whole.versions("toy")
    with pytest.raises(VersionRemoved, match="wrong"):
        quick.version("toy@1")


@pytest.mark.parametrize("ref", ["none", "toy@3", "toy@newest", "toy@0", "Toy 1"])
def test_what_is_not_there_is_told_alike(both: tuple[QuickDatasets, Datasets], ref: str) -> None:
    quick, whole = both
    for ask in ("version", "tree"):
        with pytest.raises(ModelyardError) as said:
            getattr(quick, ask)(ref)
        with pytest.raises(ModelyardError) as expected:
            getattr(whole, ask)(ref)
        assert (type(said.value), str(said.value)) == (type(expected.value), str(expected.value))
        assert isinstance(said.value, DatasetNotFound | VersionNotFound | InvalidRequest)


def test_a_home_that_is_new_is_made(tmp_path: Path) -> None:
    assert data.newest(home=tmp_path / "home") == ()
    assert (tmp_path / "home" / "registry.db").exists()


def test_a_database_of_a_newer_release_is_refused(home: Home) -> None:
    with closing(sqlite3.connect(home.database)) as raw, raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    assert Lookup.open(home.path / "registry.db") is None
    with pytest.raises(Rejected, match="newer Modelyard"):
        data.newest(home=home)


def test_what_is_no_database_is_told(home: Home) -> None:
    (home.path / "registry.db").write_bytes(b"something else, long enough to be looked at" * 100)
    with pytest.raises(Failed, match="not a Modelyard database"):
        data.newest(home=home)


def test_a_database_that_breaks_while_it_is_open_is_told(home: Home) -> None:
    lookup = Lookup.open(home.path / "registry.db")
    assert lookup is not None
    with closing(sqlite3.connect(home.database)) as raw, raw:
        raw.execute("ALTER TABLE dataset_versions RENAME TO gone")
    with closing(lookup), pytest.raises(Failed, match=r"registry\.db cannot be used"):
        lookup.newest()


def test_reading_commands_load_none_of_the_heavy_libraries(home: Home, tmp_path: Path) -> None:
    commands = {
        ("list", "toy"): "[]",
        ("snapshot", str(tmp_path / "data"), "--name", "toy"): "[]",
        ("checkout", "toy@2", str(tmp_path / "out")): "[]",
        ("snapshot", str(tmp_path / "data" / "0"), "--name", "first"): "['sqlalchemy']",
    }
    for words, loaded in commands.items():
        done = subprocess.run(
            [sys.executable, "-c", LOADED, "data", *words, "--json"],
            env={"MODELYARD_HOME": str(home.path), "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr.splitlines()[-1] == loaded, words
    assert files_in(tmp_path / "out") == files_in(tmp_path / "data")
