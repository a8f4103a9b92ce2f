"""Where answered numbers are cut, to see whether a candidate answers other numbers than the version before.

At a few values, fixed before anything is compared, it is counted how many answers lie above. The largest difference of
these shares is the distance of Kolmogorov and Smirnov, looked at where it can be looked at row by row: each share is a
mean between 0 and 1, so the evidence of `modelyard.rollout.betting` holds for each of them at all times, and of all of
them together the mean of the e-values is one. The values are quantiles of what the version before answered in training.

For bands on whole distribution functions that hold at all times, which need more rows: Howard and Ramdas 2022,
"Sequential estimation of quantiles with applications to A/B testing and best-arm identification" (Bernoulli, arXiv
1906.09712).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

LEVELS = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95)
"""Which quantiles of the answers in training: with seven a shift of the whole shows in one of them at least."""


def cuts_of(profile: Mapping[str, Any], answer: str) -> tuple[float, ...]:
    """The quantiles of a version's answers, by its reference profile; none where that has no numbers of that name.

    >>> from modelyard.domain.profile import numbers_described
    >>> cuts_of({"outputs": {"predict": numbers_described(np.arange(2000.0), 0)}}, "predict")
    (124.0, 406.0, 718.0, 1031.0, 1312.0, 1624.0, 1906.0)
    >>> cuts_of({"outputs": {"predict": numbers_described(np.array([7.0, 7.0, 7.0, 9.0]), 0)}}, "predict")
    (7.0, 9.0)
    """
    found = profile.get("outputs", {}).get(answer, {})
    if found.get("type") != "numbers":
        return ()
    heavy = [(value, many) for value, many in found["atoms"]]
    values = np.array([*(value for value, _ in heavy), *found["edges"][1:]], dtype=float)
    many = np.array([*(many for _, many in heavy), *found["counts"]], dtype=float)
    if not many.sum():
        return ()
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(many[order]) / many.sum()
    at = np.searchsorted(reached, np.array(LEVELS) - 1e-9)
    return tuple(np.unique(values[order][np.minimum(at, len(order) - 1)]).tolist())
