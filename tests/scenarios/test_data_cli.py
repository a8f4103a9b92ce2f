"""What a user does with versions of data, on the flights of New York."""

from __future__ import annotations

import json
import shutil
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from data_stores import files_in, wait_until_settled
from modelyard.cli.app import app
from modelyard.demo.flights import _data_folder


class Terminal:
    """Runs the command line on one home."""

    def __init__(self, home: Path) -> None:
        self._environment = {"MODELYARD_HOME": str(home), "COLUMNS": "200"}

    def __call__(self, *words: str | Path) -> Result:
        return CliRunner().invoke(app, [str(word) for word in words], env=self._environment, catch_exceptions=False)

    def json(self, *words: str | Path) -> Any:
        answer = self(*words, "--json")
        assert answer.exit_code == 0, answer.output
        return json.loads(answer.stdout)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "yard"


@pytest.fixture
def terminal(home: Path) -> Terminal:
    return Terminal(home)


@pytest.fixture
def flights(tmp_path: Path) -> Path:
    folder = tmp_path / "flights"
    folder.mkdir()
    zipfile.ZipFile(_data_folder() / "flights.csv.zip").extract("flights.csv", folder)
    for name in ("airlines.csv", "weather.csv"):
        shutil.copy(_data_folder() / name, folder)
    wait_until_settled(folder)
    return folder


def test_a_dataset_is_kept_changed_and_given_back(terminal: Terminal, flights: Path, tmp_path: Path) -> None:
    first = terminal.json("data", "snapshot", flights, "--name", "flights", "--note", "as delivered")
    assert (first["ref"], first["new"], first["files"]) == ("flights@1", True, 3)
    assert first["bytes"] == first["stored_bytes"] == sum(path.stat().st_size for path in flights.iterdir())
    again = terminal.json("data", "snapshot", flights, "--name", "flights")
    assert (again["ref"], again["new"], again["read_bytes"], again["unchanged_files"]) == ("flights@1", False, 0, 3)

    original = files_in(flights)
    lines = original["flights.csv"].splitlines(keepends=True)
    (flights / "flights.csv").write_bytes(b"".join([*lines[:150_000], *lines[150_001:]]))
    second = terminal.json("data", "snapshot", flights, "--name", "flights")
    assert (second["ref"], second["new"], second["unchanged_files"]) == ("flights@2", True, 2)
    assert second["stored_bytes"] < 0.2 * second["bytes"]

    assert "flights@1" in terminal("data", "checkout", "flights@1", tmp_path / "one").stdout
    terminal.json("data", "checkout", "flights", tmp_path / "two")
    assert files_in(tmp_path / "one") == original
    assert files_in(tmp_path / "two") == files_in(flights)

    shown = terminal.json("data", "show", "flights@1")
    assert shown["profile"]["flights"]["carrier"]["distinct"] == 16
    columns = next(table["columns"] for table in shown["tables"] if table["name"] == "flights")
    assert {"missing": 8255, "name": "dep_delay", "type": "BIGINT"} in columns
    text = terminal("data", "show", "flights@1").stdout
    assert "16 distinct: UA 58,665, B6 54,635" in text
    assert "2013-01-01 10:00 to 2014-01-01 04:00" in text

    listed = terminal.json("data", "list", "flights")["versions"]
    assert [(each["ref"], each["note"]) for each in listed] == [("flights@1", "as delivered"), ("flights@2", "")]
    assert "flights@2" in terminal("data", "list").stdout
    assert "is intact" in terminal("data", "verify", "flights@1").stdout


def test_the_same_data_has_the_same_digest_elsewhere(terminal: Terminal, flights: Path, tmp_path: Path) -> None:
    here = terminal.json("data", "snapshot", flights, "--name", "flights")
    moved = tmp_path / "elsewhere"
    for path in sorted(flights.iterdir(), reverse=True):
        moved.mkdir(exist_ok=True)
        shutil.copyfile(path, moved / path.name)
    there = Terminal(tmp_path / "other-yard").json("data", "snapshot", moved, "--name", "departures")
    assert there["digest"] == here["digest"]


