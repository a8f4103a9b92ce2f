"""A retraining that is told to end, ends with a report: SIGTERM becomes an exception, as Ctrl-C is one."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


@contextmanager
def stopped_in_order() -> Iterator[None]:
    """While this lasts SIGTERM raises SystemExit, with the exit status that a shell gives; for the main thread."""
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)
