"""The process that starts the workers, keeps them alive and ends them; it answers nothing itself.

It has one thread and imports what workers need before it forks them, so that a worker starts in milliseconds and
shares its memory with the others. A worker that dies is started again; one whose event loop no longer turns is ended
first. What to do about a worker is decided by `next_step` from what is seen of it.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import resource
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, TypeAlias

import msgspec

from modelyard.domain.deaths import Death, ended_how, failures
from modelyard.serving import boards
from modelyard.serving.deaths import memory_kills, pause_after
from modelyard.serving.desired import write_whole
from modelyard.serving.server import Options, address_of, listener_of, reserve, url_of
from modelyard.serving.slots import Slot, Slots, State
from modelyard.serving.worker import REFUSED, Place, work

TICK = 0.1
"""Seconds between two looks at the workers."""

SILENT_SECONDS = 1.0
"""An event loop that has not turned for so long hangs: its worker is ended and started again."""

BUSY_SECONDS = 5.0
"""The same for a worker that spends processor time: what it computes may yet end."""

LOADING_SECONDS = 60.0
"""The same while it starts or opens a version, which may keep its loop waiting, or waits for a disk."""

STEADY_SECONDS = 2.0
"""A worker that served for so long was well: its death is the first in a row again."""

ENDING_SECONDS = 10.0
"""What workers get, after their open requests, to close versions and logs."""

FORCED = 1
"""Exit status where workers were ended by force: requests may have been cut off."""

ISOLATED = 3
"""A worker that failed so often in a row is said to keep crashing."""

PROMPT_SECONDS = 1.0
"""The most that a worker which does become ready is kept waiting, however often it fails: its other versions answer."""

_log = logging.getLogger("modelyard.serving")


@dataclass(frozen=True, slots=True)
class Seen:
    """All that a decision about one worker may look at, taken once. Times in seconds.

    `silent` is how long its loop has not turned, `working` whether it spent processor time meanwhile, `loading` whether
    it starts, is busy opening a version, or waits for a disk, `stopped` whether a signal has stopped it; `pause` is
    until it may be started again.
    """

    alive: bool
    silent: float = 0.0
    working: bool = False
    loading: bool = False
    stopped: bool = False
    pause: float = 0.0


@dataclass(frozen=True, slots=True)
class Start:
    """Start a process."""


@dataclass(frozen=True, slots=True)
class End:
    """End the process by force; it hangs."""

    reason: str


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing to do now."""


Step: TypeAlias = Start | End | Rest


def next_step(seen: Seen) -> Step:
    """Name the next step for one worker: the same sight gives the same step.

    >>> next_step(Seen(alive=False)), next_step(Seen(alive=False, pause=0.5))
    (Start(), Rest())
    >>> next_step(Seen(alive=True, silent=1.2)).reason
    'its event loop has not turned for 1.2 s'
    >>> next_step(Seen(alive=True, silent=1.2, working=True))
    Rest()
    """
    if not seen.alive:
        return Start() if seen.pause <= 0 else Rest()
    if seen.silent < _patience(seen):
        return Rest()
    why = "it was stopped by a signal and" if seen.stopped else "its event loop"
    return End(f"{why} has not turned for {seen.silent:.1f} s")


def _patience(seen: Seen) -> float:
    if seen.stopped:
        return SILENT_SECONDS
    if seen.loading:
        return LOADING_SECONDS
    return BUSY_SECONDS if seen.working else SILENT_SECONDS


def silence(before: float, turned: bool, elapsed: float) -> float:
    """How long a loop has been silent, from what it was a look ago.

    A look that came late counts as a punctual one: who was kept from looking, on a starved or suspended machine, cannot
    tell whether the other was.

    >>> silence(0.5, turned=False, elapsed=0.1), silence(0.5, turned=False, elapsed=3600.0)
    (0.6, 0.6)
    """
    return 0.0 if turned else before + min(elapsed, TICK)