def test_damage_is_noticed_and_named(terminal: Terminal, home: Path, flights: Path, tmp_path: Path) -> None:
    terminal("data", "snapshot", flights, "--name", "flights")
    largest = max(home.rglob("*.pack"), key=lambda path: path.stat().st_size)
    largest.chmod(0o600)
    with largest.open("r+b") as handle:
        handle.seek(10_000_000)
        handle.write(b"edited")
    answer = terminal("data", "verify", "flights@1")
    assert answer.exit_code == 1
    assert "DAMAGED flights.csv" in answer.stdout
    said = terminal("data", "checkout", "flights@1", tmp_path / "out")
    assert said.exit_code == 6
    assert "flights.csv cannot be given back" in said.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["checkout", "flights@1", "out"], 3, "no dataset has a version yet"),
        (["list", "flights"], 3, "no dataset 'flights'"),
        (["verify", "flights@champion"], 5, "numbers only"),
        (["snapshot", "nowhere", "--name", "flights"], 5, "no such file or folder"),
        (["snapshot", ".", "--name", "../up"], 5, "cannot name a dataset"),
    ],
)
def test_mistakes_are_explained(terminal: Terminal, words: list[str], code: int, said: str) -> None:
    answer = terminal("data", *words)
    assert answer.exit_code == code
    assert said in answer.stderr


def test_an_empty_registry_says_how_to_begin(terminal: Terminal) -> None:
    assert "modelyard data snapshot" in terminal("data", "list").stdout
    assert terminal.json("data", "list") == {"versions": []}


def test_a_query_is_kept_without_what_opens_the_database(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(tmp_path / "source.db")) as database, database:
        database.executescript("CREATE TABLE flights (id INTEGER, carrier TEXT); INSERT INTO flights VALUES (1, 'UA')")
    monkeypatch.setenv("FLIGHTS_DB", f"sqlite:///file:{tmp_path}/source.db?mode=ro&uri=true")
    made = terminal.json(
        "data", "snapshot", "--sql", "SELECT * FROM flights", "--url-from", "FLIGHTS_DB", "--name", "flights"
    )
    assert (made["tables"][0]["rows"], made["origin"]["query"]) == (1, "SELECT * FROM flights")
    assert made["origin"]["database"].endswith("/source.db")
    assert terminal("data", "snapshot", "--name", "flights").exit_code == 2
    unset = terminal("data", "snapshot", "--sql", "SELECT 1", "--url-from", "NO_SUCH", "--name", "flights")
    assert (unset.exit_code, "NO_SUCH is not set" in unset.stderr) == (2, True)


def test_what_changed_between_versions_is_shown(terminal: Terminal, flights: Path, tmp_path: Path) -> None:
    key = "year,month,day,sched_dep_time,carrier,flight,origin,tailnum"
    terminal("data", "snapshot", flights, "--name", "flights", "--key", key)
    header, *lines = (flights / "flights.csv").read_text().splitlines()
    at = header.split(",").index("dep_delay")
    late = []
    for number, line in enumerate(lines[10:]):
        cells = line.split(",")
        if number % 2 and cells[at] != "NA":
            cells[at] = str(int(cells[at]) + 30)
        late.append(",".join(cells))
    (flights / "flights.csv").write_text("\n".join([header, *late]) + "\n")
    terminal("data", "snapshot", flights, "--name", "flights")

    report = tmp_path / "changes.html"
    found = terminal.json("data", "diff", "flights@1", "flights@2", "--html", report)
    assert (found["files"]["changed"], found["tables_same"]) == (["flights.csv"], ["airlines", "weather"])
    (table,) = found["tables"]
    assert (table["name"], table["rows"]["removed"], table["rows"]["added"]) == ("flights", 10, 0)
    assert table["rows"]["changed_by_column"] == {"dep_delay": table["rows"]["changed"]}
    assert [move["column"] for move in table["moves"] if move["moved"]] == ["dep_delay"]
    assert "<svg" in report.read_text()
    text = terminal("data", "diff", "flights@1", "flights@2").stdout
    assert "10 removed" in text
    assert "dep_delay" in text
    assert "the same, byte for byte" in terminal("data", "diff", "flights@1", "flights@1").stdout
