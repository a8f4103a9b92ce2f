"""Keeping a few child processes running: start, watch, restart with back-off, stop."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from modelyard.control import announce
from modelyard.control.announce import Announcement
from modelyard.domain.deaths import Death, ended_how, failures
from modelyard.errors import Failed

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
"""Seconds before the first restart, and at most."""

STEADY_SECONDS = 20.0
"""A child that ran this long is well again: its next restart is a first one."""

STOP_SECONDS = 40.0
"""A child that has not stopped by then is ended by force; longer than the data plane gives its open requests."""

LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Program:
    """What to run under `name`. `command` may depend on the address announced before, so that a restart keeps it."""

    name: str
    command: Callable[[Announcement | None], Sequence[str]]
    announce: Path
    fds: tuple[int, ...] = ()


def back_off(failed: int) -> float:
    """Seconds to wait before the restart of a child that has failed so many times in a row.

    >>> [back_off(failed) for failed in (0, 1, 2, 3, 20)]
    [0.0, 0.1, 0.2, 0.4, 10.0]
    """
    return min(FIRST_PAUSE * 2.0 ** min(failed - 1, 16), LONGEST_PAUSE) if failed else 0.0


@dataclass(slots=True)
class Child:
    """One program's present process, and what its restarts are decided on."""

    program: Program
    process: subprocess.Popen[bytes]
    started: float
    announced: bool = False
    failed: int = 0
    restart_at: float | None = None
    address: Announcement | None = None


@dataclass(slots=True)
class Supervisor:
    """Runs programs as children until told to stop.

    `tell` gets a line whenever a child ends or comes back; `changed` is called with all known addresses whenever one
    of them is new. Children never outlive the thread that calls `start`: the kernel sends them SIGTERM
    when it is gone, however it went.
    """

    programs: Sequence[Program]
    tell: Callable[[str], None]
    changed: Callable[[dict[str, Announcement]], None]
    _children: list[Child] = field(default_factory=list)

    def run(self, stop: threading.Event, deadline: float = 60.0) -> None:
        """Start all programs, keep them running until `stop` is set, then stop them.

        Raises:
            Failed: one of them ended, or stayed silent for `deadline` seconds, before it ever announced itself.
        """
        try:
            self._start(stop, deadline)
            while not stop.wait(LOOK_SECONDS):
                self._look()
        finally:
            self._stop()

    def _start(self, stop: threading.Event, deadline: float) -> None:
        until = time.monotonic() + deadline
        for program in self.programs:
            program.announce.unlink(missing_ok=True)
            self._children.append(Child(program, _spawn(program, None), time.monotonic()))
        while not stop.wait(LOOK_SECONDS) and not self._all_announced():
            for child in self._children:
                _require_alive(child, until)

    def _all_announced(self) -> bool:
        for child in self._children:
            self._look_for_address(child)
        return all(child.address is not None for child in self._children)

    def _look(self) -> None:
        for child in self._children:
            self._look_for_address(child)
            status = child.process.poll()
            if status is None:
                continue
            if child.restart_at is None:
                self._plan_restart(child, status)
            elif time.monotonic() >= child.restart_at:
                child.process = _spawn(child.program, child.address)
                child.started, child.announced, child.restart_at = time.monotonic(), False, None

    def _plan_restart(self, child: Child, status: int) -> None:
        now = time.monotonic()
        death = Death(status, now - child.started if child.announced else None)
        child.failed = failures(child.failed, death, STEADY_SECONDS)
        pause = back_off(child.failed)
        child.restart_at = now + pause
        self.tell(
            f"the {child.program.name} (pid {child.process.pid}) {ended_how(death)}; starting it again"
            + (f" in {pause:.1f} s" if pause else "")
        )

    def _look_for_address(self, child: Child) -> None:
        said = announce.read(child.program.announce)
        if said is None or said == child.address or said.pid != child.process.pid:
            return
        back = child.address is not None
        child.address, child.announced = said, True
        self.changed({other.program.name: other.address for other in self._children if other.address is not None})
        if back:
            self.tell(f"the {child.program.name} is back (pid {said.pid})")

    def _stop(self, grace: float = STOP_SECONDS) -> None:
        """Ask all to finish what they are doing; end by force those that take longer than `grace` seconds."""
        for child in self._children:
            child.process.terminate()
        until = time.monotonic() + grace
        for child in self._children:
            try:
                child.process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.tell(f"the {child.program.name} did not stop within {grace:.0f} s and is ended by force")
                child.process.kill()
                child.process.wait()
            child.program.announce.unlink(missing_ok=True)


def _require_alive(child: Child, until: float) -> None:
    if child.address is not None:
        return
    status = child.process.poll()
    if status is not None:
        raise Failed(
            f"the {child.program.name} {ended_how(Death(status))} before it was listening; what it said is above"
        )
    if time.monotonic() > until:
        raise Failed(f"the {child.program.name} did not start listening in time")


_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


def _spawn(program: Program, address: Announcement | None) -> subprocess.Popen[bytes]:
    parent = os.getpid()

    def die_with_parent() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it went before we asked to be told
            os._exit(1)

    # A group of its own: Ctrl-C in the terminal reaches the supervisor, which then stops its children in order.
    return subprocess.Popen(
        list(program.command(address)),
        stdin=subprocess.DEVNULL,
        stdout=2,
        env={"MODELYARD_LOG": "text", **os.environ},  # people read it, unless somebody says otherwise
        pass_fds=program.fds,
        process_group=0,
        preexec_fn=die_with_parent,
    )
