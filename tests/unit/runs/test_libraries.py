"""What libraries read with compiled code is seen too."""

from __future__ import annotations

import gzip
import json
import os
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
from deltalake import write_deltalake

import modelyard as my
from modelyard.runs.inside import libraries
from run_programs import Terminal

PROGRAM = """
import warnings

import lightgbm
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.json as pj
import pyarrow.parquet as pq
import xgboost
from deltalake import DeltaTable
from pyarrow import csv
from pyarrow.parquet import read_table

try:
    import netCDF4
except ImportError:
    pass  # what is not there has read nothing

warnings.simplefilter("ignore")
pd.read_parquet("data/pandas.parquet")
pd.read_feather("data/pandas.feather")
read_table(source="data/table.parquet")
pq.ParquetFile("data/file.parquet").read()
ds.dataset("data/parts").to_table()
ds.dataset(["data/listed.parquet"]).to_table()
csv.read_csv("data/arrow.csv")
pj.read_json("data/arrow.jsonl")
pa.memory_map("data/mapped.feather")
lightgbm.Dataset("data/lightgbm.csv", params={"header": True}).construct()
xgboost.DMatrix("data/xgboost.csv?format=csv")
DeltaTable("data/delta").to_pyarrow_table()
"""


def write_files(data: Path) -> None:
    """A file for each reader, no two with the same bytes."""
    (data / "parts").mkdir(parents=True)
    table = pd.DataFrame({"late": [0, 1] * 30, "miles": [float(number) for number in range(60)]})
    for name in ("pandas", "table", "file", "listed", "parts/one", "parts/two"):
        table.assign(which=name).to_parquet(data / f"{name}.parquet")
    for name in ("pandas", "mapped"):
        table.assign(which=name).to_feather(data / f"{name}.feather")
    for number, name in enumerate(("arrow", "lightgbm", "xgboost")):
        table.assign(miles=number).to_csv(data / f"{name}.csv", index=False)
    table.to_json(data / "arrow.jsonl", orient="records", lines=True)
    write_deltalake(data / "delta", pa.table({"a": [1, 2]}))


def test_files_read_past_python_are_of_the_version_that_they_are_of(tmp_path: Path) -> None:
    project = tmp_path / "project"
    write_files(project / "data")
    (project / "train.py").write_text(PROGRAM)
    my.data.snapshot(project / "data", "flights", profile=False, home=tmp_path / "home")
    terminal = Terminal(tmp_path / "home", project)
    run = terminal.json("train", "--", sys.executable, "train.py")["run"]
    data = run["data"]
    assert run["outcome"]["state"] == "finished"
    assert (data["versions"], data["unseen"], data["other_files"]) == (["flights@1"], [], 0)
    assert data["watched"] == "whole program"
    assert terminal("runs", "files", run["id"], tmp_path / "files")[0] == 0
    reads = gzip.decompress((tmp_path / "files" / "reads.jsonl.gz").read_bytes()).splitlines()
    files = {path.relative_to(project / "data").as_posix() for path in (project / "data").rglob("*") if path.is_file()}
    assert {json.loads(read)["name"] for read in reads} == files


def test_what_cannot_be_known_is_told_and_what_is_no_file_is_not(tmp_path: Path) -> None:
    saw: list[str] = []
    missed: list[str] = []
    eyes = libraries.Eyes(saw.append, missed.append)
    eyes.look("pyarrow.csv", ["s3://bucket/one.csv"], {})
    eyes.look("pyarrow.dataset", [str(tmp_path)], {"filesystem": object()})
    assert missed == ["pyarrow.csv", "pyarrow.dataset"]
    (tmp_path / "a b.csv").touch()
    (tmp_path / ".hidden").touch()
    for source in ({"a": [1]}, None, b"", tmp_path, f"file://{tmp_path}/a%20b.csv", [str(tmp_path / "*.csv")]):
        eyes.look("xgboost.core", [source], {})
    assert saw == [str(tmp_path / "a b.csv")] * 3


def test_another_release_that_is_made_otherwise_is_said_to_be_unseen() -> None:
    missed: list[str] = []
    libraries._change(os, "pyarrow.csv", libraries.Eyes(missed.append, missed.append))
    assert missed == ["pyarrow.csv"]
