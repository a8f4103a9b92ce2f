"""Sums that do not depend on order or split, and are right."""

import math
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from modelyard.monitoring.moments import Moments, moments_of, unit_for

FLOATS = st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=60)
PLAIN = st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=60)


def of(values: list[float], unit: int) -> Moments:
    return moments_of(np.sort(np.array(values, dtype=np.float64)), unit)


@given(FLOATS, st.randoms(use_true_random=False), st.floats(0, 1.7e308))
def test_any_order_and_split_give_the_same(values: list[float], random: object, largest: float) -> None:
    unit = unit_for(largest)
    whole = of(values, unit)
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    cut = len(values) // 3
    assert of(shuffled[cut:], unit) + of(shuffled[:cut], unit) == whole


@given(PLAIN)
def test_mean_and_deviation_are_those_of_exact_fractions(values: list[float]) -> None:
    largest = max(1e-280, *map(abs, values))  # what is smaller still is taken for nothing
    found = of(values, unit_for(largest))
    exact = [Fraction(value) for value in values]
    mean = sum(exact) / len(exact)
    spread = sum((value - mean) ** 2 for value in exact) / len(exact)
    assert math.isclose(found.mean or 0.0, float(mean), rel_tol=0, abs_tol=largest * 2**-35)
    assert math.isclose(found.deviation or 0.0, math.sqrt(spread), rel_tol=1e-6, abs_tol=largest * 2**-35)


def test_values_far_beyond_the_reference_are_added_too() -> None:
    values = [1.5, -2.0, 1e12, -3e200, 1.7e308]
    found = of(values, unit_for(2.0))
    assert found.mean is not None
    assert math.isclose(found.mean, sum(values) / 5, rel_tol=1e-5)
    assert (found.least, found.largest) == (-3e200, 1.7e308)


def test_the_sign_of_zero_leaves_no_trace() -> None:
    assert str(of([-0.0], -30).least) == str(of([0.0], -30).least) == "0.0"
