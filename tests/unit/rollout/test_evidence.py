"""Evidence that is stored and taken up again: the same as if it never was, and as rare in error as it says."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.domain.profile import numbers_described
from modelyard.errors import InvalidRequest
from modelyard.rollout import arms, evidence, pairs
from modelyard.rollout.batches import Batch, Divided, Paired
from modelyard.rollout.cuts import cuts_of
from modelyard.rollout.decision import Snapshot, decide
from modelyard.rollout.evidence import Evidence, measured, start, take
from modelyard.rollout.policy import Policy, Rule, Step

NOW = datetime(2026, 3, 1, tzinfo=UTC)
POLICY = Policy(
    steps=(Step(0.0, 0), Step(0.1, 0), Step(0.5, 0), Step(1.0, 0)),
    rules=(Rule("errors", 0.01), Rule("wrong", 0.013)),
)


def batch(divided: dict[str, Divided] | None = None, paired: dict[str, Paired] | None = None, **more: str) -> Batch:
    return Batch(since=NOW, until=NOW, divided=divided or {}, paired=paired or {}, broken=more)


def stored(one: Evidence) -> Evidence:
    return msgspec.json.decode(msgspec.json.encode(one), type=Evidence)


COUNTS = st.tuples(st.integers(0, 90), st.floats(0, 1), st.integers(0, 90), st.floats(0, 1)).map(
    lambda drawn: Divided(drawn[0], drawn[0] * drawn[1], drawn[2], drawn[2] * drawn[3])
)


@given(st.lists(st.tuples(COUNTS, st.sampled_from([0.1, 0.5])), max_size=8))
@settings(deadline=None, max_examples=30)
def test_evidence_that_is_stored_between_looks_is_that_of_one_who_never_stops(
    looks: list[tuple[Divided, float]],
) -> None:
    kept, whole = start(POLICY), arms.start(start(POLICY).margins["errors"])
    for counts, share in looks:
        kept = stored(take(kept, batch({"errors": counts}), share))
        if counts.baseline + counts.candidate:
            each = (counts.baseline, counts.baseline_bad, counts.candidate, counts.candidate_bad)
            whole = arms.observe(whole, arms.Counts.of(*each), share)
    errors = measured(kept, POLICY, 2)[0]
    at = start(POLICY).margins["errors"].index(0.01)
    assert errors.harm == pytest.approx(float(whole.harm[at]), abs=1e-12)
    assert errors.safety == pytest.approx(float(whole.safety[at]), abs=1e-12)


def test_pairs_that_are_stored_between_looks_too() -> None:
    draw, kept, whole = np.random.default_rng(1), start(POLICY), pairs.start(start(POLICY).margins["wrong"])
    for _ in range(9):
        rows = draw.choice([-1.0, 0.0, 1.0], 40, p=[0.05, 0.85, 0.1])
        values, many = np.unique(rows, return_counts=True)
        found = tuple(zip(values.tolist(), map(float, many), strict=True))
        kept = stored(take(kept, batch(paired={"wrong": Paired(found, found)}), 0.0))
        whole = pairs.observe(whole, rows)
    said = measured(kept, POLICY, 0)[1]
    at = start(POLICY).margins["wrong"].index(0.013)
    assert said.harm == pytest.approx(float(whole.harm[at]))
    at = start(POLICY).margins["wrong"].index(evidence.tolerated(POLICY, POLICY.rules[1], 0))
    assert said.safety == pytest.approx(float(whole.safety[at]))


def test_a_shadow_shows_how_good_answers_are_but_not_how_reliably_callers_get_them() -> None:
    many = Paired(((0.0, 5000.0),), ((0.0, 5000.0),), Divided(5000.0, 0.0, 5000.0, 0.0))
    found = take(start(POLICY), batch(paired={"errors": many, "wrong": many}), 0.0)
    errors, wrong = measured(found, POLICY, 0)
    assert min(errors.safety, wrong.safety) > math.log(20)
    errors, wrong = measured(found, POLICY, 1)
    assert (errors.safety, wrong.safety > math.log(20)) == (0.0, True)


def test_harm_is_seen_wherever_it_shows() -> None:
    bad = Paired(((1.0, 200.0),), ((1.0, 200.0),))
    for step in (0, 1, 3):
        found = take(start(POLICY), batch(paired={"errors": bad}), 0.0)
        assert measured(found, POLICY, step)[0].harm > math.log(1000)
    found = take(found, batch({"errors": Divided(500.0, 0.0, 500.0, 0.0)}), 0.5)
    assert measured(found, POLICY, 2)[0].harm > math.log(1000)


def test_a_baseline_that_fails_too_is_no_harm_of_the_candidate() -> None:
    """Both fail in 3 of 100 calls, at different ones; the shadow is asked only for what the baseline answered."""
    found = start(POLICY)
    for _ in range(100):
        looked = Paired(((0.0, 97.0), (1.0, 3.0)), ((-1.0, 3.0), (0.0, 94.0), (1.0, 3.0)))
        found = take(found, batch(paired={"errors": looked}), 0.0)
    errors = measured(found, POLICY, 0)[0]
    assert errors.harm < math.log(20)


def test_what_is_broken_is_said_until_it_comes_back() -> None:
    found = take(start(POLICY), batch({"errors": Divided(9.0, 0.0, 9.0, 0.0)}, wrong="no answer from there"), 0.5)
    assert measured(found, POLICY, 1)[1].broken == "no answer from there"
    assert decide(Snapshot(POLICY, 1, 9.0, measured(found, POLICY, 1))).action == "pause"
    assert not measured(take(found, batch(), 0.5), POLICY, 1)[1].broken


def test_a_candidate_that_has_all_calls_is_compared_with_nothing() -> None:
    found = take(start(POLICY), batch({"errors": Divided(0.0, 0.0, 100.0, 90.0)}), 1.0)
    assert measured(found, POLICY, 3)[0].harm == 0.0


def test_evidence_of_another_policy_is_refused() -> None:
    found = take(start(POLICY), batch({"errors": Divided(9.0, 0.0, 9.0, 0.0)}), 0.5)
    with pytest.raises(InvalidRequest, match="another policy"):
        measured(found, Policy(rules=(Rule("errors", 0.0171),)), 0)


def test_evidence_stays_small() -> None:
    found = start(Policy())
    for share in (0.0, 0.1):
        metrics = [rule.metric for rule in Policy().rules]
        both = Paired(((0.0, 9.0),), ((0.0, 9.0),))
        found = take(found, batch(dict.fromkeys(metrics, Divided(9, 0, 9, 0)), dict.fromkeys(metrics, both)), share)
    found = take(found, batch(paired=dict.fromkeys(metrics, both)), 0.0)
    assert len(msgspec.json.encode(found)) < 100_000


@pytest.mark.parametrize("traffic", [15.0, 600.0])
def test_whole_rollouts_of_an_identical_version_are_rolled_back_as_seldom_as_the_policy_says(traffic: float) -> None:
    """A shadow and two shares, two metrics that lie at their margin each, looked at 30 times."""
    policy = msgspec.structs.replace(POLICY, alpha=0.1)
    draw, runs, back = np.random.default_rng(17), 60, 0
    for _ in range(runs):
        found, verdicts = start(policy), set()
        for look in range(30):
            step = min(look // 10, 2)
            share = policy.steps[step].share
            more: dict[str, Divided] = {}
            same: dict[str, Paired] = {}
            for rule, rate in zip(policy.rules, (0.02, 0.2), strict=True):
                candidate, baseline = draw.poisson(traffic * share), draw.poisson(traffic * (1 - share))
                worse = rate + rule.margin
                more[rule.metric] = Divided(
                    baseline, draw.binomial(baseline, rate), candidate, draw.binomial(candidate, worse)
                )
                b, c = draw.random(baseline) < rate, draw.random(baseline) < worse
                values, many = np.unique(c * 1.0 - b, return_counts=True)
                pair = tuple(zip(values.tolist(), map(float, many), strict=True))
                same[rule.metric] = Paired(pair, pair)
            found = take(found, batch(more if share else {}, {} if share else same), share)
            verdicts.add(decide(Snapshot(policy, step, 0.0, measured(found, policy, step))).action)
        back += "rollback" in verdicts
    assert back / runs <= policy.alpha + 4 * math.sqrt(policy.alpha * (1 - policy.alpha) / runs)


def test_margins_of_the_policy_are_among_those_that_evidence_is_gathered_on() -> None:
    for rule in POLICY.rules:
        margins = start(POLICY).margins[rule.metric]
        assert {rule.margin, *(evidence.tolerated(POLICY, rule, step) for step in range(4))} <= set(margins)
        assert list(margins) == sorted(set(margins))
    alone = Policy(strategy="shadow", steps=(Step(0.0),), rules=(Rule("errors", 0.01),))
    assert measured(start(alone), alone, 0)[0].safety == 0.0


ANSWERS = Policy(
    steps=(Step(0.0, 0), Step(0.5, 0), Step(1.0, 0)), rules=(Rule("answers", 0.05), Rule("different", 0.01))
)


@pytest.mark.parametrize(("more", "verdict"), [(0.2, "rollback"), (-0.2, "rollback"), (0.0, "advance")])
def test_more_and_fewer_of_a_class_are_both_a_change(more: float, verdict: str) -> None:
    found = take(start(ANSWERS), batch(paired={"different": Paired(((0.0, 9000.0),), ((0.0, 9000.0),))}), 0.0)
    for _ in range(20):
        parts = {
            f"answers={name}": Divided(500.0, 150.0, 500.0, 150.0 + sign * more * 500)
            for name, sign in (("a", 1), ("b", 0))
        }
        found = stored(take(found, batch(parts), 0.5))
    assert decide(Snapshot(ANSWERS, 1, 9.0, measured(found, ANSWERS, 1))).action == verdict


def test_rows_that_differ_can_only_be_seen_in_a_shadow() -> None:
    found = take(start(ANSWERS), batch({"answers=a": Divided(9.0, 1.0, 9.0, 1.0)}), 0.5)
    assert "begin with a step shadow" in measured(found, ANSWERS, 1)[1].broken


def test_where_nothing_may_differ_one_row_that_does_is_enough() -> None:
    policy = Policy(steps=(Step(0.0, 0), Step(1.0, 0)), rules=(Rule("different", 0.0),))
    found = take(
        start(policy), batch(paired={"different": Paired(((0.0, 500.0), (1.0, 1.0)), ((0.0, 500.0), (1.0, 1.0)))}), 0.0
    )
    assert decide(Snapshot(policy, 0, 9.0, measured(found, policy, 0))).action == "rollback"


def test_a_splitter_that_does_something_else_pauses() -> None:
    found = take(start(POLICY), batch({"ratio": Divided(2000.0, 0.0, 0.0, 0.0)}), 0.5)
    assert "instead of 50 %" in measured(found, POLICY, 2)[0].broken
    assert decide(Snapshot(POLICY, 2, 9.0, measured(found, POLICY, 2))).action == "pause"
    assert not measured(found, POLICY, 3)[0].broken


def test_what_a_shadow_cannot_show_does_not_hold_it_up() -> None:
    policy = Policy(
        steps=(Step(0.0, 0), Step(0.5, 0), Step(1.0, 0)), rules=(Rule("timeouts", 0.01, url="http://there"),)
    )
    assert decide(Snapshot(policy, 0, 9.0, measured(start(policy), policy, 0))).action == "advance"
    assert decide(Snapshot(policy, 1, 9.0, measured(start(policy), policy, 1))).action == "wait"


@pytest.mark.parametrize(("mean", "spread", "says"), [(0.0, 1.0, None), (0.5, 1.0, "rollback"), (0.0, 2.0, "rollback")])
def test_other_numbers_are_found_by_where_they_lie_and_the_same_are_not(
    mean: float, spread: float, says: str | None
) -> None:
    """Looked at every 50 calls, up to 3,000: a shift of half a deviation, and the same mean with twice the spread."""
    draw = np.random.default_rng(12)
    cuts = cuts_of({"outputs": {"predict": numbers_described(draw.normal(size=5000), 0)}}, "predict")
    policy = Policy(steps=(Step(0.5, 0, 3600.0), Step(1.0, 0, 3600.0)), rules=(Rule("answers", 0.05),))
    ends = []
    for _ in range(12):
        found, said = start(policy), "wait"
        for _ in range(60):
            before, after = draw.normal(size=25), draw.normal(mean, spread, size=25)
            counts = {
                f"answers=over {cut}": Divided(25.0, float((before > cut).sum()), 25.0, float((after > cut).sum()))
                for cut in cuts
            }
            found = take(found, batch(counts), 0.5)
            said = decide(Snapshot(policy, 0, 10.0, measured(found, policy, 0))).action
            if said == "rollback":
                break
        ends.append(said)
    assert ("rollback" not in ends) if says is None else set(ends) == {says}
