"""The data plane: carries out desired state, one deployment at a time, without ever interrupting what answers.

``apply`` only notes what is wanted. Each deployment has a worker that looks at what is wanted and what answers, asks
`next_step` what to do, does it, and looks again. Requests read the route table, which is replaced in one assignment.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TypeAlias

from modelyard.domain.desired import CANDIDATE, Deployment, DesiredState, Split
from modelyard.domain.splitting import goes_to_candidate
from modelyard.errors import DeploymentNotFound, Rejected, VersionNotFound, VersionNotReady
from modelyard.serving.orders import Hold, Orders
from modelyard.serving.served import ServedVersion
from modelyard.serving.status import DeploymentStatus, PlaneStatus, Readiness, State, VersionStatus, readiness

DRAIN_SECONDS = 60.0
"""How long a replaced version may go on with the requests it has."""

ON_REQUEST = "ready on request: it is not loaded now, the next call for it loads it"
UNLOADED = "it was unloaded on request; an order to load it brings it back"

_RETRY_SECONDS = (2.0, 5.0, 15.0, 60.0)

_log = logging.getLogger("modelyard.serving")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the wanted version could not be opened, and when to try again (None: only when asked anew)."""

    deployment: Deployment
    reason: str
    attempts: int
    retry_at: float | None


@dataclass(frozen=True, slots=True)
class Seen:
    """All that a decision about one deployment may look at, taken once."""

    wanted: Deployment | None
    serving: Deployment | None
    failure: Failure | None
    now: float
    parked: Deployment | None = None
    """What was unloaded for memory, or not loaded for want of it."""
    asked: bool = False
    """Whether somebody waits for what is parked."""
    evict: bool = False
    """Whether what answers is to make room."""
    full: bool = False
    """Whether there is no room, and what is wanted may be left until it is asked for."""


@dataclass(frozen=True, slots=True)
class Open:
    """Open the version and let it answer in place of what does."""

    deployment: Deployment


@dataclass(frozen=True, slots=True)
class TakeAway:
    """Stop answering."""


@dataclass(frozen=True, slots=True)
class Park:
    """Stop answering, or do not begin to, until a call for this version comes."""

    deployment: Deployment


