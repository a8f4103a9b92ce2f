"""Rhythms of day and week: told from changes, silent once two cycles are stored, and no hiding place for drift."""

from functools import cache
from typing import Any

import numpy as np

from modelyard.monitoring.moving import moving_watches
from modelyard.monitoring.seasons import Previous, Seasonal
from unit.monitoring.rhythms import played, rhythm, trained_on

REFERENCE = trained_on(rhythm)
DRIFT = moving_watches()["drift"]


def alarms(rows: Any, hours: int, each: int, *watches: Any) -> list[tuple[int, str, str]]:
    found = played(watches, REFERENCE, rows, hours, each)
    return [(at, each.watch, each.subject) for at, each in found if each.alarm]


def test_a_steady_rhythm_is_silent_once_two_cycles_are_stored() -> None:
    found = alarms(rhythm, 18 * 24, 150, DRIFT, Seasonal(), Previous())
    assert [each for each in found if each[0] >= 14 * 24] == []


def test_the_hour_itself_is_no_drift_even_on_the_first_day() -> None:
    assert [each for each in alarms(rhythm, 48, 100, DRIFT) if each[2] == "hour"] == []


def shifted(draw: np.random.Generator, hour: int, rows: int) -> dict[str, Any]:
    """From the sixteenth day on one column is off by a standard deviation."""
    found = rhythm(draw, hour, rows)
    if hour >= 16 * 24:
        found["daily"] = found["daily"] + 1.0
    return found


@cache
def found_in_shifted() -> list[tuple[int, str, str]]:
    return alarms(shifted, 18 * 24, 100, DRIFT, Seasonal())


def test_what_changes_in_a_rhythmic_column_is_noticed_beside_the_same_hour_before() -> None:
    found = [each for each in found_in_shifted() if each[1:] == ("drift.season", "daily")]
    assert found
    assert 16 * 24 <= found[0][0] < 17 * 24


def test_a_rhythmic_column_is_held_against_the_reference_by_whole_days() -> None:
    found = [each for each in found_in_shifted() if each[1] == "drift.input" and each[0] >= 14 * 24]
    assert found
    assert found[0][2] == "daily"
    assert 16 * 24 < found[0][0] <= 18 * 24


def jumped(draw: np.random.Generator, hour: int, rows: int) -> dict[str, Any]:
    found = rhythm(draw, hour, rows)
    if hour >= 100:
        found["steady"] = found["steady"] + 1.5
    return found


def test_a_jump_from_one_window_to_the_next_is_noticed_at_once_and_only_once() -> None:
    found = [each for each in alarms(jumped, 120, 400, Previous()) if each[2] == "steady"]
    assert found == [(100, "drift.previous", "steady")]
