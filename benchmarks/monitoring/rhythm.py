"""Silence with a rhythm of day and week, once two weeks are stored: every watch of drift, hour by hour."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any

import numpy as np

from modelyard.monitoring.calls import Calls
from modelyard.monitoring.moving import moving_watches
from modelyard.monitoring.reference import Reference
from modelyard.monitoring.seasons import Previous, Seasonal
from modelyard.monitoring.watching import Settings, Snapshot
from modelyard.monitoring.windows import Profile

HOUR = 3600.0
LEARNED = 14 * 24
_MONDAY = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Rhythm:
    """Alarms in the first two weeks, and after them beside what the budget allows all watches of drift."""

    rows: int
    columns: int
    hours: int
    first_weeks: int
    alarms: int
    allowed: float
    seconds: float


def rhythm(columns: int, weeks: int, sizes: tuple[int, ...] = (30, 300, 3000)) -> Iterator[Rhythm]:
    """A source for each window size: a quarter of the columns each with a rhythm of the day, the week, both, none."""
    for rows in sizes:
        start = time.process_time()
        draw = np.random.default_rng([11, rows])
        amplitudes = draw.uniform(0.2, 1.5, columns)
        parts = [_drawn(draw, hour, 120, amplitudes) for hour in range(168)]
        made = Reference.of_table({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
        found = list(_alarms(made, draw, rows, weeks * 168, amplitudes))
        watched = weeks * 168 - LEARNED
        shares = sum(watch.share for watch in _watches())
        late = sum(hour >= LEARNED for hour in found)
        allowed = watched * HOUR / Settings().budget.seconds_each * shares
        yield Rhythm(rows, columns, watched, len(found) - late, late, allowed, time.process_time() - start)


def _watches() -> tuple[Any, ...]:
    return (*moving_watches().values(), Seasonal(), Previous())


def _drawn(draw: np.random.Generator, hour: int, rows: int, amplitudes: Any) -> dict[str, Any]:
    day, week = np.sin(2 * np.pi * (hour % 24) / 24), float(hour // 24 % 7 >= 5)
    waves = (day, week, day + week, 0.0)
    return {
        f"n{at}": draw.normal(amplitude * waves[at % 4], 1, rows)
        if at % 8 < 4
        else np.where(draw.random(rows) < 0.3 + 0.2 * amplitude * waves[at % 4] / 1.5, "a", "b")
        for at, amplitude in enumerate(amplitudes)
    }


def _alarms(made: Reference, draw: np.random.Generator, rows: int, hours: int, amplitudes: Any) -> Iterator[int]:
    past: dict[datetime, Profile] = {}

    def earlier(began: datetime, seconds: float) -> Profile | None:
        stretch = (began + timedelta(hours=at) for at in range(round(seconds / HOUR)))
        there = [past[moment] for moment in stretch if moment in past]
        return reduce(lambda one, other: one + other, there) if there else None

    watches = _watches()
    told = {watch.name: Settings().with_share(watch.share) for watch in watches}
    states = {watch.name: watch.start(made, told[watch.name]) for watch in watches}
    for hour in range(hours):
        began = _MONDAY + timedelta(hours=hour)
        window = made.profile(_drawn(draw, hour, rows, amplitudes))
        for watch in watches:
            snapshot = Snapshot(
                deployment="",
                version="",
                began=began,
                seconds=HOUR,
                reference=made,
                window=window,
                earlier=earlier,
                calls=Calls(rows=rows),
                settings=told[watch.name],
            )
            states[watch.name], findings = watch.look(states[watch.name], snapshot)
            if any(finding.alarm for finding in findings):
                yield hour
        past[began] = window
