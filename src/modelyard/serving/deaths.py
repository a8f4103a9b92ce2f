"""How long to wait before a process that failed is started again, and whether it died for want of memory."""

from __future__ import annotations

import contextlib
from pathlib import Path

_PAUSES = (0.0, 0.0, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


def pause_after(failed: int) -> float:
    """Seconds to wait before the start that follows that many failures in a row.

    >>> [pause_after(failed) for failed in (0, 1, 2, 3, 4, 100)]
    [0.0, 0.0, 0.0, 0.2, 0.5, 30.0]
    """
    return _PAUSES[min(failed, len(_PAUSES)) - 1] if failed else 0.0


def memory_kills(root: Path = Path("/")) -> int:
    """How many processes the system has killed for their memory, here or in this control group; 0 where unknown.

    >>> memory_kills() >= 0
    True
    """
    with contextlib.suppress(OSError, ValueError):
        group = (root / "proc/self/cgroup").read_text().rpartition("::")[2].strip().lstrip("/")
        return _counted(root / "sys/fs/cgroup" / group / "memory.events")
    with contextlib.suppress(OSError, ValueError):
        return _counted(root / "proc/vmstat")
    return 0


def _counted(file: Path) -> int:
    [count] = [line.split()[1] for line in file.read_text().splitlines() if line.startswith("oom_kill ")]
    return int(count)
