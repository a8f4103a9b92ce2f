"""Whether a call is taken in: decided from when it would be answered, before anything is done for it."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from modelyard.errors import Overloaded

SHORTEST_RETRY = 0.05
"""Seconds: a caller that is refused is never told to come back sooner."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may wait for one deployment: bytes of request bodies, and rows. `objective_ms` holds where none is set."""

    bytes: int = 128 * 1024 * 1024
    rows: int = 1_000_000
    objective_ms: float = 1000.0


class Outlook(msgspec.Struct, frozen=True):
    """All that the decision about one call may look at. Times in seconds.

    `left` is until its deadline, `wait` until its turn as expected, `own` what it takes itself; `bytes` and `rows`
    already wait before it, and it brings `size` bytes more. `asked` says that the deadline is the caller's own.
    """

    left: float
    wait: float
    own: float
    bytes: int
    rows: int
    size: int
    asked: bool = False


def refusal(outlook: Outlook, bounds: Bounds) -> Overloaded | None:
    """Why the call cannot be taken in; None when it can.

    Where nothing waits, a call is tried even if it will take longer than the objective: nobody gains by refusing it.

    >>> refusal(Outlook(left=1.0, wait=0.2, own=0.01, bytes=0, rows=0, size=10), Bounds()) is None
    True
    >>> refusal(Outlook(left=1.0, wait=3.0, own=0.5, bytes=0, rows=0, size=10), Bounds()).retry_after
    2.5
    """
    late = outlook.wait + outlook.own - outlook.left
    if late > 0 and (outlook.asked or outlook.wait > 0.0):
        return Overloaded(
            f"there is too much to do to answer in time: it would take about {_shown(outlook.wait + outlook.own)}, "
            f"and {_shown(max(outlook.left, 0.0))} are left; try again later",
            max(late, SHORTEST_RETRY),
        )
    if outlook.bytes and outlook.bytes + outlook.size > bounds.bytes:
        return Overloaded("too many bytes of requests wait already; try again later", max(outlook.wait, SHORTEST_RETRY))
    if outlook.rows > bounds.rows:
        return Overloaded("too many rows wait already; try again later", max(outlook.wait, SHORTEST_RETRY))
    return None


def turn_after(own: float, all_of_them: float, lines: int, slice_seconds: float) -> float:
    """Seconds until a call's turn where `lines` deployments share the event loop fairly.

    `own` is what waits before it in its own line, `all_of_them` what waits in all. A line gets at least its share, so
    that a flood in another one costs it no more than that.

    >>> turn_after(own=0.0, all_of_them=10.0, lines=2, slice_seconds=0.001)
    0.002
    >>> turn_after(own=0.5, all_of_them=0.5, lines=1, slice_seconds=0.001)
    0.5
    """
    return min(all_of_them, (own + slice_seconds) * lines)


def _shown(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.0f} s"
