"""Shipping: each frame is in its table once, and a reader sees each row once, whoever ships and whenever."""

from __future__ import annotations

import threading
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest
from deltalake import DeltaTable

from modelyard.errors import DataDamaged
from modelyard.records import reading, segments, shipping
from modelyard.records.delta import TablesRoot
from modelyard.records.keeping import Rule, rules, set_rule
from modelyard.records.log import LabelLog, PredictionLog, read, read_labels
from modelyard.records.query import RecordDatabase, query
from modelyard.records.shipping import Shipment, record_shipments, remove_shipped, ship
from modelyard.records.upkeep import expire
from unit.records.samples import call, label, record

PREDICTIONS, LABELS = record_shipments(Path())


def ids(directory: Path, table: str = "predictions") -> list[str]:
    return sorted(query(directory, f"SELECT prediction_id FROM {table}")["prediction_id"].to_pylist())


def in_table(directory: Path, shipment: Shipment = PREDICTIONS) -> list[str]:
    table = TablesRoot.of(directory).open(shipment.table)
    return (
        [] if table is None else sorted(table.to_pyarrow_table(columns=["prediction_id"])["prediction_id"].to_pylist())
    )


def logged(directory: Path, *names: str) -> None:
    writer = PredictionLog(directory)
    for name in names:
        writer.append(record(name))
    writer.close()


def test_what_is_shipped_and_what_is_not_are_one_table(tmp_path: Path) -> None:
    writer, labels = PredictionLog(tmp_path), LabelLog(tmp_path)
    expected: list[str] = []
    for number in range(5):
        writer.append(record(f"a{number}"))
        labels.append(label(f"a{number}", number))
        expected.append(f"a{number}")
        if number % 2:
            assert ship(tmp_path, PREDICTIONS).rows == 2
            ship(tmp_path, LABELS)
        assert ids(tmp_path) == expected
        assert ids(tmp_path, "labels") == expected
        assert [one.prediction_id for one in read(tmp_path)] == expected
        assert [one.value for one in read_labels(tmp_path)] == list(range(number + 1))
    assert in_table(tmp_path) == expected[:4]
    assert ship(tmp_path, PREDICTIONS).rows == 1
    assert ship(tmp_path, PREDICTIONS).commits == 0
    assert str(query(tmp_path, "SELECT label FROM delay")["label"].type) == "int64"


def test_segments_go_when_all_tables_have_them_and_nobody_writes_them(tmp_path: Path) -> None:
    writer = PredictionLog(tmp_path)
    writer.append(record("a1"))
    other = Shipment("other", "predictions", PREDICTIONS.schema, ("deployment", "day"), PREDICTIONS.build)
    ship(tmp_path, PREDICTIONS)
    assert remove_shipped(tmp_path, [PREDICTIONS]) == 0  # its writer lives
    writer.append(record("a2"))
    writer.close()
    ship(tmp_path, PREDICTIONS)
    assert remove_shipped(tmp_path, [PREDICTIONS, other]) == 0
    ship(tmp_path, other)
    assert remove_shipped(tmp_path, [PREDICTIONS, other]) == 1
    assert segments.segments(tmp_path / "predictions") == []
    assert ids(tmp_path) == in_table(tmp_path) == ["a1", "a2"]
    logged(tmp_path, "a3")
    assert ids(tmp_path) == ["a1", "a2", "a3"]


def test_labels_go_on_in_a_segment_of_their_own_when_theirs_is_gone(tmp_path: Path) -> None:
    for number in range(6):
        log = LabelLog(tmp_path)
        log.append(label(f"a{number}"))
        log.close()
        ship(tmp_path, LABELS)
        if number % 2:
            assert remove_shipped(tmp_path, [LABELS]) == 1
    assert ids(tmp_path, "labels") == [f"a{number}" for number in range(6)]


def test_many_that_ship_at_once_ship_each_row_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "AT_ONCE", 2000)
    writer = PredictionLog(tmp_path, segment_bytes=8000)
    expected, done = [], threading.Event()

    def write() -> None:
        for number in range(120):
            writer.append(record(f"a{number:04}"))
            expected.append(f"a{number:04}")
        writer.close()
        done.set()

    def ship_on() -> None:
        last = False
        while not last:
            last = done.is_set()
            while ship(tmp_path, PREDICTIONS).busy:
                pass
            remove_shipped(tmp_path, [PREDICTIONS])

    crowd = [threading.Thread(target=write), *(threading.Thread(target=ship_on) for _ in range(3))]
    for one in crowd:
        one.start()
    seen = 0
    while not done.is_set():
        now = ids(tmp_path)
        assert len(now) == len(set(now)) >= seen
        seen = len(now)
    for one in crowd:
        one.join()
    assert in_table(tmp_path) == expected
    assert segments.segments(tmp_path / "predictions") == []


def test_a_reader_ships_what_is_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SHIPPED_FIRST", 100)
    logged(tmp_path, "a1", "a2")
    assert ids(tmp_path) == in_table(tmp_path) == ["a1", "a2"]


def test_a_reader_that_cannot_ship_reads_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SHIPPED_FIRST", 100)
    (tmp_path / "tables").write_text("in the way")
    logged(tmp_path, "a1", "a2")
    assert ids(tmp_path) == ["a1", "a2"]


