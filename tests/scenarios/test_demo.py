"""The demo tells its story from end to end on real flights."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(400)
def test_the_demo_ends_by_itself_with_live_figures(tmp_path: Path) -> None:
    home = tmp_path / "demo"
    command = [sys.executable, "-m", "modelyard.cli.app", "demo", "--exit", "--flights", "400", "--json"]
    done = subprocess.run([*command, "--home", str(home)], capture_output=True, text=True, timeout=380, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["dataset"], told["version"]) == ("flights@1", "flights-delay@1")
    assert told["metrics"]["auc"] > 0.6
    tree = "\n".join(told["lineage"])
    assert "data flights@1" in tree
    assert f"run flights-delay {told['run']}" in tree
    assert "400 predictions" in tree
    assert "<svg" in Path(told["addresses"]["lineage"]).read_text()
    assert told["parity"]["passed"]
    assert told["reproduction"] == "bit-equal"
    assert (told["requests"], told["failed"], told["records"]) == (400, 0, 400)
    assert 350 < told["labels"] <= 400
    assert 0.5 < told["auc_by_week"]["01 Mar"] < 0.9
    assert not (home / "run" / "up.json").exists(), "the services are stopped"


def test_the_demo_never_empties_a_folder_that_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    command = [sys.executable, "-m", "modelyard.cli.app", "demo", "--exit", "--home", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"}, check=False)
    assert done.returncode == 4
    assert "holds something else" in done.stderr
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
