"""A deployment at a glance: what its last windows add up to beside the reference, its alerts, its traffic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from typing import Any

import msgspec

from modelyard.errors import NotFound
from modelyard.monitoring.alerts import Alert, Alerts
from modelyard.monitoring.calls import Calls
from modelyard.monitoring.comparison import Comparison, compare_counts
from modelyard.monitoring.effects import effect, share
from modelyard.monitoring.findings import Finding
from modelyard.monitoring.reference import Reference
from modelyard.monitoring.settings import Settings
from modelyard.monitoring.slots import Slots
from modelyard.monitoring.sources import PartSource
from modelyard.monitoring.store import MonitorStore, Window
from modelyard.monitoring.versions import KnownVersions
from modelyard.monitoring.windows import Profile
from modelyard.registry import Registry

STEPS = 28
"""A stretch is drawn in so many steps at most."""


@dataclass(frozen=True, slots=True)
class Step:
    """A part of the stretch that is shown: when it began (UTC), its rows, and how far each column was off then."""

    began: datetime
    rows: int
    calls: int
    unanswered: int
    distance: Mapping[str, float]
    missing: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Up to which moment of event time the monitor has looked, and up to which calls have come (UTC)."""

    reached: datetime
    come: datetime


@dataclass(frozen=True, slots=True)
class Overview:
    """What is shown of a deployment. `compared` is one look at all rows of the stretch beside the reference."""

    deployment: str
    version: str
    began: datetime
    ended: datetime
    windows: int
    rows: int
    calls: Calls
    steps: tuple[Step, ...]
    compared: Comparison | None
    alerts: tuple[Alert, ...]
    findings: tuple[Finding, ...]
    settings: Settings
    waiting: Waiting | None = None
    """Calls that the monitor has not looked at though their windows are over; None where there are none."""

    @property
    def alarming(self) -> bool:
        """Whether any alert goes on."""
        return bool(self.alerts)

    def document(self) -> dict[str, Any]:
        """All of it as dicts, lists, texts and numbers."""
        alerts = [
            {
                "id": alert.id,
                "state": alert.state.value,
                "version": alert.version,
                "since": alert.since,
                "loss": alert.loss,
                "what": [part.text for part in alert.parts],
            }
            for alert in self.alerts
        ]
        quantiles = {f"p{share:.0%}".rstrip("%"): self.calls.latency_quantile(share) for share in (0.5, 0.99)}
        found: dict[str, Any] = {
            "deployment": self.deployment,
            "version": self.version,
            "began": self.began,
            "ended": self.ended,
            "windows": self.windows,
            "rows": self.rows,
            "outcomes": dict(self.calls.outcomes),
            "refusals": dict(self.calls.refusals),
            "latency_seconds": quantiles,
            "steps": [msgspec.to_builtins(step) for step in self.steps],
            "columns": [] if self.compared is None else msgspec.to_builtins(self.compared.columns),
            "pairs": [] if self.compared is None else msgspec.to_builtins(self.compared.pairs),
            "alerts": alerts,
            "findings": msgspec.to_builtins(self.findings),
            "waiting": None if self.waiting is None else msgspec.to_builtins(self.waiting),
            "settings": msgspec.to_builtins(self.settings),
        }
        return found


