"""Supervision, with small real programs as children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from modelyard.control.announce import Announcement, read
from modelyard.control.supervisor import Program, Supervisor
from modelyard.errors import Failed

CHILD = """
import os, signal, sys, threading
from pathlib import Path
from modelyard.control.announce import Announcement, write
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
write(Path(sys.argv[1]), Announcement(f"http://127.0.0.1:{sys.argv[2]}", os.getpid()))
while not stop.wait(0.05):
    pass
"""


def eventually(condition: Callable[[], object], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def program(folder: Path, name: str, code: str = CHILD) -> Program:
    file = folder / f"{name}.json"

    def command(before: Announcement | None) -> list[str]:
        return [sys.executable, "-c", code, str(file), "1" if before is None else before.url.rpartition(":")[2] + "1"]

    return Program(name, command, file)


class Running:
    """A supervisor in a thread of its own, as the tests' main thread has to look at it."""

    def __init__(self, *programs: Program) -> None:
        self.lines: list[str] = []
        self.known: dict[str, Announcement] = {}
        self.stop = threading.Event()
        supervisor = Supervisor(programs, self.lines.append, self.known.update)
        self._thread = threading.Thread(target=supervisor.run, args=[self.stop])
        self._thread.start()
        eventually(lambda: len(self.known) == len(programs))

    def finish(self) -> None:
        self.stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()


def test_a_killed_child_comes_back_where_it_was(tmp_path: Path) -> None:
    running = Running(program(tmp_path, "one"), program(tmp_path, "two"))
    try:
        first, other = running.known["one"], running.known["two"]
        os.kill(first.pid, signal.SIGKILL)
        eventually(lambda: running.known["one"].pid != first.pid)
        assert running.known["one"].url == first.url + "1"  # it was told the former address
        assert running.known["two"] == other
        eventually(lambda: len(running.lines) == 2)
        assert "was killed by SIGKILL; starting it again" in running.lines[0]
    finally:
        running.finish()
    assert all(is_gone(one.pid) for one in running.known.values())


def test_nothing_is_left_after_stopping(tmp_path: Path) -> None:
    running = Running(program(tmp_path, "one"))
    running.finish()
    assert is_gone(running.known["one"].pid)
    assert read(tmp_path / "one.json") is None
    assert running.lines == []


def test_a_child_that_cannot_start_ends_it_all_with_the_reason(tmp_path: Path) -> None:
    known: dict[str, Announcement] = {}
    programs = [program(tmp_path, "good"), program(tmp_path, "bad", "raise SystemExit(3)")]
    with pytest.raises(Failed, match="the bad ended with status 3 before it was listening"):
        Supervisor(programs, print, known.update).run(threading.Event())
    assert all(is_gone(one.pid) for one in known.values())


def test_a_child_that_stays_silent_is_not_waited_for_forever(tmp_path: Path) -> None:
    silent = program(tmp_path, "silent", "import time; time.sleep(60)")
    with pytest.raises(Failed, match="did not start listening"):
        Supervisor([silent], print, lambda _: None).run(threading.Event(), deadline=0.5)


def test_children_stop_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    supervising = (
        "import sys, threading\nfrom pathlib import Path\n"
        "from modelyard.control.supervisor import Program, Supervisor\n"
        "file = Path(sys.argv[1])\n"
        "child = Program('one', lambda before: [sys.executable, '-c', sys.argv[2], str(file), '1'], file)\n"
        "Supervisor([child], print, lambda known: None).run(threading.Event())\n"
    )
    file = tmp_path / "one.json"
    with subprocess.Popen([sys.executable, "-c", supervising, str(file), CHILD]) as parent:
        eventually(lambda: read(file) is not None)
        child = read(file)
        assert child is not None
        parent.kill()
    eventually(lambda: is_gone(child.pid))
