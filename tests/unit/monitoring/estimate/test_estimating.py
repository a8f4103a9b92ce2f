"""Estimates by simulation: how often intervals cover, and when they widen or are refused."""

import os

import numpy as np
import pytest
from benchmarks.monitoring.shifted import NAMES, answered, draw, numbers

from modelyard.monitoring.columns import table_of
from modelyard.monitoring.estimate.estimating import Trust, estimate, too_little
from modelyard.monitoring.estimate.learning import learn
from modelyard.monitoring.estimate.metrics import realized
from modelyard.monitoring.estimate.rows import Rows, classes_losses
from modelyard.monitoring.estimate.shifts import credit, moved, shifted

SEEDS = int(os.environ.get("MODELYARD_ESTIMATE_SEEDS", "12"))
LABELLED, BLOCKS = 3000, 20


def learned(seed):
    rng = np.random.default_rng(seed)
    return rng, learn(answered(*draw(rng, LABELLED)), np.arange(LABELLED) * BLOCKS // LABELLED, NAMES)


@pytest.fixture(scope="module")
def seeds():
    return [learned(seed) for seed in range(SEEDS)]


def covered(seeds, kind, size, names=("accuracy", "auc", "brier")):
    hits, found = [], []
    for rng, known in seeds:
        window = answered(*draw(rng, 1000, kind, size))
        made = estimate(known, window, length=5)
        found.append(made)
        for name in names:
            truth = realized(name, window.score, window.decided, window.labels)
            hits.append(made.values[name].low <= truth <= made.values[name].high)
    return np.mean(hits), found


def test_steady_rows_are_covered_and_trusted(seeds):
    hits, found = covered(seeds, "steady", 0.0)
    assert hits >= 0.9
    assert np.mean([each.trust is Trust.TRUSTED for each in found]) >= 0.8


@pytest.mark.parametrize("size", [0.3, 0.7])
def test_moved_inputs_are_covered(seeds, size):
    assert covered(seeds, "covariate", size)[0] >= 0.85


def test_a_moved_base_rate_is_covered_and_widened(seeds):
    hits, found = covered(seeds, "label", 1.0)
    assert hits >= 0.85
    assert all(each.trust is Trust.WIDENED and "base rate" in each.reason for each in found)


def test_corrections_bring_the_value_nearer(seeds):
    """Without weights the model's blindness to how columns hang together would show."""
    apart, plain = [], []
    for rng, known in seeds:
        window = answered(*draw(rng, 3000, "covariate", 1.0))
        truth = window.labels.mean()
        _, made = known.seen(window)
        plain.append(known.expected("p", window, made).mean() - truth)
        apart.append(estimate(known, window, length=5).values["base_rate"].value - truth)
    assert abs(np.mean(apart)) < 0.6 * abs(np.mean(plain))


def test_rows_from_elsewhere_are_refused(seeds):
    rng, known = seeds[0]
    x, y = draw(rng, 500)
    gone = estimate(known, answered(x.assign(a=x["a"] + 30, c="zz"), y))
    assert gone.trust is Trust.REFUSED
    assert not gone.values
    assert set(gone.columns) == {"a", "c"}
    assert "100% of the rows lie outside" in gone.reason


def test_labels_that_are_too_old_are_refused(seeds):
    rng, known = seeds[0]
    window = answered(*draw(rng, 500))
    assert "21 blocks old" in estimate(known, window, ahead=21).reason
    near, far = (estimate(known, window, ahead=ahead).values["accuracy"] for ahead in (1, 20))
    assert far.high - far.low >= near.high - near.low


def test_blocks_that_differ_widen():
    rng = np.random.default_rng(3)
    parts = [draw(rng, 150, "concept", rng.choice([-0.6, 0.6])) for _ in range(BLOCKS)]
    x = {name: np.concatenate([part[name] for part, _ in parts]) for name in NAMES}
    import pandas as pd

    rows = answered(pd.DataFrame(x), np.concatenate([y for _, y in parts]))
    moving = learn(rows, np.repeat(np.arange(BLOCKS), 150), NAMES)
    window = answered(*draw(rng, 1000))
    steady = estimate(learned(3)[1], window).values["auc"]
    assert estimate(moving, window).values["auc"].error > 2 * steady.error


def test_the_confusion_matrix_adds_up(seeds):
    rng, known = seeds[0]
    window = answered(*draw(rng, 2000))
    made = estimate(known, window)
    tp, fp, fn, tn = made.confusion
    assert tp + fp + fn + tn == pytest.approx(1.0)
    assert tp + fp == pytest.approx(window.decided.mean())
    assert tp + tn == pytest.approx(made.values["accuracy"].value, abs=0.02)
    assert tp == pytest.approx((window.decided * window.labels).mean(), abs=0.05)


def test_errors_of_numbers_follow_the_inputs():
    hits, trusted = [], []
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        known = learn(numbers(rng, 2000), np.arange(2000) // 100, ("a", "b"))
        for shift in (0.0, 0.7):
            window = numbers(rng, 500, shift)
            made = estimate(known, window, length=5)
            truth = {name: losses.mean() for name, losses in window.losses.items()}
            truth["rmse"] = truth["rmse"] ** 0.5
            hits += [made.values[name].low <= truth[name] <= made.values[name].high for name in truth]
            trusted.append((shift, made.values["mae"].value))
    assert np.mean(hits) >= 0.88
    still, shifted_to = (np.mean([value for at, value in trusted if at == shift]) for shift in (0.0, 0.7))
    assert shifted_to > 1.15 * still


def test_classes_are_estimated_by_how_right_they_are():
    def drawn(rng, rows):
        chances = rng.dirichlet([0.5, 0.5, 0.5], rows)
        truth = (rng.random((rows, 1)) > chances.cumsum(axis=1)).sum(axis=1).clip(0, 2)
        decided = chances.argmax(axis=1)
        losses = classes_losses(decided, truth, chances, (0, 1, 2))
        return Rows("classes", table_of({"a": rng.normal(size=rows)}), chances.max(axis=1), decided, truth, losses)

    hits = []
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        known, window = learn(drawn(rng, 2000), np.arange(2000) // 100, ("a",)), drawn(rng, 1000)
        made = estimate(known, window, length=10)
        assert set(made.values) == {"accuracy", "brier", "log_loss"}
        hits += [value.low <= window.losses[name].mean() <= value.high for name, value in made.values.items()]
    assert np.mean(hits) >= 0.85


def test_too_few_labels_are_told():
    rng = np.random.default_rng(0)
    assert "299 labelled rows" in too_little(answered(*draw(rng, 299)), 20)
    assert "7 blocks" in too_little(answered(*draw(rng, 500)), 7)
    x, y = draw(rng, 500)
    assert "one of the classes" in too_little(answered(x, np.zeros(500)), 20)
    assert not too_little(answered(x, y), 20)


def test_a_base_rate_is_found_again():
    rng = np.random.default_rng(0)
    y = (rng.random(20_000) < 0.3).astype(float)
    ratio = np.exp(
        np.where(y > 0, 1, -1) * 1.0 + rng.normal(0, 2**0.5, 20_000)
    )  # likelihood ratio of N(1, 2), N(-1, 2)
    p = ratio / (ratio + 1) * 1.0  # chances as they were learned at a rate of one half
    there, variance = shifted(p, 0.5)
    assert there.mean() == pytest.approx(0.3, abs=4 * variance**0.5)


def test_credit_falls_where_labels_did_not_follow():
    rng = np.random.default_rng(0)
    _, known = learned(0)
    never = []
    for size in (0.4, -0.4) * 8:
        window = answered(*draw(rng, 2000, "covariate", size))
        _, made = known.seen(window)
        never.append(moved(known.expected("p", window, made), float(known.rows.labels.mean()), window.labels))
    assert credit(never) < 0.7
    assert credit([]) == 1.0
