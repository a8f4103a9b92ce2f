"""Traffic: calls that are refused, fail or come late more often than they did, and traffic that stays away."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import timedelta

import msgspec
import numpy as np

from modelyard.domain.frame import Array
from modelyard.monitoring.calls import Calls
from modelyard.monitoring.detector import unpacked
from modelyard.monitoring.evidence import Against
from modelyard.monitoring.facets import likely_range
from modelyard.monitoring.findings import Finding
from modelyard.monitoring.reference import Reference
from modelyard.monitoring.rhythm import DAY, WEEK
from modelyard.monitoring.settings import Settings
from modelyard.monitoring.watching import Snapshot

_FIRST = 200
"""So many calls are the baseline of what is refused, fails or comes late."""

_ASKED = ("refused", "failed", "late")
_SAID = {
    "refused": "calls were refused for their input",
    "failed": "calls failed or found no version",
    "late": "calls came more than an hour after the moment they are about",
}
_HALF = 0.5
"""Traffic above this part of the least that was usual is not called too little."""


class RefusalState(msgspec.Struct, frozen=True):
    """How many of the first calls were refused, failed or late, among how many; what was gathered since."""

    usual: tuple[int, ...] = (0, 0, 0)
    calls: int = 0
    gathered: bytes = b""


class Refusals:
    """Parts of the calls that are refused, fail or come late, against the version's first calls.

    The procedure is that of `modelyard.monitoring.detector`: what was usual lies within Chernoff's bounds, the margin
    (`Settings.missing`) is added, and only more than that counts. Calls are taken to be independent.
    """

    name = "traffic"
    share = 0.03
    state = RefusalState

    def start(self, reference: Reference, settings: Settings) -> RefusalState:
        """No calls yet."""
        return RefusalState()

    def look(self, state: RefusalState, snapshot: Snapshot) -> tuple[RefusalState, list[Finding]]:
        """Take a window in."""
        found, total = counted(snapshot.calls), snapshot.calls.total
        if not total:
            return state, []
        if state.calls < _FIRST:
            usual = tuple(one + more for one, more in zip(state.usual, found, strict=True))
            return RefusalState(usual, state.calls + total), []
        against = _against(state, snapshot.settings)
        gathered = unpacked(state.gathered, against.start())
        n = np.full(len(_ASKED), float(total))
        gathered = against.advance(gathered, np.array(found, dtype=float), n, snapshot.seconds)
        parts = against.parts(gathered)
        alarm = float(parts.sum()) >= snapshot.settings.needed
        after = RefusalState(state.usual, state.calls, b"" if alarm else gathered.tobytes())
        return after, list(_findings(state, snapshot, parts, found))


def counted(calls: Calls) -> tuple[int, ...]:
    """Calls that were refused, failed, and came late.

    >>> counted(Calls(outcomes={"ok": 5, "refused": 2, "failed": 1, "unavailable": 1}, late=3))
    (2, 2, 3)
    """
    failed = calls.outcomes.get("failed", 0) + calls.outcomes.get("unavailable", 0)
    return calls.outcomes.get("refused", 0), failed, min(calls.late, calls.total)


def _against(state: RefusalState, settings: Settings) -> Against:
    error = np.full(len(_ASKED), math.log(len(_ASKED) / (1 - settings.certainty)))
    calls = np.full(len(_ASKED), state.calls)
    _, high = likely_range(np.array(state.usual), calls, error)
    weights = np.full(len(_ASKED), 1 / len(_ASKED))
    return Against(np.zeros(len(_ASKED)), high + settings.missing, weights)


def _findings(state: RefusalState, snapshot: Snapshot, parts: Array, found: tuple[int, ...]) -> Iterator[Finding]:
    needed, whole = snapshot.settings.needed, float(parts.sum())
    for at, name in enumerate(_ASKED):
        now, before = found[at] / snapshot.calls.total, state.usual[at] / state.calls
        own = float(parts[at])
        if own < needed / 100:
            continue
        reasons = sorted(snapshot.calls.refusals.items(), key=lambda each: -each[1])[:4]
        why = "; ".join(f"{reason} ({count:,})" for reason, count in reasons) if name != "late" else ""
        alarm = whole >= needed and (own >= whole / 3 or own >= needed)
        yield snapshot.finding(
            f"traffic.{name}",
            f"{now:.1%} of {_SAID[name]}, {before:.1%} of the first{f': {why}' if why else ''}",
            evidence=whole if alarm else min(own, needed * 0.999),
            needed=needed,
            effect=max(now - before, snapshot.settings.missing * 1.000001) if alarm else now - before,
            margin=snapshot.settings.missing,
            details={"refusals": dict(reasons)},
        )


class AbsentState(msgspec.Struct, frozen=True):
    """Calls of the windows of two weeks, the newest last; for how many windows there have been too few."""

    calls: tuple[int, ...] = ()
    missing: int = 0


class Absent:
    """Traffic that stays away, or is far less than it has ever been at such an hour.

    How much is usual is the least of the same hour on the last two such weekdays, or on the days before; until there
    are two days of it nothing is judged. The number of calls is held against that as one of Poisson's, whose variance
    is raised by as much as that between the same hours is above their mean; a tail bound of Chernoff's. It is a model,
    unlike what else is watched: real traffic can be rougher. `late_after` (seconds) says it instead, from the start.
    """

    name = "traffic.absent"
    share = 0.02
    state = AbsentState

    def start(self, reference: Reference, settings: Settings) -> AbsentState:
        """No traffic yet."""
        return AbsentState()

    def look(self, state: AbsentState, snapshot: Snapshot) -> tuple[AbsentState, list[Finding]]:
        """Take a window in; those before the first call are none."""
        total = snapshot.calls.total
        if not state.calls and not total:
            return state, []
        least, rough = usual(state.calls, snapshot.seconds)
        few = total < _HALF * least
        missing = state.missing + 1 if few or (not total and snapshot.settings.late_after > 0) else 0
        keep = round(2 * WEEK / snapshot.seconds)
        # What is missing must not become usual: its place is taken by the least of what was.
        after = AbsentState((*state.calls, round(least) if few else total)[-keep:], missing)
        if not missing:
            return after, []
        since = snapshot.began - timedelta(seconds=snapshot.seconds) * (missing - 1)
        log = missing * (least - total + (total * math.log(total / least) if total and least else 0.0)) / rough
        evidence = snapshot.seconds * math.exp(min(max(log, 0.0), 300.0))
        away = (snapshot.ended - since).total_seconds()
        if snapshot.settings.late_after > 0:
            evidence = math.inf if not total and away >= snapshot.settings.late_after else 0.0
        part = 1 - total / least if least else 1.0
        return after, [
            snapshot.finding(
                "traffic.absent",
                f"{total:,} calls in this window" + (f", {least:,.0f} or more at such an hour before" if least else ""),
                evidence=evidence,
                needed=snapshot.settings.needed,
                effect=part,
                margin=_HALF,
                since=since,
            )
        ]


def usual(calls: tuple[int, ...], seconds: float) -> tuple[float, float]:
    """The least number of calls at such an hour, and how much rougher than Poisson's numbers are; 0 if unknown.

    >>> usual((10, 12, 11, 10, 9, 10), 43_200.0)
    (9.0, 1.0)
    """
    for cycle, most in ((WEEK, 2), (DAY, 14)):
        step = round(cycle / seconds)
        if step and len(calls) >= 2 * step:
            same = np.array(calls[-step : -step * most - 1 : -step], dtype=float)
            return float(same.min()), _rough(np.array(calls, dtype=float), step)
    return 0.0, 1.0


def _rough(calls: Array, step: int) -> float:
    """The variance between the same hours of different cycles, by their mean."""
    whole = calls[-(len(calls) // step) * step :].reshape(-1, step)
    mean = float(whole.mean())
    return max(1.0, float(whole.var(axis=0, ddof=1).mean()) / mean) if mean else 1.0
