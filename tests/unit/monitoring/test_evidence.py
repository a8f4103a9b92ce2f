"""E-values: expectation at most 1 on all of what is harmless, by adding up every possible outcome."""

import numpy as np
import pytest
from scipy.stats import binom

from modelyard.monitoring.evidence import STEPS, Against, added_up, beside


@pytest.mark.parametrize("share", [0.2, 0.3, 0.45, 0.6])
def test_against_a_range_the_expectation_is_at_most_one_inside_of_it(share: float) -> None:
    made = Against(np.array([0.2]), np.array([0.6]), np.ones(1))
    outcomes = np.arange(21)
    each = np.array([made.ratios(np.array([float(x)]), np.array([20.0]))[0] for x in outcomes])
    assert (binom.pmf(outcomes, 20, share) @ each <= 1 + 1e-9).all()


def test_against_a_range_evidence_grows_outside_of_it() -> None:
    made = Against(np.array([0.2]), np.array([0.6]), np.ones(1))
    outcomes = np.arange(21)
    each = np.array([made.ratios(np.array([float(x)]), np.array([20.0]))[0] for x in outcomes])
    assert (binom.pmf(outcomes, 20, 0.8) @ np.log(each)).max() > 1.0
    assert (binom.pmf(outcomes, 20, 0.05) @ np.log(each)).max() > 1.0


@pytest.mark.parametrize("guess", [0.05, 0.4, 0.9])
@pytest.mark.parametrize(("before", "now"), [(0.3, 0.3), (0.3, 0.4), (0.3, 0.2), (0.9, 1.0), (0.0, 0.1), (0.5, 0.45)])
def test_beside_earlier_rows_the_expectation_is_at_most_one_within_the_margin(
    guess: float, before: float, now: float
) -> None:
    """7 rows now, 12 before; the margin is 0.1."""
    x, big_x = np.meshgrid(np.arange(8.0), np.arange(13.0), indexing="ij")
    flat, flat_big = x.ravel(), big_x.ravel()
    same = np.ones(len(flat))
    found = beside(flat, 7 * same, (flat_big, 12 * same), guess * same, 0.1 * same, 1.0)
    chance = binom.pmf(flat, 7, now) * binom.pmf(flat_big, 12, before)
    assert (chance @ found <= 1 + 1e-9).all()
    roots = beside(flat, 7 * same, (flat_big, 12 * same), guess * same, 0.1 * same, 2.0)
    np.testing.assert_allclose(roots**2, found)


def test_beside_earlier_rows_evidence_grows_where_shares_differ() -> None:
    rng = np.random.default_rng(2)
    x, before = rng.binomial(300, 0.6, 200).astype(float), rng.binomial(600, 0.3, 200).astype(float)
    same = np.ones(200)
    found = np.log(beside(x, 300 * same, (before, 600 * same), 0.35 * same, 0.05 * same, 1.0)).mean(axis=0)
    assert found[: len(STEPS)].max() > 10.0
    assert found[len(STEPS) :].max() < 0.0


def test_without_rows_nothing_is_added() -> None:
    none, one = np.zeros(1), np.ones(1)
    found = beside(none, none, (one, 2 * one), 0.5 * one, 0.1 * one, 1.0)
    assert (found == 1.0).all()
    assert (added_up(np.full((1, 12), 5.0), found, none, 3600.0) == 5.0).all()
