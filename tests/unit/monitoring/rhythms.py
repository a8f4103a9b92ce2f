"""A deployment of steady, rhythmic and changed columns, played hour by hour to watches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any

import msgspec
import numpy as np

from modelyard.monitoring.calls import Calls
from modelyard.monitoring.findings import Finding
from modelyard.monitoring.reference import Reference
from modelyard.monitoring.watching import Settings, Snapshot
from modelyard.monitoring.windows import Profile

START = datetime(2013, 3, 4, tzinfo=UTC)
"""A Monday."""

Rows = Callable[[np.random.Generator, int, int], dict[str, Any]]
"""Draws so many rows of an hour since the start."""


class Past:
    """Windows of an hour that have been looked at, to be added up."""

    def __init__(self) -> None:
        self.windows: dict[datetime, Profile] = {}

    def earlier(self, began: datetime, seconds: float) -> Profile | None:
        hours = (began + timedelta(hours=at) for at in range(round(seconds / 3600)))
        found = [self.windows[hour] for hour in hours if hour in self.windows]
        return reduce(lambda one, other: one + other, found) if found else None


def rhythm(draw: np.random.Generator, hour: int, rows: int) -> dict[str, Any]:
    """One column with a rhythm of the day, one of the week, one without, and the hour itself."""
    at = hour % 24
    weekend = hour // 24 % 7 >= 5
    return {
        "daily": draw.normal(1.2 * np.sin(2 * np.pi * at / 24), 1, rows),
        "weekly": np.where(draw.random(rows) < (0.7 if weekend else 0.3), "a", "b"),
        "steady": draw.normal(size=rows),
        "hour": np.full(rows, float(at)),
    }


def trained_on(rows: Rows, weeks: int = 1, each: int = 40) -> Reference:
    """A reference of whole weeks."""
    draw = np.random.default_rng(99)
    parts = [rows(draw, hour, each) for hour in range(weeks * 168)]
    return Reference.of_table({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def played(
    watches: Sequence[Any], reference: Reference, rows: Rows, hours: int, each: int, **fields: Any
) -> Iterator[tuple[int, Finding]]:
    """Findings of watches over so many hours, with their states written and read again at times."""
    draw, past = np.random.default_rng(1), Past()
    told = {watch.name: Settings().with_share(watch.share) for watch in watches}
    states = {watch.name: watch.start(reference, told[watch.name]) for watch in watches}
    for hour in range(hours):
        began = START + timedelta(hours=hour)
        window = reference.profile(rows(draw, hour, each))
        for watch in watches:
            snapshot = Snapshot(
                deployment="d",
                version="m@1",
                began=began,
                seconds=3600.0,
                reference=reference,
                window=window,
                earlier=past.earlier,
                calls=Calls(rows=each),
                settings=told[watch.name],
                **fields,
            )
            states[watch.name], findings = watch.look(states[watch.name], snapshot)
            if hour % 50 == 0:
                raw = msgspec.msgpack.encode(states[watch.name])
                states[watch.name] = msgspec.msgpack.decode(raw, type=watch.state)
            yield from ((hour, found) for found in findings)
        past.windows[began] = window
