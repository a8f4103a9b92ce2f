"""The monitor as a process: looks again whenever calls or labels have come, and now and then without."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from modelyard.errors import ModelyardError
from modelyard.home import Home
from modelyard.records.delta import TablesRoot
from modelyard.records.log import PREDICTIONS

if TYPE_CHECKING:
    from modelyard.monitoring.monitor import Monitor

EVERY = 2.0
"""Seconds between two looks at whether anything has come."""

AT_LEAST = 30.0
"""Seconds after which it looks though nothing has come: windows without any call close too."""

LONGEST_PAUSE = 60.0


def follow(
    home: Home, stop: threading.Event, tell: Callable[[str], None], every: float = EVERY, *, deliver: bool = False
) -> None:
    """Monitor `home` until `stop` is set. What cannot be read or kept now is tried again.

    With `deliver` alerts are sent from here too; where planes run, the control plane does that.
    """
    # Nothing is loaded before there is something to look at: most of the memory is libraries.
    while not _has_records(home.records):
        if stop.wait(every):
            return
    from modelyard.monitoring.alerts.courier import Courier
    from modelyard.monitoring.monitor import Monitor
    from modelyard.registry import Registry

    with Registry.open(home) as registry:
        courier = Courier(registry.database) if deliver else None
        if courier is not None:
            courier.start()
        try:
            _follow(Monitor(home, registry, tell, aside=True), home.records, stop, tell, every)
        finally:
            if courier is not None:
                courier.stop()


def _follow(monitor: Monitor, records: Path, stop: threading.Event, tell: Callable[[str], None], every: float) -> None:
    seen: object = None
    looked, pause = 0.0, every
    while not stop.is_set():
        mark = _mark(records)
        if mark != seen or time.monotonic() - looked >= AT_LEAST:
            try:
                passed = monitor.look()
                seen, looked, pause = None if passed.waiting else mark, time.monotonic(), every
            except (ModelyardError, OSError) as error:
                tell(f"the monitor tries again in {pause:.0f} s: {error}")
                pause = min(LONGEST_PAUSE, pause * 2)
        stop.wait(pause)


def _has_records(records: Path) -> bool:
    return any((records / "predictions").glob("*.log")) or TablesRoot.of(records).is_there(PREDICTIONS)


def _mark(records: Path) -> tuple[tuple[str, int], ...]:
    """Changes whenever a call or a label was recorded: names and sizes of the files of the logs."""
    found = []
    for path in records.glob("*/*.log"):
        try:
            found.append((path.name, path.stat().st_size))
        except FileNotFoundError:  # shipped meanwhile
            continue
    return tuple(sorted(found))
