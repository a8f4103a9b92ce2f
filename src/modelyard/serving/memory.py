"""Memory of this process: what it holds for itself, and giving back what it no longer uses."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

_PRIVATE = (b"Private_Dirty", b"Swap")


def give_back() -> None:
    """Give the system what was freed. A version that is closed leaves whole pages behind, which glibc keeps otherwise.

    Takes some milliseconds at most, and other threads go on meanwhile.
    """
    trim = _trimmer()
    if trim is not None:
        trim(0)


def held_bytes(pid: int | None = None) -> int:
    """Memory that is the process's own and that only its end would free; 0 when it is gone.

    What it shares with the process that it was forked from does not count, nor what was read from files.

    >>> held_bytes() > 1_000_000
    True
    """
    try:
        lines = Path(f"/proc/{pid or os.getpid()}/smaps_rollup").read_bytes().splitlines()[1:]
    except OSError:
        return 0
    facts = (line.partition(b":") for line in lines)
    return sum(int(rest.split()[0]) for name, _, rest in facts if name in _PRIVATE) * 1024


@cache
def _trimmer() -> Callable[[int], int] | None:
    """``malloc_trim`` of glibc; None where there is another C library."""
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None
    return trim
