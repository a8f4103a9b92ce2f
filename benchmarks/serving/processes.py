"""Servers as processes: started, waited for, measured and ended with everything that they started."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MARK = "MODELYARD_BENCHMARK_SERVER"
"""Set for a server and so for all that it starts, also for what no longer is its child."""

_LIBRARIES = ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR")
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in _LIBRARIES}
"""With more, two processes on two cores keep each other from working: a few answers a second are left."""

_TICKS = os.sysconf("SC_CLK_TCK")


class NotStarted(Exception):
    """A server did not come up; the message says why."""


@dataclass
class Process:
    """A running server: the process that was started, and all that came from it."""

    root: subprocess.Popen[bytes]
    mark: str
    log: Path
    started_at: float

    def pids(self) -> list[int]:
        """Every process of the server: what bears its mark, and children of those, whose environment may be another."""
        wanted = f"{MARK}={self.mark}".encode()
        parents: dict[int, int] = {}
        found = {self.root.pid} if self.root.poll() is None else set()
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with contextlib.suppress(OSError):
                    parents[int(folder.name)] = int(_stat(int(folder.name))[1])
                    if wanted in (folder / "environ").read_bytes().split(b"\0"):
                        found.add(int(folder.name))
        more = found
        while more:
            more = {pid for pid, parent in parents.items() if parent in more} - found
            found |= more
        return sorted(found)

    def cpu_seconds(self) -> float:
        """Processor time of all processes so far, with that of children that have ended."""
        return sum(_cpu_ticks(pid) for pid in self.pids()) / _TICKS

    def memory_mb(self) -> float:
        """Memory of all processes, shared pages divided among those that share them (PSS), in MB."""
        return sum(_pss_kb(pid) for pid in self.pids()) / 1000

    def tail(self) -> str:
        """The last lines of what the server printed, on one line."""
        with contextlib.suppress(OSError):
            lines = self.log.read_text(errors="replace").strip().splitlines()
            return " | ".join(line.strip() for line in lines[-3:])[-400:]
        return "it printed nothing"

    def end(self, patience: float = 10.0) -> None:
        """Ask the server to end; after `patience` seconds, end what is left of it."""
        self.root.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.root.wait(patience)
        deadline = time.monotonic() + 3
        while self.pids() and time.monotonic() < deadline:
            time.sleep(0.05)
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.root.wait()


def _stat(pid: int) -> list[str]:
    """The fields of a process's status from its state on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _cpu_ticks(pid: int) -> int:
    with contextlib.suppress(OSError):
        return sum(int(field) for field in _stat(pid)[11:15])
    return 0


def _pss_kb(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


def start(command: Sequence[str], folder: Path, settings: Mapping[str, str] | None = None) -> Process:
    """Start a server; what it prints goes to ``log.txt`` in its `folder`, which is where it runs."""
    folder.mkdir(parents=True, exist_ok=True)
    mark = uuid.uuid4().hex
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    path = folder / "log.txt"
    with path.open("wb") as log:
        began = time.monotonic()
        root = subprocess.Popen(
            list(command),
            cwd=folder,
            env={**inherited, **(settings or {}), MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    return Process(root, mark, path, began)


def free_port() -> int:
    """A port that is free now."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers_from(process: Process, asked: Callable[[], int], patience: float) -> float:
    """Seconds from the start of a server to its first answer with status 200.

    `asked` sends one request and gives the status of the answer.

    Raises:
        NotStarted: it ended, or did not answer so in `patience` seconds.
    """
    last = "nobody listened"
    deadline = process.started_at + patience
    while time.monotonic() < deadline:
        if process.root.poll() is not None:
            raise NotStarted(f"it ended with status {process.root.returncode}: {process.tail()}")
        with contextlib.suppress(OSError, http.client.HTTPException):
            status = asked()
            if status == 200:
                return time.monotonic() - process.started_at
            last = f"it answered {status}"
        # Quick servers are timed closely, slow ones are left alone to start.
        time.sleep(max(0.01, (time.monotonic() - process.started_at) / 50))
    raise NotStarted(f"no answer in {patience:.0f} s; {last}; {process.tail()}")
