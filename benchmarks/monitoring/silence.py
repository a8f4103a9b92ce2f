"""Silence: steady sources of mixed kinds, checked every hour; alarms beside what the budget allows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.monitoring.sources import Drawing, Source, pool
from modelyard.monitoring.budget import Budget
from modelyard.monitoring.detector import Detector, Settings

HOUR = 3600.0
SIZES = (30, 100, 300, 1000, 3000, 10_000)
REFERENCE_ROWS = 20_000
_AT_ONCE = 73


@dataclass(frozen=True)
class Silence:
    """What came of sources of one window size: alarms beside those allowed, and the most evidence (1 is an alarm)."""

    rows: int
    columns: int
    seeds: int
    hours: int
    alarms: int
    allowed: float
    most: float
    seconds: float

    def __add__(self, other: Silence) -> Silence:
        return Silence(
            self.rows,
            self.columns,
            self.seeds + other.seeds,
            self.hours,
            self.alarms + other.alarms,
            self.allowed + other.allowed,
            max(self.most, other.most),
            self.seconds + other.seconds,
        )


def silence(columns: int, seeds: int, hours: int) -> Iterator[Silence]:
    """One after the other `seeds` sources, each with a reference and windows of its own, window sizes in turn."""
    rows = pool()
    for seed in range(seeds):
        start = time.process_time()
        draw = np.random.default_rng([7, seed])
        source = Source.of(rows, draw, REFERENCE_ROWS, columns // 20)
        size = SIZES[seed % len(SIZES)]
        yield _one(source, draw, size, columns, hours, Budget.parse("1 per quarter"), start)


def _one(
    source: Source, draw: np.random.Generator, size: int, columns: int, hours: int, budget: Budget, start: float
) -> Silence:
    detector = Detector(source.reference, Settings(budget))
    drawing = Drawing(detector.asked, source.shares)
    gathered = detector.against.start()
    alarms, most = 0, 0.0
    for begun in range(0, hours, _AT_ONCE):
        for cells in drawing.windows(draw, size, min(_AT_ONCE, hours - begun)):
            gathered = detector.against.advance(gathered, *detector.asked.answers(cells), HOUR)
            evidence = float(detector.against.parts(gathered).sum()) / budget.seconds_each
            most = max(most, evidence)
            if evidence >= 1.0:
                alarms, gathered = alarms + 1, detector.against.start()
    allowed = hours * HOUR / budget.seconds_each
    return Silence(size, columns, 1, hours, alarms, allowed, most, time.process_time() - start)


def by_size(found: Iterator[Silence]) -> list[Silence]:
    """Put together by window size."""
    together: dict[int, Silence] = {}
    for each in found:
        together[each.rows] = together[each.rows] + each if each.rows in together else each
    return [together[rows] for rows in sorted(together)]
