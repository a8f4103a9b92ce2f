"""What there is to tell of a rollout with a policy: step, time, metrics with intervals, verdicts, what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from modelyard.control import steering
from modelyard.control.rollouts import Rollout
from modelyard.registry import Registry
from modelyard.rollout import arms, evidence
from modelyard.rollout.course import Course
from modelyard.rollout.decision import Decision
from modelyard.rollout.policy import Policy


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric so far: calls or rows of both versions, what share of them was bad, where the difference lies."""

    metric: str
    margin: float
    verdict: str
    baseline: float
    baseline_rate: float | None
    candidate: float
    candidate_rate: float | None
    low: float
    high: float
    paired: bool = False
    """Whether both versions answered the same rows, in a shadow."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a rollout stands. Times are in seconds, without pauses; `decision` is what the last look came to."""

    step: int
    shares: tuple[float, ...]
    seconds: float
    least: float
    most: float
    looked: datetime
    unready: str
    decision: Decision | None
    paused: str
    approvers: tuple[str, ...]
    approved: tuple[str, ...]
    undecided: str
    metrics: tuple[Metric, ...]


def progress(registry: Registry, rollout: Rollout) -> Progress | None:
    """How far a rollout with a policy has got; None for one that goes by hand."""
    standing = steering.standing_of(registry, rollout)
    return None if standing is None else progress_of(rollout, standing.course)


def progress_of(rollout: Rollout, course: Course) -> Progress:
    """The same of a course that was read already."""
    policy, step = course.policy, course.policy.steps[course.step]
    return Progress(
        course.step,
        tuple(one.share for one in policy.steps),
        round(course.spent, 1),
        step.least,
        step.most,
        course.looked,
        course.unready,
        course.decision,
        rollout.paused,
        policy.approvers,
        rollout.approved,
        policy.undecided,
        metrics(course, policy),
    )


def metrics(course: Course, policy: Policy) -> tuple[Metric, ...]:
    """What is known of each metric of the policy."""
    verdicts = {} if course.decision is None else course.decision.verdicts
    return tuple(_metric(course, rule.metric, rule.margin, str(verdicts.get(rule.metric, ""))) for rule in policy.rules)


def _metric(course: Course, name: str, margin: float, verdict: str) -> Metric:
    kept: Any = course.evidence.divided.get(name)
    found: Any = evidence.divided_of(course.evidence, name)
    if kept is None:
        kept, found = course.evidence.paired.get(name), evidence.paired_of(course.evidence, name)
    if kept is None:
        return Metric(name, margin, verdict, 0.0, None, 0.0, None, -1.0, 1.0)
    low, high = arms.bounds(found, evidence.LEVEL)
    seen = kept.seen
    return Metric(
        name,
        margin,
        verdict,
        round(seen.baseline, 3),
        seen.baseline_bad / seen.baseline if seen.baseline else None,
        round(seen.candidate, 3),
        seen.candidate_bad / seen.candidate if seen.candidate else None,
        low,
        high,
        paired=course.evidence.divided.get(name) is None,
    )
