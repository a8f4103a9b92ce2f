"""What there is to tell of a rollout with a policy: step, time, metrics with intervals, verdicts, what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from modelyard.control import steering
from modelyard.control.rollouts import Rollout
from modelyard.registry import Registry
from modelyard.rollout.course import Course
from modelyard.rollout.decision import Decision
from modelyard.rollout.telling import Told, told


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
    metrics: tuple[Told, ...]


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
        told(course.evidence, policy, course.step),
    )