@dataclass(frozen=True, slots=True)
class LookAgain:
    """Nothing to do before `at`."""

    at: float


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing to do until something else is wanted."""


Step: TypeAlias = Open | TakeAway | Park | LookAgain | Rest


def next_step(seen: Seen) -> Step:
    """Name the next step for one deployment: the same snapshot gives the same step.

    >>> churn = Deployment("churn", "churn", 1, "", "bundles/1")
    >>> next_step(Seen(wanted=churn, serving=None, failure=None, now=0.0)) == Open(churn)
    True
    >>> next_step(Seen(wanted=churn, serving=churn, failure=None, now=0.0))
    Rest()
    """
    if seen.wanted is None:
        return Rest() if seen.serving is None else TakeAway()
    if seen.serving is not None and same_version(seen.wanted, seen.serving):
        return Park(seen.wanted) if seen.evict else Rest()
    failure = seen.failure
    if failure is None or not same_version(failure.deployment, seen.wanted):
        return _open_or_wait(seen, seen.wanted)
    if failure.retry_at is None:
        return Rest()
    return Open(seen.wanted) if seen.now >= failure.retry_at else LookAgain(failure.retry_at)


def _open_or_wait(seen: Seen, wanted: Deployment) -> Step:
    """Open what is wanted and not open, unless memory is short and nobody has asked for it."""
    if seen.serving is not None or seen.asked:
        return Open(wanted)
    if seen.parked is not None and same_version(seen.parked, wanted):
        return Rest()
    return Park(wanted) if seen.full and seen.parked is None else Open(wanted)


def same_version(one: Deployment, other: Deployment) -> bool:
    """Whether both name the same version of the same bundle; why it was let through does not matter here."""
    return (one.model, one.version, one.digest, one.bundle) == (other.model, other.version, other.digest, other.bundle)


def failed(deployment: Deployment, error: BaseException, before: Failure | None, now: float) -> Failure:
    """The failure to note: what is wrong with the version itself is not tried again by itself, the rest is."""
    attempts = before.attempts + 1 if before is not None and same_version(before.deployment, deployment) else 1
    wait = _RETRY_SECONDS[min(attempts, len(_RETRY_SECONDS)) - 1]
    retry_at = None if isinstance(error, Rejected) else now + wait
    return Failure(deployment, str(error) or type(error).__name__, attempts, retry_at)


@dataclass(slots=True, eq=False)
class _Slot:
    """One deployment's place: what is wanted and what answers. Guarded by the plane's lock."""

    name: str
    wanted: Deployment | None = None
    serving: ServedVersion | None = None
    opening: Deployment | None = None
    failure: Failure | None = None
    leaving: ServedVersion | None = None
    held: bool = False
    """Whether what is wanted is to be kept unloaded, by order."""
    parked: Deployment | None = None
    asked: bool = False
    ordered: bool = False
    """Whether an operator waits for what is parked."""
    evict: bool = False
    may_wait: bool = False
    """Whether it was among the first that were wanted: those need not be opened before they are asked for."""
    waiting: list[Callable[[], None]] = field(default_factory=list)
    load_seconds: float = 0.0
    worker: threading.Thread | None = None


class NotLoaded(VersionNotReady):
    """The version is ready on request: `DataPlane.wake` loads it."""

    def __init__(self, deployment: str) -> None:
        self.deployment = deployment
        super().__init__(f"{deployment!r} is not loaded now; it is ready on request")


@dataclass(slots=True, eq=False)
class DataPlane:
    """Holds the versions that answer. Safe to call from several threads.

    `open_version` does the work of opening and raises when a version must not answer; `freed` is called when one was
    closed, `opened` when one was opened. `full` says that there is no room for more. Opening takes place inside
    `turn`. `waiting_for` tells why nothing is known yet, while that is so.
    """

    open_version: Callable[[Deployment], ServedVersion]
    freed: Callable[[], None] = lambda: None
    opened: Callable[[], None] = lambda: None
    turn: AbstractContextManager[object] = field(default_factory=nullcontext)
    waiting_for: str = ""
    generation: int = -1
    draining: bool = False
    full: bool = False
    loads: int = 0
    evictions: int = 0
    orders: Orders = field(default_factory=Orders)
    """What is followed besides the desired state."""
    _slots: dict[str, _Slot] = field(default_factory=dict)
    _routes: Mapping[str, ServedVersion] = field(default_factory=dict)
    _splits: Mapping[str, Split] = field(default_factory=dict)
    _change: threading.Condition = field(default_factory=threading.Condition)
    _closed: bool = False

    def apply(self, desired: DesiredState) -> None:
        """Want `desired` from now on. A generation that is not newer than the present one is ignored.

        A newer generation gives versions that failed to open another chance.
        """
        wanted = {deployment.name: deployment for deployment in desired.deployments}
        with self._change:
            if desired.generation <= self.generation or self._closed:
                return
            first, self.generation = self.generation < 0, desired.generation
            self._splits = {split.name: split for split in desired.splits}
            for name in wanted:
                self._slots.setdefault(name, _Slot(name, may_wait=first))
            for slot in self._slots.values():
                slot.wanted, slot.failure = wanted.get(slot.name), None
                slot.held = _is_held(slot, self.orders)
                self._start_worker(slot)
            self._change.notify_all()

    def follow(self, orders: Orders) -> None:
        """Keep unloaded what `orders` say, and load, or try to load again, what was ordered since the last ones."""
        with self._change:
            before, self.orders = self.orders, orders
            if self._closed or orders == before:
                return
            for slot in self._slots.values():
                slot.held = _is_held(slot, orders)
                if orders.asked.get(slot.name, 0) > before.revision:
                    slot.failure = None
                    slot.asked = slot.ordered = slot.serving is None
                self._start_worker(slot)
            self._change.notify_all()

    def overtaken(self) -> tuple[Hold, ...]:
        """Orders to keep unloaded what a newer desired state does not want any more."""
        with self._change:
            return tuple(hold for hold in self.orders.unloaded if self._is_overtaken(hold))

    def _is_overtaken(self, hold: Hold) -> bool:
        slot = self._slots.get(hold.deployment.name)
        return hold.generation < self.generation and not (slot and _is_held(slot, self.orders))

    def wanted(self, name: str) -> Deployment | None:
        """What is wanted behind that name; None for nothing."""
        with self._change:
            slot = self._slots.get(name)
            return None if slot is None else slot.wanted

    def only(self, name: str) -> DeploymentStatus | None:
        """What there is to say of one deployment; None when there is none."""
        return next(iter(self.status(name).deployments), None)

    def split(self, deployment: str) -> Split | None:
        """How the calls for it are divided; None where they are not."""
        return self._splits.get(deployment)

    def beside(self, deployment: str, version: str) -> list[str]:
        """The other version that answers for it now, where two share its calls."""
        split, routes = self._splits.get(deployment), self._routes
        names = () if split is None else (split.name, split.candidate)
        return [number for name in names if name in routes and (number := _number(routes[name])) != version]

    def is_loaded(self, deployment: str) -> bool:
        """Whether a version answers for it now."""
        return deployment in self._routes

    def lease(self, deployment: str, version: str | None = None, key: str = "") -> ServedVersion:
        """The version that answers for `deployment`, held until its lease is given back (``leases.give_back()``).

        Where the calls are divided, `key` decides, unless `version` names one of the two. While the candidate is not
        loaded nothing is divided.

        Raises:
            DeploymentNotFound: no such deployment.
            VersionNotFound: `version` is given and is not the one that answers.
            NotLoaded: it is ready on request, and not loaded now.
            VersionNotReady: it is still loading, or could not be opened.
        """
        split = self._splits.get(deployment)
        if split is not None and self._is_for_candidate(split, version, key):
            deployment = split.candidate
        while True:
            served = self._routes.get(deployment)
            if served is None or (version is not None and version != str(served.deployment.version)):
                raise self._why_not(deployment, version)
            if served.leases.take():
                served.asked_at = time.monotonic()
                return served

    def _is_for_candidate(self, split: Split, version: str | None, key: str) -> bool:
        routes = self._routes
        candidate, baseline = routes.get(split.candidate), routes.get(split.name)
        if candidate is None:
            return False
        if version is None:
            return goes_to_candidate(key, split.salt, split.share)
        return _number(candidate) == version and (baseline is None or _number(baseline) != version)

    def wake(self, name: str, done: Callable[[], None]) -> float:
        """Load what is ready on request; `done` is called, in any thread, once it answers or is known not to.

        The answer is in about how many seconds that will be, 0 when it was never loaded before.
        """
        with self._change:
            slot = self._slots.get(name)
            if slot is not None and slot.parked is not None:
                slot.asked = True
                slot.waiting.append(done)
                self._start_worker(slot)
                self._change.notify_all()
                return slot.load_seconds
        done()
        return 0.0

    def evict(self, names: Collection[str]) -> None:
        """Unload versions to make room. They are ready on request."""
        with self._change:
            for name in names:
                slot = self._slots.get(name)
                if slot is not None and slot.serving is not None and slot.opening is None:
                    slot.evict = True
                    self._start_worker(slot)
            self._change.notify_all()

    def evicting(self) -> bool:
        """Whether a version is on its way out to make room."""
        with self._change:
            return any(slot.evict or (slot.leaving and slot.parked) for slot in self._slots.values())

    def answers(self) -> bool:
        """Whether any version answers."""
        return bool(self._routes)

    def served(self) -> tuple[ServedVersion, ...]:
        """The versions that answer, in order of their deployments' names. They may be closed at any moment."""
        routes = self._routes
        return tuple(routes[name] for name in sorted(routes))

    def names(self) -> list[str]:
        """The deployments that are wanted or answer, in order; without candidates."""
        with self._change:
            present = [slot.name for slot in self._slots.values() if slot.wanted or slot.serving]
        return sorted(name for name in present if not name.endswith(CANDIDATE))

    def status(self, only: str | None = None) -> PlaneStatus:
        """What answers, what was asked for, and why that differs."""
        with self._change:
            slots = [(slot.name, _status(slot)) for slot in self._slots.values()]
        known = tuple(status for _, status in sorted(slots, key=lambda item: item[0]) if status is not None)
        ready = self._readiness(known)
        shown = tuple(status for status in known if only in (None, status.name))
        return PlaneStatus(ready.ready, ready.reason, self.generation, shown)

    def readiness(self) -> Readiness:
        """Whether everything that should answer does."""
        status = self.status()
        return Readiness(status.ready, status.reason)

    def _readiness(self, deployments: tuple[DeploymentStatus, ...]) -> Readiness:
        known = self.generation >= 0
        return readiness(deployments, known=known, draining=self.draining, waiting_for=self.waiting_for)

    def settle(self, seconds: float) -> bool:
        """Wait until no worker has anything to do; False when that takes longer than `seconds`."""
        with self._change:
            return self._change.wait_for(lambda: not any(slot.worker for slot in self._slots.values()), seconds)

    def close(self) -> None:
        """Take every deployment away, after the requests they have."""
        with self._change:
            self._closed = self.draining = True
            for slot in self._slots.values():
                slot.wanted = slot.failure = None
                self._start_worker(slot)
            workers = [slot.worker for slot in self._slots.values() if slot.worker is not None]
            self._change.notify_all()
        for worker in workers:
            worker.join()

    def _why_not(self, deployment: str, version: str | None) -> Exception:
        with self._change:
            slot = self._slots.get(deployment)
            status = None if slot is None else _status(slot)
        if status is None and self.generation < 0:
            return VersionNotReady(f"{deployment!r} is not ready: {self.waiting_for or 'nothing is known yet'}")
        if status is None:
            return DeploymentNotFound(deployment, self.names())
        wanted = status.wanted
        if status.unloaded == "for memory" and version in (None, str(status.version)):
            return NotLoaded(deployment)
        if wanted is not None and wanted.state != "READY" and version in (None, str(wanted.version)):
            where = f"{deployment!r} (version {wanted.version} of {wanted.model!r})"
            return VersionNotReady(f"{where} is not ready: {wanted.reason or 'it is loading'}")
        if version is not None:
            return VersionNotFound(deployment, version, [status.version])
        return VersionNotReady(f"{deployment!r} is not ready: {status.reason or status.state.lower()}")

    def _start_worker(self, slot: _Slot) -> None:
        """Let the slot's worker run if it may have something to do; the lock is held."""
        if slot.worker is None:
            slot.worker = threading.Thread(target=self._work, args=(slot,), name=f"deploy-{slot.name}", daemon=True)
            slot.worker.start()

    def _work(self, slot: _Slot) -> None:
        while True:
            with self._change:
                step = next_step(_seen(slot, self.full))
                if isinstance(step, Rest):
                    slot.worker, slot.asked, slot.ordered = None, False, False
                    self._tell(slot)
                    if slot.wanted is None and slot.serving is None:
                        self._slots.pop(slot.name, None)
                    self._change.notify_all()
                    return
                if isinstance(step, LookAgain):
                    self._change.wait(step.at - time.monotonic())
                    continue
            if isinstance(step, Open):
                with self.turn:
                    served = self._open_still(slot, step)
                if served is not None:
                    self._swap(slot, served)
                    self.opened()
            else:
                self._swap(slot, None, step.deployment if isinstance(step, Park) else None)

    def _open_still(self, slot: _Slot, step: Open) -> ServedVersion | None:
        """Open the version if that is still what is to be done, now that it can be."""
        with self._change:
            if next_step(_seen(slot, self.full)) != step:
                return None
            slot.opening = step.deployment
        return self._open(slot, step.deployment)

    def _tell(self, slot: _Slot) -> None:
        """Tell those who wait for the slot's version, unless it is still to be loaded; the lock is held."""
        if not slot.asked:
            waiting, slot.waiting = slot.waiting, []
            for done in waiting:
                done()

    def _open(self, slot: _Slot, deployment: Deployment) -> ServedVersion | None:
        _log.info("%s: opening version %d of %s", slot.name, deployment.version, deployment.model)
        begun = time.monotonic()
        try:
            served = self.open_version(deployment)
        except Exception as error:  # noqa: BLE001 - whatever a bundle or its environment does, the old version goes on
            with self._change:
                slot.opening = None
                slot.failure = failed(deployment, error, slot.failure, time.monotonic())
                slot.asked = slot.ordered = False
                if slot.parked is not None and same_version(slot.parked, deployment):
                    slot.parked = None
                self._tell(slot)
            _log.error("%s: version %d of %s: %s", slot.name, deployment.version, deployment.model, error)
            return None
        slot.load_seconds = time.monotonic() - begun
        return served

    def _swap(self, slot: _Slot, served: ServedVersion | None, parked: Deployment | None = None) -> None:
        """Let `served` answer from the next request on; what answered before ends when its last request has.

        Without it nothing answers any more, but `parked` is ready on request.
        """
        with self._change:
            before, slot.serving = slot.serving, served
            slot.leaving = before if served is None else None
            slot.opening, slot.failure = None, None
            slot.parked, slot.evict = parked, False
            self.evictions += parked is not None and before is not None
            if served is not None:
                self.loads += 1
                slot.asked = slot.ordered = False
            others = {name: version for name, version in self._routes.items() if name != slot.name}
            self._routes = others if served is None else {**others, slot.name: served}
            self._tell(slot)
            self._change.notify_all()
        if served is not None:
            _log.info("%s: version %d of %s answers", slot.name, served.deployment.version, served.deployment.model)
        if before is not None:
            if not before.leases.drain(DRAIN_SECONDS):
                _log.warning("%s: version %d is closed with requests open", slot.name, before.deployment.version)
            before.close()
            with self._change:
                slot.leaving = None
            self.freed()


