"""The monitor: reads parts of windows, adds them up, lets watches look at what has closed, keeps what came of it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from modelyard.domain.desired import CANDIDATE
from modelyard.errors import Conflict
from modelyard.home import Home
from modelyard.monitoring.alerts import Alerts, Look
from modelyard.monitoring.calls import Calls
from modelyard.monitoring.counting import Part, Place
from modelyard.monitoring.findings import Finding
from modelyard.monitoring.labelled import LabelledLooks, labels_mark
from modelyard.monitoring.looking import Looked, Tell, Watching, closed_until, say, steps
from modelyard.monitoring.settings import Settings
from modelyard.monitoring.skew import Skew
from modelyard.monitoring.sources import PartSource
from modelyard.monitoring.store import Gathered, MonitorStore, Window, packed
from modelyard.monitoring.versions import KnownVersions, taken_away
from modelyard.monitoring.watches import LABELLED, WATCHES
from modelyard.records.query import RecordDatabase
from modelyard.registry import Registry

AT_ONCE = 48
"""So many windows are looked at before what came of it is kept."""

AHEAD = 86_400.0
"""What claims to be about a time further ahead than this must not close the windows of now."""

_REST = 3.0
"""After reading labelled rows for a while they are left alone for so many times that while."""

_BACK = 2 * 86_400
"""Calls that come so many seconds late are still added to the windows they belong to."""


@dataclass(slots=True)
class Passed:
    """What one pass came to."""

    windows: int = 0
    findings: int = 0
    alarms: int = 0
    deployments: list[str] = field(default_factory=list)
    waiting: bool = False
    """Labelled rows wait to be looked at, though nothing new may come: ask again soon."""

    def take(self, findings: Sequence[Finding]) -> None:
        """Count what was found."""
        self.findings += len(findings)
        self.alarms += sum(finding.alarm for finding in findings)


class Monitor:
    """Monitors all deployments of a home. What it holds in memory can be lost: all of it is stored too.

    One that goes on looking has `aside`: live calls are replayed beside its looks, not by them.
    """

    def __init__(self, home: Home, registry: Registry, tell: Tell = say, *, aside: bool = False) -> None:
        self.home = home
        self.tell = tell
        self.store = MonitorStore(registry.database)
        self.versions = KnownVersions(registry)
        self.source = PartSource(home, self.versions, lambda name: self.store.settings(name).window)
        self.skew = Skew(home, registry, self.store, tell, aside=aside)
        self._registry = registry
        self._alerts = Alerts(registry.database)
        self._deployments: dict[str, _Deployment] = {}

    def look(self, now: datetime | None = None) -> Passed:
        """One pass over everything that is new."""
        moment = (now or datetime.now(UTC)).timestamp()
        passed = Passed()
        self.source.refresh()
        # What a candidate computes in the shadow nobody was answered; its rollout looks after it.
        names = [name for name in self.source.deployments() if not name.endswith(CANDIDATE)]
        gone = taken_away(self._registry)
        newest = {name: self.source.newest(name, moment + AHEAD) for name in names}
        # Read once more: a window that the first reading shows to be over is whole in the second, whichever of
        # several writers' files was read before which.
        self.source.refresh()
        for name, come in newest.items():
            try:
                self._look_at(name, come, moment, passed, gone=name in gone)
                if name in gone:
                    self._alerts.close(name, "the deployment was taken away")
            except Conflict as error:
                self.tell(str(error))
                self._deployments.pop(name, None)
        return passed

    def hand(self, deployment: str, looks: Iterable[Looked]) -> None:
        """Give looks to alerts."""
        self._alerts.take(
            Look(
                deployment=deployment,
                version=look.version,
                window=look.began,
                looked=look.judged,
                findings=look.findings,
            )
            for look in looks
        )

    def _look_at(self, name: str, come: int, now: float, passed: Passed, *, gone: bool = False) -> None:
        settings = self.store.settings(name)
        there = self._deployments.get(name)
        if there is None or there.settings != settings:
            there = self._deployments[name] = _Deployment(name, settings, self)
        if gone:  # what had come is looked at; that no call comes any more is as it should be
            now = min(now, come + settings.window + settings.grace)
        there.look(come, now, passed)


class _Deployment:
    """One deployment under one set of settings."""

    def __init__(self, name: str, settings: Settings, monitor: Monitor) -> None:
        self.name = name
        self.settings = settings
        self._monitor = monitor
        self._store = monitor.store
        self._gathered = self._store.states(name)
        self._reached = self._store.reached(name)
        self._watching: dict[str, Watching | None] = {}
        self._labels: object = None
        self._rest_until = 0.0
        for digest in sorted({digest for digest, _ in self._gathered if digest}):
            self._watch(digest)

    def look(self, newest: int, now: float, passed: Passed) -> None:
        """Add up what has come, and look at the windows that have closed; event time has come to `newest`."""
        windows = self._windows(max(0, self._reached - _BACK))
        if not windows:
            return
        live = not any(window.calls.late for (began, _), window in windows.items() if began == newest)
        until = closed_until(newest, self.settings.window, self.settings.grace, now, live=live)
        first = self._reached or min(began for began, _ in windows)
        there = [began for began, _ in windows]
        starts = steps(first, until, self.settings.window, there, until - int(self.settings.lookback))
        self._keep_late(windows)
        for at in range(0, len(starts), AT_ONCE):
            self._step(starts[at : at + AT_ONCE], windows, passed)
        self._look_at_labels(looked=bool(starts), passed=passed)
        self._replay(passed)
        passed.deployments.append(self.name)

    def _windows(self, since: int) -> dict[tuple[int, str], Window]:
        """All windows that begin from `since` on and have calls, open ones too, by beginning and digest."""
        return {
            (place.began_ns // 10**9, place.digest): _window(place, part)
            for place, part in self._monitor.source.parts(self.name, since).items()
        }

    def _keep_late(self, windows: Mapping[tuple[int, str], Window]) -> None:
        """Windows that were looked at before and have got more calls since are shown with these."""
        before = {
            (window.began, window.digest): window.calls.total
            for window in self._store.windows(self.name, max(0, self._reached - _BACK), self._reached)
        }
        late = [
            window
            for key, window in windows.items()
            if key[0] < self._reached and window.calls.total > before.get(key, 0)
        ]
        if late:
            self._store.keep(self.name, late, {}, [], (self._reached, self._reached))

    def _step(self, starts: Sequence[int], windows: Mapping[tuple[int, str], Window], passed: Passed) -> None:
        looks = [look for began in starts for look in self._looks(began, windows)]
        until = starts[-1] + int(self.settings.window)
        # First: a look that alerts have taken already counts once, and one that they have not must not be lost.
        self._monitor.hand(self.name, looks)
        states: dict[tuple[str, str], Any] = {}
        for watching in self._watching.values():
            if watching is not None:
                states |= watching.stored(until)
        closed = [window for (began, _), window in windows.items() if began in set(starts)]
        newest = looks[-1].began if looks else None
        findings = [finding for look in looks for finding in look.findings if finding.alarm or look.began == newest]
        self._store.keep(self.name, closed, states, findings, (self._reached, until))
        self._reached = until
        passed.windows += len(looks)
        passed.take(findings)

    def _looks(self, began: int, windows: Mapping[tuple[int, str], Window]) -> Iterator[Looked]:
        here = {digest: window for (at, digest), window in windows.items() if at == began}
        lost = here.pop("", None)
        digests = sorted(here) or self._latest(began)
        for at, digest in enumerate(digests):
            watching = self._watch(digest)
            if watching is not None:
                calls = lost.calls if lost is not None and at == 0 else Calls()
                yield watching.look(began, here.get(digest), calls, len(digests))

    def _look_at_labels(self, *, looked: bool, passed: Passed) -> None:
        """Ask the watches of labelled rows, if windows have closed or labels have come.

        While windows close one after the other, as in a year that is streamed in minutes, these come first.
        """
        mark = labels_mark(self._monitor.home.records)
        if not LABELLED or not self._reached or (mark == self._labels and not looked):
            return
        begun = time.monotonic()
        if looked and begun < self._rest_until:
            self._labels, passed.waiting = None, True
            return
        self._labels = mark
        asking = LabelledLooks(self.name, LABELLED, self.settings, self._monitor.tell)
        gathered = self._store.states(self.name)
        with RecordDatabase(self._monitor.home.records) as database:
            for digest, watching in self._watching.items():
                if watching is not None and not self._is_long_gone(watching):
                    version = (int(watching.known.ref.rpartition("@")[2]), watching.known)
                    self._keep_looks(asking.look(database, digest, version, gathered, self._reached), passed)
        now = time.monotonic()
        self._rest_until = now + _REST * (now - begun)

    def _is_long_gone(self, watching: Watching) -> bool:
        """Whether a version has not answered for so long that nothing is read of it any more."""
        newest = watching.history.newest
        return newest is not None and newest < self._reached - 2 * self.settings.lookback

    def _keep_looks(self, looks: Iterable[tuple[Looked, dict[tuple[str, str], Gathered]]], passed: Passed) -> None:
        for look, states in looks:
            self._monitor.hand(self.name, [look])
            self._store.keep(self.name, [], states, look.findings, (self._reached, self._reached))
            passed.take(look.findings)

    def _replay(self, passed: Passed) -> None:
        """Compute some of the live calls again."""
        versions = {digest: one.known.ref for digest, one in self._watching.items() if one is not None}
        self._keep_looks(self._monitor.skew.look(self.name, versions, self.settings, self._reached), passed)

    def _latest(self, began: int) -> list[str]:
        """The version that answered last before a window without any call."""
        answered = [
            (newest, digest)
            for digest, watching in self._watching.items()
            if watching is not None and (newest := watching.history.newest) is not None and newest < began
        ]
        return [max(answered)[1]] if answered else []

    def _watch(self, digest: str) -> Watching | None:
        if digest not in self._watching:
            known = self._monitor.versions.of(digest)
            if known is None:
                self._watching[digest] = None
            else:
                made = Watching(self.name, digest, known, WATCHES, self.settings, self._monitor.tell)
                made.resume(self._gathered)
                back = self._reached - int(self.settings.lookback)
                for window in self._store.windows(self.name, max(0, back), self._reached, digest):
                    made.history.add(window)
                self._watching[digest] = made
        return self._watching[digest]


def _window(place: Place, part: Part) -> Window:
    return Window(
        place.deployment,
        place.digest,
        place.began_ns // 10**9,
        place.seconds,
        place.model,
        place.version,
        part.calls,
        packed(part.profile),
    )
