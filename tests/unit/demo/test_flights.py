"""The flights table is what the documentation says."""

import pytest

from modelyard.demo import flights as data


@pytest.fixture(scope="module")
def table():
    return data.load()


def test_every_departure_is_there_once_in_time_order(table) -> None:
    assert len(table) == 336_776
    assert table["flight_id"].is_unique
    assert table["sched"].is_monotonic_increasing


def test_cancelled_flights_never_get_a_label(table) -> None:
    unlabelled = table["late"].isna()
    assert unlabelled.sum() == 9_430
    assert (table["label_known_at"].isna() == unlabelled).all()


def test_a_window_holds_its_first_day_and_not_its_last(table) -> None:
    march = data.between(table, "2013-03-01", "2013-03-02")
    assert str(march["sched"].min()).startswith("2013-03-01")
    assert str(march["sched"].max()).startswith("2013-03-01")
