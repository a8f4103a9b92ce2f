"""Metrics and their slopes against scikit-learn and against differences."""

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    f1_score,
    log_loss,
    precision_score,
    recall_score,
    roc_auc_score,
)

from modelyard.monitoring.estimate.metrics import BINARY, realized

REFERENCES = {
    "accuracy": lambda y, s, d: accuracy_score(y, d),
    "auc": lambda y, s, d: roc_auc_score(y, s),
    "brier": lambda y, s, d: brier_score_loss(y, s),
    "log_loss": lambda y, s, d: log_loss(y, s),
    "precision": lambda y, s, d: precision_score(y, d),
    "recall": lambda y, s, d: recall_score(y, d),
    "f1": lambda y, s, d: f1_score(y, d),
    "base_rate": lambda y, s, d: y.mean(),
}


@pytest.fixture
def rows():
    rng = np.random.default_rng(1)
    score = np.round(rng.beta(1, 3, 400), 2).clip(0.01, 0.99)
    return score, (score > 0.3).astype(float), (rng.random(400) < score).astype(float)


@pytest.mark.parametrize("name", BINARY)
def test_with_labels_it_is_the_metric_itself(name, rows):
    score, decided, truth = rows
    assert realized(name, score, decided, truth) == pytest.approx(REFERENCES[name](truth, score, decided))


@pytest.mark.parametrize("name", BINARY)
def test_slope_is_what_one_row_adds(name, rows):
    score, decided, _ = rows
    p = np.clip(score * 1.2, 0.0, 1.0)
    value, slope = BINARY[name](score, decided, p)
    for at in (0, 57, 200):
        more = p.copy()
        more[at] += 1e-5
        gained = (BINARY[name](score, decided, more)[0] - value) * len(p) / 1e-5
        assert slope(score, decided)[at] == pytest.approx(gained, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("name", ["accuracy", "brier", "log_loss", "auc"])
def test_expected_metric_is_the_mean_over_drawn_labels(name, rows):
    score, decided, _ = rows
    rng = np.random.default_rng(2)
    drawn = [realized(name, score, decided, (rng.random(400) < score).astype(float)) for _ in range(400)]
    value = BINARY[name](score, decided, score)[0]
    assert value == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / 20)


def test_what_cannot_be_computed_is_not_a_number():
    assert np.isnan(realized("auc", np.array([0.1, 0.2]), np.zeros(2), np.zeros(2)))
    assert np.isnan(realized("precision", np.array([0.1, 0.2]), np.zeros(2), np.ones(2)))
