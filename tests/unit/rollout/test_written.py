"""Policies as people write them, and what is said of those that mean nothing."""

from __future__ import annotations

from typing import Any

import pytest

from modelyard.errors import InvalidRequest
from modelyard.rollout.policy import RULES, Policy
from modelyard.rollout.written import policy_of, table_of


def test_nothing_said_is_what_is_usual() -> None:
    assert policy_of({}) == Policy()


def test_all_that_can_be_said() -> None:
    policy = policy_of(
        {
            "steps": ["shadow", "1%", {"share": "25%", "least": "1h", "most": "2d"}, 1],
            "least": "10m",
            "most": "6h",
            "undecided": "rollback",
            "approvers": ["ada"],
            "alpha": 0.02,
            "metrics": {
                "errors": "0.5%",
                "wrong": 0.02,
                "slow": {"objective_ms": 40.0},
                "own": {"margin": 0.1, "url": "http://127.0.0.1:9/own"},
            },
        }
    )
    assert [(step.share, step.least, step.most) for step in policy.steps] == [
        (0.0, 600.0, 21600.0), (0.01, 600.0, 21600.0), (0.25, 3600.0, 172800.0), (1.0, 600.0, 21600.0),
    ]  # fmt: skip
    assert (policy.undecided, policy.approvers, policy.alpha) == ("rollback", ("ada",), 0.02)
    rules = {rule.metric: rule for rule in policy.rules}
    assert (rules["errors"].margin, rules["wrong"].margin, rules["own"].margin) == (0.005, 0.02, 0.1)
    assert (rules["slow"].objective_ms, rules["slow"].margin) == (
        40.0,
        next(rule for rule in RULES if rule.metric == "slow").margin,
    )
    assert rules["wrong"].required, "who names a metric wants it to be measured"


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"step": []}, "unknown field `step`; it may hold steps"),
        ({"steps": ["5%", "1%", "100%"]}, "do not grow"),
        ({"steps": ["many"]}, "'many' is no share"),
        ({"steps": ["50%"]}, "last step"),
        ({"least": "soon"}, "least: 'soon' is no length of time"),
        ({"undecided": "ask"}, "undecided"),
        ({"metrics": {"own": {}}}, "own has no margin"),
        ({"metrics": {"errors": {"marg": 1}}}, "errors has marg; what means something is"),
        ({"metrics": {"errors": 2}}, "no share"),
        ({"approvers": "ada"}, "approvers"),
    ],
)
def test_what_means_nothing_is_refused(table: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        policy_of(table)


def test_metrics_as_options() -> None:
    assert table_of(["errors=1%", "wrong=0.05"]) == {"errors": 0.01, "wrong": 0.05}
    with pytest.raises(InvalidRequest, match=r"write errors=0\.005"):
        table_of(["errors"])
