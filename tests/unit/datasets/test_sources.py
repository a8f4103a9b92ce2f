"""Snapshots of what is no plain file: results of SQL queries, versions of Delta tables."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import make_url

from data_stores import files_in
from modelyard import data
from modelyard.datasets import queries
from modelyard.datasets.queries import database_of, fetch, without_secrets
from modelyard.errors import Failed, InvalidRequest

SECRET = "s3cr3t-w0rd"


@pytest.fixture
def url(tmp_path: Path) -> str:
    file = tmp_path / "source.db"
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("CREATE TABLE flights (id INTEGER PRIMARY KEY, carrier TEXT, delay REAL, mixed)")
        rows = [(at, "UA" if at % 2 else None, at / 2, None) for at in range(250)]
        database.executemany("INSERT INTO flights VALUES (?, ?, ?, ?)", [*rows, (250, "B6", 1, 7), (251, "B6", 1, "x")])
    return f"sqlite:///{file}"


def test_a_query_becomes_a_version(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "_ROWS_AT_ONCE", 100)
    query = "SELECT * FROM flights WHERE ':x%' <> '' ORDER BY id;"
    made = data.snapshot_query(query, url, "flights", key=["id"], home=tmp_path / "home")
    assert data.snapshot_query(query, url, "flights", home=tmp_path / "home").is_new is False
    (table,) = made.version.facts.tables
    assert (table.name, table.rows, table.key) == ("flights", 252, ("id",))
    assert {column.name: (column.type, column.missing) for column in table.columns} == {
        "id": ("BIGINT", 0),
        "carrier": ("VARCHAR", 125),
        "delay": ("DOUBLE", 0),
        "mixed": ("VARCHAR", 250),
    }
    assert made.version.origin == {"kind": "query", "database": url, "query": query}
    data.checkout("flights@1", tmp_path / "out", home=tmp_path / "home")
    kept = pq.read_table(tmp_path / "out" / "flights.parquet").to_pylist()
    assert kept[250:] == [
        {"id": 250, "carrier": "B6", "delay": 1.0, "mixed": "7"},
        {"id": 251, "carrier": "B6", "delay": 1.0, "mixed": "x"},
    ]


def test_no_rows_are_a_table_too(url: str, tmp_path: Path) -> None:
    version = data.snapshot_query("SELECT id, carrier FROM flights WHERE id < 0", url, "e", home=tmp_path).version
    assert [column.name for column in version.facts.tables[0].columns] == ["id", "carrier"]


def test_values_keep_their_types(tmp_path: Path) -> None:
    rows = [(1, Decimal("1.50"), dt.date(2013, 1, 1), b"\xff", True), (2, None, None, None, None)]
    names = ["n", "price", "day", "raw", "flag"]
    schema = queries._write(tmp_path / "part", names, rows)
    assert [str(kind) for kind in schema.types] == ["int64", "decimal128(3, 2)", "date32[day]", "binary", "bool"]
    other = queries._write(tmp_path / "more", names, [(2.5, Decimal("1000"), None, None, "no")])
    wider = queries._widest([schema, other])
    assert [str(kind) for kind in wider.types] == ["double", "decimal128(6, 2)", "date32[day]", "binary", "string"]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (
            f"postgresql+psycopg://ann:{SECRET}@db:5432/flights?sslpassword={SECRET}",
            "postgresql+psycopg://db:5432/flights",
        ),
        (f"mssql+pyodbc:///?odbc_connect=DRIVER%3D%7Bx%7D%3BPWD%3D{SECRET}", "mssql+pyodbc:///"),
        (f"databricks://token:{SECRET}@host/", "databricks://host/"),
        (f"snowflake://{SECRET}@account/db", "snowflake://account/db"),
    ],
)
def test_secrets_of_a_url_are_not_shown(given: str, shown: str) -> None:
    assert database_of(given) == shown
    said = without_secrets(f"cannot log in with {SECRET}", make_url(f"postgresql://ann:{SECRET}@db/x"))
    assert said == "cannot log in with ***"


def test_failures_tell_no_secret(url: str, tmp_path: Path) -> None:
    with pytest.raises(Failed, match="the query failed: no such table: nowhere"):
        fetch(url, "SELECT * FROM nowhere", tmp_path / "a.parquet")
    with pytest.raises(InvalidRequest, match="gives no rows"):
        fetch(url, "DELETE FROM flights", tmp_path / "b.parquet")
    with pytest.raises(InvalidRequest, match="two columns 'id'"):
        fetch(url, "SELECT id, id FROM flights", tmp_path / "c.parquet")
    assert fetch(url, "SELECT * FROM flights", tmp_path / "d.parquet") == 252, "the deletion was not taken back"
    for bad in (f"no url with {SECRET}", f"nosuch://ann:{SECRET}@db/x", f"postgresql+asyncpg://ann:{SECRET}@[::1/x"):
        with pytest.raises(InvalidRequest) as caught:
            data.snapshot_query("SELECT 1", bad, "toy", home=tmp_path / "home")
        assert SECRET not in str(caught.value)
        assert caught.value.__cause__ is None
    for path in (tmp_path / "home").rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()


def delta_table(folder: Path) -> pa.Table:
    deltalake = pytest.importorskip("deltalake")
    days = pa.array([dt.date(2013, 1, 1), dt.date(2013, 1, 2), None])
    first = pa.table({"id": [1, 2, 3], "x": [0.5, None, 1.0], "day": days, "a b": ["x y", "%", "z"]})
    deltalake.write_deltalake(folder, first, partition_by=["day", "a b"])
    deltalake.write_deltalake(folder, first.slice(0, 1), mode="append")
    return first


def test_a_pinned_version_of_a_delta_table_is_a_delta_table_again(tmp_path: Path) -> None:
    first = delta_table(tmp_path / "table")
    made = data.snapshot_delta(tmp_path / "table", "t", version=0, key=["id"], home=tmp_path / "home")
    assert made.version.origin == {"kind": "delta", "table": str(tmp_path / "table"), "version": 0}
    (facts,) = made.version.facts.tables
    assert (facts.rows, {column.name for column in facts.columns}) == (3, {"id", "x", "day", "a b"})
    newest = data.snapshot_delta(tmp_path / "table", "t", home=tmp_path / "home")
    assert (newest.ref, newest.version.facts.tables[0].rows, newest.version.origin["version"]) == ("t@2", 4, 1)
    assert newest.stored_bytes < 3000, "the files of the first version were stored again"
    assert data.snapshot_delta(tmp_path / "table", "t", version=0, home=tmp_path / "home").ref == "t@1"

    from deltalake import DeltaTable

    data.checkout("t@1", tmp_path / "out", home=tmp_path / "home")
    read = pa.table(DeltaTable(tmp_path / "out").to_pyarrow_dataset().to_table()).sort_by("id")
    assert read.select(first.column_names).to_pylist() == first.to_pylist()
    lines = (tmp_path / "out" / "_delta_log" / "00000000000000000000.json").read_text().splitlines()
    assert [next(iter(json.loads(line))) for line in lines] == ["protocol", "metaData", "add", "add", "add"]
    assert len(files_in(tmp_path / "out")) == 4
    assert data.diff("t@1", "t@2", home=tmp_path / "home").tables[0].rows.note.startswith("id does not tell rows apart")


def test_what_is_no_delta_table_is_told(tmp_path: Path) -> None:
    delta_table(tmp_path / "table")
    with pytest.raises(InvalidRequest, match="no version 9 of a Delta table"):
        data.snapshot_delta(tmp_path / "table", "t", version=9, home=tmp_path / "home")
    with pytest.raises(InvalidRequest, match="there is no Delta table"):
        data.snapshot_delta(tmp_path / "home", "t", home=tmp_path / "home")
    next((tmp_path / "table").rglob("*.parquet")).unlink()
    with pytest.raises(Failed, match="may have been vacuumed"):
        data.snapshot_delta(tmp_path / "table", "t", home=tmp_path / "home")
