"""Everything that is made from the prediction log and the label log, and the loop that ships it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelyard.errors import ModelyardError
from modelyard.home import Home
from modelyard.records.delta import TablesRoot
from modelyard.records.log import LABELS, PREDICTIONS
from modelyard.records.shipping import Shipment, Shipped, record_shipments, remove_shipped, ship
from modelyard.records.upkeep import compact, expire

if TYPE_CHECKING:
    from modelyard.registry import Registry

EVERY = 5.0
"""Seconds between two looks; readers do not wait for it, they see what is not shipped too."""

COUNTED_EVERY = 12
"""Counts are added to their table every so many looks only, as each time costs a line a window."""

COMPACTED_EVERY = 900.0

LONGEST_PAUSE = 60.0


def shipments(home: Home, registry: Registry) -> tuple[Shipment, ...]:
    """All tables: predictions, labels, and the counts of windows."""
    from modelyard.monitoring.sources import profile_shipment
    from modelyard.monitoring.store import MonitorStore
    from modelyard.monitoring.versions import KnownVersions

    store = MonitorStore(registry.database)
    profiles = profile_shipment(KnownVersions(registry), lambda name: store.settings(name).window)
    return (*record_shipments(home.records), profiles)


def ship_all(directory: Path, all_of_them: Sequence[Shipment], now: Collection[str] | None = None) -> Shipped:
    """Ship everything once, or only the tables `now`, and remove segments that all tables have.

    Raises:
        Unavailable, Failed: a table cannot be reached, read or written; nothing is lost.
    """
    root, shipped = TablesRoot.of(directory), Shipped()
    for shipment in (one for one in all_of_them if now is None or one.table in now):
        shipped += ship(directory, shipment, root)
    shipped.removed = remove_shipped(directory, all_of_them, root)
    return shipped


def follow(home: Home, stop: threading.Event, tell: Callable[[str], None], every: float = EVERY) -> None:
    """Ship what is recorded in `home` until `stop` is set. What cannot be shipped now is tried again."""
    # Nothing is loaded before there is something to ship: most of the memory is libraries.
    while not any(home.records.glob("*/*.log")):
        if stop.wait(every):
            return
    from modelyard.registry import Registry

    pause, compacted, counted = every, time.monotonic(), 0.0
    with Registry.open(home) as registry:
        while not stop.is_set():
            try:
                all_of_them = shipments(home, registry)  # the rules may have changed
                now = {PREDICTIONS, LABELS}
                if time.monotonic() - counted >= COUNTED_EVERY * every:
                    counted = time.monotonic()
                    now = {one.table for one in all_of_them}
                for damage in ship_all(home.records, all_of_them, now).damage:
                    tell(str(damage))
                if time.monotonic() - compacted >= COMPACTED_EVERY:
                    compacted = time.monotonic()
                    expire(home.records)
                    compact(TablesRoot.of(home.records), [one.table for one in all_of_them])
                pause = every
            except (ModelyardError, OSError) as error:
                tell(f"{error}; tried again in {pause:.0f} s")
                pause = min(LONGEST_PAUSE, pause * 2)
            stop.wait(pause)
