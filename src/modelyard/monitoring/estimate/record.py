"""An estimator's own record: what it said and what turned out, how often it was right, and what follows from misses.

Intervals promise that the later truth lies outside of them with a chance of at most 1 - `LEVEL`, whatever went before.
Bets against that promise gain a factor when the truth lies outside and lose a little when it does not; as long as the
promise holds no bet is expected to gain. Added up as in `modelyard.monitoring.detector` (Shiryaev and Roberts), they
reach `CONTRADICTED` no more often than once in as many windows while the promise holds, however often one looks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec
import numpy as np

from modelyard.monitoring.estimate.estimating import Trust

LEVEL = 0.9
"""How often intervals cover the later truth."""

CONTRADICTED = 100.0
STAKES = (1.0, 3.0, 6.0, 9.0)
"""Of what a bet has, so much is put on a miss, as a multiple; below 1 / (1 - LEVEL)."""

_GAINING = 5.0
"""Bets that are not gaining stay below about three."""

_STEP = 0.05
_LEAST = -0.5


class Said(msgspec.Struct, frozen=True):
    """One metric of a window: the estimate, its interval, and what it turned out to be (None: not known yet)."""

    value: float
    low: float
    high: float
    truth: float | None = None

    @property
    def covered(self) -> bool | None:
        """Whether the truth lies in the interval."""
        return None if self.truth is None else self.low <= self.truth <= self.high


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One window: what was said of it when it had closed, and what its labels say. Moments are seconds since 1970.

    `newest` is the moment of the newest labelled row that was learned from, `blind` whether none of its own labels were
    known when it was estimated, `labelled` how many are known now. `settled` means that enough of them were known for
    the record to count it.
    """

    began: int
    seconds: int
    rows: int
    trust: Trust
    reason: str
    values: Mapping[str, Said] = {}
    realized: Mapping[str, float] = {}
    newest: int | None = None
    worth: float = 0.0
    outside: float = 0.0
    blind: bool = True
    labelled: int = 0
    settled: bool = False
    withdrawn: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """Of how many intervals whose truth is known how many covered it."""

    covered: int
    known: int

    @property
    def share(self) -> float | None:
        """The part that did; None where no truth is known."""
        return self.covered / self.known if self.known else None


def coverage(record: Iterable[Entry], metric: str, trust: Trust | None = None) -> Kept:
    """How often a metric's intervals covered the truth; of one kind of trust only, if it is given.

    >>> said = {"auc": Said(0.7, 0.6, 0.8, truth=0.9)}
    >>> coverage([Entry(began=0, seconds=1, rows=1, trust=Trust.TRUSTED, reason="", values=said)], "auc")
    Kept(covered=0, known=1)
    """
    hits = [
        entry.values[metric].covered
        for entry in record
        if metric in entry.values and (trust is None or entry.trust is trust)
    ]
    known = [hit for hit in hits if hit is not None]
    return Kept(sum(known), len(known))


class Bets(msgspec.Struct, frozen=True):
    """What bets have gathered, as logarithms for each stake, and since when they gain (None: they do not)."""

    logs: tuple[float, ...] = (-math.inf,) * len(STAKES)
    since: int | None = None

    @property
    def evidence(self) -> float:
        """The mean of all stakes."""
        top = max(self.logs)
        if math.isinf(top):
            return 0.0
        return float(np.mean(np.exp(np.array(self.logs) - top)) * math.exp(min(top, 700.0)))

    def after(self, misses: float, began: int, time: float = 1.0) -> Bets:
        """With one more window, of whose metrics this part was missed; `time` is what it adds before the bet.

        >>> once = Bets().after(1.0, 0)
        >>> round(once.evidence, 3), once.since, once.after(0.0, 1).evidence < once.evidence
        (5.275, 0, True)
        """
        logs = [
            float(np.logaddexp(log, math.log(time))) + math.log1p(stake * (misses - (1 - LEVEL)))
            for log, stake in zip(self.logs, STAKES, strict=True)
        ]
        after = Bets(tuple(logs), self.since)
        gaining = after.evidence > _GAINING * time
        since = (began if self.since is None else self.since) if gaining else None
        return Bets(after.logs, since)


def next_tail(tail: float, *, missed: bool) -> float:
    """The chance to leave outside from now on, after a hit or a miss: less after a miss, at most 1 - `LEVEL`.

    Gibbs and Candès 2021 ("Adaptive conformal inference under distribution shift"): so the long-run share of misses
    comes to what is promised whatever the world does, as long as intervals can still be made wider. It may fall below
    zero, where intervals are as wide as they get until enough of them have held.

    >>> round(next_tail(0.1, missed=True), 3), round(next_tail(0.055, missed=False), 3)
    (0.055, 0.06)
    """
    promised = 1 - LEVEL
    return float(min(promised, max(_LEAST, tail + _STEP * (promised - missed))))
