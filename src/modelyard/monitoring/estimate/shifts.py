"""If inputs have moved because the base rate has: what the chances of the truth would then be.

That inputs move can have two plain reasons: other rows come while what follows from a row stays (covariate shift), or
one class comes more often while each class looks as it did (label shift). Inputs alone do not tell which. Where earlier
blocks of labelled rows have moved, the labels do: `credit` is how much of a change of base rate is still possible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modelyard.domain.frame import Array

_ROUNDS = 200
_LEAST = 1e-4
SURE = 2.0
"""A change of base rate is considered where it is this many standard errors from none."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What a change of base rate would do: the mean chance then minus that now, its variance by chance, and the truth.

    `truth` is how much the labels' rate differed from what was expected; NaN where there are none.
    """

    change: float
    variance: float
    truth: float = float("nan")


def shifted(p: Array, rate: float) -> tuple[Array, float]:
    """Chances under the most likely new base rate, and the variance of that rate by chance.

    `p` are chances learned where the rate was `rate`. It is found by expectation-maximisation (Saerens, Latinne and
    Decaestecker 2002); the variance is one over the information about the rate.

    >>> p = np.array([0.1, 0.1, 0.9, 0.9])
    >>> round(float(shifted(p, 0.5)[0].mean()), 3)
    0.5
    """
    rate = min(max(rate, _LEAST), 1 - _LEAST)
    now, there = rate, p
    for _ in range(_ROUNDS):
        odds = now / (1 - now) / (rate / (1 - rate))
        there = odds * p / (odds * p + 1 - p)
        new = min(max(float(there.mean()), _LEAST), 1 - _LEAST)
        if abs(new - now) < 1e-7:
            break
        now = new
    apart = p / rate - (1 - p) / (1 - rate)
    mixed = now * p / rate + (1 - now) * (1 - p) / (1 - rate)
    return there, float(1.0 / max(float(np.sum((apart / mixed) ** 2)), 1e-9))


def moved(p: Array, rate: float, truth: Array | None = None) -> Moved:
    """What a change of base rate would do to the mean of these chances."""
    there, variance = shifted(p, rate)
    return Moved(float(np.mean(there - p)), variance, float("nan") if truth is None else float(np.mean(truth - p)))


def credit(moves: Sequence[Moved]) -> float:
    """Which part of what a change of base rate would do is still possible, between 0 and 1.

    Labels of earlier blocks are regressed on what a change of base rate would have done there, beyond what chance does;
    the upper end of two standard errors is given. Where nothing has moved so far, nothing is known, and it is 1.

    >>> credit([Moved(0.0, 0.1, 0.0)] * 10)
    1.0
    """
    change = np.array([each.change for each in moves])
    missed = np.array([each.truth for each in moves])
    beyond = float(np.sum(change**2) - sum(each.variance for each in moves)) if len(moves) else 0.0
    if beyond <= 0.0:
        return 1.0
    slope = max(0.0, float(change @ missed) / beyond)
    error = float(np.std(missed)) * float(np.sqrt(change @ change)) / beyond
    return min(1.0, slope + 2 * error)
