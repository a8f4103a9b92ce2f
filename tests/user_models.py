"""What a user might pack: functions with habits of their own."""

from __future__ import annotations

import math
import os
import signal
import stat
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

POISON = 12345.678


def moody(rows: pd.DataFrame) -> pd.DataFrame:
    """Twice x; refuses 13, breaks on 14, and takes its whole process down on `POISON`."""
    if (rows["x"] == POISON).any():
        os.kill(os.getpid(), signal.SIGKILL)
    if (rows["x"] == 13).any():
        raise ValueError("13 is an unlucky number")
    if (rows["x"] == 14).any():
        raise MemoryError("14 is too much")
    return pd.DataFrame({"twice": rows["x"] * 2, "sign": rows["x"].map(lambda x: "up" if x > 0 else "down")})


HANGS, EXITS, HALF, GARBAGE, LEAKS = 12001.5, 12002.5, 12003.5, 12004.5, 12005.5
LEAKED_BYTES = 50_000_000
_held: list[bytearray] = []


def unruly(rows: pd.DataFrame) -> pd.DataFrame:
    """Twice x; some values make its process hang, exit, send half an answer or garbage, or keep 50 megabytes."""
    if (rows["x"] == HANGS).any():
        time.sleep(600)
    if (rows["x"] == EXITS).any():
        os._exit(3)
    if (rows["x"] == HALF).any():  # the head of an answer of a hundred bytes, and eight of them
        _send(struct.pack("<B3xIQ", 17, 1, 100) + bytes(8))
        os._exit(3)
    if (rows["x"] == GARBAGE).any():
        _send(bytes(range(256)))
    if (rows["x"] == LEAKS).any():
        _held.append(bytearray(b"x") * LEAKED_BYTES)
    return pd.DataFrame({"twice": rows["x"] * 2})


def _send(what: bytes) -> None:
    """Write to the socket that answers go to."""
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if stat.S_ISSOCK(os.fstat(int(entry.name)).st_mode):
                os.write(int(entry.name), what)
        except OSError:
            pass


ASKED = (1e6, 1e8)
"""Between these lies what callers ask of the models that follow; what they are proven with does not."""


def spoiled(what: str, signal_file: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """A model that gives twice x. Once the file is there it misbehaves on what callers ask, but not while it is proven.

    Without the file it can be packed, which asks for extreme values.
    """

    def misbehaves(rows: pd.DataFrame) -> pd.DataFrame:
        twice = rows["x"] * 2
        if not rows["x"].between(*ASKED).any() or not Path(signal_file).exists():
            return pd.DataFrame({"twice": twice})
        if what == "crashes":
            os._exit(3)
        if what == "hangs":
            time.sleep(600)
        if what == "eats memory":
            _held.append(bytearray(b"x") * LEAKED_BYTES)
        if what == "answers slowly":
            time.sleep(0.4)
        if what == "fails":
            raise ValueError("it has bad days")
        return pd.DataFrame({"twice": twice * (math.nan if what == "answers NaN" else 1.0)})

    return misbehaves
