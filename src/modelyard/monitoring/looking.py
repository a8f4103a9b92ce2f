"""One step of the monitor, pure: closed windows in their order, every watch on each, what came of it."""

from __future__ import annotations

import sys
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from modelyard.monitoring.calls import Calls
from modelyard.monitoring.findings import Finding, Kind
from modelyard.monitoring.settings import Settings
from modelyard.monitoring.store import Gathered, Window
from modelyard.monitoring.versions import Known
from modelyard.monitoring.watching import Snapshot, Watch
from modelyard.monitoring.windows import Profile

Tell = Callable[[str], None]

_WITHOUT_ROWS = (Kind.TRAFFIC, Kind.STALENESS, Kind.COMPUTING)
"""What can be judged in a window in which nothing was answered; elsewhere that does not mean that all is well again."""

_OPEN = 512
"""So many windows at most are held as arrays."""


class _Kept(msgspec.Struct, frozen=True):
    """A watch's state, and the settings under which it was gathered: others mean to begin anew."""

    settings: bytes
    state: msgspec.Raw


_KEPT = msgspec.msgpack.Decoder(_Kept)


def kept(state: Any, settings: Settings) -> bytes:
    """A watch's state as it is stored."""
    return msgspec.msgpack.encode(_Kept(_told(settings), msgspec.Raw(msgspec.msgpack.encode(state))))


def resumed(gathered: Gathered | None, watch: Any, settings: Settings) -> Any | None:
    """The state that a watch had; None where it has none, or has to begin anew."""
    if gathered is None:
        return None
    try:
        found = _KEPT.decode(gathered.state)
        return msgspec.msgpack.decode(found.state, type=watch.state) if found.settings == _told(settings) else None
    except msgspec.MsgspecError:
        return None


def _told(settings: Settings) -> bytes:
    return msgspec.msgpack.encode(msgspec.structs.replace(settings, share=1.0), order="deterministic")


class History:
    """The windows of a version so far, to be added up over any stretch."""

    def __init__(self) -> None:
        self._windows: dict[int, Window] = {}
        self._starts: list[int] = []
        self._opened: dict[int, Profile | None] = {}

    @property
    def newest(self) -> int | None:
        """When the newest window began; None without any."""
        return self._starts[-1] if self._starts else None

    def add(self, window: Window) -> None:
        """Take a window in, in place of the one that was there."""
        if window.began not in self._windows:
            insort(self._starts, window.began)
        self._windows[window.began] = window
        self._opened.pop(window.began, None)

    def between(self, since: int, until: int) -> Profile | None:
        """What the windows that begin within a stretch add up to."""
        found: Profile | None = None
        for began in self._starts[bisect_left(self._starts, since) : bisect_left(self._starts, until)]:
            profile = self._profile(began)
            if profile is not None:
                found = profile if found is None else found + profile
        return found

    def _profile(self, began: int) -> Profile | None:
        if began not in self._opened:
            if len(self._opened) > _OPEN:
                self._opened.clear()
            self._opened[began] = self._windows[began].profile
        return self._opened[began]


@dataclass(frozen=True, slots=True)
class Looked:
    """One window of one version, and what watches said of it. `judged` names those that could look."""

    version: str
    began: datetime
    judged: tuple[str, ...]
    findings: tuple[Finding, ...]


@dataclass(slots=True)
class Watching:
    """Looks at the windows of one version in a deployment, one after the other."""

    deployment: str
    digest: str
    known: Known
    watches: Sequence[Watch]
    settings: Settings
    tell: Tell
    history: History = field(default_factory=History)
    states: dict[str, Any] = field(default_factory=dict)

    def resume(self, gathered: Mapping[tuple[str, str], Gathered]) -> None:
        """Begin where the stored states say."""
        for watch in self.watches:
            there = gathered.get((self.digest, watch.name))
            self.states[watch.name] = resumed(there, watch, self.settings)

    def look(self, began: int, window: Window | None, lost: Calls, versions: int) -> Looked:
        """Look at a window (None: without any call); `lost` are calls of the deployment that reached no version."""
        seconds = window.seconds if window is not None else self.settings.window
        if window is not None:
            self.history.add(window)
        profile = None if window is None else window.profile
        if profile is not None and profile.reference != self.known.counted.reference.digest:
            profile = None
        judged, findings = [], []
        for watch in self.watches:
            if watch.name in self.settings.off:
                continue
            # Versions that answer side by side share what the deployment has.
            settings = self.settings.with_share((watch.share or 1.0) / max(versions, 1))
            snapshot = Snapshot(
                deployment=self.deployment,
                version=self.known.ref,
                began=_moment(began),
                seconds=seconds,
                reference=self.known.counted.reference,
                window=profile,
                earlier=lambda since, length: self._earlier(began, since, length),
                calls=(window.calls if window is not None else Calls()) + lost,
                settings=settings,
                made=self.known.made,
                outputs=self.known.outputs,
                influence=self.known.influence,
            )
            try:
                state = self.states.get(watch.name)
                if state is None:
                    state = watch.start(snapshot.reference, settings)
                self.states[watch.name], found = watch.look(state, snapshot)
            except Exception as error:  # noqa: BLE001 - one watch that fails must not silence the others
                self.tell(f"{self.deployment}: the watch {watch.name} failed on {snapshot.began}: {error!r}")
                continue
            if profile is not None or watch.name.partition(".")[0] in _WITHOUT_ROWS:
                judged.append(watch.name)
            findings += found
        return Looked(self.known.ref, _moment(began), tuple(judged), tuple(findings))

    def stored(self, reached: int) -> dict[tuple[str, str], Gathered]:
        """All states, to be kept."""
        return {
            (self.digest, name): Gathered(reached, kept(state, self.settings))
            for name, state in self.states.items()
            if state is not None
        }

    def _earlier(self, now: int, since: datetime, length: float) -> Profile | None:
        start = int(since.timestamp())
        return self.history.between(start, min(now, start + int(length)))


def closed_until(newest: int, seconds: float, grace: float, now: float, *, live: bool) -> int:
    """Up to where windows are closed: none that begins before and ends by then gets calls that are in time.

    Event time has come at least as far as the newest window's beginning; where traffic is about the present (`live`)
    it has come as far as the clock.

    >>> closed_until(7200, 3600.0, 0.0, 9000.0, live=True), closed_until(7200, 3600.0, 0.0, 20_000.0, live=True)
    (7200, 18000)
    >>> closed_until(7200, 3600.0, 0.0, 1e9, live=False)
    7200
    """
    come = max(float(newest), now) if live else float(newest)
    return int((come - grace) // seconds * seconds)


def steps(first: int, until: int, seconds: float, there: Iterable[int], back: int = 0) -> list[int]:
    """When windows begin from `first` on that end by `until`: those that are `there`, and regular ones between.

    Before `back` windows without any call are left out: nobody needs them of a year in which nothing was monitored.

    >>> steps(0, 7200, 3600.0, [1800]), steps(0, 7200, 3600.0, [1800], back=3600)
    ([0, 1800, 3600], [1800, 3600])
    """
    length = int(seconds)
    start = max(first, back)
    regular = range(-(-start // length) * length, until - length + 1, length)
    return sorted({*regular, *(each for each in there if first <= each < until)})


def say(line: str) -> None:
    """To standard error, where whoever runs the monitor sees it."""
    sys.stderr.write(f"{line}\n")


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
