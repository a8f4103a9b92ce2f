"""Which labelled rows a challenger may be trained on, and which are held back to judge it by. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from modelyard.errors import Failed
from modelyard.retraining.rows import Marks, moment


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the data that the version in use was trained on.

    `until`: it was made by a retraining, of rows before that event time. Else what arrived after it was `made` cannot
    have been among its data.
    """

    made: datetime
    until: datetime | None = None

    def new_to_it(self, marks: Marks) -> NDArray[np.bool_]:
        """The rows that it was not trained on, for sure."""
        if self.until is not None:
            found: NDArray[np.bool_] = marks.moments >= plain(self.until)
            return found
        later: NDArray[np.bool_] = marks.arrived > plain(self.made)
        return later

    @property
    def said(self) -> str:
        """In words."""
        if self.until is not None:
            return f"the version in use was trained on rows before {self.until:%Y-%m-%d %H:%M}"
        return f"they arrived after the version in use was made ({self.made:%Y-%m-%d %H:%M})"


@dataclass(frozen=True, slots=True)
class Cut:
    """Rows from `at` on are held back; those before it, from `since` on (None: from the first), may be trained on."""

    at: np.datetime64
    since: np.datetime64 | None
    held: int


def cut(marks: Marks, known: Known, held_back: float | None, share: float, window: float | None, least: int) -> Cut:
    """Where the newest labelled rows begin that are held back.

    Args:
        marks: When the labelled rows were.
        known: What the version in use was trained on.
        held_back: Seconds of event time to hold back; None: `share` says how many of the rows.
        share: Which part of the rows that are new to the version in use is held back.
        window: Seconds of event time before the cut that are trained on; None: all.
        least: So many rows at least have to be held back.

    Raises:
        Failed: there are too few.
    """
    new = marks.moments[known.new_to_it(marks)]
    if len(new) < least:
        raise Failed(
            f"a challenger is judged on {least} labelled rows at least, and there are {len(new)} that the version in "
            f"use was not trained on ({len(marks)} with a label in all); wait for more labels, or set a smaller `least`"
        )
    if held_back is not None:
        at = new[-1] - np.timedelta64(int(held_back * 1e6), "us")
        at = max(at, new[0])
    else:
        at = new[min(int(len(new) * (1 - share)), len(new) - least)]
    held = int((new >= at).sum())
    if held < least:
        raise Failed(
            f"the newest {held} labelled rows would be held back, and a challenger is judged on {least} at least: hold "
            "back more (`evaluate`), or set a smaller `least`"
        )
    since = None if window is None else at - np.timedelta64(int(window * 1e6), "us")
    return Cut(at, since, held)


def plain(at: datetime) -> np.datetime64:
    """A moment as arrays have it: UTC, without saying so."""
    return np.datetime64(at.astimezone(UTC).replace(tzinfo=None), "us")


def said_of(at: np.datetime64) -> str:
    """A moment in words."""
    return f"{moment(at):%Y-%m-%d %H:%M}"
