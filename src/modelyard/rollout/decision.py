"""What to do next with a rollout: a pure function of what is known at one moment.

It does no input or output and reads no clock, so a stored snapshot gives the same decision years later.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Literal, TypeAlias

import msgspec

from modelyard.rollout.policy import Policy, Rule


class Verdict(StrEnum):
    """What a metric says about the candidate at this step."""

    PASSED = "passed"
    """Harm above what is tolerated is excluded."""
    FAILED = "failed"
    """Harm above the margin is shown."""
    UNSURE = "unsure"
    """Neither, yet."""
    BROKEN = "broken"
    """It could not be measured, which neither passes nor condemns."""


class Measured(msgspec.Struct, frozen=True):
    """What there is on one metric. Evidence is in logarithms of e-values.

    `harm` is for a difference above the rule's margin, `safety` for one below what the step tolerates.
    """

    metric: str
    harm: float = 0.0
    safety: float = 0.0
    broken: str = ""
    """Why it could not be measured; empty when it could."""
    seen: float = 0.0
    """How many calls or rows of both versions it rests on."""


class Snapshot(msgspec.Struct, frozen=True):
    """All that a decision may look at. `seconds` is how long the step has lasted; `approved`, who has agreed so far.

    `unready` says why the candidate does not do now what the step asks of it, and is empty when it does; `lost_seconds`
    for how long it could not be opened.
    """

    policy: Policy
    step: int
    seconds: float
    measured: tuple[Measured, ...]
    paused: str = ""
    """By whom and why it was paused by hand; empty when it was not."""
    approved: tuple[str, ...] = ()
    unready: str = ""
    lost_seconds: float = 0.0


LOST_SECONDS = 10.0
"""A candidate that could not answer for so long is given up: whatever it would answer, nobody can have it."""

Action: TypeAlias = Literal["wait", "advance", "promote", "rollback", "pause", "hold"]
"""``wait``: look again; ``advance``: the next step; ``promote``: the candidate is the version now; ``pause``: something
cannot be measured, or somebody wants it so; ``hold``: undecided, and somebody has to say."""


class Decision(msgspec.Struct, frozen=True):
    """What is done, and why, in one sentence; with the verdict on each metric."""

    action: Action
    reason: str
    verdicts: dict[str, Verdict] = {}


def decide(snapshot: Snapshot) -> Decision:
    """Name the next action: the same snapshot gives the same decision.

    Harm ends a rollout at any time, and so does a candidate that cannot answer. What cannot be measured pauses it, and
    never condemns. Otherwise the next step is taken when the least time is over and every metric that decides has
    passed; one that is not required has to pass only where there is something to go by.

    >>> from modelyard.rollout.policy import Step
    >>> policy = Policy(steps=(Step(0.1, least=60.0), Step(1.0)), rules=(Rule("errors", 0.01),))
    >>> decide(Snapshot(policy, 0, 90.0, (Measured("errors", harm=5.0),))).action
    'rollback'
    >>> decide(Snapshot(policy, 0, 90.0, (Measured("errors", safety=4.0),))).action
    'advance'
    >>> decide(Snapshot(policy, 0, 30.0, (Measured("errors", safety=4.0),))).action
    'wait'
    """
    known = {measured.metric: measured for measured in snapshot.measured}
    deciding = [rule for rule in snapshot.policy.rules if rule.weight > 0.0]
    verdicts = {rule.metric: verdict(snapshot.policy, rule, known.get(rule.metric)) for rule in deciding}
    failed = [name for name, said in verdicts.items() if said is Verdict.FAILED]
    if failed:
        return Decision("rollback", f"harm above the margin is shown: {', '.join(failed)}", verdicts)
    if snapshot.lost_seconds >= LOST_SECONDS:
        return Decision("rollback", f"the candidate does not answer: {snapshot.unready}", verdicts)
    if snapshot.paused:
        return Decision("pause", snapshot.paused, verdicts)
    if snapshot.unready:
        return Decision("wait", snapshot.unready, verdicts)
    required = [rule for rule in deciding if rule.required or ((found := known.get(rule.metric)) and found.seen)]
    broken = [rule.metric for rule in required if verdicts[rule.metric] is Verdict.BROKEN]
    if broken:
        why = "; ".join(f"{name}: {_why_broken(known.get(name))}" for name in broken)
        return Decision("pause", f"it cannot be measured whether there is harm: {why}", verdicts)
    return _timed(snapshot, [rule.metric for rule in required if verdicts[rule.metric] is Verdict.UNSURE], verdicts)


def _timed(snapshot: Snapshot, unsure: list[str], verdicts: dict[str, Verdict]) -> Decision:
    """Where nothing stands against going on but the time, and what is not sure yet."""
    policy, step = snapshot.policy, snapshot.policy.steps[snapshot.step]
    if snapshot.seconds < step.least:
        return Decision("wait", f"the step lasts {step.least - snapshot.seconds:.0f} s more at least", verdicts)
    if unsure and snapshot.seconds < step.most:
        return Decision("wait", f"not yet sure: {', '.join(unsure)}", verdicts)
    if unsure and policy.undecided != "promote":
        action: Action = "hold" if policy.undecided == "hold" else "rollback"
        return Decision(action, f"the longest time is over, and still unsure: {', '.join(unsure)}", verdicts)
    return _onward(snapshot, unsure, verdicts)


def verdict(policy: Policy, rule: Rule, measured: Measured | None) -> Verdict:
    """What there is on a metric, against what the policy asks of it."""
    if measured is None or measured.broken:
        return Verdict.BROKEN
    if rule.weight > 0.0 and measured.harm >= math.log(1.0 / policy.alpha_of(rule)):
        return Verdict.FAILED
    return Verdict.PASSED if measured.safety >= math.log(1.0 / policy.beta) else Verdict.UNSURE


def _why_broken(measured: Measured | None) -> str:
    return "it was not measured" if measured is None else measured.broken


def _onward(snapshot: Snapshot, unsure: list[str], verdicts: dict[str, Verdict]) -> Decision:
    """The next step, or the end, if those who have to agree did."""
    policy = snapshot.policy
    why = f"undecided on {', '.join(unsure)}, and the policy goes on" if unsure else "harm above the margin is excluded"
    if snapshot.step + 1 < len(policy.steps) and policy.steps[snapshot.step + 1].share < 1.0:
        return Decision("advance", why, verdicts)
    missing = [name for name in policy.approvers if name not in snapshot.approved]
    if missing:
        return Decision("hold", f"{why}; to be approved by {', '.join(missing)}", verdicts)
    return Decision("advance" if snapshot.step + 1 < len(policy.steps) else "promote", why, verdicts)