def pause(failed: int, death: Death) -> float:
    """Seconds to wait before a worker is started again that has failed so many times in a row, the last by `death`.

    >>> pause(8, Death(1)), pause(8, Death(-11, served=0.5)), pause(0, Death(-9, served=0.5))
    (10.0, 1.0, 0.0)
    """
    seconds = pause_after(failed)
    return seconds if death.served is None else min(seconds, PROMPT_SECONDS)


@dataclass(slots=True, eq=False)
class _Worker:
    """One place among the workers, and the process that has it."""

    slot: Slot
    pid: int = 0
    served_since: float | None = None
    silent: float = 0.0
    beat_ns: int = 0
    spent: int = 0
    working: bool = False
    waits: bool = False
    stopped: bool = False
    failed: int = 0
    memory_kills: int = 0
    start_at: float = 0.0
    reason: str = ""


@dataclass(slots=True, eq=False)
class Supervisor:
    """Keeps `options.crew` workers running until told to stop (SIGTERM, SIGINT); a second signal ends all at once."""

    options: Options
    listener: socket.socket
    grpc: socket.socket | None
    folder: Path
    run_worker: Callable[[Place], int] = work
    arguments: Sequence[str] = ()
    """The command line, for workers that cannot be forked and have to be started anew."""
    _slots: Slots = field(init=False)
    _workers: list[_Worker] = field(init=False)
    _started: float = field(default_factory=time.time)
    _restarts: int = 0
    _stop_by: float | None = None
    _status: int = 0
    _served: bool = False
    _told: boards.Crew | None = None
    _looked: float = 0.0

    def __post_init__(self) -> None:
        self._slots = Slots.create(self.options.crew)
        self._workers = [_Worker(self._slots[index]) for index in range(self.options.crew)]

    def run(self) -> int:
        """Supervise until stopped; the exit status."""
        with _wakeups() as woken:
            self._looked = time.monotonic()
            while self._stop_by is None or any(worker.pid for worker in self._workers):
                self._look()
                for number in woken(TICK):
                    self._signalled(number)
        return self._status

    def _signalled(self, number: int) -> None:
        if number not in (signal.SIGTERM, signal.SIGINT):
            return
        if self._stop_by is not None:
            _log.warning("told to stop again: ending at once, with requests open")
            self._status = self._status or FORCED
            self._kill_all()
            return
        _log.info("stopping: open requests are finished first")
        self._stop(0)

    def _stop(self, status: int) -> None:
        options, self._status = self.options, status
        self._stop_by = time.monotonic() + options.grace_seconds + options.drain_seconds + ENDING_SECONDS
        for worker in self._workers:
            if worker.pid:
                os.kill(worker.pid, signal.SIGTERM)

    def _kill_all(self) -> None:
        for worker in self._workers:
            if worker.pid:
                os.kill(worker.pid, signal.SIGKILL)

    def _look(self) -> None:
        now = time.monotonic()
        elapsed, self._looked = now - self._looked, now
        for worker in self._workers:
            if worker.pid:
                self._reap(worker, now)
            if worker.pid:
                self._listen(worker, elapsed, now)
            self._carry_out(worker, next_step(_seen(worker, now)), now)
        if self._stop_by is not None and now > self._stop_by:
            _log.error("workers that did not end in time are ended by force")
            self._status = self._status or FORCED
            self._kill_all()
        self._tell()

    def _carry_out(self, worker: _Worker, step: Step, now: float) -> None:
        if isinstance(step, Start) and self._stop_by is None:
            self._start(worker)
        elif isinstance(step, End):
            _log.error("worker %d (pid %d) hangs and is ended: %s", worker.slot.index, worker.pid, step.reason)
            os.kill(worker.pid, signal.SIGKILL)
            self._reap(worker, now, wait=True, why=step.reason)

    def _reap(self, worker: _Worker, now: float, *, wait: bool = False, why: str = "") -> None:
        """Take note of a worker that has ended."""
        pid, status = os.waitpid(worker.pid, 0 if wait else os.WNOHANG)
        if not pid:
            return
        code = os.waitstatus_to_exitcode(status)
        if worker.served_since is None and worker.slot.state >= State.SERVING:
            worker.served_since = now  # it served between two looks
        death = Death(
            code,
            served=None if worker.served_since is None else now - worker.served_since,
            forced=bool(why) and not worker.stopped,
            starved=code == -signal.SIGKILL and not why and memory_kills() > worker.memory_kills,
        )
        worker.failed = failures(worker.failed, death, STEADY_SECONDS)
        worker.pid, worker.served_since = 0, None
        worker.slot.clear()
        with contextlib.suppress(OSError):
            boards.retire(self.folder, [pid])
        if self._stop_by is not None:
            return
        if code == REFUSED and not self._served:
            self._stop(REFUSED)
            return
        wait_for = pause(worker.failed, death)
        worker.start_at = now + wait_for
        worker.reason = why or ended_how(death)
        _log.warning(
            "worker %d (pid %d) %s; it is started again%s",
            worker.slot.index,
            pid,
            ended_how(death),
            f" in {wait_for:g} s" if wait_for else "",
        )

    def _listen(self, worker: _Worker, elapsed: float, now: float) -> None:
        """Hear whether its loop turns."""
        beat = worker.slot.beat_ns
        turned, worker.beat_ns = beat != worker.beat_ns, beat
        worker.silent = silence(worker.silent, turned, elapsed)
        if worker.slot.state == State.SERVING and worker.served_since is None:
            worker.served_since, self._served = now, True
        if worker.silent >= SILENT_SECONDS / 2:
            seen = _activity(worker.pid)
            # Who wants a processor and gets none is starved, not stuck.
            worker.working, worker.spent = seen.wants or seen.spent > worker.spent, seen.spent
            worker.waits, worker.stopped = seen.waits, seen.stopped

    def _start(self, worker: _Worker) -> None:
        self._restarts += bool(worker.reason)
        worker.silent = worker.spent = worker.beat_ns = 0
        worker.working = worker.waits = worker.stopped = False
        worker.memory_kills = memory_kills()
        place = Place(self.options, self.listener, self.grpc, self._slots, worker.slot.index, os.getpid(), self.folder)
        threads = len(list(Path("/proc/self/task").iterdir()))
        if threads == 1 or not self.arguments:
            worker.pid = _fork(lambda: self.run_worker(place))
        else:
            _log.warning("the supervisor has %d threads, so worker %d is started anew", threads, worker.slot.index)
            worker.pid = self._spawn(place)
        if worker.slot.pid != worker.pid and worker.slot.state == State.EMPTY:
            worker.slot.take(worker.pid)

    def _spawn(self, place: Place) -> int:
        inherited = [place.listener.fileno(), place.slots.descriptor, *([place.grpc.fileno()] if place.grpc else [])]
        for descriptor in inherited:
            os.set_inheritable(descriptor, True)
        joined = ",".join(map(str, [place.index, *inherited]))
        command = [sys.executable, "-P", "-m", "modelyard.serving", *self.arguments]
        command += ["--worker", f"{joined}:{self.folder}"]
        return os.posix_spawn(sys.executable, command, dict(os.environ))

    def _tell(self) -> None:
        """Put up who lives and what is wrong, when that has changed."""
        alive = [worker for worker in self._workers if worker.pid]
        # A worker that is still on its way takes no connections while others do, and is no reason not to be ready.
        counted = [worker for worker in alive if worker.slot.state == State.SERVING] or alive
        crew = boards.Crew(
            pid=os.getpid(),
            started=self._started,
            wanted=len(self._workers),
            pids=tuple(worker.pid for worker in counted),
            starting=tuple(worker.pid for worker in alive if worker not in counted),
            restarts=self._restarts,
            reason="; ".join(filter(None, map(_trouble, self._workers))),
        )
        if crew != self._told:
            with contextlib.suppress(OSError):
                boards.publish_crew(self.folder, crew)
                self._told = crew


