"""What chance explains in one comparison: against scipy's exact distribution, and by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom

from modelyard.monitoring.chance import log_tail, noticed_from, shared_out, surprises
from modelyard.monitoring.facets import questions
from modelyard.monitoring.reference import Reference


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.data())
def test_a_tail_is_never_below_the_exact_one_and_close_to_it(n: int, m: int, data: st.DataObject) -> None:
    x, y = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    found = log_tail(x, n, y, m)
    law = hypergeom(n + m, x + y, n)
    exact = law.sf(x - 1) if x * m > y * n else law.cdf(x)
    assert math.exp(found) >= exact * (1 - 1e-6)
    if exact < 0.01:
        assert math.exp(found) <= 2.5 * exact


def test_tables_of_one_source_are_seldom_called_different() -> None:
    rng = np.random.default_rng(11)
    called = 0
    error = math.log(1000)
    for _ in range(200):
        both = [
            {"n": rng.normal(size=rows), "i": rng.integers(0, 7, rows), "t": rng.choice(list("abcdef"), rows)}
            for rows in (400, 90)
        ]
        made = Reference.of_table(both[0])
        counted = made.profile(both[1])
        asked = {name: questions(slots, slots.reference) for name, slots in made.slots.items()}
        number = sum(len(each.facets) for each in asked.values())
        least = min(
            min(surprises(asked[name], slots.reference, counted.columns[name].counts, error).values())
            for name, slots in made.slots.items()
        )
        called += shared_out(least, number) <= 0.05
    assert called <= 200 * 0.05


def test_what_would_have_been_noticed_is_noticed() -> None:
    distance = noticed_from(2000, 5000, 100, 0.01)
    chance = log_tail(round(2000 * (0.5 + distance)), 2000, 2500, 5000)
    assert shared_out(chance, 100) <= 0.01
    assert distance == pytest.approx(math.sqrt(math.log(20_000) * 7000 / (2 * 2000 * 5000)))
    assert noticed_from(0, 10, 1, 0.01) == 1.0
