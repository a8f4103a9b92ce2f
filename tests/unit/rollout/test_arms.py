"""Evidence on two arms: valid at all times, and against the same bets made one by one."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.errors import InvalidRequest
from modelyard.rollout import arms, betting
from modelyard.rollout.arms import Counts


def played(calls: list[tuple[bool, bool]], margin: float, share: float, rate: float) -> float:
    """The wealth of those who bet on harm, call by call, by the formula."""
    owned = [1.0 / len(betting.STAKES)] * len(betting.STAKES)
    least = min(-rate / share, -(1.0 - rate) / (1.0 - share))
    for candidate, bad in calls:
        z = (bad - rate) / share if candidate else -(bad - rate) / (1.0 - share)
        owned = [
            each * (1.0 + stake * (z - margin) / (margin - least))
            for each, stake in zip(owned, betting.STAKES.tolist(), strict=True)
        ]
    return sum(owned)


def counted(calls: list[tuple[bool, bool]]) -> Counts:
    return Counts.of(
        sum(not candidate for candidate, _ in calls),
        sum(bad and not candidate for candidate, bad in calls),
        sum(candidate for candidate, _ in calls),
        sum(bad and candidate for candidate, bad in calls),
    )


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), max_size=9),
    st.sampled_from([-0.1, 0.0, 0.02, 0.4]),
    st.floats(0.05, 0.95),
)
@settings(deadline=None)
def test_counts_give_what_betting_on_each_call_gives(
    calls: list[tuple[bool, bool]], margin: float, share: float
) -> None:
    begun = arms.start([margin])
    found = arms.observe(begun, counted(calls), share)
    assert float(found.harm[0]) == pytest.approx(math.log(played(calls, margin, share, float(begun.rate))), abs=1e-9)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5])
@pytest.mark.parametrize(("rate", "margin"), [(0.01, 0.0), (0.2, 0.05), (0.9, -0.1)])
def test_one_call_is_a_fair_bet_at_the_margin_and_a_losing_one_below_it(
    share: float, rate: float, margin: float
) -> None:
    """The expectation over all that one call can be is at most 1, for every rate of the baseline."""
    begun = arms.start([margin])
    for baseline in np.linspace(max(0.0, -margin), min(1.0, 1.0 - margin), 7).tolist():
        for worse, side in ((margin, "both"), (margin - 0.03, "harm"), (margin + 0.03, "safety")):
            candidate = baseline + worse
            if not 0.0 <= candidate <= 1.0:
                continue
            harm = safety = 0.0
            for to_candidate, bad in itertools.product((True, False), (True, False)):
                chance = (share if to_candidate else 1.0 - share) * (
                    (candidate if to_candidate else baseline)
                    if bad
                    else 1.0 - (candidate if to_candidate else baseline)
                )
                found = arms.observe(begun, counted([(to_candidate, bad)]), share)
                harm += chance * math.exp(float(found.harm[0]))
                safety += chance * math.exp(float(found.safety[0]))
            if side in ("both", "harm"):
                assert harm <= 1.0 + 1e-9
            if side in ("both", "safety"):
                assert safety <= 1.0 + 1e-9


def test_an_identical_candidate_is_seldom_condemned_however_often_one_looks() -> None:
    """2,000 rollouts, looked at 300 times, at the hardest margin, 0: at most 5 % may cross at that level."""
    draw, rollouts, level = np.random.default_rng(7), 2000, 0.05
    evidence, crossed = arms.start([0.0], (rollouts,)), np.zeros(rollouts, dtype=bool)
    for look in range(300):
        share, rate = (0.05 if look < 100 else 0.5), (0.02 if look % 50 < 25 else 0.2)
        candidate = draw.binomial(40, share, rollouts)
        counts = Counts(
            (40.0 - candidate),
            draw.binomial(40 - candidate, rate).astype(float),
            candidate.astype(float),
            draw.binomial(candidate, rate).astype(float),
        )
        evidence = arms.observe(evidence, counts, share)
        crossed |= evidence.harm[0] >= math.log(1 / level)
    allowed = level + 4 * math.sqrt(level * (1 - level) / rollouts)
    assert crossed.mean() <= allowed
    assert crossed.mean() > 0.0, "a test that never errs at its hardest null says too little"


def test_harm_is_found_and_safety_too() -> None:
    draw = np.random.default_rng(3)
    for worse, side in ((0.04, "harm"), (0.0, "safety")):
        evidence = arms.start([0.02], (50,))
        for _ in range(400):
            candidate = draw.binomial(100, 0.25, 50)
            evidence = arms.observe(
                evidence,
                Counts(
                    100.0 - candidate,
                    draw.binomial(100 - candidate, 0.05).astype(float),
                    candidate.astype(float),
                    draw.binomial(candidate, 0.05 + worse).astype(float),
                ),
                0.25,
            )
        found = evidence.harm if side == "harm" else evidence.safety
        assert (found[0] >= math.log(100)).mean() > 0.95


def test_the_interval_holds_the_difference() -> None:
    draw = np.random.default_rng(5)
    evidence = arms.start(np.linspace(-0.2, 0.2, 81).tolist())
    assert arms.bounds(evidence, 0.05) == (-1.0, 1.0)
    for _ in range(200):
        candidate = int(draw.binomial(200, 0.5))
        counts = Counts.of(
            200 - candidate, draw.binomial(200 - candidate, 0.1), candidate, draw.binomial(candidate, 0.16)
        )
        evidence = arms.observe(evidence, counts, 0.5)
    low, high = arms.bounds(evidence, 0.05)
    assert low <= 0.06 <= high
    assert high - low < 0.05


def test_half_a_harm_is_never_more_evidence_than_betting_on_it() -> None:
    """With half-bad calls the wealth is at most what bets on the halves would own."""
    begun = arms.start([0.0])
    rate, share = float(begun.rate), 0.5
    found = arms.observe(begun, Counts.of(0, 0, 10, 5), share)
    least = min(-rate / share, -(1.0 - rate) / (1.0 - share))
    by_hand = betting.start(1) + 10 * betting.gains(
        np.array([(0.5 - rate) / share]), np.array([0.0]), np.array([least])
    )
    assert float(found.harm[0]) <= float(betting.wealth(by_hand)[0])


def test_people_who_stay_together_count_less() -> None:
    counts = Counts.of(500, 5, 500, 40)
    alone, together = arms.observe(arms.start([0.0]), counts, 0.5), arms.observe(arms.start([0.0]), counts, 0.5, 10.0)
    assert float(together.harm[0]) < float(alone.harm[0])


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_nothing_to_compare_is_refused(share: float) -> None:
    with pytest.raises(InvalidRequest, match="nothing to compare"):
        arms.observe(arms.start([0.0]), Counts.of(1, 0, 1, 0), share)


def test_counts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="more than all"):
        arms.observe(arms.start([0.0]), Counts.of(1, 2, 1, 0), 0.5)
    with pytest.raises(InvalidRequest, match="between -1 and 1"):
        arms.start([1.5])
