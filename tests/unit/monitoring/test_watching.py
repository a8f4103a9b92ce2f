"""Watches over snapshots: settings, calls, and drift by the detector."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import pytest

from modelyard.errors import InvalidRequest
from modelyard.monitoring.calls import Calls, Repeats, latency_bin
from modelyard.monitoring.findings import Finding
from modelyard.monitoring.looking import History
from modelyard.monitoring.reference import Reference
from modelyard.monitoring.store import Window, packed
from modelyard.monitoring.watches import LABELLED, WATCHES
from modelyard.monitoring.watching import Settings, Snapshot

START = datetime(2013, 3, 1, tzinfo=UTC)


def _snapshot(reference: Reference, at: int, values: list[float], settings: Settings) -> Snapshot:
    return Snapshot(
        deployment="flights",
        version="flights-delay@3",
        began=START + timedelta(hours=at),
        seconds=3600.0,
        reference=reference,
        window=reference.profile({"n": values}) if values else None,
        earlier=lambda began, seconds: None,
        calls=Calls(outcomes={"ok": len(values)}, rows=len(values)),
        settings=settings,
    )


def _findings(shift: float, hours: int = 48) -> list[tuple[int, str, bool]]:
    rng = np.random.default_rng(5)
    reference = Reference.of_table({"n": rng.normal(size=5000)})
    watch = WATCHES[0]
    settings = Settings().with_share(watch.share)
    state = watch.start(reference, settings)
    found = []
    for at in range(hours):
        values = (rng.normal(size=50) + (shift if at >= 20 else 0.0)).tolist()
        state, findings = watch.look(state, _snapshot(reference, at, [] if at == 3 else values, settings))
        raw = msgspec.msgpack.encode(state)
        state = msgspec.msgpack.decode(raw, type=watch.state)
        found += [(at, each.subject, each.alarm) for each in findings]
    return found


def test_drift_is_alarmed_soon_after_it_began_and_a_steady_source_is_not() -> None:
    moved = _findings(1.0)
    alarms = [at for at, subject, alarm in moved if alarm and subject == "n"]
    assert alarms
    assert 20 <= alarms[0] < 30
    assert not any(alarm for _, _, alarm in _findings(0.0))


def test_where_traffic_is_sparse_a_change_is_told_from_when_it_began_and_as_large_as_it_is() -> None:
    """Three rows an hour say next to nothing each, so that evidence hangs about nothing for long before the change."""
    rng = np.random.default_rng(8)
    reference = Reference.of_table({"n": rng.normal(size=5000)})
    changed = 30 * 24

    def rows(at: int) -> list[float]:
        return (rng.normal(size=3) + (1.0 if at >= changed else 0.0)).tolist()

    alarm = next(_alarms(reference, rows, changed + 10 * 24, Settings(seasons=False)))
    assert alarm.since is not None
    assert abs(alarm.since - (START + timedelta(hours=changed))) < timedelta(days=1)
    assert alarm.effect > 0.25  # 0.38 is the truth


def test_a_column_that_is_judged_by_whole_days_is_told_by_whole_days() -> None:
    """Of the hours of the day each window has one only, and of all of them together there are more by day."""
    reference = Reference.of_table({"n": [float(at % 24) for at in range(24 * 200)]})
    each = [10 if at < 12 else 40 for at in range(24)]
    found = list(_alarms(reference, lambda at: [float(at % 24)] * each[at % 24], 5 * 24, Settings()))
    later = [alarm for alarm in found if alarm.window and alarm.window >= START + timedelta(days=2)]
    assert later
    for alarm in later:
        assert alarm.window is not None
        assert alarm.since is not None
        assert alarm.window.hour == 23
        assert alarm.since.hour == 0
        assert alarm.effect == pytest.approx(0.3, abs=0.01)


def _alarms(
    reference: Reference, rows: Callable[[int], list[float]], hours: int, settings: Settings
) -> Iterator[Finding]:
    """What the first watch alarms of `rows` of each hour, with what was before at hand."""
    watch, history = WATCHES[0], History()
    told = settings.with_share(watch.share)
    state = watch.start(reference, told)
    for at in range(hours):
        snapshot = replace(
            _snapshot(reference, at, rows(at), told),
            earlier=lambda since, length, until=START + timedelta(hours=at): history.between(
                int(since.timestamp()), int(min(since + timedelta(seconds=length), until).timestamp())
            ),
        )
        state, findings = watch.look(state, snapshot)
        yield from (each for each in findings if each.alarm)
        began = int(snapshot.began.timestamp())
        history.add(Window("flights", "", began, 3600.0, "m", 1, Calls(), packed(snapshot.window)))


def test_watches_share_one_budget() -> None:
    assert sum(watch.share for watch in (*WATCHES, *LABELLED)) <= 1.0
    names = [watch.name for watch in (*WATCHES, *LABELLED)]
    assert len(names) == len(set(names))


def test_settings_are_read_from_text_and_refused_with_a_reason() -> None:
    changed = Settings().changed({"window": "900", "weights": "a:2,b:0.5", "seasons": "false", "off": "skew"})
    assert (changed.window, changed.weights, changed.seasons, changed.off) == (
        900.0,
        {"a": 2.0, "b": 0.5},
        False,
        ("skew",),
    )
    for wrong in ({"windows": "1"}, {"window": "7000"}, {"false_alarms": "few"}, {"distance": "2"}, {"window": "x"}):
        with pytest.raises(InvalidRequest):
            Settings().changed(wrong)


def test_calls_add_up_in_any_order() -> None:
    one = Calls(outcomes={"ok": 2}, latency={latency_bin(5_000_000): 2}, repeated=Repeats(((3, 1), (7, 2))), rows=3)
    two = Calls(outcomes={"ok": 1, "refused": 1}, latency={latency_bin(80_000_000): 1}, repeated=Repeats(((7, 1),)))
    assert msgspec.json.encode(one + two) == msgspec.json.encode(two + one)
    together = one + two
    assert together.total == 4
    assert together.repeated.share == 0.5
    low, high = together.latency_quantile(0.5), together.latency_quantile(1.0)
    assert low is not None
    assert high is not None
    assert 0.005 <= low < 0.0061
    assert 0.08 <= high < 0.097
