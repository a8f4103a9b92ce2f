"""All evidence of a rollout, as it is stored and taken up again: what is known of each metric of its policy.

Calls that are divided and rows that both versions answered are evidence of their own, `modelyard.rollout.arms` and
`modelyard.rollout.pairs`. That there is harm may be shown by either: the mean of two e-values is one, whatever they
have to do with each other. What a shadow shows of the answers themselves is as true of the version once callers get
them; how fast and how reliably it answers is not, so that is to be shown again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec
import numpy as np

from modelyard.errors import InvalidRequest
from modelyard.rollout import arms, betting, pairs
from modelyard.rollout.arms import Counts
from modelyard.rollout.betting import Floats
from modelyard.rollout.decision import Measured
from modelyard.rollout.gathering import Batch, Divided, Paired
from modelyard.rollout.policy import Policy, Rule

LEVEL = 0.05
"""The intervals that are shown hold the difference at all times, with a probability of one less this."""

_SIZES = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5)
MARGINS = (*(-size for size in reversed(_SIZES)), 0.0, *_SIZES)
"""Between which differences an interval can end, apart from the margins of the policy."""

MOST = 0.5
"""A step tolerates no more than this, so that some calls have to be seen before any step is passed."""

OF_ANSWERS = frozenset({"unusable", "wrong", "loss", "answers", "different"})
"""Metrics of what is answered, rather than of how: the same in the shadow and for callers."""

OF_LABELS = frozenset({"wrong", "loss"})
"""Metrics that only labelled rows say something of."""


class DividedEvidence(msgspec.Struct, frozen=True):
    """`arms.Evidence` as it is stored: numbers of eight bytes, by gambler and margin."""

    above: bytes
    below: bytes
    seen: Divided
    rate: float
    rate_rows: float


class PairedEvidence(msgspec.Struct, frozen=True):
    """`pairs.Evidence` as it is stored: likewise, with the sums for both versions."""

    above: bytes
    below: bytes
    seen: Divided


class Evidence(msgspec.Struct, frozen=True):
    """What is known so far, by metric. `margins` are the differences that evidence is gathered on, in order.

    It can be written as JSON at any moment, and be gone on with after it is read again: nothing is lost by that.
    """

    margins: Mapping[str, tuple[float, ...]]
    divided: Mapping[str, DividedEvidence] = {}
    paired: Mapping[str, PairedEvidence] = {}
    broken: Mapping[str, str] = {}
    """Of which metrics nothing could be known at the last look, and why."""


def tolerated(policy: Policy, rule: Rule, step: int) -> float:
    """How much worse the candidate may be for the next step, as far as evidence is asked for: see `MOST`."""
    return MOST if policy.steps[-1].share <= 0.0 else min(policy.tolerated(rule, step), MOST)


def start(policy: Policy) -> Evidence:
    """Nothing is known yet.

    >>> from modelyard.rollout.policy import Policy
    >>> sorted(start(Policy()).margins)
    ['errors', 'slow', 'unusable', 'wrong']
    """
    return Evidence(
        {
            rule.metric: tuple(
                sorted({*MARGINS, rule.margin, *(tolerated(policy, rule, step) for step in range(len(policy.steps)))})
            )
            for rule in policy.rules
        }
    )


def take(evidence: Evidence, batch: Batch, share: float) -> Evidence:
    """Add what came while calls went to the candidate with probability `share`.

    Calls of a candidate that has all of them add nothing: there is nothing to compare them with.
    """
    divided, paired = dict(evidence.divided), dict(evidence.paired)
    if 0.0 < share < 1.0:
        for metric, counts in batch.divided.items():
            if metric in evidence.margins and counts.baseline + counts.candidate > 0.0:
                divided[metric] = _divided(evidence.margins[metric], divided.get(metric), counts, share)
    for metric, found in batch.paired.items():
        if metric in evidence.margins and found.differences:
            paired[metric] = _paired(evidence.margins[metric], paired.get(metric), found)
    return msgspec.structs.replace(evidence, divided=divided, paired=paired, broken=dict(batch.broken))


def measured(evidence: Evidence, policy: Policy, step: int) -> tuple[Measured, ...]:
    """What there is on each metric of the policy at a step, for `modelyard.rollout.decision.decide`.

    Raises:
        InvalidRequest: the evidence is that of another policy.
    """
    return tuple(_measured(evidence, policy, rule, step) for rule in policy.rules)


def _measured(evidence: Evidence, policy: Policy, rule: Rule, step: int) -> Measured:
    if rule.metric in evidence.broken:
        seen = sum(each.baseline + each.candidate for each in _seen(evidence, rule.metric))
        return Measured(rule.metric, broken=evidence.broken[rule.metric], seen=seen)
    least = tolerated(policy, rule, step)
    divided, paired = divided_of(evidence, rule.metric), paired_of(evidence, rule.metric)
    counted = [each for each in (divided, paired) if each is not None]
    harm = [_at(each.margins, rule.margin, each.harm) for each in counted]
    in_shadow = policy.steps[step].share <= 0.0
    if paired is not None and not in_shadow and rule.metric not in OF_ANSWERS:
        counted = [each for each in counted if each is not paired]
    safety = [_at(each.margins, least, each.safety) for each in counted]
    seen = sum(each.baseline + each.candidate for each in _seen(evidence, rule.metric))
    return Measured(rule.metric, harm=_mean(harm), safety=_mean(safety), seen=seen)


def _seen(evidence: Evidence, metric: str) -> list[Divided]:
    return [kept[metric].seen for kept in (evidence.divided, evidence.paired) if metric in kept]


def divided_of(evidence: Evidence, metric: str) -> arms.Evidence | None:
    """What calls that were divided say of a metric; None where there were none."""
    kept, margins = evidence.divided.get(metric), evidence.margins.get(metric, ())
    if kept is None:
        return None
    return arms.Evidence(
        np.array(margins),
        _floats(kept.above, len(margins)),
        _floats(kept.below, len(margins)),
        _counts(kept.seen),
        np.array(kept.rate),
        np.array(kept.rate_rows),
    )


def paired_of(evidence: Evidence, metric: str) -> pairs.Evidence | None:
    """What rows that both answered say of a metric; None where there were none."""
    kept, margins = evidence.paired.get(metric), evidence.margins.get(metric, ())
    if kept is None:
        return None
    above, below = _floats(kept.above, len(margins)), _floats(kept.below, len(margins))
    return pairs.Evidence(np.array(margins), -1.0, above, below)


def _divided(
    margins: tuple[float, ...], kept: DividedEvidence | None, counts: Divided, share: float
) -> DividedEvidence:
    only = Evidence({"": margins}, {} if kept is None else {"": kept})
    found = arms.observe(divided_of(only, "") or arms.start(margins), _counts(counts), share)
    return DividedEvidence(
        found.above.tobytes(),
        found.below.tobytes(),
        _sum(Divided() if kept is None else kept.seen, counts),
        float(found.rate),
        float(found.rate_rows),
    )


def _paired(margins: tuple[float, ...], kept: PairedEvidence | None, more: Paired) -> PairedEvidence:
    known = paired_of(Evidence({"": margins}, paired={} if kept is None else {"": kept}), "") or pairs.start(margins)
    worse = pairs.observe_counted(known, more.least)
    safe = pairs.observe_counted(known, more.differences)
    seen = _sum(Divided() if kept is None else kept.seen, more.sums)
    return PairedEvidence(worse.above.tobytes(), safe.below.tobytes(), seen)


def _at(margins: Floats, margin: float, found: Floats) -> float:
    at = np.flatnonzero(margins == margin)
    if not len(at):
        raise InvalidRequest(f"nothing was gathered on a margin of {margin:g}; the rollout began with another policy")
    return float(found[at[0]])


def _mean(logs: list[float]) -> float:
    """The logarithm of the mean of some e-values; 0 without any."""
    return float(np.logaddexp.reduce(logs)) - math.log(len(logs)) if logs else 0.0


def _floats(kept: bytes, margins: int) -> Floats:
    return np.frombuffer(kept).reshape(len(betting.STAKES), margins)


def _counts(counts: Divided) -> Counts:
    return Counts.of(counts.baseline, counts.baseline_bad, counts.candidate, counts.candidate_bad)


def _sum(one: Divided, other: Divided) -> Divided:
    return Divided(
        one.baseline + other.baseline,
        one.baseline_bad + other.baseline_bad,
        one.candidate + other.candidate,
        one.candidate_bad + other.candidate_bad,
    )
