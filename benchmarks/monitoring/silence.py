"""Silence: steady sources of mixed kinds, checked every hour; alarms beside what the budget allows."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from benchmarks.monitoring.tables import table
from modelyard.monitoring.budget import Budget
from modelyard.monitoring.detector import Detector, Settings
from modelyard.monitoring.reference import Reference

HOUR = 3600.0


@dataclass(frozen=True)
class Silence:
    """What came of a number of hours of one window size."""

    rows: int
    columns: int
    seeds: int
    hours: int
    alarms: int
    allowed: float
    most: float
    seconds: float


def silence(rows: int, columns: int, seeds: int, hours: int, budget: str = "1 per quarter") -> Silence:
    """Every seed has a source's reference of its own (20,000 rows), and its own windows, with every row counted."""
    allowed = Budget.parse(budget)
    alarms, most, start = 0, 0.0, time.process_time()
    for seed in range(seeds):
        draw = np.random.default_rng([seed, rows])
        made = Reference.of_table(table(draw, 20_000, columns // 20))
        detector = Detector(made, Settings(allowed))
        state = detector.start()
        for _ in range(hours):
            state, verdict = detector.step(state, made.profile(table(draw, rows, columns // 20)), HOUR)
            alarms += verdict.alarm
            most = max(most, verdict.evidence)
    spent = time.process_time() - start
    return Silence(rows, columns, seeds, hours, alarms, seeds * hours * HOUR / allowed.seconds_each, most, spent)
