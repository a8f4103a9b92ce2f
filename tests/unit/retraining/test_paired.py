"""Differences of two versions on the same rows: values, intervals, how often gates let through what is no better."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from modelyard.monitoring.performance.judged import Judged
from modelyard.monitoring.performance.metrics import METRICS
from modelyard.monitoring.performance.task import Aim, Task
from modelyard.retraining.judging import Terms, answers_enough, judge_both, usable
from modelyard.retraining.paired import compared, influence, pairable
from modelyard.retraining.plan import Gate

BINARY = Task(aim=Aim.BINARY, answer="predict", classes=(0, 1), probabilities=("p_0", "p_1"))
MANY = Task(aim=Aim.MULTICLASS, answer="predict", classes=(0, 1, 2), probabilities=("p_0", "p_1", "p_2"))
NUMBERS = Task(aim=Aim.REGRESSION, answer="predict")
START = np.datetime64("2026-01-01", "us")


def judged(task: Task, truth: np.ndarray, said: np.ndarray) -> Judged:
    """`said` are numbers, or the probabilities of classes."""
    moments = START + np.arange(len(truth)) * np.timedelta64(60_000_000, "us")
    if task.aim is Aim.REGRESSION:
        return Judged(task, moments, moments, truth, said)
    return Judged(task, moments, moments, truth, said.argmax(axis=1), said)


def pair(task: Task, rows: int, seed: int, *, noise: tuple[float, float] = (1.0, 1.0)) -> list[Judged]:
    """Two versions that err alike in part, each with so much noise of its own."""
    draw = np.random.default_rng(seed)
    shared = draw.normal(size=(rows, 3))
    if task.aim is Aim.REGRESSION:
        truth = draw.normal(size=rows)
        return [judged(task, truth, truth + 1.5 * shared[:, 0] + each * draw.normal(size=rows)) for each in noise]
    width = len(task.classes)
    truth = draw.integers(width, size=rows)
    found = []
    for each in noise:
        logits = 1.5 * np.eye(width)[truth] + shared[:, :width] + each * draw.normal(size=(rows, width))
        found.append(judged(task, truth, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)))
    return found


@pytest.mark.parametrize("task", [BINARY, MANY, NUMBERS])
def test_influences_are_of_the_metric_itself_and_say_what_resampling_says(task: Task) -> None:
    old, new = pair(task, 600, 1)
    draw = np.random.default_rng(2)
    picks = [draw.integers(600, size=600) for _ in range(300)]
    for name in pairable(old, new):
        value, moved = influence(new, name) or (np.nan, np.zeros(0))
        assert value == pytest.approx(METRICS[name].measure(new, 0.95).value), name
        assert moved.mean() == pytest.approx(0.0, abs=1e-9), name
        again = [(influence(new.take(each), name) or (np.nan,))[0] for each in picks]
        assert moved.std() / np.sqrt(600) == pytest.approx(np.std(again), rel=0.2), name


@pytest.mark.parametrize("task", [BINARY, NUMBERS])
def test_intervals_of_a_difference_cover_it_and_are_narrower_than_without_pairs(task: Task) -> None:
    metric = "brier" if task is BINARY else "mae"
    whole = pair(task, 200_000, 3, noise=(1.0, 1.3))
    truth = compared(*whole, metric, 0.95).worse.value or 0.0
    found = [
        compared(*(each.take(slice(at, at + 400)) for each in whole), metric, 0.9) for at in range(0, 200_000, 400)
    ]
    covered = np.mean([(each.worse.low or 0) <= truth <= (each.worse.high or 0) for each in found])

    assert 0.86 <= covered <= 0.97
    width = np.mean([(each.worse.high or 0) - (each.worse.low or 0) for each in found])
    apart = [
        np.mean([(each.high or 0) - (each.low or 0) for each in side])
        for side in zip(*((each.champion, each.challenger) for each in found), strict=True)
    ]
    assert width < np.hypot(*apart)


def test_rows_that_hang_together_widen_the_interval() -> None:
    draw = np.random.default_rng(4)
    hours = np.repeat(draw.normal(size=48), 60)  # an hour has sixty rows with the same error
    truth = np.zeros(len(hours))
    old, new = judged(NUMBERS, truth, 0.1 * draw.normal(size=len(hours))), judged(NUMBERS, truth, hours)
    found = compared(old, new, "mae", 0.95)

    assert found.blocks == "hours"
    assert (found.worse.high or 0) - (found.worse.low or 0) > 0.25


@pytest.mark.parametrize(
    ("task", "metric"), [(BINARY, "accuracy"), (BINARY, "auc"), (BINARY, "log_loss"), (NUMBERS, "mae")]
)
def test_what_is_no_better_seldom_passes_and_what_is_better_does(task: Task, metric: str) -> None:
    def passed(noise: tuple[float, float], seeds: range) -> float:
        pairs = (pair(task, 500, seed, noise=noise) for seed in seeds)
        return float(np.mean([(compared(*each, metric, 0.95).worse.high or 0.0) < 0 for each in pairs]))

    assert passed((1.0, 1.0), range(400)) <= 0.05  # 2.5 % is meant; 400 tries
    assert passed((1.5, 0.6), range(1000, 1050)) > 0.9


def test_versions_that_answer_alike_are_not_called_better() -> None:
    old, _ = pair(BINARY, 500, 5)
    found = judge_both(old, old, pa.table({}), Terms((Gate(),), "brier", (), 0.95))

    assert not found.gates[0].passed
    assert found.whole[0].worse.value == 0


def test_a_slice_that_is_harmed_stops_a_challenger_that_is_better_overall() -> None:
    draw = np.random.default_rng(6)
    carrier = np.where(np.arange(4000) % 10 == 0, "EV", "UA")
    truth = draw.normal(size=4000)
    old = judged(NUMBERS, truth, truth + draw.normal(size=4000))
    new = judged(NUMBERS, truth, truth + draw.normal(size=4000) * np.where(carrier == "EV", 1.8, 0.5))
    terms = Terms((Gate(), Gate(slices=True, margin=0.05)), "mae", ("carrier",), 0.95)
    found = judge_both(old, new, pa.table({"carrier": carrier}), terms)

    assert [gate.passed for gate in found.gates] == [True, False]
    assert "carrier = 'EV'" in found.gates[1].said
    assert [each.name for each in found.slices] == ["carrier = 'EV'", "carrier = 'UA'"]


def test_answers_that_do_not_count_are_a_gate_of_their_own() -> None:
    old, new = pair(NUMBERS, 1000, 7)
    spoiled = judged(NUMBERS, new.truth, np.where(np.arange(1000) < 5, np.nan, new.answer))

    assert int((~usable(spoiled)).sum()) == 5
    assert not answers_enough(1000, int((~usable(old)).sum()), 5).passed
    assert answers_enough(1000, 4, 5).passed
