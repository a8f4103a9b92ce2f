"""Whether answers turn out wrong more often than they did: evidence from labels, valid however often one looks.

Each row whose label is known has a *severity*: of a class 0 where it was right, else how sure the answer was; of a
number how far off it was. What is watched is which part of the rows reaches each of some rungs: wrong at all, wrong and
quite sure, wrong and very sure. A model that has met something new errs first where it had been sure, so that the upper
rungs, which were nearly empty, tell of it after few rows, where the plain share of errors still hides in its own noise.

The procedure and its promise are those of `modelyard.monitoring.detector`: for each rung, bets that its share lies
above what the baseline leaves possible, averaged with weights that sum to one. What is tested is "no worse at all"; by
how much it is worse since the change (`Verdict.effect`) is for the caller to hold against a margin.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

from modelyard.domain.frame import Array
from modelyard.errors import InvalidRequest
from modelyard.monitoring.facets import likely_range
from modelyard.monitoring.slots import Counts

_STEPS = np.array([0.1, 0.2, 0.4, 0.8, 1.6, 3.2])
"""How far alternatives are from what is still possible, in log odds."""

_REACHED = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
"""Rungs stand where so much of the errors of the baseline reached them, or of its rows, if no row is simply wrong."""

_FIRST = 0.5
"""The first rung has this part of all weight: most often it is what matters."""


class Ladder(msgspec.Struct, frozen=True):
    """The rungs, rising: severities from which on a row counts for them. The first is the least that counts at all."""

    rungs: tuple[float, ...]

    @classmethod
    def of_classes(cls, sureness: Array) -> Ladder:
        """For answers that are right or wrong, from how sure the answers of some rows were (right and wrong ones).

        >>> Ladder.of_classes(np.array([0.5, 0.6, 0.7, 0.8, 0.9])).rungs[0] > 0
        True
        """
        parts = np.quantile(sureness, (0.1, 0.25, 0.5, 0.75, 0.9)) if len(sureness) else np.empty(0)
        return cls((math.ulp(0.0), *(float(each) for each in sorted(set(parts.tolist())) if each > 0)))

    @classmethod
    def of_errors(cls, distances: Array) -> Ladder:
        """For numbers that are more or less far off, from the distances of some rows."""
        parts = np.quantile(distances, [1 - part for part in _REACHED]) if len(distances) else np.empty(0)
        return cls(tuple(sorted({max(float(each), math.ulp(0.0)) for each in parts}) or [math.ulp(0.0)]))

    def count(self, severities: Array) -> Counts:
        """How many rows stop at each rung, those below the first in front.

        >>> Ladder((0.5, 0.9)).count(np.array([0.0, 0.6, 0.9, 1.0])).tolist()
        [1, 1, 2]
        """
        at = np.searchsorted(np.array(self.rungs), severities, "right")
        found: Counts = np.bincount(at, minlength=len(self.rungs) + 1).astype(np.int64)
        return found

    def reach(self, counts: Counts) -> Counts:
        """How many rows reach each rung."""
        found: Counts = np.cumsum(counts[::-1])[::-1][1:]
        return found


class State(msgspec.Struct, frozen=True):
    """What has been gathered since the last alarm.

    For each bet the logarithm of its M (in seconds); the logarithm of what it would have won had it begun at the best
    moment, and of the time from that moment on the seconds, the rows, and the rows that reached the first rung.
    """

    gathered: tuple[float, ...] = ()
    best: tuple[float, ...] = ()
    seconds: tuple[float, ...] = ()
    rows: tuple[int, ...] = ()
    errors: tuple[int, ...] = ()


class Verdict(msgspec.Struct, frozen=True):
    """What it adds up to.

    `evidence` is what there is of what an alarm needs: 1 is enough. Since about `seconds` ago, in `rows` rows, the
    share that reaches the first rung has been `share`, and before `baseline`; `rung` is where that shows best.
    """

    evidence: float
    share: float
    baseline: float
    seconds: float
    rows: int
    rung: float

    @property
    def effect(self) -> float:
        """By how much the share is larger than it was."""
        return self.share - self.baseline


class Worsening:
    """Decides about rows whose labels came, against a baseline of rows counted on the same ladder. Pure.

    `needed` is how many seconds there have to be between two false alarms. `grouped` is the largest number of rows that
    hang together. With probability `certainty` the baseline lies within the bounds that are put around it.

    Raises:
        InvalidRequest: the baseline was counted on another ladder, or is empty.
    """

    def __init__(
        self, ladder: Ladder, baseline: Counts, needed: float, certainty: float = 0.99, grouped: float = 1.0
    ) -> None:
        whole = int(baseline.sum())
        if len(baseline) != len(ladder.rungs) + 1 or not whole:
            raise InvalidRequest("the baseline has no rows, or was counted on another ladder; count it on this one")
        self._ladder, self._log_needed = ladder, math.log(needed)
        reached = ladder.reach(baseline)
        self._baseline = int(reached[0]) / whole
        error = math.log(len(reached) / (1 - certainty))
        _, high = likely_range(reached, np.full(len(reached), whole), np.full(len(reached), error))
        asked = np.flatnonzero(high < 1)
        self._rung: NDArray[np.intp] = np.repeat(asked, len(_STEPS))
        other = _raised(high[self._rung], np.tile(_STEPS, len(asked)))
        self._inside = np.log(other / high[self._rung]) / grouped
        self._outside = (np.log1p(-other) - np.log1p(-high[self._rung])) / grouped
        self._log_weights = np.log(_weights(self._rung))

    def start(self) -> State:
        """Nothing gathered yet."""
        none = len(self._rung)
        return State((-math.inf,) * none, (0.0,) * none, (0.0,) * none, (0,) * none, (0,) * none)

    def step(self, state: State, counts: Counts, seconds: float) -> tuple[State, Verdict]:
        """Take rows in, for which so many `seconds` stand; their number must not depend on what the rows say.

        The caller starts anew after an alarm.

        Raises:
            InvalidRequest: the state belongs to another baseline.
        """
        if len(state.gathered) != len(self._rung):
            raise InvalidRequest("what was gathered belongs to another baseline; start anew with this one")
        rows, reached = int(counts.sum()), self._ladder.reach(counts)
        ratios = reached[self._rung] * self._inside + (rows - reached[self._rung]) * self._outside
        gathered = np.logaddexp(np.array(state.gathered), math.log(seconds)) + ratios
        best = np.array(state.best)
        going = best > 0
        after = State(
            tuple(gathered.tolist()),
            tuple((np.maximum(best, 0.0) + ratios).tolist()),
            tuple((np.where(going, state.seconds, 0.0) + seconds).tolist()),
            tuple((np.where(going, state.rows, 0) + rows).tolist()),
            tuple((np.where(going, state.errors, 0) + (int(reached[0]) if len(reached) else 0)).tolist()),
        )
        return after, self._verdict(after, gathered + self._log_weights)

    def _verdict(self, state: State, parts: Array) -> Verdict:
        if not len(parts):
            return Verdict(0.0, self._baseline, self._baseline, 0.0, 0, self._ladder.rungs[0])
        top = int(np.argmax(parts))
        reached = float(np.logaddexp.reduce(parts)) - self._log_needed
        rows = state.rows[top]
        share = state.errors[top] / rows if rows else self._baseline
        rung = self._ladder.rungs[int(self._rung[top])]
        return Verdict(math.exp(min(700.0, reached)), share, self._baseline, state.seconds[top], rows, rung)


def _raised(share: Array, steps: Array) -> Array:
    """Shares that lie so many log odds higher."""
    found: Array = 1.0 / (1.0 + np.exp(-(np.log(share) - np.log1p(-share) + steps)))
    return found


def _weights(rungs: NDArray[np.intp]) -> Array:
    """Of all bets, so that they sum to one: the first rung's together have `_FIRST` of it, if there are others."""
    first = rungs == 0
    if first.all() or not first.any():
        return np.full(len(rungs), 1.0 / max(len(rungs), 1))
    found: Array = np.where(first, _FIRST / first.sum(), (1 - _FIRST) / (~first).sum())
    return found
