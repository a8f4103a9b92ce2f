"""Standing back for others also where a process has a session of its own.

On many machines Linux gives every session the same part of the processor, whatever the niceness of its processes
(autogroups, see sched(7)): a program at nice 19 in a session of its own takes as much as all that serves together.
A session's part has a niceness of its own, which is set here.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

_TRIES, _PAUSE_SECONDS = 6, 0.1
"""Linux lets all who are not root together set one niceness in a tenth of a second."""


def lower_session(nice: int, pid: int | str = "self") -> None:
    """Give the session of a process this niceness, 1 to 19, besides that of its processes.

    Nothing happens with one of 0, and where the system has no such parts or does not allow it.
    """
    if nice <= 0:
        return
    for _ in range(_TRIES):
        try:
            Path(f"/proc/{pid}/autogroup").write_text(str(nice))
        except BlockingIOError:
            time.sleep(_PAUSE_SECONDS)
        except OSError:
            return
        else:
            return


def pass_on(pid: int) -> None:
    """Have the session that the process `pid` began stand back as far as this thread does, which started it."""
    lower_session(os.getpriority(os.PRIO_PROCESS, 0), pid)
