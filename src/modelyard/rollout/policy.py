"""What a rollout is told before it begins: its steps, what is measured, and how much harm would be too much."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, TypeAlias

import msgspec

from modelyard.errors import InvalidRequest
from modelyard.rollout import metrics

Strategy: TypeAlias = Literal["canary", "shadow", "replace", "blue-green", "ab"]
Undecided: TypeAlias = Literal["hold", "promote", "rollback"]

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0


class Step(msgspec.Struct, frozen=True):
    """Which share of the calls the candidate answers, and for how long at least and at most (seconds).

    A share of 0 is a shadow: the candidate computes what the baseline is asked, and nobody sees its answers.
    """

    share: float
    least: float = 5 * MINUTE
    most: float = DAY


class Rule(msgspec.Struct, frozen=True):
    """One metric: by how much the rate of what is bad may be higher than the baseline's before that is harm.

    `weight` is its part of the false rollbacks that are taken; a metric that is watched only has 0, and never decides.
    One that is not `required` may condemn, but holds nothing up as long as there is nothing to go by, such as labels.
    """

    metric: str
    margin: float
    weight: float = 1.0
    required: bool = True
    objective_ms: float = 100.0
    """Of ``slow``: answers later than this count."""
    tolerance: float = 0.0
    """Of ``different``: numbers may differ by so much."""
    bound: float = 0.0
    """Of ``loss``: being off by so much, or more, is as bad as can be."""
    range: tuple[float, float] | None = None
    """Of ``unusable``: numbers that are answered lie between these."""
    cuts: tuple[float, ...] = ()
    """Of ``answers``, where they are numbers: how many lie above each of these; quantiles of training if not said."""
    url: str = ""
    """Of a metric of the user's own: a Prometheus server where there is a `query`, else a web hook."""
    query: str = ""
    """PromQL for a counter of what is bad; ``{version}``, ``{model}`` and ``{deployment}`` in it are filled in."""
    total: str = ""
    """The same for a counter of everything."""


RULES = (
    Rule("errors", 0.005),
    Rule("refusals", 0.005),
    Rule("slow", 0.02),
    Rule("unusable", 0.002),
    Rule("wrong", 0.01, required=False),
)
"""Answers that failed, input that was refused, answers that took longer than the objective, that were missing, infinite
or out of range, and, where labels come, that were wrong."""

STEPS = (Step(0.0), Step(0.01), Step(0.05), Step(0.25), Step(1.0))


class Policy(msgspec.Struct, frozen=True):
    """How a deployment goes from one version to the next.

    `alpha` bounds the probability that a candidate which is no worse than the margins is rolled back, over the whole
    rollout and all metrics; `beta` the probability that one which is worse is let through to more calls on evidence.
    `undecided` says what happens when the longest time of a step is over without a verdict.
    """

    strategy: Strategy = "canary"
    steps: tuple[Step, ...] = STEPS
    rules: tuple[Rule, ...] = RULES
    alpha: float = 0.01
    beta: float = 0.05
    undecided: Undecided = "hold"
    approvers: tuple[str, ...] = ()

    def alpha_of(self, rule: Rule) -> float:
        """The part of `alpha` that a metric may spend.

        >>> policy = Policy(rules=(Rule("errors", 0.01), Rule("slow", 0.02, weight=3.0)))
        >>> policy.alpha_of(policy.rules[0])
        0.0025
        """
        return self.alpha * rule.weight / sum(each.weight for each in self.rules)

    def tolerated(self, rule: Rule, step: int) -> float:
        """How much worse the candidate may be at most, for it to go from `step` to the next.

        What it may cost the service as a whole is the margin, whatever its share. So, where it is to get a small share,
        much less has to be excluded than where it is to answer everybody, and much less evidence is needed.

        >>> policy = Policy(steps=(Step(0.01), Step(0.05), Step(1.0)))
        >>> [round(policy.tolerated(Rule("errors", 0.005), step), 9) for step in (0, 1)]
        [0.1, 0.005]
        """
        following = self.steps[min(step + 1, len(self.steps) - 1)]
        return min(rule.margin / following.share, 1.0)


def check(policy: Policy) -> None:
    """See that a policy can be followed.

    Raises:
        InvalidRequest: it cannot, and what to write instead.
    """
    shares = [step.share for step in policy.steps]
    if not shares or any(not 0.0 <= share <= 1.0 for share in shares):
        raise InvalidRequest(f"steps {shares} are no shares of the calls; give numbers from 0 (shadow) to 1")
    if any(later <= earlier for earlier, later in pairwise(shares)):
        raise InvalidRequest(f"steps {shares} do not grow; each gives the candidate more calls than the one before")
    if policy.strategy == "canary" and shares[-1] != 1.0:
        raise InvalidRequest(f"the last step of a canary is all calls, 1; it is {shares[-1]}")
    for step in policy.steps:
        if not 0.0 <= step.least <= step.most:
            raise InvalidRequest(f"a step of at least {step.least:g} s and at most {step.most:g} s cannot be kept")
    _check_rules(policy, shares)
    if not 0.0 < policy.alpha < 1.0 or not 0.0 < policy.beta < 1.0:
        raise InvalidRequest("alpha and beta are probabilities between 0 and 1")


def _check_rules(policy: Policy, shares: list[float]) -> None:
    if policy.strategy == "canary" and not any(rule.weight > 0.0 for rule in policy.rules):
        raise InvalidRequest(
            "a canary without a metric that decides would be judged by nothing; name one, such as errors"
        )
    names = [rule.metric for rule in policy.rules]
    if len(set(names)) != len(names):
        raise InvalidRequest(f"a metric is named twice: {', '.join(names)}")
    for rule in policy.rules:
        if not 0.0 <= rule.margin < 1.0 or rule.weight < 0.0:
            raise InvalidRequest(f"{rule.metric}: a margin is a share from 0 to 1, a weight is not negative")
        metrics.check(rule, shares)
