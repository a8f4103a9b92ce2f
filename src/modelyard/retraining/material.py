"""The new version of the data that a challenger is trained on: a window of records, files, or rows of a query."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from modelyard import data
from modelyard.data import Snapshot
from modelyard.domain.schema import Schema
from modelyard.errors import Failed, InvalidRequest
from modelyard.home import Home
from modelyard.records.query import RecordDatabase
from modelyard.retraining.holding import Cut, plain, said_of
from modelyard.retraining.plan import Plan, resolved
from modelyard.retraining.report import Data
from modelyard.retraining.rows import moment, rows_between, training_table

FEWEST = 50
"""Rows to train on, at least."""


def from_records(
    database: RecordDatabase, deployment: str, schema: Schema, cut: Cut, plan: Plan, home: Home, note: str
) -> Data:
    """Labelled records before the cut, as the next version of the data.

    Raises:
        Failed: there are too few of them.
    """
    rows = rows_between(database, deployment, cut.since, cut.at)
    table, left_out = training_table(rows, schema, plan.columns) if len(rows) else (None, 0)
    if table is None or table.num_rows < FEWEST:
        raise Failed(
            f"{0 if table is None else table.num_rows} labelled records lie before {said_of(cut.at)}, where the rows "
            f"begin that are held back, and a challenger is trained on {FEWEST} at least: take a larger `window`, or "
            "hold back less (`evaluate`)"
        )
    first, last = (moment(rows.table["event_time"].to_numpy()[at]) for at in (0, -1))
    name = dataset_of(plan, deployment)
    origin = {
        "kind": "records",
        "deployment": deployment,
        "since": first.isoformat(),
        "until": moment(cut.at).isoformat(),
    }
    made = data.snapshot_table(
        table, name, file=plan.file or f"{name}.parquet", origin=origin, note=note, key=plan.key, home=home
    )
    said = f"{table.num_rows:,} labelled records of {deployment}, {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}"
    return Data(
        ref=made.ref,
        origin=said,
        rows=table.num_rows,
        since=first,
        until=moment(cut.at),
        is_new=made.is_new,
        left_out=left_out,
    )


def from_snapshot(plan: Plan, deployment: str, folder: Path, home: Home, note: str) -> Data:
    """The project's files as they are now, as the next version of the data; raises as `data.snapshot` does."""
    sources = resolved(plan.sources, folder)
    made = data.snapshot(sources, dataset_of(plan, deployment), key=plan.key, note=note, home=home)
    return _described(made, f"a fresh snapshot of {', '.join(plan.sources)}")


def from_query(plan: Plan, deployment: str, cut: Cut, home: Home, note: str) -> Data:
    """The rows of the project's query, as the next version of the data; raises as `data.snapshot_query` does.

    Raises:
        InvalidRequest: the variable with the database's URL is not set.
    """
    url = os.environ.get(plan.url_from)
    if not url:
        raise InvalidRequest(f"[retrain] url_from: the environment variable {plan.url_from} is not set")
    query = plan.query.replace("{until}", moment(cut.at).strftime("%Y-%m-%d %H:%M:%S"))
    made = data.snapshot_query(query, url, dataset_of(plan, deployment), key=plan.key, note=note, home=home)
    found = _described(made, "the rows of the project's query")
    if "{until}" in plan.query:
        import msgspec

        return msgspec.structs.replace(found, until=moment(cut.at))
    return found


def dataset_of(plan: Plan, deployment: str) -> str:
    """What versions of the data are called.

    >>> dataset_of(Plan(), "flights-delay")
    'flights-delay-live'
    """
    return plan.dataset or f"{deployment}-live"


def tables_with(folder: Path, names: Sequence[str]) -> list[pa.Table]:
    """These columns of all Parquet and CSV files of a folder that have them.

    Raises:
        Failed: no file has them.
    """
    parts = []
    for file in sorted(folder.rglob("*")):
        if file.suffix == ".parquet" and set(names) <= set(pq.read_schema(file).names):
            parts.append(pq.read_table(file, columns=list(names)))
        elif file.suffix in (".csv", ".tsv") or file.name.endswith(".csv.gz"):
            found = _csv(file)
            parts += [found.select(list(names))] if set(names) <= set(found.column_names) else []
    if not parts:
        raise Failed(f"no table of the new version of the data has the columns {', '.join(names)}")
    return parts


def latest(folder: Path, column: str) -> np.datetime64:
    """The latest moment in a column of times.

    Raises:
        Failed: no file has that column, or it holds no times.
    """
    import pandas as pd

    found = []
    for table in tables_with(folder, [column]):
        values = table[column].to_pandas()
        if not pd.api.types.is_numeric_dtype(values):
            found.append(pd.to_datetime(values, errors="coerce", utc=True, format="ISO8601").max())
    known = [each for each in found if not pd.isna(each)]
    if not known:
        raise Failed(f"[retrain] time: the column {column!r} of the new version of the data holds no times")
    return plain(max(known).to_pydatetime())


def keys_in(folder: Path, names: Sequence[str]) -> set[tuple[str, ...]]:
    """The keys of all rows of a folder's tables, as texts; raises as `tables_with` does."""
    return {
        key
        for table in tables_with(folder, names)
        for key in zip(*(key_texts(table[name].to_pylist()) for name in names), strict=True)
    }


def key_texts(values: Sequence[Any]) -> list[str]:
    """Values as they are compared: whole numbers alike, whatever their type.

    >>> key_texts([1, 1.0, "1", "EV"])
    ['1', '1', '1', 'EV']
    """
    return [str(int(value)) if isinstance(value, float) and value.is_integer() else str(value) for value in values]


def _csv(file: Path) -> pa.Table:
    import duckdb

    return duckdb.connect().read_csv(str(file)).to_arrow_table()


def _described(made: Snapshot, said: str) -> Data:
    rows = sum(table.rows for table in made.version.facts.tables)
    return Data(ref=made.ref, origin=said, rows=rows, is_new=made.is_new)