def _seen(worker: _Worker, now: float) -> Seen:
    slot = worker.slot
    # One whose loop has not begun keeps nobody waiting; it may wait itself, such as for a lock of one that is ending.
    loading = worker.waits or not worker.beat_ns or (worker.working and slot.opening)
    return Seen(bool(worker.pid), worker.silent, worker.working, loading, worker.stopped, worker.start_at - now)


def _trouble(worker: _Worker) -> str:
    """What is wrong with a worker, in a sentence; empty when nothing is."""
    number = worker.slot.index
    if worker.pid and worker.silent >= SILENT_SECONDS / 2:
        return f"worker {number} does not react"
    if worker.pid and worker.slot.state == State.SERVING:
        return ""
    if worker.failed >= ISOLATED:
        return f"worker {number} keeps crashing: it {worker.reason}, {worker.failed} times in a row"
    if worker.reason and not worker.pid:
        return f"worker {number} {worker.reason} and is started again"
    return ""


@dataclass(frozen=True, slots=True)
class _Activity:
    """What a process does: clock ticks spent; whether a thread wants a processor, waits for a disk, or was stopped."""

    spent: int = 0
    wants: bool = False
    waits: bool = False
    stopped: bool = False


def _activity(pid: int) -> _Activity:
    spent, states = 0, b""
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            facts = (thread / "stat").read_bytes().rpartition(b")")[2].split()
            spent += int(facts[11]) + int(facts[12])
            states += facts[0]
    return _Activity(spent, b"R" in states, b"D" in states, b"T" in states)


