"""One worker: a process with an event loop that takes connections and answers, until told to stop.

It joins the parts (records, versions, what is wanted, entrances), turns its loop, tells the supervisor that the loop
turns, and puts up a board that speaks for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from modelyard import __version__
from modelyard.domain.desired import Deployment, DesiredState
from modelyard.errors import ModelyardError
from modelyard.records.log import LabelLog, PredictionLog
from modelyard.serving import memory, tracing
from modelyard.serving.accepting import Accepting
from modelyard.serving.actions import Services
from modelyard.serving.admission import Bounds
from modelyard.serving.answering import Answering
from modelyard.serving.app import Application
from modelyard.serving.budget import Budget
from modelyard.serving.desired import DesiredFollower, DesiredSource
from modelyard.serving.gentle import Turns
from modelyard.serving.http1 import Connections, HttpConnection, Limits
from modelyard.serving.meters import Meters
from modelyard.serving.opening import open_version
from modelyard.serving.plane import DataPlane
from modelyard.serving.repository import Repository
from modelyard.serving.served import OBJECTIVE_MS, ServedVersion
from modelyard.serving.server import Options, address_of
from modelyard.serving.slots import Slot, Slots, State
from modelyard.serving.telling import Telling

if TYPE_CHECKING:
    from modelyard.serving.rpc.server import Listening

BEAT_SECONDS = 0.1
SWEEP_SECONDS = 1.0

UNHEARD_SECONDS = 1.0
"""How long a worker that starts leaves connections in the kernel's queue while nobody serves: most versions are open by
then, and who asks during a restart waits a moment in place of being refused. Later, somebody has to say what is up."""

ORPHAN_SECONDS = 5.0
"""What open requests get when the supervisor is gone."""

OPENED_AT_ONCE = 4

SWITCH_SECONDS = 0.001
"""How long another thread, such as one that opens a version, may keep the event loop from going on."""

REFUSED = 2
"""Exit status of a worker that cannot do what the options say."""

_PR_SET_PDEATHSIG = 1

_log = logging.getLogger("modelyard.serving")


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """All that a worker is given: what to do, its sockets, its row among the `slots`, and who started it."""

    options: Options
    listener: socket.socket
    grpc: socket.socket | None
    slots: Slots
    index: int
    supervisor: int
    boards: Path

    @property
    def slot(self) -> Slot:
        """The worker's own row."""
        return self.slots[self.index]


@dataclass(slots=True, eq=False)
class Parts:
    """What a worker is made of."""

    application: Application
    connections: Connections
    answering: Answering
    plane: DataPlane
    telling: Telling
    repository: Repository


def work(place: Place) -> int:
    """Be a worker until told to stop; the exit status."""
    place.slot.take(os.getpid())
    sys.setswitchinterval(SWITCH_SECONDS)
    _end_with(place.supervisor)
    try:
        with _joined(place) as parts:
            loop = uvloop.new_event_loop()
            try:
                loop.run_until_complete(_Worker(place, parts, loop).run())
            finally:
                place.slot.state = State.DRAINING
                loop.close()
    except ModelyardError as error:
        _log.critical("%s", error)
        return REFUSED
    return 0


