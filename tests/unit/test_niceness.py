"""What stands back does so also in a session of its own, which Linux gives the same part of the processor as others."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from modelyard.niceness import pass_on
from modelyard.runs.limits import stand_back

AUTOGROUPS = Path("/proc/self/autogroup").exists()
SAID = "import os; print(os.nice(0)); print(open('/proc/self/autogroup').read() if AUTOGROUPS else '')"
WAITS = "import sys; sys.stdin.read()"


def test_a_program_with_limits_stands_back_with_its_session() -> None:
    wanted = max(10, os.nice(0))
    told = subprocess.run(
        [sys.executable, "-c", f"AUTOGROUPS = {AUTOGROUPS}; {SAID}"],
        preexec_fn=stand_back(wanted),
        start_new_session=True,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert told[0] == str(wanted)
    if AUTOGROUPS:
        assert told[-1] == str(wanted)


@contextmanager
def waiting() -> Iterator[int]:
    """A process with a session of its own, which waits."""
    child = subprocess.Popen([sys.executable, "-c", WAITS], stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield child.pid
    finally:
        child.communicate()


@pytest.mark.skipif(not AUTOGROUPS, reason="this system gives sessions no part of the processor of their own")
def test_a_session_stands_back_as_far_as_who_started_it() -> None:
    wanted = max(15, os.nice(0))
    with waiting() as pid:

        def starts() -> None:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), wanted)
            pass_on(pid)

        thread = threading.Thread(target=starts)
        thread.start()
        thread.join()
        assert Path(f"/proc/{pid}/autogroup").read_text().split()[-1] == str(wanted)


def test_a_process_that_is_gone_is_nobodys_trouble() -> None:
    pass_on(2**22 + 1)
