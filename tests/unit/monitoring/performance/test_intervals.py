"""Intervals cover as often as they say, by simulation; their formulas against scipy and published examples."""

import math

import numpy as np
import pytest
from scipy import stats

from modelyard.monitoring.performance import intervals
from modelyard.monitoring.performance.judged import Judged
from modelyard.monitoring.performance.metrics import measured
from modelyard.monitoring.performance.task import Aim, Task

BINARY = Task(aim=Aim.BINARY, answer="a", classes=(0, 1), probabilities=("p", "q"))
NUMBER = Task(aim=Aim.REGRESSION, answer="a")


def classes(rng: np.random.Generator, rows: int) -> Judged:
    """Probabilities that are a tenth too low, with three rows of ten positive."""
    said = rng.beta(0.8, 1.87, rows)
    truth = (rng.random(rows) < np.clip(1.1 * said, 0, 1)).astype(int)
    never = np.full(rows, np.datetime64("NaT", "us"))
    return Judged(BINARY, never, never, truth, (said > 0.5).astype(int), np.column_stack([1 - said, said]))


def numbers(rng: np.random.Generator, rows: int) -> Judged:
    truth = rng.normal(0, 3, rows)
    never = np.full(rows, np.datetime64("NaT", "us"))
    return Judged(NUMBER, never, never, truth, truth + rng.normal(0.3, 1, rows))


@pytest.mark.parametrize("make", [classes, numbers])
def test_intervals_cover_as_often_as_they_say(make: object) -> None:
    """400 samples: 95% would be 380; at 366 or fewer something is wrong (three standard errors)."""
    assert callable(make)
    rng, rows = np.random.default_rng(2), 300
    truth = {name: each.value for name, each in measured(make(rng, 1_000_000)).items()}
    covered = dict.fromkeys(truth, 0)
    for _ in range(400):
        for name, each in measured(make(rng, rows)).items():
            assert each.low is not None
            assert each.high is not None
            covered[name] += each.low <= (truth[name] or 0.0) <= each.high
    assert min(covered.values()) >= 367, covered


def test_a_share_lies_within_clopper_and_pearsons_interval_or_nearly() -> None:
    for hits, rows in ((0, 20), (1, 20), (15, 148), (148, 148), (700, 1000)):
        exact = stats.binomtest(hits, rows).proportion_ci(0.95, method="exact")
        found = intervals.share(hits, rows)
        assert (found.low, found.high) == (pytest.approx(exact.low, abs=0.035), pytest.approx(exact.high, abs=0.035))
        wilson = stats.binomtest(hits, rows).proportion_ci(0.95, method="wilsoncc")
        assert (found.low, found.high) == (pytest.approx(wilson.low), pytest.approx(wilson.high))


def test_students_quantile_is_scipys() -> None:
    for level in (0.5, 0.9, 0.95, 0.99):
        for freedom in (1, 2, 3, 5, 10, 30, 1000):
            exact = stats.t.ppf((1 + level) / 2, freedom)
            assert intervals.student(level, freedom) == pytest.approx(exact, rel=0.05 if freedom < 5 else 0.002)


def test_a_mean_of_values_without_skew_has_students_interval() -> None:
    values = np.concatenate([np.linspace(0, 1, 50), 1 - np.linspace(0, 1, 50)])
    low, high = stats.t.interval(0.95, 99, values.mean(), stats.sem(values))
    found = intervals.mean(values)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    skewed = intervals.mean(np.random.default_rng(1).exponential(size=50))
    assert (skewed.high or 0) - (skewed.value or 0) > (skewed.value or 0) - (skewed.low or 0)


def test_areas_at_the_edge_have_an_interval_too() -> None:
    found = intervals.ranking(1.0, 0.0, 20, 20)
    assert found.high == 1.0
    assert 0.8 < (found.low or 0) < 0.95
    middle = intervals.ranking(0.7, 0.001, 200, 200)
    assert math.isclose((middle.high or 0) - (middle.low or 0), 2 * 1.96 * 0.001**0.5, rel_tol=0.03)
    assert intervals.share(0, 0) == intervals.Measure()
