"""What answering costs: latency and memory of a version, against a limit or against its own first windows.

Calls that wait for each other are no independent events, so this is not a test that spends a part of the budget but a
rule about time: an alarm needs `_ROW` stretches of at least `_CALLS` calls one after the other that are all too slow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime

import msgspec

from modelyard.monitoring.calls import quantile
from modelyard.monitoring.findings import Finding
from modelyard.monitoring.reference import Reference
from modelyard.monitoring.settings import Settings
from modelyard.monitoring.watching import Snapshot

_SHARE = 0.99
_CALLS = 100
"""Calls that a stretch has at least; windows with fewer are put together."""

_ROW = 3
_FIRST = 1000
"""The first windows are those until so many calls have been answered, and at least `_ROW` stretches."""

_SLOWER = 4.0
_LEAST = 0.05
"""Without a limit of the user's: so many times slower than at first, and at least so many seconds."""

_LARGER = 2.0
_GROWN = 256e6
"""Memory: so many times as much as at first, and at least so many bytes more."""


class Run(msgspec.Struct, frozen=True):
    """How many stretches in a row were beyond the limit, and since when."""

    length: int = 0
    since: datetime | None = None

    def on(self, *, beyond: bool, began: datetime) -> Run:
        """After one stretch more."""
        return Run(self.length + 1, self.since or began) if beyond else Run()


class ComputingState(msgspec.Struct, frozen=True):
    """Latencies of the first windows and of the stretch that is being gathered, counted in bins; runs."""

    first: Mapping[int, int] = {}
    stretches: int = 0
    pending: Mapping[int, int] = {}
    began: datetime | None = None
    slow: Run = Run()
    memory: int | None = None
    windows: int = 0
    large: Run = Run()

    @property
    def learned(self) -> bool:
        """Whether the first windows are over."""
        return self.stretches >= _ROW and sum(self.first.values()) >= _FIRST


class Computing:
    """Latency: 99 of 100 calls have to be answered within a limit. Memory: no more than twice as much as at first."""

    name = "computing"
    share = 0.0
    state = ComputingState

    def start(self, reference: Reference, settings: Settings) -> ComputingState:
        """Nothing known."""
        return ComputingState()

    def look(self, state: ComputingState, snapshot: Snapshot) -> tuple[ComputingState, list[Finding]]:
        """Take a window in."""
        state, findings = _latency(state, snapshot)
        state, more = _memory(state, snapshot)
        return state, findings + more


def _latency(state: ComputingState, snapshot: Snapshot) -> tuple[ComputingState, list[Finding]]:
    gathered = dict(state.pending)
    for at, count in snapshot.calls.latency.items():
        gathered[at] = gathered.get(at, 0) + count
    began = state.began or snapshot.began
    if sum(gathered.values()) < _CALLS:
        return msgspec.structs.replace(state, pending=gathered, began=began if gathered else None), []
    if not state.learned:
        first = {at: state.first.get(at, 0) + gathered.get(at, 0) for at in sorted({*state.first, *gathered})}
        state = msgspec.structs.replace(state, first=first, stretches=state.stretches + 1)
        if not snapshot.settings.latency:
            return msgspec.structs.replace(state, pending={}, began=None), []
    limit = _limit(state, snapshot.settings)
    now = quantile(gathered, _SHARE) or 0.0
    slow = state.slow.on(beyond=now > limit, began=began)
    state = msgspec.structs.replace(state, pending={}, began=None, slow=slow)
    return state, [_slow(state, snapshot, now, limit)]


def _limit(state: ComputingState, settings: Settings) -> float:
    return settings.latency or max(_LEAST, _SLOWER * (quantile(state.first, _SHARE) or 0.0))


def _slow(state: ComputingState, snapshot: Snapshot, now: float, limit: float) -> Finding:
    first = quantile(state.first, _SHARE) or 0.0
    of = "the limit that was set" if snapshot.settings.latency else "the limit, from the version's first windows"
    said = f"99 of 100 calls within {_seconds(now)}, {_seconds(first)} at first; {_seconds(limit)} is {of}"
    return snapshot.finding(
        "computing.latency",
        said,
        evidence=math.inf if state.slow.length >= _ROW else 0.0,
        effect=now,
        margin=limit,
        since=state.slow.since,
        details={"p50": quantile(snapshot.calls.latency, 0.5) or 0.0, "p99": now, "first_p99": first},
    )


def _memory(state: ComputingState, snapshot: Snapshot) -> tuple[ComputingState, list[Finding]]:
    now = snapshot.calls.memory
    if now is None:
        return state, []
    if state.windows < _ROW:
        first = max(now, state.memory or 0)
        return msgspec.structs.replace(state, memory=first, windows=state.windows + 1), []
    before = state.memory or 0
    limit = max(_LARGER * before, before + _GROWN)
    large = state.large.on(beyond=now > limit, began=snapshot.began)
    state = msgspec.structs.replace(state, large=large)
    if now <= limit:
        return state, []
    found = snapshot.finding(
        "computing.memory",
        f"{now / 1e6:,.0f} MB of memory, {before / 1e6:,.0f} MB in the version's first windows",
        evidence=math.inf if large.length >= _ROW else 0.0,
        effect=float(now),
        margin=limit,
        since=large.since,
    )
    return state, [found]


def _seconds(seconds: float) -> str:
    """As people write it.

    >>> _seconds(0.0123), _seconds(2.5)
    ('12.3 ms', '2.5 s')
    """
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"
