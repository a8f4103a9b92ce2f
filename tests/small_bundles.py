"""Small bundles written by hand, for tests that need a version but no training."""

from __future__ import annotations

from pathlib import Path

from modelyard.bundle.layout import Bundle, write
from modelyard.domain.environment import Distribution, Environment
from modelyard.domain.manifest import FORMAT, Code, Manifest, NativeForm, Tolerance
from modelyard.domain.parity import ParityReport, StageReport
from modelyard.domain.schema import Column, Kind, Output, Schema

SCHEMA = Schema(
    "dataframe",
    (Column("x", Kind.FLOAT64, nullable=False, dtype="float64"),),
    (Output("predict", Kind.FLOAT64, "value", "predict"),),
)


def write_bundle(folder: Path, name: str = "toy", content: bytes = b"first", *, runs_code: bool = False) -> Bundle:
    """A bundle that says it is `name` and holds `content`; whole and valid, but nothing that could compute."""
    manifest = Manifest(
        format=FORMAT,
        name=name,
        framework="sklearn",
        estimator="LinearRegression",
        schema=SCHEMA,
        runtime="python",
        native=NativeForm("cloudpickle" if runs_code else "skops", "model/native.skops", runs_code=runs_code),
        compiled=None,
        attempts=(),
        tolerance=Tolerance(),
        environment=Environment("3.11.7", "linux_x86_64", (Distribution("numpy", "2.4.6"),)),
        code=Code(),
        golden_rows=0,
        files={},
        tags={"team": "tests"},
    )
    files = {
        "model/native.skops": content,
        "golden/inputs.parquet": b"",
        "golden/answers.parquet": b"",
        "profile.json": b"{}",
        "environment.txt": b"numpy==2.4.6\n",
        "card.md": b"# toy\n",
    }
    return write(folder, files, manifest)


def report(bundle: Bundle, number: int = 1, *, passed: bool = True, overrides: tuple[str, ...] = ()) -> ParityReport:
    """A parity report on `bundle` with one stage."""
    stage = StageReport("rebuilt", passed, rows=3, largest_rel=float("inf"), reason="" if passed else "row 1 differs")
    ref = f"{bundle.manifest.name}@{number}"
    return ParityReport(ref, bundle.digest, bundle.manifest.runtime, passed, (stage,), overrides=overrides)
