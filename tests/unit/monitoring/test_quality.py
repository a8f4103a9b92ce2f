"""Data quality and traffic: what is wrong is named, what is steady is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec
import numpy as np

from modelyard.monitoring.calls import Calls, Repeats
from modelyard.monitoring.findings import Finding
from modelyard.monitoring.moving import moving_watches
from modelyard.monitoring.quality import Exchanged, Repeated, Stuck
from modelyard.monitoring.reference import Reference
from modelyard.monitoring.traffic import Absent, Refusals
from modelyard.monitoring.watching import Settings, Snapshot
from unit.monitoring.rhythms import START, played


def table(draw: np.random.Generator, hour: int, rows: int) -> dict[str, Any]:
    return {
        "temp": draw.normal(15, 8, rows),
        "seats": draw.integers(20, 380, rows).astype(float),
        "origin": draw.choice(["EWR", "JFK", "LGA"], rows),
        "carrier": draw.choice(["AA", "B6", "EV", "UA"], rows),
    }


REFERENCE = Reference.of_table(table(np.random.default_rng(1), 0, 5000))


def alarms(watches: Sequence[Any], changed: Any, hours: int, each: int = 60) -> list[tuple[int, str, str]]:
    """From hour 30 on with what is `changed`."""

    def rows(draw: np.random.Generator, hour: int, number: int) -> dict[str, Any]:
        found = table(draw, hour, number)
        return found | changed(found) if hour >= 30 else found

    found = played(watches, REFERENCE, rows, hours, each)
    return [(hour, each.watch, each.subject) for hour, each in found if each.alarm]


COLUMNS = (moving_watches()["quality"], Stuck(), Exchanged())


def test_steady_columns_are_silent() -> None:
    assert alarms(COLUMNS, lambda found: {}, 80) == []


def test_missing_values_and_values_out_of_range_and_new_ones_are_noticed_at_once() -> None:
    def broken(found: Mapping[str, Any]) -> dict[str, Any]:
        gone = np.arange(len(found["temp"])) % 4 == 0
        return {
            "temp": np.where(gone, np.nan, found["temp"]),
            "seats": found["seats"] * 100,
            "origin": np.full(len(gone), "ATL"),
        }

    first = {name: watch for hour, watch, name in alarms(COLUMNS[:1], broken, 31) if hour == 30}
    assert first == {"seats": "quality.range", "origin": "quality.unseen", "temp": "quality.missing"}


def test_a_stuck_column_is_noticed_after_a_day() -> None:
    found = alarms((Stuck(),), lambda found: {"temp": np.full(len(found["temp"]), 20.0)}, 56)
    assert found[0] == (53, "quality.stuck", "temp")


def test_what_goes_with_time_is_not_stuck() -> None:
    dated = Reference.of_table({"month": np.repeat([1.0, 2.0], 3000)})
    found = played((Stuck(),), dated, lambda draw, hour, rows: {"month": np.full(rows, 1.0)}, 60, 50)
    assert [each for _, each in found if each.alarm] == []


def test_exchanged_columns_are_named_as_a_pair() -> None:
    def crossed(found: Mapping[str, Any]) -> dict[str, Any]:
        pairs = (("temp", "seats"), ("seats", "temp"), ("origin", "carrier"), ("carrier", "origin"))
        return {one: found[other] for one, other in pairs}

    found = alarms((Exchanged(),), crossed, 32)
    assert {each[1:] for each in found} == {("quality.exchanged", pair) for pair in ("seats, temp", "carrier, origin")}
    assert found[0][0] == 30


def looked(watch: Any, calls: Sequence[Calls], **settings: Any) -> list[tuple[int, Finding]]:
    told = Settings(**settings).with_share(watch.share)
    state, found = watch.start(REFERENCE, told), []
    for hour, each in enumerate(calls):
        snapshot = Snapshot(
            deployment="d",
            version="m@1",
            began=START + timedelta(hours=hour),
            seconds=3600.0,
            reference=REFERENCE,
            window=None,
            earlier=lambda began, seconds: None,
            calls=each,
            settings=told,
        )
        state, findings = watch.look(state, snapshot)
        state = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=watch.state)
        found += [(hour, finding) for finding in findings if finding.alarm]
    return found


def test_refused_calls_are_noticed_with_their_reasons() -> None:
    draw = np.random.default_rng(2)

    def calls(share: float) -> Calls:
        refused = int(draw.binomial(100, share))
        reasons = {"422 column 'temp' is text": refused} if refused else {}
        return Calls(outcomes={"ok": 100 - refused, "refused": refused}, refusals=reasons)

    found = looked(Refusals(), [calls(0.02) for _ in range(100)] + [calls(0.3) for _ in range(5)])
    assert 100 <= found[0][0] <= 102
    assert found[0][1].watch == "traffic.refused"
    assert "column 'temp' is text" in found[0][1].said


def test_absent_traffic_is_noticed_and_quiet_nights_are_not() -> None:
    draw = np.random.default_rng(3)
    rates = [0 if hour % 24 < 5 else 100 for hour in range(24 * 6)]
    usual = [Calls(outcomes={"ok": int(draw.poisson(rate))}) for rate in rates]
    assert looked(Absent(), usual) == []
    away = [each if hour < 24 * 5 + 12 else Calls() for hour, each in enumerate(usual)]
    assert next(hour for hour, _ in looked(Absent(), away)) == 24 * 5 + 12


def test_how_long_traffic_may_stay_away_can_be_said() -> None:
    calls = [Calls(outcomes={"ok": 1})] * 3 + [Calls()] * 5
    found = looked(Absent(), calls, late_after=3 * 3600.0)
    assert [hour for hour, _ in found] == [5, 6, 7]


def test_repeated_rows_are_noticed() -> None:
    once, again = (Repeats(tuple((key, count) for key in range(100))) for count in (1, 3))
    other = Repeats(tuple((key, 1) for key in range(100, 200)))
    found = looked(Repeated(), [Calls(repeated=each) for each in (once, other, once, again)])
    assert [hour for hour, _ in found] == [3]
