"""What a user might pack: functions with habits of their own."""

from __future__ import annotations

import os
import signal

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