def test_columns_seen_at_any_time_are_in_the_view(tmp_path: Path) -> None:
    writer = PredictionLog(tmp_path)
    for number, value in enumerate([1, 2.5, 3, 4]):
        writer.append(call(f"a{number}", [{"x": value, f"only{number}": "y"}], [{"predict": 1}]))
        if number < 3:
            ship(tmp_path, PREDICTIONS)
    table = query(tmp_path, "SELECT x, only0, only1, only2, only3 FROM delay ORDER BY prediction_id")
    assert str(table.schema.field("x").type) == "double"
    assert table["x"].to_pylist() == [1, 2.5, 3, 4]


def damage(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_damage_is_told_by_every_query_and_its_segment_is_kept(tmp_path: Path) -> None:
    logged(tmp_path, "a1", "a2")
    (path,) = segments.segments(tmp_path / "predictions")
    damage(path, 60)

    def told() -> list[tuple[str, int]]:
        with RecordDatabase(tmp_path) as database:
            assert database.query("SELECT prediction_id FROM predictions")["prediction_id"].to_pylist() == ["a2"]
            return [(one.path.name, one.offset) for one in database.damage]

    assert told() == [(path.name, 24)]
    assert [one.offset for one in ship(tmp_path, PREDICTIONS).damage] == [24]
    assert told() == [(path.name, 24)]
    assert remove_shipped(tmp_path, [PREDICTIONS]) == 1
    assert told() == [(path.name, 24)]
    assert (tmp_path / "predictions" / "damaged" / path.name).exists()


def test_other_programs_read_the_tables(tmp_path: Path) -> None:
    logged(tmp_path, "a1")
    writer = PredictionLog(tmp_path)
    writer.append(record("nobody", deployment="nobody", digest="", status=404, outcome="refused", version=0))
    ship(tmp_path, PREDICTIONS)
    table = DeltaTable(TablesRoot.of(tmp_path).address("predictions"))
    assert table.metadata().partition_columns == ["deployment", "day"]
    assert table.protocol().min_reader_version == 1
    files: Any = table.file_uris()
    assert any("deployment=delay" in file for file in files)
    assert not any("nobody" in file.split("/predictions/")[1] for file in files)
    found = duckdb.sql(f"SELECT prediction_id FROM read_parquet({files!r}) ORDER BY 1").fetchall()
    assert found == [("a1",), ("nobody",)]


def dropped(directory: Path) -> list[tuple[Any, ...]]:
    found = query(directory, "SELECT deployment, reason, number FROM predictions_dropped ORDER BY reason").to_pylist()
    return [tuple(line.values()) for line in found]


def test_a_share_is_kept_and_the_rest_is_counted(tmp_path: Path) -> None:
    set_rule(tmp_path, "delay", Rule(share=0.25, body_bytes=1000))
    names = [f"a{number}" for number in range(400)]
    logged(tmp_path, *names)
    writer = PredictionLog(tmp_path)
    writer.append(record("long", outcome="refused", status=422, request=b" " * 1000, response=b"{}"))
    before = ids(tmp_path)
    assert "long" in before
    assert 60 < len(before) < 140
    assert dropped(tmp_path) == [("delay", "body too large", 1), ("delay", "not in the sample", 401 - len(before))]
    ship(tmp_path, record_shipments(tmp_path)[0])
    assert ids(tmp_path) == before
    assert dropped(tmp_path) == [("delay", "body too large", 1), ("delay", "not in the sample", 401 - len(before))]
    assert {one.prediction_id: one.request == b"" for one in read(tmp_path)}["long"]


@pytest.mark.parametrize("kind", ["folder", "address"])
def test_rules_lie_beside_tables_that_are_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    tables = tmp_path / "tables"
    monkeypatch.setenv("MODELYARD_RECORDS_URL", tables.as_uri() if kind == "address" else str(tables))
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    (one / "keeping.json").write_bytes(b'{"delay": {"days": 3}, "old": {"days": 4}}')
    assert rules(other) == {}
    set_rule(other, "delay", Rule(share=0.5))
    set_rule(one, "../x", Rule(days=1))
    assert rules(other) == {"delay": Rule(share=0.5), "../x": Rule(days=1)}
    assert rules(one) == {**rules(other), "old": Rule(days=4)}
    assert sorted(path.name for path in (tables / "keeping").iterdir()) == ["..%2Fx.json", "delay.json"]
    (tables / "keeping" / "delay.json").write_text("{")
    set_rule(one, "new", Rule())
    with pytest.raises(DataDamaged, match=r"keeping/delay\.json cannot be read"):
        rules(one)


def test_what_was_kept_long_enough_is_removed_and_counted_once(tmp_path: Path) -> None:
    later = 1_700_000_000_000_000_000 + 86_400 * 10**9
    logged(tmp_path, "a1", "a2")
    writer = PredictionLog(tmp_path)
    writer.append(record("a3", received_ns=later))
    writer.append(record("other", deployment="other"))
    ship(tmp_path, PREDICTIONS)
    set_rule(tmp_path, "delay", Rule(days=30))
    for _ in range(2):
        expire(tmp_path, date(2023, 12, 15))
        assert ids(tmp_path) == ["a3", "other"]
        assert dropped(tmp_path) == [("delay", "expired", 2)]
    expire(tmp_path, date(2023, 12, 16))
    assert ids(tmp_path) == ["other"]
    assert sum(line[2] for line in dropped(tmp_path)) == 3
