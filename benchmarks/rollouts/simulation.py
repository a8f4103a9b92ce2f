"""Simulated rollouts: the evidence that rollouts are decided on, a limit on windows, and a test that is watched."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from modelyard.rollout import arms
from modelyard.rollout.betting import Floats

Flags: TypeAlias = NDArray[np.bool_]
Numbers: TypeAlias = NDArray[np.intp]

LOOK_SECONDS = 10.0
LOOKS_A_WINDOW = 6
WINDOWS, FAILED_WINDOWS = 25, 5
"""The rule with a limit: this many windows of a minute, of which so many may not be beyond it."""

CRITICAL = 1.6449
"""One-sided 5 % of a normal distribution, for the watched test."""


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of rollout: calls a minute, the candidate's share, how often calls are bad, and what is tolerated."""

    calls_a_minute: float
    share: float
    baseline: float
    candidate: float
    margin: float
    limit: float
    """Beyond this rate of bad calls a window fails."""
    hours: float
    alpha: float = 0.01
    beta: float = 0.05


@dataclass(frozen=True, slots=True)
class Ends:
    """Which part of the rollouts a rule rolled back and let through, and after how many minutes it did (median)."""

    rolled_back: float
    let_through: float
    minutes: float


class _Judged:
    """When each rollout was rolled back or let through; only the first counts."""

    def __init__(self, rollouts: int) -> None:
        self.back, self.through = np.full(rollouts, np.inf), np.full(rollouts, np.inf)

    def at(self, look: int, which: Numbers, back: Flags, through: Flags) -> None:
        open_ = np.isinf(self.back[which]) & np.isinf(self.through[which])
        self.back[which[open_ & back]] = look
        self.through[which[open_ & ~back & through]] = look

    def is_open(self) -> Flags:
        found: Flags = np.isinf(self.back) & np.isinf(self.through)
        return found

    def ends(self) -> Ends:
        back = self.back[np.isfinite(self.back)]
        minutes = float(np.median(back)) * LOOK_SECONDS / 60 if len(back) else math.nan
        return Ends(len(back) / len(self.back), float(np.isfinite(self.through).mean()), minutes)


def simulate(case: Case, rollouts: int, seed: int) -> dict[str, Ends]:
    """Judge the same rollouts by each rule, looking every ten seconds."""
    draw = np.random.default_rng(seed)
    judged = {name: _Judged(rollouts) for name in ("ours", "limit", "watched")}
    evidence, which = arms.start([case.margin], (rollouts,)), np.arange(rollouts)
    seen = np.zeros((4, rollouts))
    window, failed = np.zeros((2, rollouts)), np.zeros(rollouts)
    for look in range(1, int(case.hours * 3600 / LOOK_SECONDS) + 1):
        counts = _drawn(case, draw, len(which))
        _look_at_evidence(case, judged["ours"], look, which, evidence := arms.observe(evidence, counts, case.share))
        seen += np.stack(counts.outcomes)
        _watch(judged["watched"], look, which, seen, ~judged["ours"].is_open()[which])
        window += np.stack([counts.candidate, counts.candidate_bad])
        if look % LOOKS_A_WINDOW == 0:
            failed += window[1] > case.limit * window[0]
            window[:] = 0.0
            over = np.full(len(which), look >= WINDOWS * LOOKS_A_WINDOW)
            judged["limit"].at(look, which, failed >= FAILED_WINDOWS, over)
        going = np.logical_or.reduce([each.is_open()[which] for each in judged.values()])
        if not going.any():
            break
        if going.mean() < 0.8:
            which, seen, window, failed = which[going], seen[:, going], window[:, going], failed[going]
            evidence = _some(evidence, going)
    return {name: each.ends() for name, each in judged.items()}


def _drawn(case: Case, draw: np.random.Generator, rollouts: int) -> arms.Counts:
    each = case.calls_a_minute * LOOK_SECONDS / 60
    candidate = draw.poisson(each * case.share, rollouts)
    baseline = draw.poisson(each * (1 - case.share), rollouts)
    bad = draw.binomial(candidate, case.candidate), draw.binomial(baseline, case.baseline)
    return arms.Counts(baseline.astype(float), bad[1].astype(float), candidate.astype(float), bad[0].astype(float))


def _look_at_evidence(case: Case, judged: _Judged, look: int, which: Numbers, evidence: arms.Evidence) -> None:
    back, through = evidence.harm[0] >= math.log(1 / case.alpha), evidence.safety[0] >= math.log(1 / case.beta)
    judged.at(look, which, back, through)


def _watch(judged: _Judged, look: int, which: Numbers, seen: Floats, over: Flags) -> None:
    """A test of two proportions at 5 %, made again at every look, for as long as ours takes to decide."""
    good, bad, baseline_good, baseline_bad = seen
    candidate, baseline = good + bad, baseline_good + baseline_bad
    with np.errstate(divide="ignore", invalid="ignore"):
        pooled = (bad + baseline_bad) / (candidate + baseline)
        error = np.sqrt(pooled * (1 - pooled) * (1 / candidate + 1 / baseline))
        z = (bad / candidate - baseline_bad / baseline) / error
    judged.at(look, which, np.nan_to_num(z) > CRITICAL, over)


def _some(evidence: arms.Evidence, which: Flags) -> arms.Evidence:
    """The evidence of some of the rollouts."""
    seen = evidence.seen
    return arms.Evidence(
        evidence.margins,
        evidence.above[..., which],
        evidence.below[..., which],
        arms.Counts(*(each[which] for each in (seen.baseline, seen.baseline_bad, seen.candidate, seen.candidate_bad))),
        evidence.rate[which],
        evidence.rate_rows[which],
    )
