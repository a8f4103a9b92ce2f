"""When a change began: the stretch up to now that speaks most for it, told from the counts of windows.

What has been gathered says that there was a change, not when. With a share p of x rows among n in a stretch, and the
nearest harmless share u, the stretch speaks for a change by the largest likelihood ratio of any share to u, n KL(p, u);
the stretch up to now that speaks most is the estimate (the generalised likelihood ratio of Lorden 1971, "Procedures for
reacting to a change in distribution"). It decides nothing: that is left to the evidence.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta

import numpy as np

from modelyard.domain.frame import Array
from modelyard.monitoring.asking import Asked
from modelyard.monitoring.watching import Snapshot

_FINE = 8
"""Beginnings are tried so close to each other that the stretch is known to one part in so many."""


class Beginnings:
    """When changes of columns most likely began, in steps of so many `seconds` back from a moment, the last `ended`.

    Stretches are added up once for all questions, as far back as one of them asks.
    """

    def __init__(self, asked: Asked, snapshot: Snapshot, ended: datetime, seconds: float) -> None:
        self._asked, self._snapshot, self._ended, self._seconds = asked, snapshot, ended, seconds
        self._stretches: list[tuple[datetime, Array, Array]] = []
        self._steps = 0

    def began(self, question: int, low: float, high: float, oldest: datetime) -> datetime:
        """For the question at a place in `asked`, of which shares from `low` to `high` are harmless.

        Not before `oldest`, which is also what it is where no stretch speaks for any change.
        """
        best, found, at = 0.0, oldest, 0
        while True:
            if at == len(self._stretches):
                self._add()
            since, x, n = self._stretches[at]
            if since < oldest:
                return found
            speaks = speaking(float(x[question]), float(n[question]), low, high)
            if speaks > best:
                best, found = speaks, since
            at += 1

    def _add(self) -> None:
        """Go one stretch further back; those that are further away are longer."""
        until = self._stretches[-1][0] if self._stretches else self._ended
        steps = max(1, self._steps // _FINE)
        since = until - timedelta(seconds=self._seconds * steps)
        x, n = self._answers(since, until)
        if self._stretches:
            x, n = x + self._stretches[-1][1], n + self._stretches[-1][2]
        self._stretches.append((since, x, n))
        self._steps += steps

    def _answers(self, since: datetime, until: datetime) -> tuple[Array, Array]:
        """Of the rows of a stretch how many each question is about, and among how many."""
        snapshot = self._snapshot
        found = snapshot.earlier(since, (min(until, snapshot.began) - since).total_seconds())
        if until > snapshot.began and snapshot.window is not None:
            found = snapshot.window if found is None else found + snapshot.window
        if found is None:
            return np.zeros(len(self._asked)), np.zeros(len(self._asked))
        return self._asked.answers(self._asked.in_cells(found))


def speaking(x: float, n: float, low: float, high: float) -> float:
    """The logarithm of the largest likelihood ratio of a share outside of `low` to `high` to the nearer end.

    >>> speaking(5, 10, 0.4, 0.6), round(speaking(9, 10, 0.4, 0.6), 3), round(speaking(1, 10, 0.4, 0.6), 3)
    (0.0, 2.263, 2.263)
    """
    if not n or low <= x / n <= high:
        return 0.0
    share, end = x / n, high if x / n > high else low
    return x * _log(share, end) + (n - x) * _log(1.0 - share, 1.0 - end)


def _log(one: float, other: float) -> float:
    if one <= 0.0:
        return 0.0
    return math.inf if other <= 0.0 else math.log(one / other)
