"""Evidence that adds up from window to window: e-values against what is harmless, and sums of Shiryaev-Roberts form.

All of it is arithmetic on arrays, with a row for each question and a column for each alternative; see
`modelyard.monitoring.detector` for the argument.
"""

from __future__ import annotations

import numpy as np

from modelyard.domain.frame import Array

STEPS = np.array([0.1, 0.2, 0.4, 0.8, 1.6, 3.2])
"""How far alternatives are from what is still harmless, in log odds."""

_LARGEST_LOG = 400.0
_LARGEST = 1e100
"""Evidence is cut here, far above what any budget needs: it only ever gets smaller by that."""


class Against:
    """Evidence that shares lie outside of a range, `low` to `high`, which is the same for all windows.

    For a share u at the upper end and an alternative a above it the likelihood ratio (a/u)^x ((1-a)/(1-u))^(n-x) has
    expectation at most 1 under every p <= u; the same downwards. Its root is taken where rows come in groups of at most
    `grouped`. Alternatives of one question share its weight; those that cannot be (an end at 0 or 1) have none.
    """

    def __init__(self, low: Array, high: Array, weights: Array, grouped: float = 1.0) -> None:
        ends = np.repeat(np.stack([high, low], axis=1), len(STEPS), axis=1)
        sides = np.repeat([1.0, -1.0], len(STEPS))
        there = (ends > 0.0) & (ends < 1.0)
        harmless = np.where(there, ends, 0.5)
        tilts = np.where(there, sides * np.tile(STEPS, 2), 0.0)
        other = 1.0 / (1.0 + np.exp(-(np.log(harmless) - np.log1p(-harmless) + tilts)))
        self._outside = (np.log1p(-other) - np.log1p(-harmless)) / grouped
        self._slope = (np.log(other) - np.log(harmless)) / grouped - self._outside
        number = there.sum(axis=1, keepdims=True)
        self.weights = np.where(there, weights[:, None] / np.maximum(number, 1), 0.0)

    def start(self) -> Array:
        """Nothing gathered yet."""
        return np.zeros_like(self.weights)

    def ratios(self, x: Array, n: Array) -> Array:
        """The e-values of one window: 1 where a question has no rows.

        >>> made = Against(np.array([0.0]), np.array([0.5]), np.ones(1))
        >>> chance = np.array([0.25, 0.5, 0.25])  # of 0, 1 and 2 heads of a fair coin
        >>> each = np.array([made.ratios(np.array([x]), np.array([2]))[0] for x in (0, 1, 2)])
        >>> bool(np.allclose(chance @ each, 1.0))
        True
        """
        logs = n[:, None] * self._outside
        logs += x[:, None] * self._slope
        found: Array = np.exp(np.minimum(logs, _LARGEST_LOG, out=logs), out=logs)
        return found

    def advance(self, gathered: Array, x: Array, n: Array, seconds: float) -> Array:
        """Take a window in which stands for so many seconds. Where it has no rows nothing is added, no time either."""
        return added_up(gathered, self.ratios(x, n), n, seconds)

    def parts(self, gathered: Array) -> Array:
        """What each question has, in seconds, weighed."""
        found: Array = np.einsum("qa,qa->q", gathered, self.weights)
        return found


def added_up(gathered: Array, ratios: Array, n: Array, seconds: float) -> Array:
    """The next sum of Shiryaev and Roberts, (M + w) L, with w the seconds of windows that have rows."""
    found: Array = gathered + np.where(n > 0, seconds, 0.0)[:, None]
    found *= ratios
    return np.minimum(found, _LARGEST, out=found)


def beside(x: Array, n: Array, earlier: tuple[Array, Array], guess: Array, margin: Array, grouped: float) -> Array:
    """E-values that a share differs by more than `margin` from that of other, earlier rows of which it knows counts.

    `earlier` are counts ``(X, N)`` of the earlier rows, `guess` what their share may be, told from neither of the two.
    With shares P and p of earlier and present rows, the null is p - P <= margin, and the e-value is the likelihood
    ratio of an alternative to its reverse information projection on the null (Turner, Ly and Gruenwald 2021, "Generic
    E-variables for exact sequential k-sample tests that allow for optional stopping", arXiv 2106.02693). Here the point
    on the null's border comes first, (u, u + margin) with u from the guess, and the alternative is placed so that it
    projects there: N (P' - u) / (u (1 - u)) = -n (p' - v) / (v (1 - v)) with v = u + margin. The logarithm of the
    expectation is concave in (P, p), 0 at that point and falls along the null from there, hence at most 0 on all of it.
    A wrong guess costs power only. The same downwards; `grouped` as in `Against`. Gives a row for each question.
    """
    upward = _upward(x, n, earlier, guess, margin)
    downward = _upward(n - x, n, (earlier[1] - earlier[0], earlier[1]), 1.0 - guess, margin)
    logs = np.concatenate([upward, downward], axis=1) / grouped
    found: Array = np.exp(np.minimum(logs, _LARGEST_LOG))
    return found


def _upward(x: Array, n: Array, earlier: tuple[Array, Array], guess: Array, margin: Array) -> Array:
    """Logarithms of the e-values that p - P is more than the margin, for each step."""
    x, n, before, of_before, margin = (each[:, None] for each in (x, n, *earlier, margin))
    u = np.clip(guess[:, None], 1e-4, None)
    u = np.minimum(u, 1.0 - margin - 1e-4)
    v = u + margin
    both = (n > 0) & (of_before > 0) & (u > 0)
    odds = v / (1.0 - v) * np.exp(STEPS)
    up = odds / (1.0 + odds)
    balance = np.divide(n, of_before, out=np.zeros_like(n), where=both) * (u * (1.0 - u)) / (v * (1.0 - v))
    # The alternative's earlier share must stay above nothing: where it would not, the step is shortened.
    step = np.minimum(up - v, np.divide(u / 2, balance, out=np.ones_like(balance), where=balance > 0))
    other, down = v + step, u - balance * step
    logs = x * np.log(other / v) + (n - x) * np.log((1 - other) / (1 - v))
    logs += before * np.log(down / u) + (of_before - before) * np.log((1 - down) / (1 - u))
    found: Array = np.where(both, logs, 0.0)
    return found
