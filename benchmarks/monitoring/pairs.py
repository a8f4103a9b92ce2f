"""Silence of pairs: steady sources whose columns hang together, watched hour by hour; alarms beside what is allowed.

Pairs share columns, so that their tables cannot be drawn one by one by a law of their own. But a window is an even draw
of rows from the pool, and of a row nothing counts but which two levels meet in each pair, which is known of every row
of the pool beforehand. So rows are drawn by their number, and only these are added up: that is no approximation either.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from benchmarks.monitoring.silence import HOUR, REFERENCE_ROWS, SIZES, Silence
from benchmarks.monitoring.sources import POOL, drawn
from benchmarks.monitoring.tables import table
from modelyard.domain.frame import Array
from modelyard.domain.pairs import WIDTH
from modelyard.monitoring.calls import Calls
from modelyard.monitoring.columns import table_of
from modelyard.monitoring.pairing import Pairing
from modelyard.monitoring.pairs import Pairs
from modelyard.monitoring.reference import Reference
from modelyard.monitoring.settings import Settings
from modelyard.monitoring.watching import Snapshot
from modelyard.monitoring.windows import Profile

_MONDAY = datetime(2024, 1, 1, tzinfo=UTC)
_CELLS = WIDTH * WIDTH
_DAY = 24


def dependent_pool() -> pd.DataFrame:
    """Twenty columns of mixed kinds; in half of the rows each second one is ordered as the one before it.

    >>> rows = dependent_pool()
    >>> rows.shape[1], bool(np.corrcoef(rows["normal0"].rank(), rows["uniform0"].rank())[0, 1] > 0.4)
    (20, True)
    """
    draw = np.random.default_rng(2)
    rows = table(draw, POOL)
    for one, other in zip(rows.columns[::2], rows.columns[1::2], strict=True):
        some = np.flatnonzero(draw.random(POOL) < 0.5)
        first, second = (some[np.argsort(_codes(rows[name])[some], kind="stable")] for name in (one, other))
        rows.loc[first, other] = rows[other].to_numpy()[second]
    return rows


def _codes(column: pd.Series) -> Array:
    return np.asarray(pd.factorize(column, sort=True)[0])


@dataclass(frozen=True)
class Meetings:
    """Which two levels meet in each pair (a line) of each row of a pool (a place in it)."""

    codes: Array

    @classmethod
    def of(cls, pairs: Pairs, rows: pd.DataFrame) -> Meetings:
        """Of the pairs of a reference with the pool's columns."""
        level = pairs.levels(table_of(rows))
        codes = [level[one].astype(np.int32) * WIDTH + level[other] for one, other in pairs.names]
        return cls(np.stack(codes, axis=1) + np.arange(len(codes), dtype=np.int32) * _CELLS)

    def drawn(self, draw: np.random.Generator, rows: int) -> Array:
        """How often levels met among so many rows drawn evenly: a line of counts for each pair."""
        whole, number = self.codes.shape
        chosen = self.codes[draw.integers(0, whole, rows)]
        return np.bincount(chosen.ravel(), minlength=number * _CELLS).reshape(number, _CELLS)


def paired_silence(seeds: int, hours: int) -> Iterator[Silence]:
    """One after the other `seeds` sources of 20 columns, each with a reference of its own, window sizes in turn."""
    rows = dependent_pool()
    for seed in range(seeds):
        start = time.process_time()
        draw = np.random.default_rng([13, seed])
        reference = Reference.of_table(drawn(rows, draw, REFERENCE_ROWS, 1))
        assert reference.pairs is not None
        meetings = Meetings.of(reference.pairs, rows.set_axis([f"{name}:0" for name in rows.columns], axis=1))
        alarms, most = _watched(reference, meetings, draw, SIZES[seed % len(SIZES)], hours)
        allowed = hours * HOUR / Settings().budget.seconds_each * Pairing.share
        spent = time.process_time() - start
        yield Silence(SIZES[seed % len(SIZES)], 20, 1, hours, alarms, allowed, most, spent)


def _watched(
    reference: Reference, meetings: Meetings, draw: np.random.Generator, size: int, hours: int
) -> tuple[int, float]:
    """Alarms of the watch, and the most evidence that there was, in parts of what an alarm needs."""
    watch, settings = Pairing(), Settings().with_share(Pairing.share)
    past: list[Profile] = []
    state, alarms, most = watch.start(reference, settings), 0, 0.0
    for hour in range(hours):
        met = dict(enumerate(meetings.drawn(draw, size)))
        past = [*past[-_DAY:], Profile(reference.digest, size, {}, met)]
        state, found = watch.look(state, _snapshot(reference, settings, past, hour))
        alarms += any(each.alarm for each in found)
        most = max([most, *(each.evidence / each.needed for each in found)])
    return alarms, most


def _snapshot(reference: Reference, settings: Settings, past: list[Profile], hour: int) -> Snapshot:
    def earlier(began: datetime, seconds: float) -> Profile | None:
        first = round((now - began).total_seconds() / HOUR)
        last = first - round(seconds / HOUR)
        found = past[-1 - first : len(past) - 1 - last]
        return sum(found[1:], found[0]) if found else None

    now = _MONDAY + timedelta(hours=hour)
    return Snapshot(
        deployment="steady",
        version="steady@1",
        began=now,
        seconds=HOUR,
        reference=reference,
        window=past[-1],
        earlier=earlier,
        calls=Calls(),
        settings=settings,
    )
