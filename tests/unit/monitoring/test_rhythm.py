"""Rhythms of day and week: told from changes, silent once two cycles are stored, and no hiding place for drift."""

from typing import Any

import numpy as np
import pytest

from modelyard.monitoring.moving import moving_watches
from modelyard.monitoring.seasons import Previous, Seasonal
from unit.monitoring.rhythms import played, rhythm, trained_on

REFERENCE = trained_on(rhythm)
DRIFT = moving_watches()["drift"]


def alarms(watch: Any, rows: Any, hours: int, each: int) -> list[tuple[int, str]]:
    return [(at, each.subject) for at, each in played(watch, REFERENCE, rows, hours, each) if each.alarm]


@pytest.mark.parametrize("watch", [DRIFT, Seasonal(), Previous()], ids=lambda watch: watch.name)
@pytest.mark.parametrize("rows", [30, 300])
def test_a_steady_rhythm_is_silent_once_two_cycles_are_stored(watch: Any, rows: int) -> None:
    assert [each for each in alarms(watch, rhythm, 24 * 24, rows) if each[0] >= 14 * 24] == []


def test_the_hour_itself_is_no_drift_even_on_the_first_day() -> None:
    assert [name for _, name in alarms(DRIFT, rhythm, 48, 100) if name == "hour"] == []


def shifted(draw: np.random.Generator, hour: int, rows: int) -> dict[str, Any]:
    """From the sixteenth day on one column is off by a standard deviation at all hours, another only at night."""
    found = rhythm(draw, hour, rows)
    if hour >= 16 * 24:
        found["daily"] = found["daily"] + 1.0
    return found


def test_what_changes_in_a_rhythmic_column_is_noticed_beside_the_same_hour_before() -> None:
    found = [each for each in alarms(Seasonal(), shifted, 18 * 24, 100) if each[1] == "daily"]
    assert found
    assert 16 * 24 <= found[0][0] < 17 * 24


def test_a_rhythmic_column_is_held_against_the_reference_by_whole_days() -> None:
    found = [each for each in alarms(DRIFT, shifted, 19 * 24, 100) if each[0] >= 14 * 24]
    assert found
    assert found[0][1] == "daily"
    assert 16 * 24 < found[0][0] <= 18 * 24


def jumped(draw: np.random.Generator, hour: int, rows: int) -> dict[str, Any]:
    found = rhythm(draw, hour, rows)
    if hour >= 100:
        found["steady"] = found["steady"] + 1.5
    return found


def test_a_jump_from_one_window_to_the_next_is_noticed_at_once_and_only_once() -> None:
    found = [each for each in alarms(Previous(), jumped, 130, 400) if each[1] == "steady"]
    assert found == [(100, "steady")]
