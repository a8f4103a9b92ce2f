"""What people are shown of the evidence of a rollout, and about how much more is needed to decide."""

from __future__ import annotations

import math
from typing import TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from modelyard.rollout import arms, betting, evidence
from modelyard.rollout.arms import bounds
from modelyard.rollout.batches import Divided
from modelyard.rollout.decision import Measured, Verdict, verdict
from modelyard.rollout.evidence import Evidence, divided_of, paired_of, parts_of, tolerated
from modelyard.rollout.metrics import kind_of
from modelyard.rollout.policy import Policy, Rule

Floats: TypeAlias = NDArray[np.float64]

_NEVER = 1e12
"""More calls than this will not come."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of both versions.

    `baseline` and `candidate` are calls that were compared, at the same time or, in a shadow, the same; the difference
    of the rates (candidate less baseline) lies between `low` and `high`, at all times at once with 95 %, None where
    nothing is excluded. Of a metric with parts, such as the classes that are answered, all this is about the `part`
    that changed most. `tolerated` is how much worse the candidate may be for the next step, `margin` at most.
    `missing` says what has to come for this metric to pass, and is empty where nothing has to; `calls` is about how
    many calls of both versions that takes if the candidate is as good as the baseline, None where that cannot be said.
    """

    metric: str
    part: str
    verdict: Verdict
    baseline: float
    baseline_rate: float | None
    candidate: float
    candidate_rate: float | None
    low: float | None
    high: float | None
    margin: float
    tolerated: float
    missing: str = ""
    calls: int | None = None


def told(found: Evidence, policy: Policy, step: int) -> tuple[Told, ...]:
    """What there is on each metric of the policy at a step.

    >>> from modelyard.rollout.policy import Policy, Rule, Step
    >>> policy = Policy(steps=(Step(0.5), Step(1.0)), rules=(Rule("errors", 0.01),))
    >>> told(evidence.start(policy), policy, 0)[0].missing
    'no calls yet'
    """
    return tuple(
        _told(found, policy, rule, step, measured)
        for rule, measured in zip(policy.rules, evidence.measured(found, policy, step), strict=True)
    )


def _told(found: Evidence, policy: Policy, rule: Rule, step: int, measured: Measured) -> Told:
    part = _telling(found, policy, rule)
    kept_divided, kept_paired = found.divided.get(part), found.paired.get(part)
    # Of what was gathered the newest kind: a shadow's while it is one, and where no call was divided yet.
    paired = policy.steps[step].share <= 0.0 or kept_divided is None
    kept = kept_paired if paired else kept_divided
    seen = Divided() if kept is None else kept.seen
    low, high = _bounds(found, part, paired)
    said = verdict(policy, rule, measured)
    missing, calls = measured.broken, None
    if said is Verdict.UNSURE:
        missing, calls = _missing(found, policy, rule, step, measured, part)
    return Told(
        metric=rule.metric,
        part=part.partition("=")[2],
        verdict=said,
        baseline=seen.baseline,
        baseline_rate=seen.baseline_bad / seen.baseline if seen.baseline else None,
        candidate=seen.candidate,
        candidate_rate=seen.candidate_bad / seen.candidate if seen.candidate else None,
        low=low,
        high=high,
        margin=rule.margin,
        tolerated=tolerated(policy, rule, step),
        missing=missing,
        calls=calls,
    )


def _telling(found: Evidence, policy: Policy, rule: Rule) -> str:
    """The part of a metric on which there is most evidence of harm."""

    def harm(part: str) -> float:
        return evidence.harm_of(found, rule, part)

    return max(parts_of(found, rule.metric), key=harm, default=rule.metric)


def _bounds(found: Evidence, metric: str, paired: bool) -> tuple[float | None, float | None]:
    known = paired_of(found, metric) if paired else divided_of(found, metric)
    if known is None:
        return None, None
    low, high = bounds(known, evidence.LEVEL)
    return None if low <= -1.0 else low, None if high >= 1.0 else high


def _missing(
    found: Evidence, policy: Policy, rule: Rule, step: int, measured: Measured, part: str
) -> tuple[str, int | None]:
    """What has to come for a metric to pass, in words and in calls."""
    what = "labelled rows" if kind_of(rule.metric).labels else "calls"
    if not measured.seen:
        return f"no {what} yet", None
    share, least = policy.steps[step].share, tolerated(policy, rule, step)
    if share >= 1.0:
        return "there is nothing to compare with any more", None
    calls = _more(found, part, share, least, math.log(1.0 / policy.beta))
    if calls is None:
        return f"harm of {least * 100:.3g} points is not excluded", None
    return f"about {_rounded(calls):,} more {what}, if it is as good as the version before", calls


def _more(found: Evidence, metric: str, share: float, least: float, needed: float) -> int | None:
    """About how many more calls it takes until harm of `least` is excluded, if both versions are as good."""
    margins = evidence.margins_of(found, metric)
    at = margins.index(least)
    if share <= 0.0:
        known = paired_of(found, metric)
        logs = betting.start() if known is None else known.below[:, at]
        return _until(logs, betting.gains(0.0, -least, -1.0), needed)
    known_ = divided_of(found, metric) or arms.start(margins)
    rate = float(known_.rate)
    chances = np.array([share * (1 - rate), share * rate, (1 - share) * (1 - rate), (1 - share) * rate])
    growth = np.einsum("o,os->s", chances, arms.bets_of(known_, share).below[:, :, at])
    return _until(known_.below[:, at], growth, needed)


def _until(logs: Floats, growth: Floats, needed: float) -> int | None:
    """When what the gamblers own together reaches `needed`, as each gains so much a call."""

    def short(calls: float) -> bool:
        return bool(betting.wealth(logs + calls * growth) < needed)

    most = 1.0
    while short(most):
        most *= 2.0
        if most > _NEVER:
            return None
    least = most / 2.0
    while most - least > max(1.0, 0.01 * most):
        middle = (least + most) / 2.0
        least, most = (middle, most) if short(middle) else (least, middle)
    return math.ceil(most)


def _rounded(calls: int) -> int:
    """Two digits are more than is known.

    >>> _rounded(12345), _rounded(7)
    (12000, 7)
    """
    digits = max(0, len(str(calls)) - 2)
    return int(round(calls, -digits))
