"""Labelled rows are looked at step by step where event time has come far, so that it does not matter when one looks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.compute as pc
import pytest

from live_records import START, calls, hour, register
from modelyard.domain.records import Label
from modelyard.home import Home
from modelyard.monitoring import monitor as monitoring
from modelyard.monitoring.labelled import LabelledLooks, stretches
from modelyard.monitoring.monitor import Monitor
from modelyard.monitoring.reference import Reference
from modelyard.monitoring.settings import Settings
from modelyard.monitoring.store import MonitorStore
from modelyard.monitoring.versions import KnownVersions
from modelyard.monitoring.watching import Facts, Finding
from modelyard.records.log import LabelLog
from modelyard.records.query import RecordDatabase
from modelyard.registry import Registry

DAYS = 12
LOOKBACK = timedelta(days=4)


class Noted(msgspec.Struct, frozen=True):
    """Of each day that was over at a look: its rows, and how many had a label by then."""

    days: tuple[tuple[int, int, int], ...] = ()


class Notes:
    """A watch that remembers what it was shown of every day."""

    name, share, state = "performance", 0.1, Noted

    def start(self, reference: Reference, settings: Settings) -> Noted:
        return Noted()

    def look(self, state: Noted, table: Any, facts: Facts) -> tuple[Noted, Sequence[Finding]]:
        found = dict.fromkeys(range(len(state.days), (facts.now - START) // timedelta(days=1)), (0, 0))
        days = [(moment.replace(tzinfo=START.tzinfo) - START).days for moment in table["event_time"].to_pylist()]
        for day, there in zip(days, pc.is_valid(table["label"]).to_pylist(), strict=True):
            if day in found:
                rows, labelled = found[day]
                found[day] = (rows + 1, labelled + there)
        return Noted((*state.days, *((day, *counts) for day, counts in found.items()))), ()

    def judged(self, before: Noted, after: Noted) -> Sequence[str]:
        return (self.name,) if after != before else ()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry.open(Home(tmp_path / "home")) as registry:
        register(registry, tmp_path)
        calls(registry, range(0, DAYS * 24, 2), many=5)
        log = LabelLog(registry.home.records)
        for at in range(0, DAYS * 24, 2):
            known = int(hour(at + 5).timestamp() * 1e9)  # five hours after the call
            log.append_many([Label(f"{at}-0-{row}", 1.0, known, known_ns=known) for row in range(5)])
        log.close()
        yield registry


def noted(registry: Registry, reached: Sequence[int]) -> Noted:
    """What the watch has noted when it was asked at these days."""
    looks = LabelledLooks("live", [Notes()], Settings(lookback=LOOKBACK.total_seconds()), lambda _: None)
    digest = registry.version("line@1").digest
    known = KnownVersions(registry).of(digest)
    assert known is not None
    states: dict[tuple[str, str], Any] = {}
    for day in reached:
        with RecordDatabase(registry.home.records) as database:
            for _, kept in looks.look(database, digest, (1, known), states, int(hour(24 * day).timestamp())):
                states |= kept
    assert {gathered.reached for gathered in states.values()} == {int(hour(24 * reached[-1]).timestamp())}
    decoded = msgspec.msgpack.decode(next(iter(states.values())).state, type=tuple[bytes, Noted] | dict[str, Any])
    state = decoded["state"] if isinstance(decoded, dict) else decoded[1]
    return msgspec.convert(state, Noted)


def test_a_year_at_once_is_looked_at_as_it_would_have_been_day_by_day(registry: Registry) -> None:
    day_by_day, at_once = noted(registry, range(1, DAYS + 1)).days, noted(registry, [DAYS]).days
    assert [each[:2] for each in at_once] == [each[:2] for each in day_by_day] == [(day, 60) for day in range(DAYS)]
    # A step is two days, and of the last calls before its end no label is known yet; the last step knows all there is.
    assert [labels for _, _, labels in at_once] == [60, 50] * (DAYS // 2 - 1) + [60, 60]


def test_steps_follow_one_another_and_reach_back_a_lookback() -> None:
    found = stretches(0, 1000, 100.0)
    assert [each.ended for each in found] == [*range(50, 1000, 50), 1000]
    assert all(each.ended - each.began <= 150 for each in found)
    [only] = stretches(500, 500, 100.0)
    assert (only.began, only.ended) == (400, 500)


def test_windows_that_close_come_before_labelled_rows(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitoring, "_REST", 1e9)
    monitor = Monitor(registry.home, registry)
    assert not monitor.look(hour(24 * DAYS)).waiting
    calls(registry, range(DAYS * 24, DAYS * 24 + 6), many=5)
    assert monitor.look(hour(24 * DAYS + 6)).waiting, "windows have closed; whoever asks has to ask again"
    assert not monitor.look(hour(24 * DAYS + 6)).waiting, "nothing else is to be done"
    states = MonitorStore(registry.database).states("live")
    reached = {gathered.reached for (_, watch), gathered in states.items() if watch in ("performance", "estimate")}
    assert reached == {int(hour(24 * DAYS + 6).timestamp())}
