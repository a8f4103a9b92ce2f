"""``modelyard monitor compare`` as a pipeline would use it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from typer.testing import CliRunner

from modelyard.cli.app import app


def write(file: Path, seed: int, shift: float = 0.0) -> str:
    rng = np.random.default_rng(seed)
    pd.DataFrame({"n": rng.normal(shift, 1, 3000), "t": rng.choice(list("abc"), 3000)}).to_csv(file, index=False)
    return str(file)


def test_two_files_as_text_json_page_and_exit_code(tmp_path: Path) -> None:
    before, same, after = (write(tmp_path / f"{at}.csv", at, at == 2) for at in range(3))
    page = tmp_path / "page.html"
    run = CliRunner().invoke
    steady = run(app, ["monitor", "compare", before, same, "--fail-on", "drift"])
    assert steady.exit_code == 0, steady.output
    assert "2 steady" in steady.output
    moved = run(app, ["monitor", "compare", before, after, "--json", "--fail-on", "drift", "--html", str(page)])
    assert moved.exit_code == 1
    assert json.loads(moved.stdout)["moved"] == ["n"]
    assert "<svg" in page.read_text()
    assert run(app, ["monitor", "compare", before, after]).exit_code == 0
    gone = run(app, ["monitor", "compare", before, str(tmp_path / "gone.csv")])
    assert gone.exit_code == 3
    assert "no file" in gone.output
