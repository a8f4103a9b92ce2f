"""Change that is noticed soon, with a budget of false alarms that holds however often one looks.

The procedure is an e-detector of Shiryaev-Roberts form (Shin, Ramdas and Rinaldo 2023, "E-detectors: a nonparametric
framework for sequential change detection", arXiv 2203.03532):

- *Null.* Nothing has changed in practice: for each question about a column (`modelyard.monitoring.facets`) the share p
  of rows lies within a margin of the reference's. The reference's own share is known from its rows only; by Chernoff's
  bound (Hoeffding 1963, theorem 1), with probability `certainty` the true shares of all questions of all columns lie
  in intervals, and the margin is added to these.
- *Evidence of a window.* For a share u at the upper end of that range and an alternative a above it, the likelihood
  ratio of the window's rows, (a/u)^x ((1-a)/(1-u))^(n-x), has expectation at most 1 under every p <= u: it is an
  e-value. The same downwards. Where rows come in groups of at most D that hang together, its D-th root is taken, which
  is an e-value whatever happens inside a group: the root of a product is at most the mean of the factors.
- *Adding up.* M_t = L_t (M_{t-1} + w_t) for each alternative, where w_t is the time that the window stands for. An
  average of such M, over alternatives, questions and columns with weights that sum to one, has expectation at most the
  time that has passed, if nothing has changed. So columns and questions cost nothing but a little delay.
- *Alarm.* Where the average reaches the time that the budget wants between two false alarms, T. All M are then set to
  nothing. With N alarms until time t, M + N T grows by no more than time does on average, hence the expected number of
  false alarms in any stretch of time is at most its length divided by T. That is the promise.

It supposes that rows are independent from window to window and within one, but for groups as above, and that a steady
source is steady: a source with a daily rhythm has to be compared with the same hours. It holds given that the reference
lies within its bounds, which for the whole life of a reference fails with probability 1 - `certainty` at most.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from modelyard.domain.frame import Array
from modelyard.errors import InvalidRequest
from modelyard.monitoring.budget import Budget
from modelyard.monitoring.facets import Facet, Margins, Questions, questions
from modelyard.monitoring.reference import Reference
from modelyard.monitoring.slots import Counts
from modelyard.monitoring.windows import Profile

_STEPS = np.array([0.1, 0.2, 0.4, 0.8, 1.6, 3.2])
"""How far alternatives are from what is still harmless, in log odds."""


class Settings(msgspec.Struct, frozen=True):
    """What a detector is told.

    `grouped` is the largest number of rows that come together and hang together, such as the rows of one request.
    `weights` says how much columns matter, such as their influence on the score; those not named have 1.
    """

    budget: Budget
    margins: Margins = Margins()
    certainty: float = 0.99
    grouped: float = 1.0
    weights: Mapping[str, float] = {}


class State(msgspec.Struct, frozen=True):
    """What has been gathered since the last alarm: for each column the logarithms of all M (in seconds)."""

    reference: str
    gathered: Mapping[str, tuple[float, ...]] = {}


class Suspect(msgspec.Struct, frozen=True):
    """A column with evidence: what about it, and which part of all the evidence it has."""

    column: str
    facet: Facet
    part: float


class Verdict(msgspec.Struct, frozen=True):
    """What a window adds up to. `evidence` is what there is of what an alarm needs: at 1 there is an alarm."""

    alarm: bool
    evidence: float
    suspects: tuple[Suspect, ...] = ()


@dataclass(frozen=True, slots=True)
class _Watched:
    """What is computed once for a column: its questions, and two coefficients for each alternative that there is."""

    asked: Questions
    question: NDArray[np.intp]
    inside: Array
    outside: Array
    log_weight: float

    def log_ratios(self, counts: Counts) -> Array:
        """Of each alternative against what is still harmless."""
        x, n = self.asked.answers(counts)
        found: Array = x[self.question] * self.inside + (n - x)[self.question] * self.outside
        return found


class Detector:
    """Decides about windows of one reference. Pure: what it gathers is handed in and handed back."""

    def __init__(self, reference: Reference, settings: Settings) -> None:
        self._reference = reference.digest
        self._log_limit = math.log(settings.budget.seconds_each)
        asked = {name: questions(slots, slots.reference) for name, slots in reference.slots.items()}
        number = sum(len(each.facets) for each in asked.values())
        weights = {name: max(0.0, settings.weights.get(name, 1.0)) for name in asked}
        whole = sum(weights.values())
        if asked and not whole > 0:
            raise InvalidRequest("all columns have the weight 0; leave one with more")
        self._watched = {
            name: _watched(each, reference.slots[name].reference, number, settings, weights[name] / whole)
            for name, each in asked.items()
            if weights[name]
        }

    def start(self) -> State:
        """Nothing gathered yet."""
        return State(self._reference)

    def step(self, state: State, window: Profile, seconds: float) -> tuple[State, Verdict]:
        """Take the next window in, which stands for so many `seconds`. Columns that it lacks stay as they were.

        The seconds must not depend on what is in the window. An empty window adds time and no evidence.

        Raises:
            InvalidRequest: state or window belong to another reference.
        """
        if {state.reference, window.reference} != {self._reference}:
            raise InvalidRequest("the window was counted for another reference; start anew with this one")
        log_time = math.log(seconds)
        gathered: dict[str, Array] = {}
        for name, watched in self._watched.items():
            before = np.array(state.gathered[name]) if name in state.gathered else np.full(len(watched.inside), -np.inf)
            ratios = watched.log_ratios(window.columns[name].counts) if name in window.columns else 0.0
            gathered[name] = np.logaddexp(before, log_time) + ratios
        parts = {
            name: _log_sum(logs) - math.log(len(logs)) + self._watched[name].log_weight
            for name, logs in gathered.items()
            if len(logs)
        }
        reached = _log_sum(np.array(list(parts.values()))) if parts else -math.inf
        alarm = reached >= self._log_limit
        verdict = Verdict(alarm, math.exp(min(700.0, reached - self._log_limit)), self._suspects(parts, gathered))
        kept = {} if alarm else {name: tuple(logs.tolist()) for name, logs in gathered.items()}
        return State(self._reference, kept), verdict

    def _suspects(self, parts: Mapping[str, float], gathered: Mapping[str, Array]) -> tuple[Suspect, ...]:
        """Columns that alone have a hundredth of what an alarm needs, or of all there is."""
        whole = _log_sum(np.array(list(parts.values()))) if parts else 0.0
        limit = max(whole, self._log_limit) - math.log(100)
        found = []
        for name, part in sorted(parts.items(), key=lambda item: (-item[1], item[0])):
            if part >= limit:
                watched = self._watched[name]
                best = int(watched.question[int(np.argmax(gathered[name]))])
                found.append(Suspect(name, watched.asked.facets[best], math.exp(part - whole)))
        return tuple(found)


def _watched(asked: Questions, reference: Counts, number: int, settings: Settings, weight: float) -> _Watched:
    error = math.log(2 * max(number, 1) / (1 - settings.certainty))
    low, high = asked.likely(reference, error)
    margin = np.array([settings.margins.of(facet) for facet in asked.facets])
    ends, sides, question = [], [], []
    for at, (least, most) in enumerate(zip(low - margin, high + margin, strict=True)):
        for end, side in ((most, 1.0), (least, -1.0)):
            if 0.0 < end < 1.0:
                ends += [end] * len(_STEPS)
                sides += (side * _STEPS).tolist()
                question += [at] * len(_STEPS)
    harmless = np.array(ends)
    odds = np.log(harmless) - np.log1p(-harmless) + np.array(sides)
    other = 1.0 / (1.0 + np.exp(-odds))
    inside = (np.log(other) - np.log(harmless)) / settings.grouped
    outside = (np.log1p(-other) - np.log1p(-harmless)) / settings.grouped
    return _Watched(asked, np.array(question, dtype=np.intp), inside, outside, math.log(weight))


def _log_sum(logs: Array) -> float:
    top = float(logs.max()) if len(logs) else -math.inf
    return top if math.isinf(top) else top + math.log(float(np.exp(logs - top).sum()))