def _number(served: ServedVersion) -> str:
    return str(served.deployment.version)


def _seen(slot: _Slot, full: bool) -> Seen:
    return Seen(
        wanted=None if slot.held else slot.wanted,
        serving=None if slot.serving is None else slot.serving.deployment,
        failure=slot.failure,
        now=time.monotonic(),
        parked=slot.parked,
        asked=slot.asked,
        evict=slot.evict,
        full=full and slot.may_wait,
    )


def _is_held(slot: _Slot, orders: Orders) -> bool:
    hold = orders.held(slot.name)
    return hold is not None and slot.wanted is not None and same_version(hold.deployment, slot.wanted)


def _status(slot: _Slot) -> DeploymentStatus | None:
    """The deployment as others see it; None when there is none any more."""
    serving = None if slot.serving is None else slot.serving.status()
    wanted = _wanted(slot, serving)
    shown = serving or wanted
    if shown is None:
        return None
    return DeploymentStatus(
        slot.name,
        shown.model,
        shown.version,
        shown.digest,
        shown.state,
        shown.reason,
        shown.runtime,
        wanted,
        shown.pid,
        shown.unloaded,
    )


def _wanted(slot: _Slot, serving: VersionStatus | None) -> VersionStatus | None:
    wanted = slot.wanted
    if wanted is None:
        return None
    if slot.held and serving is None:
        state: State = "UNAVAILABLE" if slot.leaving is None and slot.opening is None else "UNLOADING"
        return VersionStatus(wanted.model, wanted.version, wanted.digest, state, UNLOADED, unloaded="on request")
    parked = slot.parked
    if parked is not None and same_version(parked, wanted) and not slot.ordered:
        return VersionStatus(wanted.model, wanted.version, wanted.digest, "READY", ON_REQUEST, unloaded="for memory")
    if serving is not None and slot.serving is not None and same_version(wanted, slot.serving.deployment):
        return serving
    failure = slot.failure
    if failure is not None and same_version(failure.deployment, wanted) and slot.opening is None:
        return VersionStatus(wanted.model, wanted.version, wanted.digest, "UNAVAILABLE", failure.reason)
    return VersionStatus(wanted.model, wanted.version, wanted.digest, "LOADING", "it is loading")
