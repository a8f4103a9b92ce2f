"""Which rows are trained on, and which are held back."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from modelyard.errors import Failed
from modelyard.retraining.holding import Known, cut
from modelyard.retraining.rows import Marks

DAY = np.timedelta64(86_400_000_000, "us")
FIRST = np.datetime64("2026-01-01", "us")
HOURS = FIRST + np.arange(1000) * np.timedelta64(3_600_000_000, "us")
MADE = datetime(2025, 12, 1, tzinfo=UTC)


def test_the_newest_share_is_held_back_and_a_window_before_it_trained_on() -> None:
    found = cut(Marks(HOURS, HOURS), Known(MADE), None, 0.2, 10 * 86_400.0, 50)

    assert (found.held, found.at) == (200, HOURS[800])
    assert found.since == HOURS[800] - 10 * DAY


def test_the_newest_time_is_held_back() -> None:
    found = cut(Marks(HOURS, HOURS), Known(MADE), 5 * 86_400.0, 0.0, None, 50)

    assert (found.held, found.at, found.since) == (121, HOURS[-1] - 5 * DAY, None)


def test_what_the_version_in_use_may_know_is_not_held_back() -> None:
    half = datetime(2026, 1, 1, tzinfo=UTC).fromtimestamp(HOURS[500].astype("int64") / 1e6, UTC)
    # The version was made when half of the calls had arrived, whatever they are about.
    arrived = cut(Marks(HOURS[::-1].copy()[::-1], HOURS), Known(half), None, 0.5, None, 50)
    trained = cut(Marks(HOURS, HOURS + 90 * DAY), Known(half, until=half), None, 0.5, None, 50)

    assert (arrived.at, arrived.held) == (HOURS[750], 250)
    assert (trained.at, trained.held) == (HOURS[750], 250)
    with pytest.raises(Failed, match="there are 499 that the version in use was not trained on"):
        cut(Marks(HOURS, HOURS), Known(half), None, 0.5, None, 500)


def test_too_short_a_time_is_refused() -> None:
    with pytest.raises(Failed, match="the newest 13 labelled rows would be held back"):
        cut(Marks(HOURS, HOURS), Known(MADE), 0.5 * 86_400.0, 0.0, None, 50)
