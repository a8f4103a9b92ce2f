"""What monitoring keeps, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from modelyard.errors import Conflict, InvalidRequest
from modelyard.monitoring.calls import Calls, Repeats
from modelyard.monitoring.findings import Finding
from modelyard.monitoring.reference import Reference
from modelyard.monitoring.store import Gathered, MonitorStore, Window, packed
from modelyard.registry.database import Database

REFERENCE = Reference.of_table({"n": [float(at % 10) for at in range(500)]})


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MonitorStore]:
    place: Path | str = tmp_path / "registry.db"
    if request.param == "postgresql":
        place = request.getfixturevalue("servers").database()
    opened = Database(place)
    yield MonitorStore(opened)
    opened.close()


def window(began: int, rows: int = 3) -> Window:
    calls = Calls(outcomes={"ok": rows}, rows=rows, repeated=Repeats(((2**64 - 1, 1),)), latency={7: rows})
    profile = REFERENCE.profile({"n": [float(at) for at in range(rows)]})
    return Window("live", "blake3:1", began, 3600.0, "line", 1, calls, packed(profile))


def finding(began: int, *, alarm: bool) -> Finding:
    evidence, moment = (float("inf") if alarm else 0.5), datetime.fromtimestamp(began, UTC)
    return Finding(
        deployment="live",
        watch="drift.input",
        said="n moved",
        evidence=evidence,
        effect=1.0,
        window=moment,
        subject="n",
    )


def test_settings_are_kept_as_they_were_said(store: MonitorStore) -> None:
    assert store.settings("live").metric == ""
    store.change_settings("live", {"metric": "auc", "weights": "a:2"}, by="ann")
    store.change_settings("live", {"slices": "carrier"})
    kept = store.settings("live")
    assert (kept.metric, kept.weights, kept.slices) == ("auc", {"a": 2.0}, ("carrier",))
    with pytest.raises(InvalidRequest):
        store.change_settings("live", {"metrics": "auc"})


def test_a_step_is_kept_whole_and_once(store: MonitorStore) -> None:
    state = Gathered(7200, b"gathered")
    store.keep("live", [window(0), window(3600)], {("blake3:1", "drift"): state}, [finding(0, alarm=True)], (0, 7200))
    with pytest.raises(Conflict):
        store.keep("live", [window(0, 9)], {}, [], (0, 7200))
    assert store.windows("live") == [window(0), window(3600)]
    assert store.states("live")["blake3:1", "drift"] == state
    assert (store.reached("live"), store.newest("live"), store.deployments()) == (7200, 3600, ("live",))


def test_of_what_does_not_alarm_the_last_look_is_kept(store: MonitorStore) -> None:
    for began in (0, 3600, 7200):
        states = {("blake3:1", "drift"): Gathered(began + 3600, b"")}
        quiet, alarm = finding(began, alarm=False), finding(began, alarm=True)
        store.keep("live", [], states, [quiet, *([alarm] if began == 0 else [])], (began, began + 3600))
    assert store.findings("live") == [finding(7200, alarm=False), finding(0, alarm=True)]
    assert store.findings("live", alarms=True) == [finding(0, alarm=True)]
