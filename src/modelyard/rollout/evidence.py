"""All evidence of a rollout, as it is stored and taken up again: what is known of each metric of its policy.

Calls that are divided and rows that both versions answered are evidence of their own, `modelyard.rollout.arms` and
`modelyard.rollout.pairs`. That there is harm may be shown by either: the mean of two e-values is one, whatever they
have to do with each other. What a shadow shows of the answers themselves is as true of the version once callers get
them; how fast and how reliably it answers is not, so that is to be shown again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from itertools import chain

import msgspec
import numpy as np

from modelyard.errors import InvalidRequest
from modelyard.rollout import arms, betting, pairs, ratio
from modelyard.rollout.arms import Counts
from modelyard.rollout.batches import Batch, Divided, Paired
from modelyard.rollout.betting import Floats
from modelyard.rollout.decision import Measured
from modelyard.rollout.metrics import RATIO, kind_of
from modelyard.rollout.policy import Policy, Rule

LEVEL = 0.05
"""The intervals that are shown hold the difference at all times, with a probability of one less this."""

_SIZES = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5)
MARGINS = (*(-size for size in reversed(_SIZES)), 0.0, *_SIZES)
"""Between which differences an interval can end, apart from the margins of the policy."""

MOST = 0.5
"""A step tolerates no more than this, so that some calls have to be seen before any step is passed."""

NOT_ASKED = 99.0
"""The evidence, a logarithm, for what a step says nothing of and is not asked for, such as a counter in the shadow."""


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
    ratio: ratio.Evidence | None = None
    broken: Mapping[str, str] = {}
    """Of which metrics nothing could be known at the last look, and why."""
    labelled: Mapping[str, datetime] = {}
    """Up to when labels were counted of calls that arrived from some moment on; see `modelyard.rollout.following`."""


def tolerated(policy: Policy, rule: Rule, step: int) -> float:
    """How much worse the candidate may be for the next step, as far as evidence is asked for: see `MOST`."""
    return MOST if policy.steps[-1].share <= 0.0 else min(policy.tolerated(rule, step), MOST)


def start(policy: Policy) -> Evidence:
    """Nothing is known yet.

    >>> from modelyard.rollout.policy import Policy
    >>> sorted(start(Policy()).margins)
    ['errors', 'refusals', 'slow', 'unusable', 'wrong']
    """
    return Evidence({rule.metric: _margins(policy, rule) for rule in policy.rules})


def _margins(policy: Policy, rule: Rule) -> tuple[float, ...]:
    own = {rule.margin, *(tolerated(policy, rule, step) for step in range(len(policy.steps)))}
    kind = kind_of(rule.metric)
    if kind.either_way:
        own |= {-margin for margin in own}
    return tuple(sorted(margin for margin in {*MARGINS, *own} if margin >= 0.0 or not kind.same_rows))


def take(evidence: Evidence, batch: Batch, share: float) -> Evidence:
    """Add what came while calls went to the candidate with probability `share`.

    Calls of a candidate that has all of them add nothing: there is nothing to compare them with.
    """
    divided, paired, kept_ratio = dict(evidence.divided), dict(evidence.paired), evidence.ratio
    if 0.0 < share < 1.0:
        for part, counts in batch.divided.items():
            if (metric := part.partition("=")[0]) in evidence.margins and counts.calls > 0.0:
                divided[part] = _divided(evidence.margins[metric], divided.get(part), counts, share)
        if RATIO in batch.divided:
            kept_ratio = ratio.take(kept_ratio, batch.divided[RATIO], share)
    for part, found in batch.paired.items():
        if (metric := part.partition("=")[0]) in evidence.margins and found.differences:
            paired[part] = _paired(evidence.margins[metric], _least(metric), paired.get(part), found)
    return msgspec.structs.replace(
        evidence, divided=divided, paired=paired, ratio=kept_ratio, broken=dict(batch.broken)
    )


def measured(evidence: Evidence, policy: Policy, step: int) -> tuple[Measured, ...]:
    """What there is on each metric of the policy at a step, for `modelyard.rollout.decision.decide`.

    Raises:
        InvalidRequest: the evidence is that of another policy.
    """
    return tuple(_measured(evidence, policy, rule, step) for rule in policy.rules)


def parts_of(evidence: Evidence, metric: str) -> list[str]:
    """What there is evidence on of a metric: itself, or its parts."""
    known = dict.fromkeys(chain(evidence.divided, evidence.paired))
    return [part for part in known if part.partition("=")[0] == metric]


def _measured(evidence: Evidence, policy: Policy, rule: Rule, step: int) -> Measured:
    parts, kind, share = parts_of(evidence, rule.metric), kind_of(rule.metric), policy.steps[step].share
    seen = sum(kept[part].seen.calls for part in parts for kept in (evidence.divided, evidence.paired) if part in kept)
    broken = _why_broken(evidence, rule, share)
    harm: list[float] = []
    safety: list[float] = []
    for part in parts:
        more, safe = _weighed(evidence, policy, rule, step, part)
        harm, safety = harm + more, safety + safe
    least = min(safety, default=0.0)
    if share <= 0.0 and kind.divided:
        least = NOT_ASKED
    return Measured(rule.metric, harm=_mean(harm), safety=least, broken=broken, seen=seen)


def _why_broken(evidence: Evidence, rule: Rule, share: float) -> str:
    """Why a metric cannot be measured; empty where it can."""
    if rule.metric in evidence.broken:
        return evidence.broken[rule.metric]
    if kind_of(rule.metric).same_rows and share > 0.0 and rule.metric not in evidence.paired:
        return "only a shadow compares answers to the same rows, and there was none: begin with a step shadow"
    if evidence.ratio is not None and evidence.ratio.share == share:
        return ratio.uneven(evidence.ratio)
    return ""


def _weighed(evidence: Evidence, policy: Policy, rule: Rule, step: int, part: str) -> tuple[list[float], list[float]]:
    """Evidence of harm, from each source, and of safety, for each direction in which it could be harmed."""
    kind, least, found = kind_of(rule.metric), tolerated(policy, rule, step), _found(evidence, part)
    harm = _harm(found, rule)
    if policy.steps[step].share > 0.0 and not kind.answers:
        found = [each for each in found if isinstance(each, arms.Evidence)]
    safety = [_mean([_at(each.margins, least, each.safety) for each in found])]
    if kind.either_way:
        safety.append(_mean([_at(each.margins, -least, each.harm) for each in found]))
    return harm, safety


def _harm(found: list[arms.Weighed], rule: Rule) -> list[float]:
    harm = [_at(each.margins, rule.margin, each.harm) for each in found]
    if kind_of(rule.metric).either_way:
        harm += [_at(each.margins, -rule.margin, each.safety) for each in found]
    return harm


def harm_of(evidence: Evidence, rule: Rule, part: str) -> float:
    """The strongest evidence of harm on a part of a metric, from one source and in one direction."""
    return max(_harm(_found(evidence, part), rule), default=0.0)


def _found(evidence: Evidence, part: str) -> list[arms.Weighed]:
    return [each for each in (divided_of(evidence, part), paired_of(evidence, part)) if each is not None]


def divided_of(evidence: Evidence, metric: str) -> arms.Evidence | None:
    """What calls that were divided say of a metric; None where there were none."""
    kept, margins = evidence.divided.get(metric), margins_of(evidence, metric)
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
    kept, margins = evidence.paired.get(metric), margins_of(evidence, metric)
    if kept is None:
        return None
    above, below = _floats(kept.above, len(margins)), _floats(kept.below, len(margins))
    return pairs.Evidence(np.array(margins), _least(metric), above, below)


def margins_of(evidence: Evidence, part: str) -> tuple[float, ...]:
    """The differences that evidence on a metric, or a part of one, is gathered on."""
    return evidence.margins.get(part.partition("=")[0], ())


def _least(metric: str) -> float:
    """The least difference of a row that there can be."""
    return 0.0 if kind_of(metric).same_rows else -1.0


def _divided(
    margins: tuple[float, ...], kept: DividedEvidence | None, counts: Divided, share: float
) -> DividedEvidence:
    only = Evidence({"": margins}, {} if kept is None else {"": kept})
    found = arms.observe(divided_of(only, "") or arms.start(margins), _counts(counts), share)
    return DividedEvidence(
        found.above.tobytes(),
        found.below.tobytes(),
        counts if kept is None else kept.seen + counts,
        float(found.rate),
        float(found.rate_rows),
    )


def _paired(margins: tuple[float, ...], least: float, kept: PairedEvidence | None, more: Paired) -> PairedEvidence:
    known = pairs.start(margins, least)
    if kept is not None:
        above, below = _floats(kept.above, len(margins)), _floats(kept.below, len(margins))
        known = pairs.Evidence(known.margins, least, above, below)
    worse = pairs.observe_counted(known, more.least)
    safe = pairs.observe_counted(known, more.differences)
    return PairedEvidence(
        worse.above.tobytes(), safe.below.tobytes(), more.sums if kept is None else kept.seen + more.sums
    )


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
