"""Training-serving skew: live calls computed again by the native pipeline, in its own environment.

What serving answered went through a compiled form, batches, wire formats and caches. A sample of live calls goes
through what was trained instead: the native form, in a process of its own with the version's own interpreter, never in
this one. Any answer that differs by more than the version's tolerance allows is an alarm; there is no chance in it.

The sample of a stretch of time are the calls whose ids have the smallest hashes, so it is even, and the same whoever
looks. It is small and bounded, the work is done by a thread and processes of low priority, and what takes too long is
left for another time.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import msgspec

from modelyard.bundle.layout import Bundle
from modelyard.bundle.runtimes import open_native
from modelyard.errors import ModelyardError, RuntimeLost
from modelyard.home import Home
from modelyard.monitoring.findings import Finding
from modelyard.monitoring.looking import Looked, Tell
from modelyard.monitoring.settings import Settings
from modelyard.monitoring.store import Gathered, MonitorStore
from modelyard.records.query import RecordDatabase
from modelyard.records.replay import Found, Replay, find_in, replay
from modelyard.records.sqltext import literal
from modelyard.registry import Registry
from modelyard.runtime.interface import Runtime

NAME = "skew"

_MOST = 200
"""Calls of one version that are replayed in one go, at most."""

_LONGEST = 60.0
"""Seconds after which no further call of a version is replayed in one go."""

_PAUSE = 60.0
"""Seconds of the clock between two goes of a deployment: opening a pipeline takes seconds, and traffic may be quick."""

_AGAIN = 3600.0
"""Seconds until a pipeline that could not be opened is tried again."""

_GENTLE = 10
"""The niceness of the work: about a tenth of what others get who want the same processor. At 19 it would starve."""


class Replayed(msgspec.Struct, frozen=True):
    """What came of some calls. Those that could not be read or computed again are counted apart.

    >>> one = Replayed(calls=3, different=1, first="a1", reason="predict: 1, not 0")
    >>> (one + Replayed(calls=2, different=1, first="b2")).first
    'a1'
    """

    calls: int = 0
    different: int = 0
    within: int = 0
    """Not the same bit for bit, but within the tolerance."""
    unread: int = 0
    largest_abs: float = 0.0
    largest_ulp: int = 0
    first: str = ""
    """The id of the first call that was different."""
    reason: str = ""

    def __add__(self, other: Replayed) -> Replayed:
        """Both together."""
        told = self if self.first else other
        return Replayed(
            self.calls + other.calls,
            self.different + other.different,
            self.within + other.within,
            self.unread + other.unread,
            max(self.largest_abs, other.largest_abs),
            max(self.largest_ulp, other.largest_ulp),
            told.first,
            told.reason,
        )

    @classmethod
    def of(cls, found: Found, result: Replay) -> Replayed:
        """Of one call."""
        different = result.verdict == "different"
        return cls(
            calls=1,
            different=int(different),
            within=int(result.verdict == "within tolerance"),
            largest_abs=result.largest_abs,
            largest_ulp=result.largest_ulp,
            first=found.record.prediction_id if different else "",
            reason=(result.reason or result.recomputed_error or "") if different else "",
        )


@dataclass(frozen=True, slots=True)
class Stretch:
    """Which calls: of a version in a deployment, with an event time between two moments (seconds since 1970)."""

    deployment: str
    version: str
    digest: str
    since: int
    until: int

    def wanted(self, an_hour: int) -> int:
        """How many of its calls are replayed, if it is so many an hour.

        >>> Stretch("d", "m@1", "", 0, 7200).wanted(20), Stretch("d", "m@1", "", 0, 10**7).wanted(20)
        (40, 200)
        """
        return min(_MOST, math.ceil(an_hour * max(1.0, (self.until - self.since) / 3600)))


_Replays: TypeAlias = list[tuple[Stretch, list[Finding]]]


def findings_of(stretch: Stretch, replayed: Replayed) -> list[Finding]:
    """What there is to say of it: a difference is an alarm."""
    if not replayed.calls:
        return []
    details = {key: value for key, value in msgspec.to_builtins(replayed).items() if key not in ("first", "reason")}
    if not replayed.different:
        said = f"{replayed.calls} live calls give the same answers in the native pipeline"
        if replayed.within:
            said += f", {replayed.within} of them within the tolerance"
        return [_finding(stretch, said, 0.0, 0.0, details)]
    said = (
        f"{replayed.different} of {replayed.calls} live calls have other answers in the native pipeline, beyond the "
        f"version's tolerance: {replayed.reason or 'only one of the two answers'} (modelyard replay {replayed.first})"
    )
    part = replayed.different / replayed.calls
    return [_finding(stretch, said, math.inf, part, {**details, "prediction": replayed.first})]


def _finding(stretch: Stretch, said: str, evidence: float, effect: float, details: Mapping[str, object]) -> Finding:
    return Finding(
        deployment=stretch.deployment,
        version=stretch.version,
        watch="skew.answers",
        said=said,
        evidence=evidence,
        effect=effect,
        window=datetime.fromtimestamp(stretch.since, UTC),
        since=datetime.fromtimestamp(stretch.since, UTC) if evidence else None,
        details=details,
    )


def sampled(database: RecordDatabase, stretch: Stretch, number: int) -> list[str]:
    """The ids of so many answered calls of a stretch, evenly."""
    columns = {name for table in database.tables() if table.name == "predictions" for name, _ in table.columns}
    moment = 'coalesce("event_time", "time")' if "event_time" in columns else '"time"'
    limits = " AND ".join(
        f"{moment} {sign} to_timestamp({at:d})::TIMESTAMP" for sign, at in ((">=", stretch.since), ("<", stretch.until))
    )
    table = database.query(
        f"SELECT DISTINCT request_id, md5(request_id) AS mixed FROM predictions "  # noqa: S608
        f"WHERE outcome = 'ok' AND deployment = {literal(stretch.deployment)} AND digest = {literal(stretch.digest)} "
        f"AND {limits} ORDER BY mixed LIMIT {number:d}"
    )
    found: list[str] = table["request_id"].to_pylist()
    return found


def replayed_calls(
    database: RecordDatabase, records: Path, ids: Sequence[str], bundle: Bundle, runtime: Runtime
) -> Replayed:
    """Compute calls again, until there is no time left. A process that dies is begun anew once a call."""
    end = time.monotonic() + _LONGEST
    total = Replayed()
    for prediction_id in ids:
        if time.monotonic() > end:
            break
        try:
            found = find_in(database, records, prediction_id, bundle.digest)
            total += Replayed.of(found, replay(found, bundle.manifest, runtime))
        except RuntimeLost:
            total += Replayed(unread=1)
            restart: Callable[[], None] | None = getattr(runtime, "restart", None)
            if restart is not None:
                restart()
        except ModelyardError:
            total += Replayed(unread=1)
    return total


@dataclass(slots=True)
class Skew:
    """Replays calls of deployments, version by version. `interpreter` gives the Python of a bundle's environment.

    With `aside` a look only begins the work, and what it found is given by a later look: opening a pipeline takes
    seconds, building its environment minutes, and no alarm of any deployment has to wait for that.
    """

    home: Home
    registry: Registry
    store: MonitorStore
    tell: Tell
    interpreter: Callable[[Bundle], Path] | None = None
    nice: int = _GENTLE
    aside: bool = False
    _looked: dict[str, float] = field(default_factory=dict)
    _failed: dict[str, float] = field(default_factory=dict)
    _work: _Work | None = None
    _done: dict[str, _Work] = field(default_factory=dict)

    def look(
        self, deployment: str, versions: Mapping[str, str], settings: Settings, reached: int
    ) -> list[tuple[Looked, dict[tuple[str, str], Gathered]]]:
        """Look at what has come since the last go, up to the moment `reached`; `versions` are names by digest.

        Gives what was found and what is to be kept, for each version; nothing where it is too soon for another go.
        """
        if self._work is None:
            self._begin(deployment, versions, settings, reached)
        if self._work is not None and (self._work.done or not self.aside):
            self._done[self._work.deployment] = self._work
            self._work = None
        return self._taken(deployment, versions)

    def _begin(self, deployment: str, versions: Mapping[str, str], settings: Settings, reached: int) -> None:
        """Begin with what has come, where it is time for that."""
        now = time.monotonic()
        if NAME in settings.off or not settings.replayed or now - self._looked.get(deployment, -_PAUSE) < _PAUSE:
            return
        before = self.store.states(deployment)
        stretches = []
        for digest, version in versions.items():
            gathered = before.get((digest, NAME))
            since = gathered.reached if gathered is not None else reached - int(settings.window)
            if since < reached:
                stretches.append(Stretch(deployment, version, digest, since, reached))
        if stretches:
            self._looked[deployment] = now
            self._work = _Work(deployment, int(settings.window), lambda: self._replayed(stretches, settings), self.nice)

    def _taken(
        self, deployment: str, versions: Mapping[str, str]
    ) -> list[tuple[Looked, dict[tuple[str, str], Gathered]]]:
        """What came of the work for a deployment, once it is done."""
        work = self._done.pop(deployment, None)
        if work is None:
            return []
        try:
            found = work.result()
        except ModelyardError as error:
            self.tell(f"{deployment}: live calls are not replayed: {error}")
            return []
        return [
            (
                Looked(
                    stretch.version,
                    datetime.fromtimestamp(stretch.until - work.window, UTC),
                    (NAME,),
                    tuple(findings),
                ),
                {(stretch.digest, NAME): Gathered(stretch.until, b"")},
            )
            for stretch, findings in found
            if stretch.digest in versions
        ]

    def _replayed(self, stretches: Sequence[Stretch], settings: Settings) -> _Replays:
        with RecordDatabase(self.home.records) as database:
            return [
                (stretch, findings)
                for stretch in stretches
                if (findings := self._of_version(database, stretch, settings)) is not None
            ]

    def _of_version(self, database: RecordDatabase, stretch: Stretch, settings: Settings) -> list[Finding] | None:
        """None where it could not be looked at, so that it is tried again."""
        if time.monotonic() < self._failed.get(stretch.digest, 0.0):
            return None
        ids = sampled(database, stretch, stretch.wanted(settings.replayed))
        if not ids:
            return []
        try:
            bundle = self.registry.bundle(self.registry.version(stretch.version))
            if bundle.manifest.native is None:
                return []
            runtime = open_native(bundle, self._python(bundle))
        except ModelyardError as error:
            self._failed[stretch.digest] = time.monotonic() + _AGAIN
            self.tell(f"{stretch.deployment}: live calls of {stretch.version} are not replayed: {error}")
            return None
        try:
            return findings_of(stretch, replayed_calls(database, self.home.records, ids, bundle, runtime))
        except ModelyardError as error:
            self.tell(f"{stretch.deployment}: live calls of {stretch.version} were not all replayed: {error}")
            return None
        finally:
            runtime.close()

    def _python(self, bundle: Bundle) -> Path:
        if self.interpreter is not None:
            return self.interpreter(bundle)
        from modelyard.bundle.environment import cached

        return cached(bundle.manifest.environment, self.home)


class _Work:
    """Replaying done by a thread that makes way for others, as does what it starts (environments that are built).

    The thread does not keep the process from ending: what it was at is done again by the next one.
    """

    def __init__(self, deployment: str, window: int, work: Callable[[], _Replays], nice: int) -> None:
        self.deployment, self.window = deployment, window
        self._work, self._nice = work, nice
        self._found: _Replays | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="skew", daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether there is a result."""
        return not self._thread.is_alive()

    def result(self) -> _Replays:
        """What was found; waits for it."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._found or []

    def _run(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self._nice)
        try:
            self._found = self._work()
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
            self._error = error
