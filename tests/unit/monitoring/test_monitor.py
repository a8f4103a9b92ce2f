"""The monitor over a real registry and real records: windows, drift, alerts, restarts at any moment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import insert

from live_records import calls, hour, register
from modelyard.home import Home
from modelyard.monitoring.alerts import Alerts
from modelyard.monitoring.monitor import Monitor
from modelyard.monitoring.overview import overview, waiting
from modelyard.monitoring.showing import alert_lines
from modelyard.monitoring.store import MonitorStore
from modelyard.registry import Registry
from modelyard.registry.tables import deployment_changes

HOURS = 72


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry.open(Home(tmp_path / "home")) as registry:
        register(registry, tmp_path)
        yield registry


def test_a_shift_is_alarmed_with_its_column_and_since_when(registry: Registry) -> None:
    calls(registry, range(HOURS), moved_from=48)
    passed = Monitor(registry.home, registry).look(hour(HOURS))
    assert (passed.deployments, passed.windows) == (["live"], HOURS)
    found = MonitorStore(registry.database).findings("live", alarms=True)
    first = found[-1]
    assert first.window is not None
    assert hour(48) <= first.window <= hour(56)
    assert {finding.subject for finding in found} >= {"x"}
    [alert] = Alerts(registry.database).listed("live")
    assert alert.version == "line@1"


def test_that_traffic_stops_does_not_mean_that_all_is_well_again(registry: Registry) -> None:
    calls(registry, range(12), moved_from=4)
    Monitor(registry.home, registry).look(hour(40))
    data = [alert for alert in Alerts(registry.database).listed("live") if alert.cause == "data"]
    assert [alert.state for alert in data] == ["firing"]


def test_a_steady_source_is_not_alarmed(registry: Registry) -> None:
    calls(registry, range(HOURS))
    assert Monitor(registry.home, registry).look(hour(HOURS)).alarms == 0
    assert Alerts(registry.database).listed("live", all_states=True) == []


def test_hour_by_hour_and_begun_anew_it_says_the_same_as_at_once(registry: Registry, tmp_path: Path) -> None:
    for at in range(0, 16, 4):
        calls(registry, range(at, at + 4), moved_from=4)
        for moment in range(at, at + 5):
            Monitor(registry.home, registry).look(hour(moment))  # another process each time
    piecewise = MonitorStore(registry.database)
    with Registry.open(Home(tmp_path / "other")) as other:
        register(other, tmp_path / "again")
        for at in range(0, 16, 4):
            calls(other, range(at, at + 4), moved_from=4)
        Monitor(other.home, other).look(hour(16))
        at_once = MonitorStore(other.database)
        assert piecewise.windows("live") == at_once.windows("live")
        assert piecewise.states("live") == at_once.states("live")
        alarms = [store.findings("live", alarms=True) for store in (piecewise, at_once)]
        assert alarms[0] == alarms[1] != []


def test_hours_without_any_call_are_looked_at_too(registry: Registry) -> None:
    calls(registry, range(3))
    assert Monitor(registry.home, registry).look(hour(9)).windows == 9
    assert len(MonitorStore(registry.database).windows("live")) == 3


def test_calls_that_come_late_are_added_to_their_window(registry: Registry) -> None:
    calls(registry, range(6))
    monitor = Monitor(registry.home, registry)
    monitor.look(hour(6))
    calls(registry, range(2, 3))
    monitor.look(hour(6))
    rows_of = [window.calls.rows for window in MonitorStore(registry.database).windows("live")]
    assert rows_of == [30, 30, 60, 30, 30, 30]


def test_two_monitors_do_not_count_a_window_twice(registry: Registry) -> None:
    calls(registry, range(4))
    said: list[str] = []
    one, two = Monitor(registry.home, registry), Monitor(registry.home, registry, said.append)
    one.look(hour(4))
    two.look(hour(4))
    calls(registry, range(4, 8))
    two.look(hour(8))
    assert one.look(hour(8)).windows == 0
    assert MonitorStore(registry.database).reached("live") == int(hour(8).timestamp())


def test_what_was_taken_away_is_no_longer_alarmed_and_leaves_nothing_open(registry: Registry) -> None:
    def decided(generation: int, model: str | None) -> None:
        with registry.database.write() as connection:
            connection.execute(
                insert(deployment_changes).values(
                    generation=generation, name="live", model=model, number=1 if model else None, by="", at=hour(0)
                )
            )

    decided(1, "line")
    calls(registry, range(12), moved_from=4)
    Monitor(registry.home, registry).look(hour(12))
    assert {alert.cause for alert in Alerts(registry.database).listed("live")} == {"data"}
    decided(2, None)
    passed = Monitor(registry.home, registry).look(hour(40))
    assert (passed.deployments, passed.windows) == (["live"], 0)
    [ended] = Alerts(registry.database).listed("live", all_states=True)
    assert ended.resolved is not None
    assert ended.resolved.why == "the deployment was taken away"
    decided(3, "line")
    calls(registry, range(40, 44))
    assert Monitor(registry.home, registry).look(hour(44)).windows == 32


def test_what_nobody_has_looked_at_is_said(registry: Registry) -> None:
    calls(registry, range(4))
    Monitor(registry.home, registry).look(hour(4))
    assert waiting(registry, "live") is None
    calls(registry, range(4, 10))
    found = waiting(registry, "live")
    assert found is not None
    assert (found.reached, found.come) == (hour(4), hour(10))
    said = "\n".join(alert_lines(replace(overview(registry, "live"), waiting=found)))
    assert "looked at up to 2026-03-02 04:00, and calls have come up to 2026-03-02 10:00" in said