def overview(registry: Registry, deployment: str, *, hours: float = 168.0, version: str = "") -> Overview:
    """The last `hours` of event time of a deployment, of the version that answered last or of one that is named.

    Raises:
        NotFound: nothing was monitored under that name, or that version answered nothing in that time.
    """
    store = MonitorStore(registry.database)
    newest = store.newest(deployment)
    if newest is None:
        there = ", ".join(store.deployments()) or "none yet"
        raise NotFound(
            f"nothing of {deployment!r} has been monitored; there are: {there}. "
            "`modelyard up` keeps a monitor running, `modelyard monitor run --once` looks now"
        )
    until = newest + 1
    windows = store.windows(deployment, max(0, int(until - hours * 3600)), until)
    mine, lost = _of_version(windows, version)
    if not mine:
        there = ", ".join(sorted({window.version for window in windows if window.version})) or "none"
        raise NotFound(f"{version or 'no version'} answered nothing in the last {hours:g} hours; answered: {there}")
    known = KnownVersions(registry).of(mine[-1].digest)
    settings = store.settings(deployment)
    reference = None if known is None else known.counted.reference
    profile = _together(mine, reference)
    shown = mine[-1].version
    return Overview(
        deployment=deployment,
        version=shown,
        began=mine[0].at,
        ended=datetime.fromtimestamp(mine[-1].began + int(mine[-1].seconds), UTC),
        windows=len(mine),
        rows=sum(window.calls.rows for window in mine),
        calls=reduce(lambda one, other: one + other, [window.calls for window in (*mine, *lost)]),
        steps=tuple(_steps(mine, reference)),
        compared=None
        if reference is None or profile is None
        else compare_counts(reference, profile, names=(shown, f"{deployment}, live"), margins=settings.margins),
        alerts=tuple(Alerts(registry.database).listed(deployment)),
        findings=tuple(store.findings(deployment, mine[0].began)),
        settings=settings,
    )


def waiting(registry: Registry, deployment: str) -> Waiting | None:
    """What has come of a deployment that nobody has looked at, though it is more than two windows old by now.

    A window that has just ended is looked at within seconds where a monitor runs; more than that waits where none does.
    """
    store, versions = MonitorStore(registry.database), KnownVersions(registry)
    source = PartSource(registry.home, versions, lambda name: store.settings(name).window)
    source.refresh()
    reached, settings = store.reached(deployment), store.settings(deployment)
    come = source.newest(deployment, datetime.now(UTC).timestamp()) + settings.window
    if come - reached <= 2 * settings.window + settings.grace:
        return None
    return Waiting(datetime.fromtimestamp(reached, UTC), datetime.fromtimestamp(come, UTC))


def _of_version(windows: Sequence[Window], version: str) -> tuple[list[Window], list[Window]]:
    """The windows of the version that is meant, and those of calls that reached none."""
    answered = [window for window in windows if window.digest]
    wanted = version or (answered[-1].version if answered else "")
    return [each for each in answered if each.version == wanted], [each for each in windows if not each.digest]


def _together(windows: Sequence[Window], reference: Reference | None) -> Profile | None:
    if reference is None:
        return None
    profiles = [profile for window in windows if (profile := window.profile) and profile.reference == reference.digest]
    return reduce(lambda one, other: one + other, profiles) if profiles else None


def _steps(windows: Sequence[Window], reference: Reference | None) -> Iterator[Step]:
    first, last = windows[0].began, windows[-1].began + int(windows[-1].seconds)
    length = max(-(-(last - first) // STEPS), int(windows[0].seconds))
    for start in range(first, last, length):
        some = [window for window in windows if start <= window.began < start + length]
        profile = _together(some, reference)
        outcomes = [window.calls.outcomes for window in some]
        total = sum(sum(each.values()) for each in outcomes)
        distance, missing = _distances(reference, profile)
        yield Step(
            datetime.fromtimestamp(start, UTC),
            sum(window.calls.rows for window in some),
            total,
            total - sum(each.get("ok", 0) for each in outcomes),
            distance,
            missing,
        )


def _distances(reference: Reference | None, profile: Profile | None) -> tuple[dict[str, float], dict[str, float]]:
    if reference is None or profile is None:
        return {}, {}
    there = {name: slots for name, slots in reference.slots.items() if name in profile.columns}
    return (
        {name: _distance(slots, profile.columns[name].counts) for name, slots in there.items()},
        {name: share(profile.columns[name].counts, slots.MISSING) for name, slots in there.items()},
    )


def _distance(slots: Slots, counts: Any) -> float:
    return effect(slots, slots.reference, counts).distance if int(counts.sum()) else 0.0
