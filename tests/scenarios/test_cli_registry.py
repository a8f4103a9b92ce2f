"""What a user sees of the registry: list, show, alias, export, import."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from modelyard.cli.app import app
from modelyard.registry import Registry
from small_bundles import report, write_bundle


class Terminal:
    """Runs the command line on one home."""

    def __init__(self, home: Path) -> None:
        self._environment = {"MODELYARD_HOME": str(home), "COLUMNS": "200"}

    def __call__(self, *words: str) -> Result:
        return CliRunner().invoke(app, list(words), env=self._environment, catch_exceptions=False)

    def json(self, *words: str) -> Any:
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
def two_versions(home: Path, tmp_path: Path) -> None:
    with Registry.open(home) as registry:
        for content in (b"1", b"2"):
            bundle = write_bundle(tmp_path / content.decode(), content=content)
            version = registry.register(bundle)
            registry.add_report(version, report(bundle, version.number, passed=version.number == 1))


def test_an_empty_registry_says_how_to_begin(terminal: Terminal) -> None:
    assert "modelyard.pack" in terminal("list").stdout
    assert terminal.json("list") == {"models": [], "more": False}


@pytest.mark.usefixtures("two_versions")
def test_models_and_versions_are_listed(terminal: Terminal) -> None:
    assert "toy@2" in terminal("list").stdout
    assert terminal.json("list")["models"][0]["versions"] == 2
    versions = terminal.json("list", "toy")["versions"]
    assert [(one["ref"], one["proven"]) for one in versions] == [("toy@2", False), ("toy@1", True)]


@pytest.mark.usefixtures("two_versions")
def test_a_version_is_shown_in_full(terminal: Terminal) -> None:
    text = terminal("show", "toy@2").stdout
    for said in ("LinearRegression", "float64", "rebuilt: row 1 differs", "modelyard verify toy@2", "Python 3.11.7"):
        assert said in text
    shown = terminal.json("show", "toy@1")
    assert (shown["proven"], shown["manifest"]["estimator"]) == (True, "LinearRegression")
    assert [version["ref"] for version in terminal.json("show", "toy")["versions"]] == ["toy@2", "toy@1"]


@pytest.mark.usefixtures("two_versions")
def test_an_alias_is_moved_and_its_history_shown(terminal: Terminal) -> None:
    terminal("alias", "toy", "champion", "1", "--why", "first")
    said = terminal("alias", "toy", "champion", "2", "--why", "better on March").stdout
    assert "toy@champion points at toy@2 (was toy@1)" in said
    assert terminal.json("show", "toy@champion")["ref"] == "toy@2"
    assert "better on March" in terminal("alias", "toy").stdout
    terminal("alias", "toy", "champion", "--remove")
    history = terminal.json("alias", "toy", "champion")["history"]
    assert [change["version"] for change in history] == [1, 2, None]


@pytest.mark.usefixtures("two_versions")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("show", "tax"), "no model 'tax'; there are: toy"),
        (("show", "toy@9"), "'toy' has no version 9; newest: 2, 1"),
        (("show", "toy@best"), "no alias 'best'"),
        (("alias", "toy", "champion", "9"), "no version 9"),
    ],
)
def test_what_is_not_there_is_exit_code_3_and_one_line(terminal: Terminal, words: tuple[str, ...], says: str) -> None:
    answer = terminal(*words)
    assert answer.exit_code == 3
    assert says in answer.stderr
    assert answer.stderr.count("\n") == 1
    assert json.loads(terminal(*words, "--json").stderr)["exit_code"] == 3


@pytest.mark.usefixtures("two_versions")
def test_an_exported_version_is_the_same_elsewhere(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "toy-2.zip"
    exported = terminal.json("export", "toy@2", str(file))
    elsewhere = Terminal(tmp_path / "other-yard")
    assert elsewhere("import", str(file)).exit_code == 0
    assert elsewhere.json("show", "toy@1")["digest"] == exported["digest"]
    terminal("export", "toy@2", str(tmp_path / "again.zip"))
    assert (tmp_path / "again.zip").read_bytes() == file.read_bytes()


def test_a_folder_is_imported_as_it_is(terminal: Terminal, tmp_path: Path) -> None:
    write_bundle(tmp_path / "b")
    assert "modelyard verify toy@1" in terminal("import", str(tmp_path / "b")).stdout


def test_a_bundle_that_runs_code_is_taken_only_on_trust(terminal: Terminal, tmp_path: Path) -> None:
    write_bundle(tmp_path / "b", runs_code=True)
    refused = terminal("import", str(tmp_path / "b"))
    assert refused.exit_code == 5
    assert "model/native.skops (cloudpickle): loading it runs code" in refused.stderr
    assert terminal.json("list") == {"models": [], "more": False}
    assert terminal("import", str(tmp_path / "b"), "--trust-code").exit_code == 0


def test_a_truncated_file_is_refused_and_nothing_is_registered(terminal: Terminal, tmp_path: Path) -> None:
    write_bundle(tmp_path / "b", content=bytes(range(256)) * 64)
    terminal("import", str(tmp_path / "b"))
    terminal("export", "toy@1", str(tmp_path / "toy.zip"))
    whole = (tmp_path / "toy.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    elsewhere = Terminal(tmp_path / "other-yard")
    assert elsewhere("import", str(tmp_path / "cut.zip")).exit_code == 5
    assert elsewhere.json("list") == {"models": [], "more": False}


def test_a_file_that_does_not_exist_is_wrong_usage(terminal: Terminal, tmp_path: Path) -> None:
    assert terminal("import", str(tmp_path / "nothing.zip")).exit_code == 2


@pytest.mark.usefixtures("two_versions")
def test_a_version_is_removed_unless_something_refers_to_it(terminal: Terminal) -> None:
    terminal("alias", "toy", "champion", "1")
    refused = terminal("remove", "toy@1", "--why", "old", "--yes", "--json")
    assert refused.exit_code == 4
    assert "toy@champion" in json.loads(refused.stderr)["references"][0]
    assert terminal("remove", "toy@2", "--why", "old").exit_code == 2, "nobody can be asked"
    assert terminal.json("remove", "toy@2", "--why", "wrong labels", "--yes")["removed"][0]["ref"] == "toy@2"
    assert "wrong labels" in terminal("removed").stdout
    assert "toy@2 was removed" in terminal("list", "toy").stdout
    assert "toy@2 was removed" in terminal("show", "toy").stdout
    gone = terminal("show", "toy@2")
    assert (gone.exit_code, "wrong labels" in gone.stderr) == (3, True)


@pytest.mark.usefixtures("two_versions")
def test_room_is_freed_only_when_that_is_said(terminal: Terminal) -> None:
    assert "nothing to free" in terminal("gc").stdout
    terminal("remove", "toy@2", "--why", "old", "--yes")
    shown = terminal("gc").stdout
    assert "bundles" in shown
    assert "modelyard gc --yes" in shown
    assert len(terminal.json("gc")["found"]["bundles"]) == 1
    freed = terminal.json("gc", "--yes")
    assert freed["freed"]["bundles"] == 1
    assert freed["freed"]["bytes"] == freed["found"]["bytes"] > 0
    assert terminal.json("gc", "--yes")["freed"]["bytes"] == 0
    assert terminal("gc", "--older-than", "soon").exit_code == 2


@pytest.mark.usefixtures("two_versions")
def test_versions_go_to_another_home_and_come_back(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Terminal(tmp_path / "other")
    assert "remote add team" in terminal("push", "toy@1", "--to", "team").stderr
    assert terminal("remote", "add", "team", "--home", str(tmp_path / "other")).exit_code == 0
    assert terminal.json("remote", "list")["remotes"][0]["name"] == "team"
    pushed = terminal.json("push", "toy@2", "--to", "team")
    assert [(each["here"], each["state"]) for each in pushed["arrivals"]] == [("toy@2", "new")]
    assert "was there" in terminal("push", "toy@2", "--to", "team").stdout
    assert "toy@2" in other("list", "toy").stdout
    file = tmp_path / "toy.yard"
    assert "toy@2" in other("export", "toy@2", str(file), "--all").stdout
    third = Terminal(tmp_path / "third")
    taken = third.json("import", str(file))
    assert (taken["arrivals"][0]["here"], taken["reports_left_out"]) == ("toy@2", 1)
    assert other("pull", "toy@1", "--from", str(tmp_path / "yard")).exit_code == 0
    assert [each["ref"] for each in other.json("list", "toy")["versions"]] == ["toy@2", "toy@1"]
    assert terminal("remote", "remove", "team").exit_code == 0
    assert terminal("push", "toy@1", "--to", "team").exit_code == 3
