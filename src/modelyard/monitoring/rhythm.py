"""Rhythms of day and week: which columns have one, and which windows are fit to be held against each other.

A column has a rhythm if its answers differ between the hours of a day (the days of a week) more than they do between
the same hours of different days, and more than chance explains. Such a column is judged against the reference by whole
days (weeks), over which a rhythm averages out, and hour by hour against the same hour of the days (weeks) before.
Taking a column for rhythmic that is not makes alarms later, never false; so does what is called *restless*: a column
that differs between one window and the next again and again, before there are two days to tell a rhythm by.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from enum import IntEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from modelyard.domain.frame import Array
from modelyard.monitoring.asking import Asked
from modelyard.monitoring.facets import information
from modelyard.monitoring.windows import Profile

Earlier: TypeAlias = Callable[[datetime, float], Profile | None]
Units: TypeAlias = NDArray[np.uint8]

DAY = 86_400.0
WEEK = 7 * DAY

_DAYS = 7
_WEEKS = 4
_RARE = 7.0
"""Chance alone makes a question look rhythmic with a probability of exp(-7) about."""

_FAR = 5.0
"""Standard errors by which a window has to differ from the one before to count as restless."""


class Unit(IntEnum):
    """What a column is judged by against the reference."""

    WINDOW = 0
    DAY = 1
    WEEK = 2

    @property
    def seconds(self) -> float:
        """How long that is; 0 for a window."""
        return {Unit.WINDOW: 0.0, Unit.DAY: DAY, Unit.WEEK: WEEK}[self]


def midnight(moment: datetime) -> datetime:
    """When its day began (UTC)."""
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def week_began(moment: datetime) -> datetime:
    """When its week began: Monday, midnight (UTC)."""
    return midnight(moment) - timedelta(days=moment.weekday())


def whole_days(today: datetime, first: datetime, seconds: float) -> int:
    """Days that have been seen from their first window on.

    >>> whole_days(datetime(2026, 1, 4), datetime(2026, 1, 1, 1), 3600.0)
    2
    """
    return max(0, int((today - midnight(first + timedelta(seconds=DAY - seconds))).total_seconds() // DAY))


def due(began: datetime, first: datetime, seconds: float) -> bool:
    """Whether rhythms are to be told anew with the window that begins: daily for two weeks, and on Mondays.

    >>> due(datetime(2026, 1, 5), datetime(2025, 1, 1), 3600.0), due(datetime(2026, 1, 6), datetime(2025, 1, 1), 3600.0)
    (True, False)
    """
    today = midnight(began)
    begins = (began - today).total_seconds() < seconds
    return begins and (whole_days(today, first, seconds) <= 14 or today.weekday() == 0)


def units(asked: Asked, earlier: Earlier, today: datetime, first: datetime, seconds: float) -> Units:
    """For each column what it is to be judged by from today's midnight on; `first` is when there was traffic first.

    At least two whole days are needed to tell, two whole weeks for a rhythm of the week.
    """
    found = np.zeros(len(asked.columns), dtype=np.uint8)
    days = whole_days(today, first, seconds)
    if days >= 2:
        step, back = max(seconds, 3600.0), range(min(days, _DAYS), 0, -1)
        cycles = [_slots(asked, earlier, today - timedelta(days=day), step, DAY) for day in back]
        found[rhythmic(asked, cycles)] = Unit.DAY
    if days >= 14:
        weeks = min(days // 7, _WEEKS)
        cycles = [_slots(asked, earlier, today - timedelta(weeks=back), DAY, WEEK) for back in range(weeks, 0, -1)]
        found[rhythmic(asked, cycles)] = Unit.WEEK
    return found


def _slots(asked: Asked, earlier: Earlier, began: datetime, step: float, cycle: float) -> Array:
    """Answers ``(x, n)`` of one cycle, a row for each slot."""
    slots = [
        answers_of(asked, earlier(began + timedelta(seconds=at * step), step)) for at in range(round(cycle / step))
    ]
    return np.stack([np.stack(pair) for pair in slots])


def answers_of(asked: Asked, window: Profile | None) -> tuple[Array, Array]:
    """A window's answers; none where nothing was answered."""
    if window is None:
        return np.zeros(len(asked)), np.zeros(len(asked))
    return asked.answers(asked.in_cells(window))


def rhythmic(asked: Asked, cycles: list[Array]) -> NDArray[np.bool_]:
    """Columns of which some question differs between slots: twice the information of slots, held against chi-squared.

    The bound on chi-squared is Laurent and Massart's (2000, lemma 1). What differs between cycles as well is no rhythm:
    the information between slots has to be that many times larger.
    """
    every = np.stack(cycles)  # cycle, slot, x or n, question
    between, free = _information(every.sum(axis=0))
    whole, free_whole = _information(every.reshape(-1, *every.shape[2:]))
    within, free_within = np.maximum(whole - between, 0.0), np.maximum(free_whole - free, 1.0)
    usual = np.maximum(within / free_within, 1.0)
    likely = free + 2 * np.sqrt(free * _RARE) + 2 * _RARE
    shown = (between > usual * likely) & (free > 0)
    return asked.per_column(shown.astype(np.float64)) > 0


def _information(slots: Array) -> tuple[Array, Array]:
    """Twice the information of slots about shares (the G statistic) and its degrees of freedom, for each question."""
    x, n = slots[:, 0], slots[:, 1]
    together, rows = x.sum(axis=0), n.sum(axis=0)
    share = np.divide(together, rows, out=np.zeros_like(rows), where=rows > 0)
    own = np.divide(x, n, out=np.zeros_like(x), where=n > 0)
    found = np.where(n > 0, n * np.nan_to_num(information(own, np.broadcast_to(share, own.shape)), posinf=0.0), 0.0)
    return 2 * found.sum(axis=0), np.maximum((n > 0).sum(axis=0) - 1.0, 0.0)


def restless(asked: Asked, one: tuple[Array, Array], other: tuple[Array, Array], margin: Array) -> NDArray[np.bool_]:
    """Columns that differ clearly, and by more than the margin, between two windows that follow each other."""
    (x, n), (y, m) = one, other
    both = (n > 0) & (m > 0)
    rows = np.where(both, n, 1.0), np.where(both, m, 1.0)
    apart = np.abs(x / rows[0] - y / rows[1])
    share = (x + y) / (rows[0] + rows[1])
    error = np.sqrt(np.maximum(share * (1 - share), 0.0) * (1 / rows[0] + 1 / rows[1]))
    far = both & (apart > margin) & (apart > _FAR * error)
    return asked.per_column(far.astype(np.float64)) > 0


def same_before(unit: Unit, began: datetime, first: datetime) -> Iterator[datetime]:
    """When the same hour began in the cycles before, the newest first; only if there were two at least."""
    length = timedelta(seconds=unit.seconds)
    most = _DAYS if unit is Unit.DAY else _WEEKS
    number = min(most, math.floor((began - first) / length)) if length else 0
    if number >= 2:
        yield from (began - length * back for back in range(1, number + 1))
