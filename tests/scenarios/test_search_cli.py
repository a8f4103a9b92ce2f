"""Finding versions among others, marking them, and what was live when, from the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from modelyard.cli.app import app
from modelyard.control.deployments import deploy, undeploy
from modelyard.datasets.snapshot import store_tree
from modelyard.datasets.tree import Tree
from modelyard.domain.run import CodeState, DataUse, Machine, Metric, Outcome, Process, Run
from modelyard.registry import Datasets, Registry
from modelyard.registry.runs import Runs
from small_bundles import write_bundle

DEPTHS = (4, 6, 6, 8)


def run_of(number: int, ref: str, auc: float, tags: dict[str, str]) -> Run:
    return Run(
        id=f"20260101-{number:06d}-aaaaaa",
        name="train",
        started_at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number),
        by="ada",
        command=("train.py",),
        code=CodeState(),
        machine=Machine("here", "linux", "cpu", 1),
        process=Process(1, 1, "", "here"),
        settings={},
        data=DataUse(versions=("points@1",)) if number else DataUse(),
        outcome=Outcome("finished", 0),
        params={"depth": DEPTHS[number], "kind": "tree"},
        metrics={"auc": Metric(auc, auc, auc, 1)},
        tags=tags,
        versions=(ref,),
    )


class Terminal:
    def __init__(self, home: Path) -> None:
        self.env = {"MODELYARD_HOME": str(home), "COLUMNS": "200"}

    def __call__(self, *words: object) -> Any:
        return CliRunner().invoke(app, [str(word) for word in words], env=self.env, catch_exceptions=False)

    def json(self, *words: object) -> Any:
        done = self(*words, "--json")
        assert done.exit_code == 0, done.stderr
        return json.loads(done.stdout)

    def found(self, *words: object) -> list[str]:
        return [line["ref"] for line in self.json("list", *words)["versions"]]


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """toy@1 … toy@4 of four runs with auc 0.7, 0.8, 0.9, 1.0, and tax@1 of none."""
    home = tmp_path / "yard"
    terminal = Terminal(home)
    (tmp_path / "points.txt").write_text("1")
    with Registry.open(home) as registry:
        assert terminal("data", "snapshot", tmp_path / "points.txt", "--name", "points").exit_code == 0
        datasets, nothing = Datasets(registry.home, registry.database), Tree.of([])
        files = store_tree(nothing, datasets.store)
        datasets.close()
        for number in range(4):
            bundle = write_bundle(tmp_path / str(number), content=b"%d" % number)
            version = registry.register(bundle)
            run = run_of(number, version.ref, 0.7 + number / 10, {"season": "winter"} if number > 1 else {})
            runs = Runs(registry.database)
            runs.begin(replace(run, outcome=Outcome("running")))
            runs.finish(run, nothing.digest, files)
        registry.register(write_bundle(tmp_path / "tax", name="tax"))
        yield terminal


def test_versions_are_found_by_what_their_runs_say(terminal: Terminal) -> None:
    assert terminal.found("toy") == ["toy@4", "toy@3", "toy@2", "toy@1"]
    assert terminal.found("--where", "auc>0.75") == ["toy@4", "toy@3", "toy@2"]
    assert terminal.found("--where", "auc>0.75", "--where", "depth=6") == ["toy@3", "toy@2"]
    assert terminal.found("--where", "kind=tree", "--data", "points@1", "--where", "depth<8") == ["toy@3", "toy@2"]
    assert terminal.found("--where", "kind=bush") == []
    assert terminal.found("--run", "20260101-000002") == ["toy@3"]
    assert terminal.found("--tag", "team=tests", "tax") == ["tax@1"]
    assert terminal.found("--tag", "season=winter") == ["toy@4", "toy@3"]
    assert terminal.found("--since", "2099-01-01") == []
    assert len(terminal.found("--until", "2099-01-01T12:00")) == 5
    said = terminal("list", "--where", "auc>0.75").stdout
    assert "auc=0.7999999999999999" in said or "auc=0.8" in said
    assert terminal("list", "--where", "auc>>2").exit_code == 5
    assert terminal("list", "--since", "yesterday").exit_code == 5


def test_long_lists_come_in_pages(terminal: Terminal) -> None:
    assert terminal.json("list", "toy", "--limit", 2)["more"]
    assert "--limit shows more" in terminal("list", "toy", "--limit", 2).stdout
    first = terminal.json("list", "--limit", 1)
    assert ([model["name"] for model in first["models"]], first["more"]) == (["tax"], True)
    second = terminal.json("list", "--after", "tax")
    assert ([model["name"] for model in second["models"]], second["more"]) == (["toy"], False)
    assert "--after tax" in terminal("list", "--limit", 1).stdout


def test_tags_and_notes_say_who_and_when(terminal: Terminal) -> None:
    terminal("tag", "toy@2", "season=summer", "team=other")
    terminal("note", "toy@2", "worse on Mondays")
    marks = terminal.json("tag", "toy@2")
    assert marks["in_force"] == {"team": "other", "season": "summer"}
    assert [(each["value"], each["packed"]) for each in marks["tags"] if each["key"] == "team"] == [
        ("tests", True),
        ("other", False),
    ]
    assert marks["notes"][0]["text"] == "worse on Mondays"
    assert all(each["by"] for each in marks["notes"])
    assert terminal.found("--tag", "season=summer") == ["toy@2"]
    assert terminal.found("--tag", "team=tests", "toy") == ["toy@4", "toy@3", "toy@1"]
    shown = terminal("show", "toy@2").stdout
    assert "worse on Mondays" in shown
    assert "season=summer" in shown
    assert terminal("tag", "toy@2", "--remove", "team").exit_code == 0
    assert "came with its bundle" in terminal("tag", "toy@2", "--remove", "team").stderr
    assert terminal("tag", "toy@2", "--remove", "nothing").exit_code == 5
    assert terminal("note", "toy@9", "x").exit_code == 3


def test_data_and_runs_are_marked_with_the_same_words(terminal: Terminal) -> None:
    terminal("tag", "data:points", "checked=yes")
    terminal("note", "data:points@1", "from the March delivery")
    assert "from the March delivery" in terminal("data", "show", "points@1").stdout
    terminal("tag", "run:20260101-000001", "good=yes")
    assert [run["id"] for run in terminal.json("runs", "list", "--tag", "good=yes")["runs"]] == [
        "20260101-000001-aaaaaa"
    ]
    assert "good=yes" in terminal("runs", "show", "20260101-000001").stdout


def test_what_was_live_and_what_an_alias_pointed_at_is_known_for_every_moment(
    terminal: Terminal, tmp_path: Path
) -> None:
    for number in (1, 2):
        terminal("alias", "toy", "champion", number, "--why", f"number {number}")
    with Registry.open(tmp_path / "yard") as registry:
        deploy(registry, "toy@1", "production", "a test", "ada")
        between = datetime.now(UTC).isoformat()
        deploy(registry, "toy@2", "production", "a test", "bob")
        undeploy(registry, "production")
    (spans,) = terminal.json("history", "production")["history"].values()
    assert [(span["to"], span["by"], span["until"] is None) for span in spans] == [
        ("toy@1", "ada", False),
        ("toy@2", "bob", False),
    ]
    held = terminal.json("history", "production", "--at", between)["held"]
    assert held["production"]["to"] == "toy@1"
    assert terminal.json("history", "production", "--at", "2000-01-01")["held"] == {"production": None}
    assert "nothing" in terminal("history", "production", "--at", "2000-01-01").stdout
    assert [span["to"] for span in terminal.json("history", "toy@champion")["history"]["toy@champion"]] == [
        "toy@1",
        "toy@2",
    ]
    assert "number 2" in terminal("history", "toy").stdout
    assert terminal("history", "nowhere").exit_code == 3
    assert terminal.found("--alias", "champion") == ["toy@2"]


def test_of_many_changes_of_aliases_the_newest_are_shown(terminal: Terminal) -> None:
    for number in range(12):
        terminal("alias", "toy", "champion", number % 4 + 1)
    assert "2 earlier changes: --history" in terminal("alias", "toy").stdout
    assert "earlier" not in terminal("alias", "toy", "--history").stdout
    assert len(terminal.json("alias", "toy")["history"]) == 12
