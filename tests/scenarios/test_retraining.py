"""A deployment's model trained again by its own program: accepted, declined, failed, one at a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from modelyard.cli.app import app
from modelyard.control import rollouts
from modelyard.errors import Conflict, DeploymentNotFound, RolloutNotFound
from modelyard.home import Home
from modelyard.registry import Registry
from modelyard.registry.runs import Runs
from modelyard.retraining import retrain
from modelyard.retraining.report import Report
from modelyard.retraining.turns import Turns
from retrained_lines import PLAN, answered, deploy_first, followed, make_project
from scenarios.test_up_deploy import eventually, is_gone

SNAPSHOT = """
[retrain]
command = ["python", "train.py", "{data}/points.parquet"]
snapshot = "data/"
key = ["id"]
columns = { id = "prediction_id" }
strategy = "none"
"""


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, Path]]:
    """A home in which line@1 answers 2x, and the truth is 3x by now."""
    folder = tmp_path_factory.mktemp("retraining")
    home, project = Home(folder / "home").create(), make_project(folder / "project")
    deploy_first(home, project)
    answered(home, range(20, 0, -1), slope=3.0)
    before = os.environ.get("GIT_CEILING_DIRECTORIES")
    os.environ["GIT_CEILING_DIRECTORIES"] = str(folder)
    yield home, project
    os.environ.pop("GIT_CEILING_DIRECTORIES")
    if before is not None:
        os.environ["GIT_CEILING_DIRECTORIES"] = before


@pytest.fixture
def place(kept: tuple[Home, Path]) -> Iterator[tuple[Home, Path]]:
    """The same, with no rollout open and the plan as it was."""
    home, project = kept
    make_project(project)
    yield home, project
    with Registry.open(home) as registry:
        try:
            rollouts.rollback(registry, "live", "the test is over")
        except RolloutNotFound:
            return


def command(home: Home, *words: str, status: int = 0) -> Any:
    result = CliRunner().invoke(app, ["retrain", *words, "--json"], env={"MODELYARD_HOME": str(home.path)})
    assert result.exit_code == status, (result.stdout[-1500:], result.stderr)
    return json.loads(result.stdout)


def opened(home: Home) -> list[rollouts.Rollout]:
    with Registry.open(home) as registry:
        return list(rollouts.open_rollouts(registry))


def changed(home: Home, project: Path, plan: str, **environ: str) -> Report:
    make_project(project, plan)
    return retrain(home, "live", project=project, environ=os.environ | environ)


def test_a_better_challenger_is_trained_proven_judged_and_rolled_out(place: tuple[Home, Path]) -> None:
    home, project = place
    report = command(home, "live", "--project", str(project), "--why", "the truth moved")

    assert (report["state"], report["champion"], report["trigger"]) == ("accepted", "line@1", "hand")
    # Twenty days of a hundred rows, of which the newest fifth was held back.
    assert (report["labelled"], report["data"]["rows"], report["evaluation"]["rows"]) == (2000, 1600, 400)
    assert report["data"]["until"] <= report["evaluation"]["since"]
    assert report["run_metrics"]["slope"] == pytest.approx(3.0, abs=0.02)
    assert report["run_metrics"]["nice"] >= 10
    mae = next(each for each in report["evaluation"]["whole"] if each["metric"] == "mae")
    assert mae["worse"]["high"] < -0.5
    assert all(gate["passed"] for gate in report["evaluation"]["gates"])
    rollout = opened(home)[0]
    assert (rollout.candidate, rollout.strategy) == (report["challenger"], "canary")
    with Registry.open(home) as registry:
        run = Runs(registry.database).run(report["run"])
    assert run.data.versions == (report["data"]["ref"],)
    assert run.tags["retraining"] == str(report["id"])

    page = (home.path / "retraining" / f"{report['id']}.html").read_text()
    assert "Gates" in page
    assert command(home, "show", "live") == report
    assert command(home, "list")[0]["id"] == report["id"]
    with pytest.raises(Conflict, match="a rollout of 'live'"):
        retrain(home, "live", project=project)


def test_a_challenger_that_is_no_better_is_declined_and_changes_nothing(place: tuple[Home, Path]) -> None:
    home, project = place
    report = changed(home, project, PLAN, SPOILED_BY="0.2")

    assert report.state == "declined"
    assert report.evaluation is not None
    assert "NOT passed" in CliRunner().invoke(
        app, ["retrain", "show", str(report.id)], env={"MODELYARD_HOME": str(home.path), "COLUMNS": "200"}
    ).stdout  # fmt: skip
    assert "worse by" in report.reason
    assert not opened(home)


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        (PLAN.replace('parquet"]', 'parquet", "--fail"]'), "failed: there is no sense in this data"),
        (PLAN.replace("{data}/live-live.parquet", "points.parquet"), "did not read live-live@"),
        (PLAN + "window = '1ms'\n", "labelled records lie before"),
        (PLAN.replace("least = 200", "least = 5000"), "there are 2000 that the version in use was not trained on"),
        (PLAN + "[retrain.limits]\ntime = '1ms'\n", "longer than 0.001 s"),
    ],
)
def test_what_fails_changes_nothing_and_says_why(place: tuple[Home, Path], plan: str, says: str) -> None:
    home, project = place
    report = changed(home, project, plan)

    assert report.state == "failed"
    assert says in report.reason
    assert not opened(home)


def test_memory_beyond_the_limit_ends_the_program(place: tuple[Home, Path]) -> None:
    home, project = place
    plan = PLAN.replace('parquet"]', 'parquet", "--ballast"]') + "[retrain.limits]\nmemory = '500MB'\n"
    report = changed(home, project, plan)

    assert (report.state, "MB of memory and may take 500" in report.reason) == ("failed", True)
    with Registry.open(home) as registry:
        assert Runs(registry.database).run(report.run).outcome.state == "killed"


def test_a_model_is_trained_again_once_at_a_time(place: tuple[Home, Path]) -> None:
    home, project = place
    with Registry.open(home) as registry:
        turns = Turns(registry.database)
        last = turns.get()
        begun = turns.begin(Report(deployment="other", model="line", champion="line@1", began=last.began))
        with pytest.raises(Conflict, match=f"retraining {begun.id}"):
            retrain(home, "live", project=project)
        assert turns.get() == begun
        turns.save(
            Report(id=begun.id, deployment="other", model="line", champion="line@1", began=last.began, state="failed")
        )
    with pytest.raises(DeploymentNotFound):
        retrain(home, "nobody", project=project)


def test_new_labels_begin_a_retraining_by_themselves(place: tuple[Home, Path]) -> None:
    home, project = place
    make_project(
        project, PLAN.replace("[retrain]", '[retrain]\non = ["labels"]\nlabels = 50\npause = "0s"\nstrategy = "none"')
    )
    watched = command(home, "watch", "live", "--project", str(project))
    assert watched["labelled"] >= 2000
    assert command(home, "watch")[0]["deployment"] == "live"
    answered(home, range(1, 0, -1), slope=3.0, name="later")

    with followed(home):
        begun = eventually(lambda: [each for each in command(home, "list") if each["trigger"] == "labels"], 120)
        eventually(lambda: command(home, "show", str(begun[0]["id"]))["state"] != "running", 120)
    found = command(home, "show", str(begun[0]["id"]))
    assert (found["state"], found["rollout"]) == ("accepted", "")
    assert "100 new labels" in found["why"]
    command(home, "unwatch", "live")
    assert command(home, "watch") == []


def test_a_killed_retraining_takes_its_program_along_and_the_next_may_begin(place: tuple[Home, Path]) -> None:
    home, project = place
    make_project(project, PLAN.replace('parquet"]', 'parquet", "--ballast"]'))
    words = ["--home", str(home.path), "--project", str(project), "--trigger", "schedule", "live"]
    process = subprocess.Popen([sys.executable, "-m", "modelyard.retraining", *words])
    try:
        program = eventually(lambda: training_of(home))
    finally:
        process.kill()
        process.wait()
    eventually(lambda: is_gone(program))
    lost = command(home, "show", "live")
    assert (lost["state"], "died while it was training" in lost["reason"]) == ("lost", True)
    assert changed(home, project, PLAN.replace("least = 200", "least = 50000")).state == "failed"


@pytest.mark.parametrize("how", ["modelyard.cli.app", "modelyard.retraining"])
def test_a_retraining_that_is_told_to_end_says_so_and_ends_its_program(place: tuple[Home, Path], how: str) -> None:
    home, project = place
    make_project(project, PLAN.replace('parquet"]', 'parquet", "--ballast"]'))
    words = ["--project", str(project), "live"]
    if how.endswith("app"):
        words = ["retrain", "run", *words]
    else:
        words = ["--home", str(home.path), "--trigger", "schedule", *words]
    environ = os.environ | {"MODELYARD_HOME": str(home.path)}
    process = subprocess.Popen([sys.executable, "-m", how, *words], env=environ)
    try:
        program = eventually(lambda: training_of(home))
    finally:
        process.terminate()
    assert process.wait(60) == 128 + signal.SIGTERM
    eventually(lambda: is_gone(program))
    stopped = command(home, "show", "live")
    assert (stopped["state"], stopped["reason"]) == ("stopped", "it was stopped while it was training")


def training_of(home: Home) -> int | None:
    """The process of the training program that runs now."""
    for file in home.runs.glob("*/process.json"):
        found: int = json.loads(file.read_bytes())["pid"]
        if not is_gone(found):
            return found
    return None


def test_a_fresh_snapshot_is_trained_on_and_what_it_holds_is_not_judged_on(place: tuple[Home, Path]) -> None:
    home, project = place
    rows = [f"call-{day}-{call}-{row}" for day in range(1, 5) for call in range(10) for row in range(10)]
    x = np.random.default_rng(5).normal(size=len(rows))
    (project / "data").mkdir(exist_ok=True)
    pq.write_table(pa.table({"x": x, "label": 3 * x, "id": rows}), project / "data" / "points.parquet")
    report = changed(home, project, SNAPSHOT)

    assert (report.state, report.run_metrics["slope"]) == ("accepted", pytest.approx(3.0))
    assert report.data is not None
    assert report.evaluation is not None
    assert report.data.origin == "a fresh snapshot of data/"
    # Each row of the four newest days is in the snapshot; those before are new to both.
    assert report.evaluation.excluded == {"they are in the new version of the data": 400}
    assert report.evaluation.rows >= 1600