_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


@contextlib.contextmanager
def _wakeups() -> Iterator[Callable[[float], bytes]]:
    """A way to wait for signals or for a time to pass; each call gives the numbers of the signals that came."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = {number: signal.signal(number, lambda *_: None) for number in _HANDLED}
    hangup = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    poll = select.poll()
    poll.register(reading, select.POLLIN)

    def woken(seconds: float) -> bytes:
        return os.read(reading, 64) if poll.poll(seconds * 1000) else b""

    try:
        yield woken
    finally:
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGHUP, hangup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)


def _fork(run: Callable[[], int]) -> int:
    """A child that does nothing but `run`, and ends with what it says; its process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    # A signal that came before the child is itself would be lost in the supervisor's handlers.
    signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
    try:
        pid = os.fork()
        if not pid:
            _be_child(run)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
    return pid


def _be_child(run: Callable[[], int]) -> NoReturn:
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in _HANDLED:
            signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
        status = run()
    except BaseException:  # noqa: BLE001 - whatever it is, this must not go on as a second supervisor
        _log.exception("the worker ends")
    finally:
        with contextlib.suppress(Exception):
            logging.shutdown()
        os._exit(status)


def _allow_descriptors() -> None:
    """Let this process and its children have as many connections as the system's hard limit allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def _board_folder() -> Iterator[Path]:
    """Where the workers tell of themselves: in memory where the system has a place for that.

    A supervisor that was killed leaves its own, which the next one clears away.
    """
    memory = Path("/dev/shm")  # noqa: S108 - made by mkdtemp, for this user only
    base = memory if memory.is_dir() and os.access(memory, os.W_OK) else Path(tempfile.gettempdir())
    for left in base.glob(f"modelyard-{os.getuid()}-*"):
        owner = left.name.split("-")[2]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"modelyard-{os.getuid()}-{os.getpid()}-", dir=base))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def serve(options: Options, arguments: Sequence[str] = ()) -> int:
    """Serve with several workers until told to stop, then let them finish the requests they have; the exit status.

    Raises:
        PolicyDenied: the address is not this machine's own, and that is not allowed.
        ServiceUnreachable: the address is taken.
    """
    listener = listener_of(options)
    grpc = None if options.grpc_port is None else reserve(listener.getsockname()[0], options.grpc_port)
    options.home.create()
    _allow_descriptors()
    too = "" if grpc is None else f", gRPC on {address_of(grpc)}"
    _log.info("listening on %s%s with %d workers", url_of(listener), too, options.crew)
    if options.announce is not None:
        document = {"url": url_of(listener), "pid": os.getpid()}
        document |= {} if grpc is None else {"grpc": address_of(grpc)}
        write_whole(options.announce, msgspec.json.encode(document))
    # What is here now is shared with all workers as long as nobody touches it; the collector would.
    gc.collect()
    gc.freeze()
    with _board_folder() as folder:
        return Supervisor(options, listener, grpc, folder, arguments=arguments).run()
