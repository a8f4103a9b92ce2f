"""Evidence on pairs: against the bets made one by one, and its error rate."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.errors import InvalidRequest
from modelyard.rollout import betting, pairs


@given(st.lists(st.sampled_from([-1.0, -0.25, 0.0, 0.5, 1.0]), max_size=12), st.sampled_from([-0.3, 0.0, 0.1]))
@settings(deadline=None)
def test_rows_in_any_order_and_any_cut_give_what_betting_on_each_gives(rows: list[float], margin: float) -> None:
    whole = pairs.observe(pairs.start([margin]), rows)
    cut = pairs.observe(pairs.observe(pairs.start([margin]), rows[::-1][:5]), rows[::-1][5:])
    owned = betting.STAKES * 0.0 + 1.0 / len(betting.STAKES)
    for row in rows:
        owned = owned * (1.0 + betting.STAKES * (row - margin) / (margin + 1.0))
    assert float(whole.harm[0]) == pytest.approx(math.log(owned.sum()), abs=1e-9)
    assert float(cut.harm[0]) == pytest.approx(float(whole.harm[0]), abs=1e-9)
    assert (whole.rows, whole.total) == (len(rows), pytest.approx(sum(rows)))


def test_no_difference_is_seldom_called_harm() -> None:
    draw, crossed, runs, level = np.random.default_rng(11), 0, 400, 0.05
    for _ in range(runs):
        evidence, high = pairs.start([0.0]), -math.inf
        for _ in range(40):
            evidence = pairs.observe(evidence, draw.choice([-1.0, 0.0, 1.0], 25, p=[0.05, 0.9, 0.05]))
            high = max(high, float(evidence.harm[0]))
        crossed += high >= math.log(1 / level)
    assert crossed / runs <= level + 4 * math.sqrt(level * (1 - level) / runs)


def test_rows_that_must_not_differ_need_no_negative_side() -> None:
    """Where answers may not change at all, one that does is enough."""
    evidence = pairs.observe(pairs.start([0.0], least=0.0), [0.0] * 500 + [1.0])
    assert float(evidence.harm[0]) > math.log(100)
    assert float(pairs.observe(pairs.start([0.02], least=0.0), [0.0] * 500).safety[0]) > math.log(20)


def test_what_is_no_difference_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="between -1 and 1"):
        pairs.observe(pairs.start([0.0]), [1.5])
    with pytest.raises(InvalidRequest, match="between 0 and 1"):
        pairs.start([-0.1], least=0.0)
