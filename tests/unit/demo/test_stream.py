"""Flights become requests hour by hour, and labels come when they are known."""

import msgspec
import pandas as pd
import pytest

from hook_server import hook_server
from modelyard.demo import flights as data
from modelyard.demo.flights import CATEGORICAL, FEATURES
from modelyard.demo.stream import Tally, Traffic, hours, twin
from modelyard.errors import ServiceUnreachable


def flight(name: str, sched: str, known_at: str | None, late: int | None) -> dict[str, object]:
    cells: dict[str, object] = {feature: "AA" if feature in CATEGORICAL else 1.0 for feature in FEATURES}
    return cells | {
        "flight_id": name,
        "sched": pd.Timestamp(sched),
        "label_known_at": pd.Timestamp(known_at) if known_at else pd.NaT,
        "late": late,
    }


TABLE = pd.DataFrame(
    [
        flight("a", "2013-03-01 06:00", "2013-03-01 09:00", 1),
        flight("b", "2013-03-01 06:40", "2013-03-01 07:30", 0),
        flight("c", "2013-03-01 08:30", None, None),
        flight("d", "2013-03-01 10:00", "2013-03-01 12:00", 0),
    ]
)


LATER = pd.DataFrame(
    [
        flight(name, sched, None, None)
        for name, sched in (
            ("e", "2013-03-01 11:00"),
            ("f", "2013-03-01 11:10"),
            ("g", "2013-03-01 12:00"),
            ("h", "2013-03-01 12:30"),
        )
    ]
)


def test_the_flights_of_an_hour_are_one_call() -> None:
    found = [(f"{calls.moment:%H:%M}", len(calls.ids)) for calls in hours(TABLE) if calls.ids]
    assert found == [("06:00", 2), ("08:00", 1), ("10:00", 1)]


def test_labels_come_when_they_are_known_and_never_for_cancelled_flights() -> None:
    told = [[(name, late) for _, name, late in calls.known] for calls in hours(TABLE)]
    assert told == [[], [("b", 0)], [("a", 1)], [("d", 0)]]
    (_, (first,), *_) = (calls.known for calls in hours(TABLE))
    assert pd.Timestamp(first[0], unit="ms") == pd.Timestamp("2013-03-01 07:30")


def test_a_missing_value_is_sent_as_null_and_the_flight_names_the_prediction() -> None:
    row = flight("a", "2013-03-01 06:00", None, None) | {"temp": float("nan"), "engine": None}
    (calls,) = hours(pd.DataFrame([row]))
    body = msgspec.json.decode(calls.together)
    assert body["ids"] == ["a"]
    assert body["rows"][0]["temp"] is None
    assert body["rows"][0]["engine"] is None
    assert set(body["rows"][0]) == set(FEATURES)


def test_a_year_goes_on_flight_by_flight_where_it_went_hour_by_hour() -> None:
    asked: list[pd.Timestamp] = []

    def goes_on(moment: pd.Timestamp) -> bool:
        asked.append(moment)
        return False

    def look(_moment: pd.Timestamp, _tally: Tally) -> None:
        return

    with hook_server() as server, Traffic(pd.concat([TABLE, LATER]), server.url, "delay") as traffic:
        traffic.by_hours(pd.Timestamp("2013-03-01 08:00"), look)
        traffic.by_flights(None, goes_on)
        assert [f"{moment:%H:%M}" for moment in asked] == ["08:00"], "it was told to stop"
        traffic.by_flights(pd.Timestamp("2013-03-01 12:00"), lambda _: True)
        assert traffic.moment == pd.Timestamp("2013-03-01 12:00")
        traffic.by_hours(None, look)
    told = [
        [label["prediction_id"] for label in call.document["labels"]]
        if call.path == "/labels"
        else ("".join(call.document["ids"]), call.headers["x-modelyard-event-time"][11:16])
        for call in server.calls
    ]
    head, (one, other), tail = told[:5], sorted(told[5:7]), told[7:]
    assert head == [("ab", "06:00"), ["b"], ("c", "08:00"), ["a"], ("d", "10:00")][: len(head)]
    assert (one, other) == (("e", "11:00"), ("f", "11:00"))
    assert tail == [["d"], ("gh", "12:00")]
    assert (traffic.tally.requests, traffic.tally.flights, traffic.tally.labels) == (6, 8, 3)
    assert (traffic.tally.failed, traffic.moment) == (0, None)


def test_a_server_that_is_gone_is_told_as_such() -> None:
    with hook_server() as server:
        url = server.url
    with Traffic(TABLE, url, "delay") as traffic, pytest.raises(ServiceUnreachable, match="stopped answering after 0"):
        traffic.by_flights(None, lambda _: True)


@pytest.fixture(scope="module")
def flights() -> pd.DataFrame:
    return data.load()


def test_the_twin_has_the_times_of_the_one_and_the_flights_of_the_other(flights: pd.DataFrame) -> None:
    past, live = data.between(flights, "2013-01-01", "2013-03-01"), data.between(flights, "2013-06-01", "2013-06-15")
    found = twin(past, live)
    assert (found["sched"].to_numpy() == live["sched"].to_numpy()).all()
    assert found["flight_id"].is_unique
    assert found["temp"].mean() == pytest.approx(past["temp"].mean(), abs=1)
    assert live["temp"].mean() > past["temp"].mean() + 20
    assert found["late"].mean() == pytest.approx(past["late"].mean(), abs=0.01)
    assert (found["label_known_at"] - found["sched"]).median() == pytest.approx(
        (past["label_known_at"] - past["sched"]).median(), abs=pd.Timedelta(minutes=3)
    )
    assert (found["label_known_at"].isna() == found["late"].isna()).all()
