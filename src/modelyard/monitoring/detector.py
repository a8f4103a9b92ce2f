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

import msgspec
import numpy as np

from modelyard.domain.frame import Array
from modelyard.errors import InvalidRequest
from modelyard.monitoring.asking import Asked
from modelyard.monitoring.budget import Budget
from modelyard.monitoring.evidence import Against
from modelyard.monitoring.facets import Facet, Margins
from modelyard.monitoring.reference import Reference
from modelyard.monitoring.windows import Profile


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
    """What has been gathered since the last alarm: all M (in seconds) as bytes of floats; none is nothing yet."""

    reference: str
    gathered: bytes = b""


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


class Detector:
    """Decides about windows of one reference. Pure: what it gathers is handed in and handed back."""

    def __init__(self, reference: Reference, settings: Settings) -> None:
        self._reference = reference.digest
        self._limit = settings.budget.seconds_each
        named = {name: max(0.0, settings.weights.get(name, 1.0)) for name in reference.slots}
        self.asked = Asked(reference)
        whole = sum(named.values())
        if named and not whole > 0:
            raise InvalidRequest("all columns have the weight 0; leave one with more")
        low, high = self.asked.likely(settings.certainty)
        margin = np.array([settings.margins.of(facet) for facet in self.asked.facets])
        self.against = Against(low - margin, high + margin, question_weights(self.asked, named), settings.grouped)

    def start(self) -> State:
        """Nothing gathered yet."""
        return State(self._reference)

    def step(self, state: State, window: Profile, seconds: float) -> tuple[State, Verdict]:
        """Take the next window in, which stands for so many `seconds`. Columns that it lacks stay as they were.

        The seconds must not depend on what is in the window. An empty window changes nothing.

        Raises:
            InvalidRequest: state or window belong to another reference.
        """
        if {state.reference, window.reference} != {self._reference}:
            raise InvalidRequest("the window was counted for another reference; start anew with this one")
        before = unpacked(state.gathered, self.against.start())
        x, n = self.asked.answers(self.asked.in_cells(window))
        gathered = self.against.advance(before, x, n, seconds)
        verdict = self._verdict(gathered)
        return State(self._reference, b"" if verdict.alarm else gathered.tobytes()), verdict

    def _verdict(self, gathered: Array) -> Verdict:
        parts = self.against.parts(gathered)
        reached = float(parts.sum())
        return Verdict(reached >= self._limit, reached / self._limit, tuple(self._suspects(parts, reached)))

    def _suspects(self, parts: Array, reached: float) -> list[Suspect]:
        """Columns that alone have a hundredth of what an alarm needs, or of all there is."""
        columns = self.asked.per_column(parts)
        limit = max(reached, self._limit) / 100
        order = sorted(np.flatnonzero(columns >= limit).tolist(), key=lambda at: (-columns[at], self.asked.columns[at]))
        return [Suspect(self.asked.columns[at], self._facet(parts, at), float(columns[at] / reached)) for at in order]

    def _facet(self, parts: Array, column: int) -> Facet:
        first, last = self.asked.first[column], self.asked.first[column + 1]
        return self.asked.facets[int(first + np.argmax(parts[first:last]))]


def question_weights(asked: Asked, weights: Mapping[str, float]) -> Array:
    """A weight for each question; a column's is shared out evenly, all of them together have 1."""
    columns = np.array([weights.get(name, 1.0) for name in asked.columns])
    numbers = np.diff(asked.first)
    each: Array = (columns / max(float(columns.sum()), math.ulp(0.0)) / np.maximum(numbers, 1))[asked.column_of]
    return each


def unpacked(raw: bytes, empty: Array) -> Array:
    """What was gathered, from its bytes; what is of another form (of an earlier release) counts as nothing."""
    if len(raw) != empty.nbytes:
        return empty
    return np.frombuffer(raw, dtype=np.float64).reshape(empty.shape)
