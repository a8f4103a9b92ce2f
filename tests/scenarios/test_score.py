"""``modelyard score``: a file in, a file out, the numbers of the version."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import compiled_bundles
from modelyard.bundle.runtimes import open_runtime
from modelyard.bundle.tabular import to_frame
from modelyard.cli.app import app

TABLE = pd.DataFrame(
    {
        "id": ["a", "b", "c"],
        "x0": [0.1, -1.0, 1 / 3],
        "x1": [1.0, 2.0, 3.0],
        "x2": [0.0, -0.5, 7.0],
        "carrier": ["UA", "AA", "DL"],
    }
)


@pytest.mark.parametrize("source", ["in.csv", "in.parquet"])
def test_a_file_is_scored_with_the_numbers_of_the_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.setenv("MODELYARD_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    bundle = compiled_bundles.write_compiled(tmp_path / "bundle")
    TABLE.to_csv("in.csv", index=False)
    TABLE.to_parquet("in.parquet")
    done = CliRunner().invoke(
        app, ["score", "./bundle", "--input", source, "--output", "out.parquet", "--keep", "id", "--json"]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["rows"] == 3
    scored = pd.read_parquet("out.parquet")
    assert list(scored["id"]) == ["a", "b", "c"]
    runtime = open_runtime(bundle)
    want = runtime.predict(to_frame(TABLE, bundle.manifest.schema, ignore_extra=True))
    runtime.close()
    got = scored[[name for name in scored.columns if name.startswith("predict_proba_")]].to_numpy()
    assert np.array_equal(got, want["predict_proba"])
    assert scored["predict"].tolist() == want["predict"].tolist()


def test_a_wrong_cell_is_an_error_that_names_it_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELYARD_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    compiled_bundles.write_compiled(tmp_path / "bundle")
    TABLE.astype({"x1": str}).replace({"x1": {"2.0": "two"}}).to_csv("in.csv", index=False)
    done = CliRunner().invoke(app, ["score", "./bundle", "--input", "in.csv", "--output", "out.csv"])
    assert done.exit_code == 5
    assert "column 'x1', row 1: expected a number (float64), got the text 'two'" in done.stderr.replace("\n", " ")
    assert not Path("out.csv").exists()
