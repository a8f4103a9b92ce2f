"""Fits against scikit-learn and scipy."""

import numpy as np
import pytest
import scipy.stats
from sklearn.linear_model import LogisticRegression, Ridge

from modelyard.monitoring.estimate.drifting import History, drift_variance, freedom, quantile
from modelyard.monitoring.estimate.fitting import linear, logistic
from modelyard.monitoring.estimate.weighing import weighed


def test_logistic_is_scikit_learns():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 4))
    y = (rng.random(500) < 1 / (1 + np.exp(-(x @ [1.0, -2.0, 0.5, 0.0] - 1)))).astype(float)
    weights = rng.random(500) + 0.5
    made = np.concatenate([np.ones((500, 1)), x], axis=1)
    found = logistic(made, y, np.zeros(500), np.array([1e-9, 2.0, 2.0, 2.0, 2.0]), weights)
    theirs = LogisticRegression(C=0.5, tol=1e-10, max_iter=1000).fit(x, y, weights)
    assert found == pytest.approx(np.concatenate([theirs.intercept_, theirs.coef_[0]]), abs=2e-3)


def test_linear_is_scikit_learns():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(100, 3)), rng.normal(size=100)
    theirs = Ridge(alpha=3.0, fit_intercept=False).fit(x, y)
    assert linear(x, y, np.full(3, 3.0)) == pytest.approx(theirs.coef_)


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 20, 101, 3000])
@pytest.mark.parametrize("tail", [0.25, 0.05, 0.005, 0.0005])
def test_quantile_is_scipys(degrees, tail):
    assert quantile(tail, degrees) == pytest.approx(scipy.stats.t.isf(tail, degrees), rel=2e-3)


def test_weights_are_ratios_of_densities():
    rng = np.random.default_rng(0)
    cell = rng.choice(3, 4000, p=[0.6, 0.3, 0.1])
    window = rng.choice(3, 3000, p=[0.2, 0.3, 0.5])
    found = weighed(np.eye(3)[cell], np.eye(3)[window])
    shares = np.bincount(cell, found.weights)
    assert shares == pytest.approx([0.2, 0.3, 0.5], abs=0.03)
    assert found.worth == pytest.approx(4000 / (0.2**2 / 0.6 + 0.3 + 0.5**2 / 0.1), rel=0.15)


def test_drift_is_found_beyond_chance_and_grows_with_distance():
    rng = np.random.default_rng(0)
    chance = np.full(60, 0.01**2)
    steady = [drift_variance(History(rng.normal(0, 0.01, 60), chance), 1, 1) for _ in range(50)]
    assert np.sqrt(np.mean(steady)) < 0.005
    days = [drift_variance(History(rng.normal(0, 0.05, 60), chance), 1, 1) for _ in range(50)]
    assert np.sqrt(np.mean(days)) == pytest.approx(0.05, rel=0.1)
    weeks = [drift_variance(History(rng.normal(0, 0.05, 60), chance), 1, 7) for _ in range(50)]
    assert np.sqrt(np.mean(weeks)) < 0.03
    walk = [History(np.cumsum(rng.normal(0, 0.02, 60)), chance) for _ in range(50)]
    near, far, beyond = (np.mean([drift_variance(each, ahead, 1) for each in walk]) for ahead in (1, 20, 60))
    assert near < far < beyond


def test_a_history_of_few_blocks_says_nothing():
    assert drift_variance(History(np.array([0.1, np.nan, -0.1, 0.1]), np.zeros(4)), 1, 1) == 0.0
    assert freedom(20, 1) == 19
    assert freedom(20, 5) == 3
