"""What is done next, by tables of snapshots; and decisions that were stored are made again."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from modelyard.errors import InvalidRequest
from modelyard.rollout import policy as policies
from modelyard.rollout.decision import Decision, Measured, Snapshot, Verdict, decide
from modelyard.rollout.policy import Policy, Rule, Step

POLICY = Policy(
    steps=(Step(0.0, 60, 600), Step(0.05, 60, 600), Step(0.5, 60, 600), Step(1.0, 60, 600)),
    rules=(Rule("errors", 0.005), Rule("wrong", 0.01), Rule("slow", 0.1, weight=0.0)),
)
SAFE = (Measured("errors", safety=9.0), Measured("wrong", safety=9.0))
UNSURE = (Measured("errors", safety=9.0), Measured("wrong", safety=2.9))
HARM = (Measured("errors", safety=9.0), Measured("wrong", harm=5.4))
BLIND = (Measured("errors", safety=9.0), Measured("wrong", broken="no labels for 3 hours"))


@pytest.mark.parametrize(
    ("step", "seconds", "measured", "more", "action"),
    [
        (0, 59, SAFE, {}, "wait"),
        (0, 60, SAFE, {}, "advance"),
        (1, 300, UNSURE, {}, "wait"),
        (1, 600, UNSURE, {}, "hold"),
        (1, 0, HARM, {}, "rollback"),
        (1, 0, HARM, {"paused": "by anna: looking"}, "rollback"),
        (1, 300, SAFE, {"paused": "by anna: looking"}, "pause"),
        (1, 300, BLIND, {}, "pause"),
        (1, 9999, BLIND, {}, "pause"),
        (1, 300, (), {}, "pause"),
        (2, 300, SAFE, {}, "advance"),
        (3, 59, SAFE, {}, "wait"),
        (3, 60, SAFE, {}, "promote"),
        (1, 300, SAFE, {"unready": "not all workers have seen the step yet"}, "wait"),
        (1, 300, SAFE, {"unready": "unavailable", "lost_seconds": 9.9}, "wait"),
        (1, 300, SAFE, {"unready": "unavailable", "lost_seconds": 10.0}, "rollback"),
        (1, 300, SAFE, {"unready": "unavailable", "lost_seconds": 10.0, "paused": "by anna"}, "rollback"),
        (1, 300, HARM, {"unready": "about to be loaded"}, "rollback"),
        (1, 300, BLIND, {"unready": "about to be loaded"}, "wait"),
    ],
)
def test_the_table(
    step: int, seconds: float, measured: tuple[Measured, ...], more: dict[str, Any], action: str
) -> None:
    found = decide(Snapshot(POLICY, step, seconds, measured, **more))
    assert found.action == action, found.reason
    assert found.reason


@pytest.mark.parametrize(("undecided", "action"), [("hold", "hold"), ("rollback", "rollback"), ("promote", "advance")])
def test_undecided(undecided: Any, action: str) -> None:
    policy = msgspec.structs.replace(POLICY, undecided=undecided)
    assert decide(Snapshot(policy, 1, 600.0, UNSURE)).action == action


def test_a_metric_that_is_not_required_holds_nothing_up_until_there_is_something_to_go_by() -> None:
    policy = msgspec.structs.replace(POLICY, rules=(Rule("errors", 0.005), Rule("wrong", 0.01, required=False)))
    for nothing in ((SAFE[0],), (SAFE[0], Measured("wrong")), (SAFE[0], Measured("wrong", broken="no labels"))):
        assert decide(Snapshot(policy, 1, 60.0, nothing)).action == "advance"
    assert decide(Snapshot(policy, 1, 60.0, (SAFE[0], Measured("wrong", safety=1.0, seen=40.0)))).action == "wait"
    assert decide(Snapshot(policy, 1, 60.0, (SAFE[0], Measured("wrong", harm=9.0, seen=40.0)))).action == "rollback"


def test_who_must_approve_is_asked_before_everybody_gets_it() -> None:
    policy = msgspec.structs.replace(POLICY, approvers=("anna", "ben"))
    assert decide(Snapshot(policy, 1, 300.0, SAFE)).action == "advance"
    held = decide(Snapshot(policy, 2, 300.0, SAFE, approved=("anna",)))
    assert (held.action, "ben" in held.reason, "anna" in held.reason) == ("hold", True, False)
    assert decide(Snapshot(policy, 2, 300.0, SAFE, approved=("ben", "anna"))).action == "advance"


def test_verdicts_are_told_by_metric_and_watched_ones_do_not_decide() -> None:
    found = decide(Snapshot(POLICY, 1, 300.0, (*HARM, Measured("slow", harm=99.0))))
    assert found.verdicts == {"errors": Verdict.PASSED, "wrong": Verdict.FAILED}
    assert decide(Snapshot(POLICY, 1, 300.0, (*SAFE, Measured("slow", harm=99.0)))).action == "advance"


def test_false_rollbacks_are_shared_out_among_metrics() -> None:
    """Two metrics that decide: each has half of 1 %, so evidence of 100 against one of them is not enough."""
    assert decide(Snapshot(POLICY, 1, 300.0, (Measured("errors", harm=4.7), SAFE[1]))).action == "wait"
    assert decide(Snapshot(POLICY, 1, 300.0, (Measured("errors", harm=5.3), SAFE[1]))).action == "rollback"


def test_a_small_share_has_to_exclude_less() -> None:
    tolerated = [POLICY.tolerated(POLICY.rules[0], step) for step in range(4)]
    assert tolerated == pytest.approx([0.1, 0.01, 0.005, 0.005])


def test_a_stored_decision_is_made_again() -> None:
    for measured in (SAFE, UNSURE, HARM, BLIND):
        snapshot = Snapshot(POLICY, 1, 600.0, measured)
        stored = msgspec.json.encode((snapshot, decide(snapshot)))
        again, said = msgspec.json.decode(stored, type=tuple[Snapshot, Decision])
        assert decide(again) == said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": ()}, "no shares"),
        ({"steps": (Step(0.5), Step(0.1), Step(1.0))}, "do not grow"),
        ({"steps": (Step(0.5),)}, "last step"),
        ({"steps": (Step(0.5, 60, 30), Step(1.0))}, "cannot be kept"),
        ({"steps": (Step(1.5),)}, "no shares"),
        ({"rules": (Rule("errors", 0.1), Rule("errors", 0.2))}, "named twice"),
        ({"rules": (Rule("errors", 1.0),)}, "margin"),
        ({"alpha": 0.0}, "probabilities"),
        ({"rules": ()}, "judged by nothing"),
        ({"rules": (Rule("errors", 0.1, weight=0.0),)}, "judged by nothing"),
    ],
)
def test_policies_that_cannot_be_followed(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        policies.check(msgspec.structs.replace(POLICY, **changes))
    policies.check(POLICY)
    policies.check(Policy())
