"""Two versions that answer at the same time: how much worse is the candidate, and how sure is that.

Calls go to the candidate with probability `share`, and to the baseline otherwise, whatever they ask for. Each call is
bad (an error, too slow, a wrong answer) by 0 to 1. What is bet on is, with u the mean of what was bad before,

    z = (bad - u) / share          of a call to the candidate,
    z = -(bad - u) / (1 - share)   of a call to the baseline,

whose mean is the difference of the two rates, whatever u and whatever the rates are, also when they change from hour to
hour as long as they do for both. With u near the rate, z varies little, and evidence grows fast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from modelyard.errors import InvalidRequest
from modelyard.rollout import betting
from modelyard.rollout.betting import Floats

_GUESSED_ROWS = 10.0
"""As many rows as the guess of the rate is worth, before there are any."""
_GUESS = 0.02
_RENEW_AFTER = 1.1
"""The rate is looked at again when there are this many times the rows, plus `_GUESSED_ROWS`."""

_CLOSEST = 1e-9
"""So far a margin is from the least that there can be, at least."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Calls, and the sum of how bad they were (0 to 1 each), of both versions in some stretch of time."""

    baseline: Floats
    baseline_bad: Floats
    candidate: Floats
    candidate_bad: Floats

    @classmethod
    def of(cls, baseline: float, baseline_bad: float, candidate: float, candidate_bad: float) -> Counts:
        """Of one rollout."""
        return cls(*(np.array(float(one)) for one in (baseline, baseline_bad, candidate, candidate_bad)))

    def __add__(self, other: Counts) -> Counts:
        """Both together."""
        return Counts(
            self.baseline + other.baseline,
            self.baseline_bad + other.baseline_bad,
            self.candidate + other.candidate,
            self.candidate_bad + other.candidate_bad,
        )

    @property
    def rows(self) -> Floats:
        """Calls of both."""
        return self.baseline + self.candidate

    @property
    def outcomes(self) -> tuple[Floats, Floats, Floats, Floats]:
        """Good and bad calls of the candidate, then of the baseline."""
        return (
            self.candidate - self.candidate_bad,
            self.candidate_bad,
            self.baseline - self.baseline_bad,
            self.baseline_bad,
        )


@dataclass(frozen=True, slots=True)
class Bets:
    """By how much each of `Counts.outcomes` moves the logarithms of what the gamblers own, at one share."""

    share: Floats
    above: Floats
    below: Floats


@dataclass(frozen=True, slots=True)
class Evidence:
    """What has been gathered about the difference of the rates, for each of some `margins`.

    `above` is the wealth of those who bet that the difference is above the margin, `below` of those who bet that it is
    below it; logarithms, by gambler, by margin, and by rollout where many are simulated at once. `seen` is all that was
    counted; `rate` what is expected of a call, and `rate_rows` the number of calls it was learned from.
    """

    margins: Floats
    above: Floats
    below: Floats
    seen: Counts
    rate: Floats
    rate_rows: Floats
    bets: Bets | None = None
    """Kept until the rate or the share is another."""

    @property
    def harm(self) -> Floats:
        """For each margin the logarithm of an e-value: evidence that the candidate is worse by more than it."""
        return betting.wealth(self.above)

    @property
    def safety(self) -> Floats:
        """For each margin the logarithm of an e-value: evidence that the candidate is not worse by as much."""
        return betting.wealth(self.below)


def start(margins: Sequence[float], rollouts: tuple[int, ...] = ()) -> Evidence:
    """Nothing seen yet. Margins are differences of rates, between -1 and 1.

    Raises:
        InvalidRequest: a margin is no such difference.
    """
    if not all(-1.0 < margin < 1.0 for margin in margins):
        raise InvalidRequest(f"margins are differences of rates, between -1 and 1; got {list(margins)}")
    shape = (len(margins), *rollouts)
    nothing = np.zeros(rollouts)
    return Evidence(
        np.array(margins, dtype=float).reshape(-1, *(1 for _ in rollouts)),
        betting.start(*shape),
        betting.start(*shape),
        Counts(nothing, nothing, nothing, nothing),
        np.full(rollouts, _GUESS),
        nothing,
    )


