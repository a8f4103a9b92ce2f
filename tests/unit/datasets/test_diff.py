"""Differences between versions, beside what plain Python finds."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_stores import write
from modelyard import data
from modelyard.datasets.differing import DataDiff, RowDiff, compare_files
from modelyard.datasets.moving import chance_of_numbers, chance_of_values, largest_gap
from modelyard.datasets.report import page
from modelyard.datasets.rowdiff import Shared, compare_rows
from modelyard.datasets.tree import Content, Entry, Tree
from modelyard.errors import InvalidRequest

Rows = dict[int, tuple[Any, Any]]


def tree(files: dict[bytes, bytes]) -> Tree:
    return Tree.of(Entry(path, Content(1, raw * 32, ())) for path, raw in files.items())


def test_files_are_added_removed_changed_and_renamed() -> None:
    found = compare_files(
        tree({b"same": b"1", b"changed": b"2", b"old name": b"3", b"gone": b"4"}),
        tree({b"same": b"1", b"changed": b"5", b"new name": b"3", b"new": b"6"}),
    )
    assert (found.added, found.removed, found.changed) == (("new",), ("gone",), ("changed",))
    assert (found.moved, found.unchanged) == ((("old name", "new name"),), 1)


def versions(folder: Path, before: Any, after: Any, key: tuple[str, ...] = ()) -> DataDiff:
    """The difference between two tables that are versions of one dataset."""
    for table in (before, after):
        (folder / "data").mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(table), folder / "data" / "t.parquet")
        data.snapshot(folder / "data", "toy", home=folder / "home")
    return data.diff("toy@1", "toy@2", key=key, home=folder / "home")


CELL = st.tuples(st.one_of(st.none(), st.sampled_from([0.0, 1.5, float("nan")])), st.sampled_from([None, "a", "b"]))
TABLE = st.dictionaries(st.integers(-3, 12), CELL, max_size=10)


def columns(rows: Rows) -> dict[str, Any]:
    return {
        "id": pa.array(list(rows), pa.int64()),
        "x": pa.array([x for x, _ in rows.values()], pa.float64(), from_pandas=False),
        "s": pa.array([s for _, s in rows.values()], pa.string()),
    }


def same(one: Any, other: Any) -> bool:
    return one == other or (isinstance(one, float) and isinstance(other, float) and one != one and other != other)


def rows_of(before: Any, after: Any, key: tuple[str, ...]) -> RowDiff:
    """The rows that differ between two tables with the same columns."""
    with duckdb.connect() as connection:
        for name, columns in (("a", before), ("b", after)):
            connection.register(f"arrow_{name}", pa.table(columns))
            connection.execute(f"CREATE TABLE {name} AS SELECT * FROM arrow_{name}")
        described = connection.execute("DESCRIBE a").fetchall()
        return compare_rows(connection, [Shared(row[0], row[1], row[1]) for row in described], key)


@given(before=TABLE, after=TABLE)
@settings(max_examples=40, deadline=None)
def test_rows_differ_as_plain_python_finds(before: Rows, after: Rows) -> None:
    both = before.keys() & after.keys()
    changed = [key for key in both if not all(map(same, before[key], after[key]))]
    found = rows_of(columns(before), columns(after), ("id",))
    assert found.key == ("id",)
    assert (found.added, found.removed) == (len(after.keys() - both), len(before.keys() - both))
    assert (found.changed, found.unchanged) == (len(changed), len(both) - len(changed))
    assert found.changed_by_column == {
        name: count
        for at, name in enumerate("xs")
        if (count := sum(not same(before[key][at], after[key][at]) for key in changed))
    }
    examples = [example for example in found.examples if example.change == "changed"]
    assert [example.key["id"] for example in examples] == sorted(changed)[:10]


@given(before=st.lists(st.integers(0, 4), max_size=12), after=st.lists(st.integers(0, 4), max_size=12))
@settings(max_examples=30, deadline=None)
def test_without_a_key_rows_are_counted_as_often_as_they_are_there(before: list[int], after: list[int]) -> None:
    found = rows_of({"n": pa.array(before, pa.int8())}, {"n": pa.array(after, pa.int8())}, ())
    more, less = Counter(after) - Counter(before), Counter(before) - Counter(after)
    assert (found.added, found.removed, found.changed) == (more.total(), less.total(), 0)
    assert found.unchanged == (Counter(before) & Counter(after)).total()


@pytest.mark.parametrize(("before", "after"), [([1], []), ([], [1]), ([None], [None, 2])])
def test_empty_tables_have_no_distribution(tmp_path: Path, before: list[Any], after: list[Any]) -> None:
    tables = [{"n": pa.array(values, pa.float64()), "s": pa.array(map(str, values))} for values in (before, after)]
    for table in versions(tmp_path, *tables).tables:
        assert not any(move.moved for move in table.moves)
        msgspec.json.encode(table)


def test_columns_types_and_order(tmp_path: Path) -> None:
    before = {"id": [1, 2], "n": pa.array([1, 2], pa.int32()), "gone": ["a", "b"], "t": ["1", "2"]}
    after = {"n": pa.array([1.0, 2.5]), "id": [1, 2], "new": [True, False], "t": pa.array([1, 2])}
    (table,) = versions(tmp_path, before, after, ("id",)).tables
    assert table.columns_added == (("new", "BOOLEAN"),)
    assert table.columns_removed == (("gone", "VARCHAR"),)
    assert table.types_changed == (("n", "INTEGER", "DOUBLE"), ("t", "VARCHAR", "BIGINT"))
    assert table.reordered
    assert table.rows.changed_by_column == {"n": 1}


def test_a_key_that_does_not_tell_rows_apart_is_told(tmp_path: Path) -> None:
    before, after = {"id": [1, 1, 2], "n": [1, 2, 3]}, {"id": [1, 1, 2], "n": [1, 2, 4]}
    (table,) = versions(tmp_path, before, after, ("id",)).tables
    assert "id does not tell rows apart" in table.rows.note
    assert (table.rows.key, table.rows.added, table.rows.removed) == ((), 1, 1)
    (table,) = versions(tmp_path / "b", {"id": [1, 2], "n": [1, 2]}, {"id": [1, 1, 2], "n": [1, 2, 4]}, ("id",)).tables
    assert table.rows.key == ()


def test_missing_keys_meet_each_other(tmp_path: Path) -> None:
    (table,) = versions(tmp_path, {"id": [None, 1], "n": [1, 1]}, {"id": [None, 1], "n": [2, 1]}, ("id",)).tables
    assert (table.rows.changed, table.rows.added, table.rows.removed) == (1, 0, 0)


def test_any_type_can_be_key_and_example(tmp_path: Path) -> None:
    moments = pa.array([0, 1], pa.timestamp("us", "UTC"))
    before = {"t": moments, "d": pa.array([1, 2], pa.decimal128(9, 2)), "b": [b"\xff", b""], "l": [[1], [2]]}
    (table,) = versions(tmp_path, before, before | {"b": [b"\xfe", b""], "l": [[1], [3]]}, ("t", "d")).tables
    assert table.rows.changed_by_column == {"b": 1, "l": 1}
    msgspec.json.encode(table)


def test_a_column_that_moved_is_found_and_one_that_did_not_is_left(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    size = 20_000

    def table(shift: float, share: float, missing: float) -> dict[str, Any]:
        return {
            "moved": draw.normal(shift, 1, size),
            "still": draw.normal(0, 1, size),
            "place": np.where(draw.random(size) < share, "EWR", "JFK"),
            "same": np.where(draw.random(size) < 0.5, "a", "b"),
            "holes": pa.array(draw.normal(0, 1, size), mask=draw.random(size) < missing),
            "name": [f"{at}-{shift}" for at in range(size)],
        }

    (found,) = versions(tmp_path, table(0, 0.5, 0.1), table(0.3, 0.6, 0.2)).tables
    moves = {move.column: move for move in found.moves}
    assert [name for name, move in moves.items() if move.moved] == ["moved", "place", "holes"]
    assert abs(moves["moved"].distance - 0.119) < 0.02  # the largest gap of two normal distributions 0.3 apart
    assert abs(moves["place"].distance - 0.1) < 0.02
    assert moves["holes"].distance < moves["holes"].by_chance
    assert abs(moves["holes"].missing_after - 0.2) < 0.02
    assert "name" not in moves
    for move in moves.values():
        assert abs(sum(part.before for part in move.bins) - 1) < 1e-9
        assert abs(sum(part.after for part in move.bins) - 1) < 1e-9


def test_of_long_tables_the_same_keys_are_looked_at_on_both_sides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modelyard.datasets import moving

    monkeypatch.setattr(moving, "LOOKED_AT", 1000)
    numbers = np.random.default_rng(3).normal(0, 1, 10_000)
    before = {"id": list(range(10_000)), "same": numbers, "moved": numbers}
    after = {"id": list(range(1, 10_000)), "same": numbers[1:], "moved": numbers[1:] + 1}
    (table,) = versions(tmp_path, before, after, ("id",)).tables
    moves = {move.column: move for move in table.moves}
    assert moves["same"].distance < 0.002, "the rows of one side are not those of the other"
    assert moves["moved"].moved
    assert moves["moved"].by_chance > 0.05, "more rows than were asked for"


def test_alarms_are_as_rare_as_promised() -> None:
    draw = np.random.default_rng(1)
    alarms = 0
    for _ in range(300):
        numbers = [np.bincount(draw.integers(0, 64, 500), minlength=64) for _ in range(2)]
        alarms += largest_gap(numbers[0].tolist(), numbers[1].tolist()) > chance_of_numbers(500, 500, 1)
        shares = numbers[0] / 500, numbers[1] / 500
        pooled = ((shares[0] + shares[1]) / 2).tolist()
        alarms += np.abs(shares[0] - shares[1]).sum() / 2 > chance_of_values(pooled, 500, 500, 1)
    assert alarms <= 12  # 6 are expected at most


def test_two_datasets_of_one_table_each_are_compared_whatever_its_name(tmp_path: Path) -> None:
    for name, rows in (("old", b"id,n\n1,1\n"), ("new", b"id,n\n1,2\n")):
        write(tmp_path / name, {f"{name}.csv": rows})
        data.snapshot(tmp_path / name, name, key=["id"], home=tmp_path / "home")
    found = data.diff("old@1", "new@1", home=tmp_path / "home")
    assert (found.files.added, found.files.removed) == (("new.csv",), ("old.csv",))
    assert found.tables[0].rows.changed == 1
    with pytest.raises(InvalidRequest, match="no table has the columns other in both"):
        data.diff("old@1", "new@1", key=["other"], home=tmp_path / "home")


class Tags(HTMLParser):
    """Collects the tags of a page, and what it would load from elsewhere; every one has to be closed in its turn."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.loads: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.loads += [str(value) for name, value in attrs if name in ("src", "href")]
        self.loads += [name for name, _ in attrs if name.startswith("on")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def luminance(colour: str) -> float:
    """Relative luminance of ``#rrggbb`` (WCAG 2.2)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_plots_are_whole_and_seen_on_light_and_on_dark(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    before = {
        "id": list(range(500)),
        "x": draw.normal(size=500).tolist(),
        "s": ["\x01<&>\"' and so on and on and on"] * 500,
    }
    after = before | {"x": (draw.normal(size=500) * 1e-9 - 1e9).tolist(), "s": ["b"] * 500}
    text = page(versions(tmp_path, before, after, ("id",)))
    read = Tags()
    read.feed(text)
    assert read.open == []
    plots = [ET.fromstring(plot) for plot in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]
    assert len(plots) == 2
    for plot in plots:
        left, top, width, height = map(float, plot.attrib["viewBox"].split())
        for bar in plot.iter("rect"):
            x, y, wide, high = (float(bar.attrib[name]) for name in ("x", "y", "width", "height"))
            assert left <= x <= x + wide <= left + width + 0.1
            assert top <= y <= y + high <= top + height
        for label in plot.iter("text"):
            x, y = map(float, re.findall(r"translate\(([-\d.]+),([-\d.]+)\)", label.attrib["transform"])[0])
            long = 5.5 * len(label.text or "")  # a wide estimate of 10 px system-ui
            assert left <= x - long * math.cos(math.radians(40))
            assert y + long * math.sin(math.radians(40)) <= top + height
    assert "color-scheme: light dark" in text
    assert not re.search(r"url\(|@import|https?:|javascript:", text)
    colours = re.findall(r"--(?:before|after): (#[0-9a-f]{6})", text)
    assert len(colours) >= 2
    for colour in colours:
        for ground in ("#ffffff", "#121212"):
            light, dark = sorted((luminance(colour), luminance(ground)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 3, f"{colour} on {ground}"


def test_the_report_is_one_page_with_plots_in_which_nothing_can_run(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    before = {"id": list(range(50)), evil: [evil, "b"] * 25, "x": [float(at) for at in range(50)]}
    after = before | {"x": [float(at * 2) for at in range(50)], evil: ["b", evil] * 25}
    found = versions(tmp_path, before, after, ("id",))
    read = Tags()
    read.feed(page(found))
    assert (read.tags["script"], read.loads) == (0, [])
    assert read.tags["svg"] == len(found.tables[0].moves) == 2
    assert read.tags["rect"] == 2 * sum(len(move.bins) for move in found.tables[0].moves)
