"""What people are shown of the evidence, and whether what is said to be missing is what was missing."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from modelyard.rollout.batches import Batch, Divided, Paired
from modelyard.rollout.decision import Verdict
from modelyard.rollout.evidence import start, take
from modelyard.rollout.policy import Policy, Rule, Step
from modelyard.rollout.telling import told

NOW = datetime(2026, 3, 1, tzinfo=UTC)
POLICY = Policy(steps=(Step(0.0), Step(0.2), Step(1.0)), rules=(Rule("errors", 0.01), Rule("wrong", 0.03)))


def batch(divided: dict[str, Divided] | None = None, paired: dict[str, Paired] | None = None, **more: str) -> Batch:
    return Batch(since=NOW, until=NOW, divided=divided or {}, paired=paired or {}, broken=more)


@pytest.mark.parametrize(("metric", "rate"), [("errors", 0.004), ("wrong", 0.2)])
def test_as_many_calls_as_are_said_to_be_missing_are_about_enough(metric: str, rate: float) -> None:
    """From after 1,000 calls on; the median of 40 rollouts is within a factor of two of what was said."""
    draw, ratios = np.random.default_rng(5), []
    place = [rule.metric for rule in POLICY.rules].index(metric)
    for _ in range(40):
        found, said, calls = start(POLICY), 0, 0
        while calls < 200_000:
            candidate = int(draw.binomial(500, 0.2))
            counts = Divided(
                500 - candidate, draw.binomial(500 - candidate, rate), candidate, draw.binomial(candidate, rate)
            )
            found, calls = take(found, batch({metric: counts}), 0.2), calls + 500
            now = told(found, POLICY, 1)[place]
            if now.verdict is Verdict.PASSED:
                break
            if calls == 1000:
                assert now.calls is not None
                said = now.calls
                assert "more" in now.missing
        ratios.append((calls - 1000) / max(said, 1))
    assert 0.5 <= np.median(ratios) <= 2.0


def test_rates_and_intervals_of_both_versions_are_told() -> None:
    found = take(start(POLICY), batch({"errors": Divided(4000.0, 40.0, 1000.0, 60.0)}), 0.2)
    errors, wrong = told(found, POLICY, 1)
    assert (errors.baseline, errors.baseline_rate, errors.candidate_rate) == (4000.0, 0.01, 0.06)
    assert errors.low is not None
    assert errors.high is not None
    assert 0.0 < errors.low <= 0.05 <= errors.high < 0.2
    assert (errors.verdict, errors.missing) == (Verdict.FAILED, "")
    assert (wrong.baseline_rate, wrong.low, wrong.missing) == (None, None, "no labelled rows yet")


def test_a_shadow_is_told_by_its_pairs_until_calls_are_divided() -> None:
    same = Paired(((0.0, 50.0),), ((0.0, 50.0),), Divided(50.0, 1.0, 50.0, 1.0))
    found = take(start(POLICY), batch(paired={"errors": same, "wrong": same}), 0.0)
    errors, wrong = told(found, POLICY, 0)
    assert (errors.baseline, errors.candidate_rate) == (50.0, 0.02)
    assert errors.verdict is Verdict.UNSURE
    assert errors.calls is not None
    assert 10 < errors.calls < 1000
    assert wrong.verdict is Verdict.UNSURE or wrong.missing == ""
    assert told(found, POLICY, 1)[0].baseline == 50.0
    assert told(found, POLICY, 2)[0].missing == "there is nothing to compare with any more"


def test_what_is_broken_is_told() -> None:
    found = take(start(POLICY), batch(wrong="no answer from there"), 0.2)
    assert told(found, POLICY, 1)[1].missing == "no answer from there"
    assert told(found, POLICY, 1)[1].verdict is Verdict.BROKEN
