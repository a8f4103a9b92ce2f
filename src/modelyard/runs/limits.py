"""How long a program may take and how much memory, together with all that it starts; and that it stands back."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

from modelyard.niceness import lower_session

_GRACE = 5.0
"""Seconds in which a program that is asked to end may do so by itself."""

_LOOK = 0.2
"""Seconds between two looks at how much memory is taken."""

_PAGE = os.sysconf("SC_PAGE_SIZE")
_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


class Watchdog:
    """Ends the process group of `child` when it is over its limits, and whatever is left of it on leaving.

    `reason` is why it was ended; empty while it was not. Memory is what the group's processes have for themselves: what
    they share with others, such as libraries and mapped files, is not counted.
    """

    def __init__(self, child: subprocess.Popen[bytes], seconds: float | None, memory: int | None) -> None:
        self._child, self._memory = child, memory
        self._seconds = seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.reason = ""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        end_group(self._child)
        self._thread.join()

    def _watch(self) -> None:
        until = None if self._seconds is None else time.monotonic() + self._seconds
        while not self._over.wait(self._pause(until)):
            self.reason = self._excess(until)
            if self.reason:
                end_group(self._child)
                break

    def _pause(self, until: float | None) -> float:
        left = threading.TIMEOUT_MAX if until is None else max(0.0, until - time.monotonic())
        return left if self._memory is None else min(left, _LOOK)

    def _excess(self, until: float | None) -> str:
        if until is not None and time.monotonic() >= until:
            return f"it was ended, since it took longer than {self._seconds:g} s"
        taken = 0 if self._memory is None else memory_of_group(self._child.pid)
        if self._memory is not None and taken > self._memory:
            return f"it was ended, since it took {taken / 1e6:,.0f} MB of memory and may take {self._memory / 1e6:,.0f}"
        return ""


def memory_of_group(group: int) -> int:
    """Bytes that the processes of a group have for themselves.

    >>> memory_of_group(os.getpgid(0)) > 1_000_000
    True
    """
    pages = 0
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            with suppress(OSError, ValueError, IndexError):  # it ended meanwhile
                fields = (place / "stat").read_bytes().rpartition(b")")[2].split()
                if int(fields[2]) == group:
                    resident, shared = (place / "statm").read_bytes().split()[1:3]
                    pages += int(resident) - int(shared)
    return pages * _PAGE


def end_group(child: subprocess.Popen[bytes]) -> None:
    """Ask the processes of the program's group to end, and make them where they do not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        if child.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                child.wait(timeout=_GRACE)


def die_with_parent(parent: int, number: signal.Signals) -> None:
    """Have the system send this process a signal when the process `parent`, which started it, is gone."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it went before we asked to be told
        os._exit(1)


def stand_back(nice: int) -> Callable[[], None]:
    """To be called in a new process, the first of a session: others come first, for processor and memory.

    The process ends with the thread that started it.
    """
    parent = os.getpid()

    def prepare() -> None:
        die_with_parent(parent, signal.SIGKILL)
        lower_session(os.nice(max(0, nice - os.nice(0))))  # who starts it may stand back already
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("500")

    return prepare