@contextlib.contextmanager
def _joined(place: Place) -> Iterator[Parts]:
    """All parts, put together; taken apart at the end, the model processes last."""
    options = place.options
    home, opening, threads = options.home, _Opening(place.slot), options.threads
    directory = options.records or home.records
    turns = Turns(place.boards / "loading.lock", lambda: plane.answers())

    def open_one(deployment: Deployment) -> ServedVersion:
        return open_version(deployment, home, options.python, meters, threads, turns)

    meters = Meters()
    plane = DataPlane(open_one, memory.give_back, turn=opening)
    repository = Repository(plane, place.boards, options.admin)
    repository.look()  # before anything is loaded that is to stay unloaded
    with contextlib.ExitStack() as stack:
        tracer = tracing.from_environment()
        if tracer is not None:
            stack.callback(tracer.close)
        records = PredictionLog(directory, fsync=options.fsync)
        labels = LabelLog(directory, fsync=options.fsync)
        stack.callback(records.close)
        stack.callback(labels.close)
        stack.callback(plane.close)
        facts: Callable[[], dict[str, Any]] = dict
        if options.desired is not None:
            plane.waiting_for = f"no desired state from {options.desired} yet"
            follower = DesiredFollower(DesiredSource(options.desired), home.run / "desired.json", plane.apply)
            facts = follower.facts
            follower.start()
            stack.callback(follower.close)
        elif options.deployment is not None:
            plane.apply(DesiredState(0, (options.deployment,)))
        budget = None
        if options.memory_budget is not None:
            budget = Budget(plane, options.memory_budget // options.crew)
            plane.opened = budget.look_soon
            budget.start()
            stack.callback(budget.close)
        answering = Answering(
            plane,
            records,
            meters,
            tracer=tracer,
            bounds=Bounds(objective_ms=options.objective_ms or OBJECTIVE_MS),
            max_rows=options.max_rows,
            durable=options.fsync == "always",
        )
        stack.callback(answering.close)
        connections = Connections(Limits(body=options.max_body))
        telling = Telling(place.boards, place.index, place.slot, plane, meters, answering, connections)
        telling.budget = budget
        most_rows = options.max_rows or min(options.max_body, 2**31 - 1)  # a row has a byte or more
        repository.publish = telling.publish
        services = Services(plane, labels, __version__, facts, place.boards, telling.publish, repository, most_rows)
        application = Application(services, answering, options.max_body)
        yield Parts(application, connections, answering, plane, telling, repository)


class _Opening:
    """Tells the supervisor while versions are opened, and lets only a few be opened at once, so that answers go on.

    Safe to use from several threads.
    """

    def __init__(self, slot: Slot) -> None:
        self._slot, self._lock, self._count = slot, threading.Lock(), 0
        self._turns = threading.Semaphore(OPENED_AT_ONCE)

    def __enter__(self) -> None:
        self._turns.acquire()
        self._add(1)

    def __exit__(self, *_: object) -> None:
        self._add(-1)
        self._turns.release()

    def _add(self, more: int) -> None:
        with self._lock:
            self._count += more
            self._slot.opening = self._count > 0


class _Worker:
    """The event loop's side of a worker."""

    def __init__(self, place: Place, parts: Parts, loop: asyncio.AbstractEventLoop) -> None:
        self._place, self._parts, self._loop = place, parts, loop
        self._slot, self._others = place.slot, place.slots.others(place.index)
        self._connections, self._telling = parts.connections, parts.telling
        self._accepting = Accepting(
            loop, place.listener, self._connection, self._connections.__len__, self._slot, self._others
        )
        self._stop = asyncio.Event()
        self._swept = 0.0
        self._began = time.monotonic()
        self._shown: object = None
        self._orphaned = False
        self._listening: asyncio.Task[Listening] | None = None

    def _connection(self) -> HttpConnection:
        return HttpConnection(self._parts.application, self._connections)

    def _listens(self) -> bool:
        """Whether gRPC is served too, where that is asked for; begins to, if not."""
        if self._place.grpc is None:
            return True
        if self._listening is None:
            self._listening = self._loop.create_task(self._listen_for_grpc(self._place.grpc))
        if not self._listening.done():
            return False
        if self._listening.exception() is not None:
            self._stop.set()  # which raises it where it is seen
            return False
        return True

    async def _listen_for_grpc(self, reserved: socket.socket) -> Listening:
        """Serve gRPC; its packages are loaded only here."""
        from modelyard.serving.rpc.server import start

        parts, options = self._parts, self._place.options
        server, _ = await start(
            parts.application.services,
            parts.answering,
            address_of(reserved),
            max_body=options.max_body,
            next_id=parts.application.next_id,
        )
        return server

    async def run(self) -> None:
        """Answer until told to stop, then finish what is open."""
        self._loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        beating = self._loop.create_task(self._beat_on())
        try:
            await self._stop.wait()
            await asyncio.gather(self._drain(), self._drain_grpc())
        finally:
            beating.cancel()
            self._telling.publish()

    async def _drain_grpc(self) -> None:
        """Beside `_drain`, in the same time."""
        if self._listening is None:
            return
        server = await self._listening
        if not self._orphaned:
            await asyncio.sleep(self._place.options.grace_seconds)
        await server.stop(ORPHAN_SECONDS if self._orphaned else self._place.options.drain_seconds)

    async def _drain(self) -> None:
        options, plane = self._place.options, self._parts.plane
        plane.draining = True
        self._telling.publish()
        if not self._orphaned:
            await asyncio.sleep(options.grace_seconds)
        served, self._slot.state = self._slot.state == State.SERVING, State.DRAINING
        if served and not self._succeeded():
            self._accepting.finish()
        else:
            self._accepting.stop()
        await asyncio.sleep(0)  # those just taken get their protocol
        self._connections.drain()
        until = time.monotonic() + (ORPHAN_SECONDS if self._orphaned else options.drain_seconds)
        while self._accepting.count and time.monotonic() < until:
            await asyncio.sleep(0.01)
            self._connections.drain()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._parts.answering.drained(), max(until - time.monotonic(), 0.1))
        if self._accepting.count:
            _log.warning("%d connections are closed with requests open", self._accepting.count)
            self._connections.abort()

    def _succeeded(self) -> bool:
        """Whether the socket outlives this process and another data plane takes what waits there."""
        return self._place.options.fd is not None and os.getppid() != self._place.supervisor

    async def _beat_on(self) -> None:
        while True:
            self._beat(time.monotonic())
            await asyncio.sleep(BEAT_SECONDS)

    def _beat(self, now: float) -> None:
        self._slot.beat()
        self._slot.connections = self._accepting.count
        if os.getppid() != self._place.supervisor and not self._orphaned:
            _log.error("the supervisor is gone: this worker ends")
            self._orphaned = self._telling.alone = True
            threading.Thread(target=_end_at_last, daemon=True).start()
            self._stop.set()
        self._parts.repository.look()  # before it answers, it follows the orders there are
        if not self._stop.is_set():
            self._take_part()
        if now - self._swept >= SWEEP_SECONDS:
            self._swept = now
            self._connections.sweep()
            self._connections.surplus = self._accepting.too_many() if self._slot.state == State.SERVING else 0
        shown = self._changed()
        if shown != self._shown or now - self._telling.published >= self._telling.pause:
            self._shown = shown
            self._telling.publish()

    def _take_part(self) -> None:
        """Take connections once everything wanted was tried; before, after a while, if nobody else takes any."""
        if self._slot.state == State.SERVING:
            return
        plane = self._parts.plane
        if plane.generation >= 0 and plane.settle(0.0) and self._listens():
            self._telling.publish()  # the board must be there before it is counted
            self._slot.state = State.SERVING
            self._connections.surplus = 0
            self._accepting.start()
            return
        now = time.monotonic_ns()
        if any(other.serves(now) for other in self._others):
            self._accepting.stop()
            self._connections.let_go()  # they are in better hands there
        elif time.monotonic() - self._began >= UNHEARD_SECONDS:
            self._accepting.start()
        if self._others:
            # Who hears here that the server is ready, as another worker is, has to come to that one with what follows.
            self._connections.surplus = sys.maxsize

    def _changed(self) -> object:
        plane = self._parts.plane
        return plane.generation, plane.orders.revision, plane.draining, plane.settle(0.0), plane.status()


def _end_with(supervisor: int) -> None:
    """Ask the kernel to tell this process to stop when the supervisor is gone."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != supervisor:
        os._exit(1)


def _end_at_last() -> None:
    """End this process even if its loop never gets to it."""
    time.sleep(2 * ORPHAN_SECONDS)
    os._exit(1)
