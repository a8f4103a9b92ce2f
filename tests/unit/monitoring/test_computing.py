"""Latency against a limit and against the first windows; memory that grows."""

from datetime import UTC, datetime, timedelta

import numpy as np

from modelyard.monitoring.calls import Calls, latency_bin
from modelyard.monitoring.computing import Computing
from modelyard.monitoring.findings import Finding
from modelyard.monitoring.reference import Reference
from modelyard.monitoring.settings import Settings
from modelyard.monitoring.watching import Snapshot

BEGAN = datetime(2025, 3, 1, tzinfo=UTC)
REFERENCE = Reference.of_table({"score": [0.1, 0.2]})
DRAW = np.random.default_rng(0)


def calls(number: int, seconds: float, memory: int | None = None) -> Calls:
    """So many calls, with latencies around `seconds`."""
    bins: dict[int, int] = {}
    for latency in DRAW.lognormal(np.log(seconds), 0.3, number):
        at = latency_bin(int(latency * 1e9))
        bins[at] = bins.get(at, 0) + 1
    return Calls(rows=number, latency=bins, memory=memory)


def looked(windows: list[Calls], latency: float = 0.0) -> list[Finding]:
    watch = Computing()
    state, findings = watch.start(REFERENCE, Settings()), []
    for hour, each in enumerate(windows):
        settings = Settings(latency=latency)
        began = BEGAN + timedelta(hours=hour)
        state, found = watch.look(
            state, Snapshot("d", "m@1", began, 3600.0, REFERENCE, None, lambda since, seconds: None, each, settings)
        )
        findings += found
    return findings


def alarms(windows: list[Calls], latency: float = 0.0) -> list[datetime]:
    return [found.window for found in looked(windows, latency) if found.alarm and found.window]


FAST = [calls(400, 0.02) for _ in range(5)]


def test_as_fast_as_at_first_is_no_alarm_and_is_told() -> None:
    found = looked(FAST * 4)
    assert not any(one.alarm for one in found)
    assert "99 of 100 calls within" in found[-1].said
    assert 0.02 < found[-1].effect < 0.06


def test_three_slow_windows_in_a_row_are_an_alarm_two_are_not() -> None:
    slow = calls(400, 0.5)
    assert alarms([*FAST, slow, slow, *FAST, slow, slow]) == []
    windows = [*FAST, slow, slow, slow]
    assert alarms(windows) == [BEGAN + timedelta(hours=7)]
    last = looked(windows)[-1]
    assert last.since == BEGAN + timedelta(hours=5)


def test_few_calls_are_put_together() -> None:
    few = [calls(20, 0.02) for _ in range(100)]
    assert alarms(few) == []
    assert len(alarms(few + [calls(20, 0.5) for _ in range(15)])) == 1


def test_what_is_fast_anyway_may_become_slower() -> None:
    assert alarms([calls(400, 0.001) for _ in range(5)] + [calls(400, 0.01)] * 5) == []


def test_a_limit_that_was_set_holds_from_the_first_window() -> None:
    assert len(alarms([calls(400, 0.2)] * 3, latency=0.1)) == 1
    assert alarms([calls(400, 0.2)] * 6, latency=1.0) == []


def test_windows_without_calls_change_nothing() -> None:
    slow = calls(400, 0.5)
    assert alarms([*FAST, slow, Calls(), slow, Calls(), slow]) == [BEGAN + timedelta(hours=9)]


def test_memory_that_doubles_is_an_alarm() -> None:
    small, large = calls(1, 0.02, 300_000_000), calls(1, 0.02, 700_000_000)
    assert alarms([small] * 4 + [large] * 2 + [small] + [large] * 2) == []
    (found,) = [one for one in looked([small] * 4 + [large] * 3) if one.alarm]
    assert found.said == "700 MB of memory, 300 MB in the version's first windows"
