"""What a version says of its tables and images."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_stores import write
from modelyard import data
from modelyard.datasets.facts import Facts, TableFacts
from modelyard.errors import InvalidRequest

CSV = b"id,city,temp,day\n1,Bern,20.5,2013-01-01\n2,Basel,NA,2013-01-02\n3,,18,2013-01-03\n"


def described(tmp_path: Path, files: dict[str, bytes], **options: Any) -> data.DatasetVersion:
    write(tmp_path / "data", files)
    return data.snapshot(tmp_path / "data", "toy", home=tmp_path / "home", **options).version


def types(table: TableFacts) -> dict[str, tuple[str, int]]:
    return {column.name: (column.type, column.missing) for column in table.columns}


def parquet(path: Path, **columns: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def png(width: int, height: int) -> bytes:
    def part(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(b"")) + part(b"IEND", b"")


def test_a_csv_file_has_columns_types_and_missing_values(tmp_path: Path) -> None:
    version = described(tmp_path, {"weather.csv": CSV, "notes.txt": b"a,b\n"})
    (table,) = version.facts.tables
    assert (table.name, table.format, table.rows) == ("weather", "csv", 3)
    assert types(table) == {"id": ("BIGINT", 0), "city": ("VARCHAR", 1), "temp": ("DOUBLE", 1), "day": ("DATE", 0)}
    assert version.facts.notes == ()


def test_a_late_row_still_decides_the_type(tmp_path: Path) -> None:
    rows = b"n\n" + b"1\n" * 50_000 + b"one\n"
    (table,) = described(tmp_path, {"late.csv": rows}).facts.tables
    assert types(table) == {"n": ("VARCHAR", 0)}


def test_profiles_count_numbers_moments_and_values(tmp_path: Path) -> None:
    columns = {
        "n": pa.array([1, 2, 2, None], pa.int16()),
        "x": [0.5, float("nan"), None, float("inf")],
        "t": pa.array([0, 10**9, None, 0], pa.timestamp("ns", "UTC")),
        "word": ["a"] * 3 + [None],
        "flag": [True, False, None, True],
        "list": [[1], [], None, [2]],
        "price": pa.array([1, 2, 3, 4], pa.decimal128(9, 2)),
    }
    parquet(tmp_path / "data" / "t.parquet", **columns)
    version = described(tmp_path, {})
    with data._opened(tmp_path / "home") as (_, datasets):
        profile = datasets.profile("toy@1")["t"]
    assert {name: (each["n"], each["missing"]) for name, each in profile.items()} == {
        name: (4, missing)
        for name, missing in {"n": 1, "x": 2, "t": 1, "word": 1, "flag": 1, "list": 1, "price": 0}.items()
    }
    assert types(version.facts.tables[0])["x"] == ("DOUBLE", 2)
    assert profile["n"]["sum"] == 5.0
    assert profile["x"]["infinite"] == 1
    assert (profile["t"]["min"], profile["t"]["max"]) == (0.0, 1.0)
    assert profile["word"]["values"] == []  # three are too few to name a text
    assert profile["flag"]["values"] == [[True, 2], [False, 1]]
    assert profile["list"]["type"] == "other"


def test_long_columns_are_looked_at_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelyard.datasets import describing

    monkeypatch.setattr(describing, "LOOKED_AT", 1000)
    parquet(tmp_path / "data" / "t.parquet", n=list(range(3500)))
    version = described(tmp_path, {})
    with data._opened(tmp_path / "home") as (_, datasets):
        profile = datasets.profile("toy@1")["t"]["n"]
    assert version.facts.tables[0].rows == 3500
    assert (profile["every"], profile["n"], profile["max"]) == (4, 875, 3496.0)


def test_files_of_one_folder_with_the_same_columns_are_one_table(tmp_path: Path) -> None:
    for month in (1, 2):
        parquet(tmp_path / "data" / "flights" / "year=2013" / f"month={month}" / "part.parquet", n=[month], s=["x"])
    files = {"a.csv": b"n\n1\n", "b.csv": b"n\n2\n", "other.csv": b"m\n2\n", "_log/x.csv": b"n\n1\n", "e.csv": b""}
    version = described(tmp_path, files)
    assert {(table.name, len(table.files), table.rows) for table in version.facts.tables} == {
        ("flights", 2, 2),
        ("a and 1 more", 2, 2),
        ("other", 1, 1),
    }
    partitioned = next(table for table in version.facts.tables if table.name == "flights")
    assert {"n", "s", "year", "month"} == set(types(partitioned))


def test_what_is_no_table_is_noted_and_kept_all_the_same(tmp_path: Path) -> None:
    version = described(tmp_path, {"broken.parquet": b"PAR1 not at all", "good.csv": CSV})
    assert [table.name for table in version.facts.tables] == ["good"]
    assert len(version.facts.notes) == 1
    assert "broken is no table: it cannot be read as parquet" in version.facts.notes[0]
    data.checkout("toy", tmp_path / "out", home=tmp_path / "home")
    assert (tmp_path / "out" / "broken.parquet").read_bytes() == b"PAR1 not at all"


def test_names_with_wildcards_and_quotes_are_names(tmp_path: Path) -> None:
    version = described(tmp_path, {"a[1]*?'\".csv": CSV, "b/x.csv": b'"co""l",\'d\'\n1,2\n'})
    assert [(table.name, table.rows) for table in version.facts.tables] == [("a[1]*?'\"", 3), ("b/x", 1)]
    assert version.facts.notes == ()


def test_images_are_counted_and_measured(tmp_path: Path) -> None:
    version = described(tmp_path, {"a.png": png(40, 30), "b/c.PNG": png(7, 90), "broken.jpg": b"no picture"})
    images = version.facts.images
    assert images is not None
    assert (images.kinds, images.unreadable) == ({"png": 2, "jpeg": 1}, 1)
    assert (images.width, images.height) == ((7, 40), (30, 90))


def test_the_key_is_kept_and_has_to_be_there(tmp_path: Path) -> None:
    assert described(tmp_path, {"weather.csv": CSV}, key=["id"]).facts.tables[0].key == ("id",)
    write(tmp_path / "data", {"weather.csv": CSV + b"4,Chur,1,2013-01-04\n"})
    with pytest.raises(InvalidRequest, match="no table has the columns station; there are weather: id, city"):
        data.snapshot(tmp_path / "data", "toy", key=["station"], home=tmp_path / "home")
    kept = data.snapshot(tmp_path / "data", "toy", home=tmp_path / "home").version
    assert (kept.number, kept.facts.tables[0].key) == (2, ("id",))


def test_tables_that_did_not_change_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelyard.datasets import describing

    first = described(tmp_path, {"weather.csv": CSV, "other.csv": b"n\n1\n"})
    read: list[str] = []
    original = describing._table
    monkeypatch.setattr(describing, "_table", lambda group, *rest: (read.append(group.name), original(group, *rest))[1])
    second = described(tmp_path, {"other.csv": b"n\n1\n2\n"})
    assert read == ["other"]
    assert second.facts.tables[1] == first.facts.tables[1]


def test_what_its_name_tells_is_neither_table_nor_image_is_not_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modelyard.datasets import describing

    monkeypatch.setattr(describing, "describe", None)
    write(tmp_path / "data", {"a.bin": b"a,b\n1,2\n", "csv": b"a\n1\n", "png.txt": b"x"})
    assert data.snapshot(tmp_path / "data", "toy", home=tmp_path / "home").version.facts == Facts()
    write(tmp_path / "data", {"a.CSV": b"a,b\n1,2\n"})
    with pytest.raises(TypeError):
        data.snapshot(tmp_path / "data", "toy", home=tmp_path / "home")


def test_without_a_profile_files_alone_are_kept(tmp_path: Path) -> None:
    assert described(tmp_path, {"weather.csv": CSV}, profile=False).facts.tables == ()