class Weighed(Protocol):
    """Evidence about a mean at some margins."""

    @property
    def margins(self) -> Floats:
        """The margins."""
        ...

    @property
    def harm(self) -> Floats:
        """The logarithm of an e-value for being above each."""
        ...

    @property
    def safety(self) -> Floats:
        """The logarithm of an e-value for being below each."""
        ...


def bounds(evidence: Weighed, alpha: float) -> tuple[float, float]:
    """Between which of the margins the difference lies, at all times at once with probability 1 - `alpha`.

    -1 and 1 where no margin is excluded on that side. For one rollout only.
    """
    enough = math.log(2.0 / alpha)
    margins = evidence.margins
    low, high = margins[evidence.harm >= enough].tolist(), margins[evidence.safety >= enough].tolist()
    return max(low, default=-1.0), min(high, default=1.0)


def observe(evidence: Evidence, counts: Counts, share: Floats | float, grouped: float = 1.0) -> Evidence:
    """Take in what was counted since, while calls went to the candidate with probability `share` (between 0 and 1).

    A call that was bad by a half is weighed as half a bad one and half a good one: the geometric mean of both factors,
    which is at most what a bet on it would have won, so that is valid too. `grouped` is the number of calls that hang
    together at most, such as those of one person who stays with one version: their common factor is the geometric mean
    of the factors that each would have alone, hence valid whatever happens within a group.

    Raises:
        InvalidRequest: the share is 0 or 1, so there is nothing to compare, or counts do not fit together.

    >>> found = observe(start([0.01]), Counts.of(1000, 10, 1000, 60), share=0.5)
    >>> bool(found.harm[0] > math.log(100)), bool(found.safety[0] < 0)
    (True, True)
    """
    share = np.asarray(share, dtype=float)
    _check(counts, share)
    bets = bets_of(evidence, share)
    many = np.stack([each / grouped for each in counts.outcomes])
    above = evidence.above + np.einsum("osm...,o...->sm...", bets.above, many)
    below = evidence.below + np.einsum("osm...,o...->sm...", bets.below, many)
    return _renewed(replace(evidence, above=above, below=below, seen=evidence.seen + counts, bets=bets))


def bets_of(evidence: Evidence, share: Floats | float) -> Bets:
    """What is bet on the next calls, which go to the candidate with probability `share`."""
    share, kept = np.asarray(share, dtype=float), evidence.bets
    if kept is not None and (kept.share is share or np.array_equal(kept.share, share)):
        return kept
    return _bets(evidence.margins, evidence.rate, share)


def _bets(margins: Floats, rate: Floats, share: Floats) -> Bets:
    """What each gambler gains by each of `Counts.outcomes`, while nothing else is known of the rate."""
    outcomes = (
        -rate / share,
        (1.0 - rate) / share,
        rate / (1.0 - share),
        -(1.0 - rate) / (1.0 - share),
    )
    least, most = np.minimum(outcomes[0], outcomes[3]), np.maximum(outcomes[1], outcomes[2])
    low, high = np.minimum(least, margins - _CLOSEST), np.minimum(-most, -margins - _CLOSEST)
    above = np.stack([betting.gains(z, margins, low) for z in outcomes])
    below = np.stack([betting.gains(-z, -margins, high) for z in outcomes])
    return Bets(share, above, below)


def _check(counts: Counts, share: Floats) -> None:
    if not ((share > 0.0) & (share < 1.0)).all():
        raise InvalidRequest(f"a share of {share} leaves nothing to compare; it has to be above 0 and below 1")
    for many, bad in ((counts.baseline, counts.baseline_bad), (counts.candidate, counts.candidate_bad)):
        if not ((bad >= 0.0) & (bad <= many)).all():
            raise InvalidRequest("of the calls that were counted, fewer than none or more than all were bad")


def _renewed(evidence: Evidence) -> Evidence:
    """The rate that is expected from now on. It depends on what was seen only, so bets stay fair."""
    seen = evidence.seen
    due = seen.rows >= evidence.rate_rows * _RENEW_AFTER + _GUESSED_ROWS
    if not due.any():
        return evidence
    found = (seen.baseline_bad + seen.candidate_bad + _GUESS * _GUESSED_ROWS) / (seen.rows + _GUESSED_ROWS)
    rate = np.where(due, found, evidence.rate)
    return replace(evidence, rate=rate, rate_rows=np.where(due, seen.rows, evidence.rate_rows), bets=None)
