"""Both versions answered the same rows: how much worse is the candidate on them.

Each row is its own control, so far fewer are needed than where calls are divided. The difference of a row is between -1
and 1: of errors (1 where only the candidate is wrong, -1 where only the baseline is), of losses that are bounded, or
1 where the answers differ by more than they may, and 0 where they do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from modelyard.errors import InvalidRequest
from modelyard.rollout import betting
from modelyard.rollout.betting import Floats

_CLOSEST = 1e-9
_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Evidence:
    """What has been gathered about the mean difference, for each of some `margins`; see `modelyard.rollout.arms`.

    `least` is the least difference there can be: 0 where a row is counted as different or not.
    """

    margins: Floats
    least: float
    above: Floats
    below: Floats
    rows: float = 0.0
    total: float = 0.0

    @property
    def harm(self) -> Floats:
        """For each margin the logarithm of an e-value: evidence that the mean is above it."""
        return betting.wealth(self.above)

    @property
    def safety(self) -> Floats:
        """For each margin the logarithm of an e-value: evidence that the mean is below it."""
        return betting.wealth(self.below)


def start(margins: Sequence[float], least: float = -1.0) -> Evidence:
    """Nothing seen yet.

    Raises:
        InvalidRequest: a margin is not above `least` and below 1.
    """
    if not all(least <= margin < 1.0 for margin in margins):
        raise InvalidRequest(f"margins of differences lie between {least:g} and 1; got {list(margins)}")
    logs = betting.start(len(margins))
    return Evidence(np.array(margins, dtype=float), least, logs, logs)


def observe(evidence: Evidence, differences: Sequence[float] | Floats) -> Evidence:
    """Take in the differences of more rows, candidate less baseline.

    >>> found = observe(start([0.0, 0.05]), [0.0] * 800 + [1.0] * 15 + [-1.0])
    >>> [bool(each > np.log(100)) for each in found.harm]
    [True, False]

    Raises:
        InvalidRequest: one is not between `least` and 1.
    """
    values, many = np.unique(np.asarray(differences, dtype=float), return_counts=True)
    return observe_counted(evidence, list(zip(values.tolist(), many.tolist(), strict=True)))


def observe_counted(evidence: Evidence, differences: Sequence[tuple[float, float]]) -> Evidence:
    """Take in each difference as often as it occurred; less than once weighs a row less.

    Raises:
        InvalidRequest: one is not between `least` and 1.
    """
    if not all(evidence.least <= value <= 1.0 for value, _ in differences):
        raise InvalidRequest(f"differences of rows lie between {evidence.least:g} and 1")
    above, below, margins = evidence.above, evidence.below, evidence.margins
    for first in range(0, len(differences), _AT_ONCE):
        some = np.array(differences[first : first + _AT_ONCE], dtype=float)
        values, many = some[:, :1], some[:, 1]
        more = betting.gains(values, margins, np.minimum(evidence.least, margins - _CLOSEST))
        less = betting.gains(-values, -margins, -1.0)
        above, below = (owned + np.einsum("svm,v->sm", each, many) for owned, each in ((above, more), (below, less)))
    rows = evidence.rows + sum(times for _, times in differences)
    total = evidence.total + sum(value * times for value, times in differences)
    return replace(evidence, above=above, below=below, rows=rows, total=total)
