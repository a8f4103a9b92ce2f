"""Runs and registered models of MLflow, logged by the real MLflow, become runs, versions and aliases here."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import mlflow_models
import mlflow_tracking
from modelyard.cli.app import app
from team_servers import Team


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tracking database, ``mlflow.db``, and in the long form a tracking folder, ``store``, too."""
    folder = tmp_path_factory.mktemp("stores")
    mlflow_tracking.log(folder, f"sqlite:///{folder}/mlflow.db", model=True)
    if mlflow_models.IS_LONG:
        mlflow_tracking.log(folder, (folder / "store").as_uri(), model=True)
    return folder


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All homes share it: making one takes longer than all the rest."""
    return tmp_path_factory.mktemp("environments")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environments: Path) -> Path:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "environments").symlink_to(environments)
    monkeypatch.setenv("MODELYARD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return tmp_path / "home"


def modelyard(*arguments: object, expect: int = 0) -> Any:
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert done.exit_code == expect, done.output + done.stderr
    return json.loads(done.stdout or done.stderr)


def became(taken: Any) -> dict[str, str]:
    return {run["name"]: run["became"] for run in taken["runs"]}


def record(name: str) -> Any:
    return modelyard("runs", "show", name)["run"]


KINDS = ["database", pytest.param("folder", marks=mlflow_models.long_form)]


@pytest.mark.parametrize("kind", KINDS)
def test_runs_are_taken_in_once_with_all_that_mlflow_knows(stores: Path, home: Path, kind: str, tmp_path: Path) -> None:
    source = stores / "store" if kind == "folder" else f"sqlite:///{stores}/mlflow.db"
    taken = modelyard("import", "mlflow", source, "--experiment", "prices", expect=1)  # its model is not trusted
    assert became(taken) == {"prices: good": "new", "prices: bad": "new"}
    (good,) = [run["run"] for run in taken["runs"] if run["name"] == "prices: good"]
    run = record(good)
    assert (run["name"], run["outcome"]["state"], run["note"]) == ("prices", "finished", "the first that worked")
    assert run["params"] == {"depth": "6", "loss/name": "squared"}
    assert run["metrics"]["rmse"] == {"last": 1 / 3, "least": 1 / 3, "most": 1.0, "count": 3, "step": 2}
    assert run["metrics"]["odd"]["count"] == 1
    assert (run["tags"]["team"], run["tags"]["mlflow.runName"]) == ("blue", "good")
    assert run["artifacts"] == ["notes/deep/hello.txt"]
    assert run["seconds"] > 0
    assert run["command"] == ["log.py"]
    assert any("it read the dataset offers for training" in note for note in run["notes"])
    modelyard("runs", "files", good, tmp_path / "files")
    assert (tmp_path / "files/artifacts/notes/deep/hello.txt").read_text() == "hello"
    found = modelyard("runs", "list", "--where", "rmse<0.5", "--where", "depth=6", "--tag", "team=blue")
    assert [one["id"] for one in found["runs"]] == [good]
    again = modelyard("import", "mlflow", source, "--experiment", "prices", expect=1)
    assert set(became(again).values()) == {"known"}


@mlflow_models.long_form
def test_a_tracking_database_in_postgresql_is_read_like_any_other(home: Path, servers: Team, tmp_path: Path) -> None:
    url = servers.postgresql.new("mlflow")
    mlflow_tracking.log(tmp_path, url.replace("postgresql://", "postgresql+psycopg://"))
    taken = modelyard("import", "mlflow", url, "--experiment", "prices", "--artifacts", tmp_path)
    assert became(taken) == {"prices: good": "new", "prices: bad": "new"}
    run = record(next(run["run"] for run in taken["runs"] if run["name"] == "prices: good"))
    assert run["metrics"]["rmse"]["count"] == 3
    assert run["artifacts"] == ["notes/deep/hello.txt"]


def test_everything_is_taken_in_but_runs_that_go_on_unless_they_are_named(stores: Path, home: Path) -> None:
    source = stores / "mlflow.db"
    everything = modelyard("import", "mlflow", source, expect=1)
    assert became(everything) == {
        "prices: good": "new",
        "prices: bad": "new",
        "other: elsewhere": "new",
        "other: never ended": "not over",
    }
    (going,) = [run["mlflow"] for run in everything["runs"] if run["became"] == "not over"]
    assert became(modelyard("import", "mlflow", source, "--run", going)) == {"other: never ended": "new"}
    assert record(f"mlflow-{going}")["outcome"]["state"] == "lost"
    unknown = modelyard("import", "mlflow", source, "--experiment", "nowhere", expect=5)
    assert "there are: " in unknown["error"]
    assert "prices" in unknown["error"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_registered_model_brings_its_run_alias_and_description(
    stores: Path, home: Path, tmp_path: Path, kind: str
) -> None:
    """A folder may have been moved."""
    moved = stores / "mlflow.db"
    if kind == "folder":
        moved = tmp_path / "elsewhere" / "mlruns"
        shutil.copytree(stores / "store", moved)
    refused = modelyard("import", "mlflow", moved, "--model", "Price model/1", expect=1)
    assert "--trust-code" in refused["versions"][0]["why"]
    taken = modelyard("import", "mlflow", moved, "--model", "Price model/1", "--trust-code")
    (version,) = taken["versions"]
    assert (version["ref"], version["became"], version["aliases"]) == ("Price-model@1", "new", ["champion"])
    assert became(taken) == {"prices: good": "known"}
    shown = modelyard("show", "Price-model@champion")
    assert shown["tags"]["mlflow.description"] == "checked by Ada"
    assert [run["id"] for run in shown["runs"]] == [taken["runs"][0]["run"]]
    assert record(taken["runs"][0]["run"])["versions"] == ["Price-model@1"]
    modelyard("alias", "Price-model", "champion", "--remove")
    again = modelyard("import", "mlflow", moved, "--model", "Price model", "--trust-code")
    assert again["versions"][0]["became"] == "known"
    if kind == "database":
        return
    (tag,) = moved.glob("*/*/tags/team")
    tag.write_text("red")
    changed = modelyard("import", "mlflow", moved, "--experiment", "prices", "--trust-code")
    assert [run["why"] for run in changed["runs"] if run["became"] == "changed"] == [
        "tags changed in MLflow since it was taken in"
    ]
    assert record(taken["runs"][0]["run"])["tags"]["team"] == "blue"


@mlflow_models.long_form
def test_a_store_that_names_files_elsewhere_does_not_get_them(stores: Path, home: Path, tmp_path: Path) -> None:
    copy = tmp_path / "mlruns"
    shutil.copytree(stores / "store", copy)
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key.txt").write_text("private")
    for meta in copy.glob("*/*/meta.yaml"):
        if (meta.parent / "artifacts").is_dir() and meta.parent.parent.name != "models":
            shutil.rmtree(meta.parent / "artifacts")
            lines = [line for line in meta.read_text().splitlines() if not line.startswith("artifact_uri")]
            meta.write_text("\n".join([*lines, f"artifact_uri: {(tmp_path / 'secret').as_uri()}", ""]))
    taken = modelyard("import", "mlflow", copy, "--experiment", "other")
    (run,) = [one for one in taken["runs"] if one["became"] == "new"]
    assert "cannot be reached" in run["why"]
    assert record(run["run"])["artifacts"] == []


def trained(project: Path, *arguments: str, monkeypatch: pytest.MonkeyPatch, expect: int = 0) -> Any:
    monkeypatch.chdir(project)
    command = [sys.executable, "train.py", ",".join(mlflow_models.requirements()), *arguments]
    done = CliRunner().invoke(app, ["train", "--json", "--", *command])
    assert done.exit_code == expect, done.output + done.stderr
    return json.loads(done.stdout)["run"]


def test_a_script_that_logs_with_mlflow_is_recorded_as_it_is(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = mlflow_tracking.make_project(tmp_path / "project")
    run = trained(project, monkeypatch=monkeypatch)
    assert (run["name"], run["outcome"]["state"], run["versions"]) == ("tariffs", "finished", ["tariffs@1"])
    assert run["params"] == {"alpha": "0.5"}
    assert run["metrics"]["rmse"]["count"] == 3
    assert run["artifacts"] == ["notes/hello.txt"]
    assert run["environment"]["distributions"], "what MLflow does not know is known here"
    assert any("golden rows of tariffs@1 are from rows.csv" in note for note in run["notes"])
    (child,) = modelyard("runs", "list", "--tag", f"modelyard.run={run['id']}")["runs"]
    assert child["metrics"]["share"]["last"] == 0.25
    assert sorted(path.name for path in project.iterdir()) == ["rows.csv", "train.py"]
    assert not any(one["name"].startswith("mlflow/") for one in modelyard("runs", "show", run["id"])["files"])
    if not mlflow_models.IS_LONG:
        return
    failed = trained(project, "--fail", monkeypatch=monkeypatch, expect=1)
    assert (failed["outcome"]["error"], failed["params"]) == ("ValueError: no luck", {"alpha": "0.5"})


@mlflow_models.long_form
def test_autologging_and_a_store_of_the_users_own_are_taken_in_too(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = mlflow_tracking.make_project(tmp_path / "project")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "own").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    run = trained(project, "--autolog", monkeypatch=monkeypatch)
    assert run["params"]["fit_intercept"] == "True"
    assert run["metrics"]["training_score"]["last"] > 0
    assert (tmp_path / "own").is_dir(), "it stays where the user has it"
