"""A team: one machine trains and packs, another proves, deploys and serves; they share nothing but two servers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from data_stores import files_in, write
from modelyard.cli.app import app
from modelyard.control import up
from modelyard.home import Home
from run_programs import FEATURES, make_project
from serving_process import until
from small_bundles import write_line
from team_servers import PASSWORD, Cable, Team

TRAIN = """
import modelyard as my

with my.run("points", params={"depth": 6}) as run, open("data/points.csv") as handle:
    run.log_metrics({"rows": len(handle.readlines())})
"""


class Machine:
    """The command line on a machine of a team: a home of its own, and the team's two addresses."""

    def __init__(self, home: Path, settings: dict[str, str]) -> None:
        self.home, self.said = home, ""
        self.environment = {**os.environ, **settings, "MODELYARD_HOME": str(home)}

    def run(self, *words: object) -> tuple[int, str]:
        """One command in this process: exit status, and what it said."""
        done = CliRunner().invoke(app, [str(word) for word in words], env=self.environment, catch_exceptions=False)
        self.said += done.stdout + done.stderr
        return done.exit_code, done.stdout or done.stderr

    def json(self, *words: object, status: int = 0) -> Any:
        code, said = self.run(*words, "--json")
        assert code == status, said
        return json.loads(said)

    def train(self, folder: Path) -> Any:
        """The training program in a process of its own."""
        command = [sys.executable, "-m", "modelyard.cli.app", "train", "--json", "--", sys.executable, "train.py"]
        done = subprocess.run(command, env=self.environment, cwd=folder, capture_output=True, text=True)
        self.said += done.stdout + done.stderr
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def begin(self, *words: object) -> subprocess.Popen[str]:
        """A command that goes on."""
        command = [sys.executable, "-m", "modelyard.cli.app", *map(str, words), "--json"]
        return subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def machines(servers: Team, tmp_path: Path) -> Iterator[tuple[Machine, Machine]]:
    settings = dict(servers.s3.environment)
    settings["MODELYARD_DATABASE_URL"] = servers.postgresql.new()
    settings["MODELYARD_OBJECTS_URL"] = servers.s3.new()
    made = Machine(tmp_path / "ann", settings), Machine(tmp_path / "bob", settings)
    yield made
    assert all(PASSWORD not in machine.said for machine in made)


def test_what_one_machine_makes_another_proves_and_serves(machines: tuple[Machine, Machine], tmp_path: Path) -> None:
    ann, bob = machines
    code, said = ann.run("list")
    assert (code, "run `modelyard db upgrade`" in said) == (5, True)
    assert ann.json("db", "upgrade")["before"] is None

    project = make_project(tmp_path / "project")
    (project / "train.py").write_text(TRAIN)
    write(tmp_path / "raw", {f"{at}.txt": FEATURES.encode() * (at + 1) for at in range(50)})
    assert ann.json("data", "snapshot", project / "data", "--name", "points")["ref"] == "points@1"
    assert ann.json("data", "snapshot", tmp_path / "raw", "--name", "raw")["ref"] == "raw@1"
    trained = ann.train(project)
    assert trained["run"]["data"]["versions"] == ["points@1"]
    assert ann.json("import", write_line(tmp_path / "line").path)["ref"] == "line@1"
    assert list(Path(ann.home, "bundles").iterdir()) == list(Path(ann.home, "datasets").iterdir()) == []

    assert bob.json("db", "show")["state"] == "up to date"
    assert [version["ref"] for version in bob.json("list", "line")["versions"]] == ["line@1"]
    assert bob.json("runs", "show", trained["id"])["run"]["metrics"]["rows"]["last"] == 41
    bob.json("runs", "files", trained["id"], tmp_path / "kept")
    assert "depth" in (tmp_path / "kept" / "code" / "loaded" / "train.py").read_text()
    bob.json("data", "checkout", "raw@1", tmp_path / "out")
    assert files_in(tmp_path / "out") == files_in(tmp_path / "raw")
    assert bob.json("data", "verify", "raw@1")["damaged"] == []
    assert bob.json("verify", "line@1")["passed"] is True
    assert ann.json("show", "line@1")["proven"] is True
    planes = bob.begin("up", "--port", "0")
    try:
        until(lambda: up.running(Home(bob.home)), "both planes")
        deployed = bob.json("deploy", "line@1", "--to", "live")
        assert deployed["state"] == "done"
        assert answer(deployed["url"]) == 6.0
        assert ann.json("status", status=1)["deployments"][0]["asked"] == "line@1"  # and nothing runs there
    finally:
        planes.send_signal(signal.SIGTERM)
        planes.communicate(timeout=60)


def test_what_is_served_goes_on_while_the_database_is_away(servers: Team, tmp_path: Path) -> None:
    cable, url = Cable(servers.postgresql.port), servers.database()
    settings = servers.s3.environment | {"MODELYARD_OBJECTS_URL": servers.s3.new()}
    far = url.replace(f":{servers.postgresql.port}/", f":{cable.port}/")
    bob = Machine(tmp_path / "bob", settings | {"MODELYARD_DATABASE_URL": far})
    for slope in (2.0, 5.0):
        bob.json("import", write_line(tmp_path / str(slope), slope=slope).path)
    planes = bob.begin("up", "--port", "0")
    try:
        until(lambda: up.running(Home(bob.home)), "both planes")
        deployed = bob.json("deploy", "line@1", "--to", "live", "--unproven", "a try")
        assert answer(deployed["url"]) == 6.0
        cable.pull()
        code, said = bob.run("deploy", "line@2", "--to", "live", "--unproven", "a try")
        assert (code, "cannot be reached, or the connection to it was lost" in said) == (7, True), said
        assert answer(deployed["url"]) == 6.0
        cable.mend()
        assert bob.json("deploy", "line@2", "--to", "live", "--unproven", "a try")["state"] == "done"
        assert answer(deployed["url"]) == 15.0
    finally:
        planes.send_signal(signal.SIGTERM)
        planes.communicate(timeout=60)
        cable.close()


def answer(url: str) -> float:
    response = httpx.post(url, json={"rows": [{"x": 3.0}]}, trust_env=False)
    value: float = response.json()["rows"][0]["predict"]
    return value
