"""Flights become requests in time order, and labels come when they are known."""

import msgspec
import pandas as pd

from modelyard.demo.flights import CATEGORICAL, FEATURES
from modelyard.demo.stream import Arrival, Departure, events


def flight(name: str, sched: str, known_at: str | None, late: int | None) -> dict[str, object]:
    cells: dict[str, object] = {feature: "AA" if feature in CATEGORICAL else 1.0 for feature in FEATURES}
    return cells | {
        "flight_id": name,
        "sched": pd.Timestamp(sched),
        "label_known_at": pd.Timestamp(known_at) if known_at else pd.NaT,
        "late": late,
    }


def test_labels_come_between_departures_and_never_for_cancelled_flights() -> None:
    table = pd.DataFrame(
        [
            flight("a", "2013-03-01 06:00", "2013-03-01 09:00", 1),
            flight("b", "2013-03-01 07:00", "2013-03-01 08:00", 0),
            flight("c", "2013-03-01 08:30", None, None),
            flight("d", "2013-03-01 10:00", "2013-03-01 12:00", 0),
        ]
    )
    seen = [(type(event).__name__[0], event.flight_id) for _, event in events(table)]
    assert seen == [("D", "a"), ("D", "b"), ("A", "b"), ("D", "c"), ("A", "a"), ("D", "d"), ("A", "d")]


def test_a_label_carries_what_happened() -> None:
    table = pd.DataFrame([flight("a", "2013-03-01 06:00", "2013-03-01 09:00", 1)])
    assert [event for _, event in events(table) if isinstance(event, Arrival)] == [Arrival("a", 1)]


def test_a_missing_value_is_sent_as_null_and_the_flight_names_the_prediction() -> None:
    row = flight("a", "2013-03-01 06:00", None, None) | {"temp": float("nan"), "engine": None}
    _, event = next(events(pd.DataFrame([row])))
    assert isinstance(event, Departure)
    body = msgspec.json.decode(event.body)
    assert body["ids"] == ["a"]
    assert body["rows"][0]["temp"] is None
    assert body["rows"][0]["engine"] is None
    assert set(body["rows"][0]) == set(FEATURES)
