"""What somebody who looks every second is given: every record once, wherever it lies, and decoded once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelyard.domain.records import Label, PredictionRecord
from modelyard.records.delta import TablesRoot
from modelyard.records.log import LabelLog, PredictionLog
from modelyard.records.query import query
from modelyard.records.recent import RecentRecords
from modelyard.records.shipping import record_shipments, remove_shipped, ship
from modelyard.records.upkeep import compact

BEGAN = datetime(2026, 3, 1, 23, 59, tzinfo=UTC)


def record(number: int, at: float, deployment: str = "live", rows: int = 1) -> PredictionRecord:
    moment = int((BEGAN + timedelta(seconds=at)).timestamp() * 1_000_000) * 1000
    each = ",".join(['{"x":1.0}'] * rows).encode(), ",".join(['{"predict":1}'] * rows).encode()
    request, answer = (b'{"rows":[' + one + b"]}" for one in each)
    return PredictionRecord(
        f"p{number}", deployment, "toy", 1, "d", moment, 1000, 200, "ok", "rows", rows, request, answer
    )


def ids(recent: RecentRecords, since: datetime, *names: str) -> list[str]:
    found: list[str] = recent.calls(names or ["live"], since, ["prediction_id"])["prediction_id"].to_pylist()
    return sorted(found)


@given(st.lists(st.sampled_from(["write", "ship", "remove", "compact", "look", "rotate"]), min_size=3, max_size=14))
@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_record_is_there_once_whatever_happens_meanwhile(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("records")
    log, recent, written = PredictionLog(folder), RecentRecords(folder), 0
    shipments = record_shipments(folder)
    for step in [*steps, "look"]:
        if step == "write":
            log.append_all([record(written + each, float(written + each)) for each in range(3)])
            written += 3
        elif step == "rotate":
            log.close()
            log = PredictionLog(folder)
        elif step == "ship":
            ship(folder, shipments[0])
        elif step == "remove":
            remove_shipped(folder, shipments[:1], TablesRoot.of(folder))
        elif step == "compact":
            compact(TablesRoot.of(folder), ["predictions"])
        else:
            # The second half only, and before the first look everything, across midnight too.
            for first in (0, written // 2):
                since = BEGAN + timedelta(seconds=first)
                assert ids(recent, since) == sorted(f"p{each}" for each in range(first, written))
    log.close()
    recent.close()


def test_other_deployments_are_left_out_and_may_be_asked_for_later(tmp_path: Path) -> None:
    log, recent = PredictionLog(tmp_path), RecentRecords(tmp_path)
    log.append_all([record(0, 0.0), record(1, 1.0, "other", rows=2), record(2, 2.0, "live.candidate")])
    assert ids(recent, BEGAN) == ["p0"]
    assert ids(recent, BEGAN, "live", "live.candidate") == ["p0", "p2"]
    ship(tmp_path, record_shipments(tmp_path)[0])
    log.append(record(3, 3.0, "other"))
    assert ids(recent, BEGAN, "other") == ["p1-0", "p1-1", "p3"]


def test_calls_of_a_time_and_those_that_ended_late_are_found_in_few_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten files of ten calls each, the third of which has one that took a minute; ten calls are not shipped."""
    from modelyard.records import recent as module

    opened: list[int] = []

    def counted(table: Any, files: Any, schema: Any) -> Any:
        opened.append(files.num_rows)
        return made(table, files, schema)

    made = module._dataset
    monkeypatch.setattr(module, "_dataset", counted)
    log, recent = PredictionLog(tmp_path), RecentRecords(tmp_path)
    start = BEGAN - timedelta(minutes=30)
    for number in range(110):
        one = record(number, number - 1800.0)
        log.append(msgspec.structs.replace(one, latency_ns=60 * 10**9) if number == 25 else one)
        if number % 10 == 9 and number < 100:
            ship(tmp_path, record_shipments(tmp_path)[0])

    def found(**more: datetime) -> list[str]:
        rows: list[str] = recent.calls(["live"], start, ["prediction_id"], **more)["prediction_id"].to_pylist()
        return sorted(rows)

    late = start + timedelta(seconds=84, milliseconds=500)
    assert found(ended=late) == sorted(["p25", *(f"p{number}" for number in range(85, 110))])
    assert found(until=start + timedelta(seconds=12)) == sorted(f"p{number}" for number in range(12))
    assert found(ended=late, until=start + timedelta(seconds=40)) == ["p25"]
    assert opened == [3, 2, 1]
    assert len(found()) == 110


def test_a_frame_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelyard.records import recent as module

    decoded: list[int] = []

    def counted(segment: Path, frames: list[tuple[int, bytes]], rules: Any) -> Any:
        decoded.append(len(frames))
        return made(segment, frames, rules)

    made = module.prediction_table
    monkeypatch.setattr(module, "prediction_table", counted)
    log, recent = PredictionLog(tmp_path), RecentRecords(tmp_path)
    for look in range(5):
        log.append_all([record(look * 10 + each, float(look)) for each in range(10)])
        assert len(ids(recent, BEGAN)) == (look + 1) * 10
        assert len(ids(recent, BEGAN)) == (look + 1) * 10
    assert sum(decoded) == 50


def test_labels_come_in_the_order_of_receipt(tmp_path: Path) -> None:
    log, recent = LabelLog(tmp_path), RecentRecords(tmp_path)
    second = 1_000_000_000
    began = int(BEGAN.timestamp()) * second
    log.append(Label("a", 1, began))
    log.append_many([Label("b", 0, began + second), Label("", "late", began + second, "", "live", '{"id":"3"}')])
    ship(tmp_path, record_shipments(tmp_path)[1])
    log.append(Label("a", 0, began + 2 * second))
    found = recent.labels(BEGAN + timedelta(seconds=1))
    assert sorted(zip(found["prediction_id"].to_pylist(), found["value"].to_pylist(), strict=True)) == [
        ("", "late"),
        ("a", "0"),
        ("b", "0"),
    ]


def test_questions_about_a_time_are_answered_of_what_is_shipped_too(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path)
    log.append_all([record(number, float(number)) for number in range(120)])
    ship(tmp_path, record_shipments(tmp_path)[0])
    log.append(record(120, 120.0))
    asked = "SELECT count(*) AS n, min(time) AS first FROM {} WHERE time >= TIMESTAMP '2026-03-02' AND version = 1"
    for table in ("predictions", "live", "joined"):
        (found,) = query(tmp_path, asked.format(table)).to_pylist()
        assert found == {"n": 61, "first": datetime(2026, 3, 2)}
    labelled = "SELECT count(*) AS n FROM labels WHERE time > TIMESTAMP '2026-03-02' OR known_at IS NULL"
    assert query(tmp_path, labelled).to_pylist() == [{"n": 0}]
