"""Evidence that a mean has become worse than it was, which stays valid however often one looks.

A gambler bets that a quantity between 0 and 1 has a mean above `mean`. With the stake s, wealth is multiplied by 1 +
s (x - mean) / mean for each value x, which on average is at most 1 if the mean is not above: a nonnegative
supermartingale (Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by betting", JRSS B,
arXiv 2010.09686). It does not matter how the values are distributed, nor that this changes. Since the best stake is
not known, several gamblers begin with an equal part.

To notice a change at an unknown moment, the wealths that were begun at each moment are added up, each begun with the
time that passes there: M_t = L_t (M_{t-1} + w_t), an e-detector of Shiryaev-Roberts form (Shin, Ramdas and Rinaldo
2023, arXiv 2203.03532; see `modelyard.monitoring.detector`). A weighted sum of several such M, with weights that add
up to at most one, is on average at most the time that has passed, if nothing has become worse. Each is alarmed by
itself when its own part of the sum reaches T, and begins anew: with N alarms, the sum and N T together are still at
most the time that has passed, on average. So there are at most t / T false alarms in a time t, over all that is
watched.

Rows that hang together (the flights of one stormy hour) say less than as many independent ones. If the variance of
their sum is D times what it would be of independent rows, the D-th root of the wealth is taken: near the null the
wealth of a sum S with variance V is exp(s S - s^2 V / 2), whose D-th root has mean 1 when the variance is D V.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime

import msgspec
import numpy as np

from modelyard.domain.frame import Array

STAKES = 0.9 * 2.0 ** -np.arange(8.0)
"""What each gambler risks of what can be lost at most."""

_ROOM = 5.0
"""So far, in logarithms, evidence may grow beyond what an alarm needs, while the effect is too small to matter."""


class Gathered(msgspec.Struct, frozen=True):
    """What has been gathered about one mean, and the stretch of time in which it has been above what it should be.

    `logs` are, of each gambler, the logarithm of M (in seconds).
    """

    logs: tuple[float, ...] = ()
    above: float = 0.0
    """How much the values since `since` were together above the mean that they should have at most."""
    rows: int = 0
    total: float = 0.0
    """How many values came since then, and their sum."""
    since: datetime | None = None

    @property
    def mean(self) -> float | None:
        """The mean since then."""
        return self.total / self.rows if self.rows else None


def gains(values: Array, steps: Array, number: int, mean: float, together: float) -> Array:
    """By how much each gambler's logarithm grows in each of `number` steps; `steps` says to which a value belongs.

    >>> gains(np.array([1.0, 0.0]), np.array([0, 1]), 2, 0.5, 1.0)[:, 0].round(2).tolist()
    [0.64, -2.3]
    """
    off = values / mean - 1
    columns = [np.bincount(steps, np.log1p(stake * off), number) for stake in STAKES]
    found: Array = np.column_stack(columns) / together
    return found


def gathered_on(before: Gathered, gained: Array, seconds: float, limit: float) -> tuple[tuple[float, ...], float, int]:
    """Steps of so many `seconds` each, up to and with the first at which evidence reaches `limit`.

    Gives the logarithms after the last of these, the evidence then, and how many they are. Evidence is the mean of all
    M; where it is more than the limit already, it may grow a little more, no further.
    """
    logs = np.array(before.logs) if before.logs else np.full(len(STAKES), -math.inf)
    time, most = math.log(seconds), math.log(limit) + _ROOM
    evidence, taken = -math.inf, 0
    for gain in gained:
        logs = np.logaddexp(logs, time) + gain
        evidence, taken = log_mean(logs), taken + 1
        if evidence > most:
            logs, evidence = logs - (evidence - most), most
        if evidence >= math.log(limit):
            break
    return tuple(logs.tolist()), math.exp(evidence), taken


def log_mean(logs: Array) -> float:
    """The logarithm of the mean of what is given as logarithms."""
    top = float(logs.max())
    return top if math.isinf(top) else top + math.log(float(np.exp(logs - top).mean()))


def stretched(before: Gathered, counts: Array, sums: Array, mean: float, began: Sequence[datetime]) -> Gathered:
    """The stretch in which values were above `mean`, after further steps (Page 1954): it begins anew where not."""
    above, rows, total, since = before.above, before.rows, before.total, before.since
    for count, amount, moment in zip(counts.tolist(), sums.tolist(), began, strict=True):
        above += amount - mean * count
        if above <= 0:
            above, rows, total, since = 0.0, 0, 0.0, None
            continue
        rows, total, since = rows + int(count), total + amount, since or moment
    return Gathered(before.logs, above, rows, total, since)
