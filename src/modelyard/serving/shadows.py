"""Copies of answered calls for a candidate in the shadow: taken only as far as callers need not notice.

Nobody waits for what a shadow says, and it costs as much as the call itself: at half of what a server manages, all
calls twice would fill it, and everybody would wait. So copies have a part of a worker's time, and are begun when no
call waits. Which calls are copied depends on when they come and not on what is in them or how they were
answered, so what is seen on the copied ones holds for all.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from modelyard.serving.exchange import Incoming

SHARE = 0.1
"""Of a worker's time, so much may go into copies."""

SAVED_NS = 20_000_000
"""So much unused time is kept for later: calls come in bursts."""

AT_ONCE = 16
"""Copies that are begun and not ended at any time."""

LONGEST_NS = 50_000_000
"""What one copy is charged with at most: one that hangs in a process of its own takes no time of the worker's."""

BESIDES_NS = 60_000
"""What a copy takes besides being read, computed and written: its turn, its record. It is charged with it, too."""

_MEMORY = 16
"""Copies over which it is learnt what one takes."""


class Shadows:
    """Decides which calls are copied, and keeps the copies until no call waits. Belongs to the event loop's thread.

    `clock` tells nanoseconds.

    >>> now = 0
    >>> shadows = Shadows(lambda: now)
    >>> call = Incoming("a1", "rows", "live", None, b"", 0, 0)
    >>> shadows.take(call, "live.candidate"), shadows.next().deployment, shadows.next()
    (True, 'live.candidate', None)
    >>> shadows.ended(30_000_000)  # it took 30 ms, and 20 were saved
    >>> shadows.take(call, "live.candidate")
    False
    >>> now += 110_000_000
    >>> shadows.take(call, "live.candidate")
    True
    """

    def __init__(self, clock: Callable[[], int] = time.perf_counter_ns) -> None:
        self._clock = clock
        self._at, self._credit = clock(), float(SAVED_NS)
        self._each, self._open = float(BESIDES_NS), 0
        self._pending: deque[Incoming] = deque()

    def take(self, incoming: Incoming, candidate: str) -> bool:
        """Copy a call for that deployment, if there is time for it; whether there is."""
        now = self._clock()
        self._credit = min(self._credit + (now - self._at) * SHARE, SAVED_NS)
        self._at = now
        if self._open >= AT_ONCE or self._credit <= self._open * self._each:
            return False
        self._open += 1
        self._pending.append(replace(incoming, deployment=candidate, version=None, deadline_ns=None, trace=None))
        return True

    def next(self) -> Incoming | None:
        """The next copy to begin, if there is one: to be called when no call waits. Tell with `ended` when it ended."""
        if not self._pending:
            return None
        copy = self._pending.popleft()
        copy.started_ns = self._clock()
        return copy

    def ended(self, ns: int) -> None:
        """A copy has ended, however it did, and took so long to read, compute and write."""
        taken = min(ns, LONGEST_NS) + BESIDES_NS
        self._open -= 1
        self._credit -= taken
        self._each += (taken - self._each) / _MEMORY
