"""Keeps a worker within its share of the memory budget: what has not been asked for longest is unloaded.

Each worker decides for itself, by what it measures of itself and of the model processes it started. What was unloaded
so is ready on request: the next call for it loads it again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from modelyard.serving.keeper import KeptRuntime
from modelyard.serving.memory import held_bytes
from modelyard.serving.plane import DataPlane
from modelyard.serving.served import ServedVersion

LOOK_SECONDS = 0.5
SOON_SECONDS = 0.1
"""How long until the next look where there is too much and nothing could go yet."""

RESIDENT_SECONDS = 0.2
"""What was loaded or asked for so lately stays: who waited for it has not had its answer yet."""

LEAST_BYTES = 256 * 1024
"""What unloading a version frees at least: its session, decoders and counts."""

_log = logging.getLogger("modelyard.serving")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A version that could go: when it was last asked for (of the clock of `now`), what it holds, and if it is used."""

    name: str
    asked_at: float
    bytes: int
    busy: bool = False


def victims(loaded: Sequence[Loaded], held: int, most: int, now: float) -> tuple[str, ...]:
    """Which versions go when `held` bytes are held and `most` may be; those first that were not asked for longest.

    One that is in use stays, one that was just asked for too, and the one that was asked for last in any case: a budget
    that is too small for one version would otherwise mean that none ever answers.

    >>> loaded = [Loaded("a", 3.0, 10**6), Loaded("b", 1.0, 10**6), Loaded("c", 2.0, 10**6)]
    >>> victims(loaded, held=11_500_000, most=10_000_000, now=9.0)
    ('b', 'c')
    >>> victims(loaded, held=10_000_000, most=10_000_000, now=9.0)
    ()
    """
    chosen, over = list[str](), held - most
    for one in sorted(loaded, key=lambda one: one.asked_at)[:-1]:
        if over <= 0:
            break
        if one.busy or now - one.asked_at < RESIDENT_SECONDS:
            continue
        chosen.append(one.name)
        over -= max(one.bytes, LEAST_BYTES)
    return tuple(chosen)


class Budget:
    """Looks now and then, and when `look_soon` is called, whether `plane` holds more than `most` bytes.

    `measure` says what the versions that are open make the worker hold, in all.
    """

    def __init__(
        self, plane: DataPlane, most: int, measure: Callable[[Sequence[ServedVersion]], int] | None = None
    ) -> None:
        self.most, self.held = most, 0
        self._plane, self._measure = plane, measure or measured
        self._soon, self._over = threading.Event(), threading.Event()
        self._told = False
        self._thread = threading.Thread(target=self._watch, name="memory-budget", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._over.set()
        self._soon.set()
        self._thread.join()

    def look_soon(self) -> None:
        """Something was loaded. May be called from any thread."""
        self._soon.set()

    def look(self) -> bool:
        """Measure, and have go what has to; whether there is still too much afterwards, as far as is known."""
        served = self._plane.served()
        self.held = held = self._measure(served)
        self._plane.full = held >= self.most
        if held <= self.most:
            self._told = False
            return False
        going = victims([_loaded(one) for one in served], held, self.most, time.monotonic())
        if going:
            too_much, may_be = held / 1e6, self.most / 1e6
            _log.info("%.0f MB are held, %.0f MB may be: unloading %s", too_much, may_be, ", ".join(going))
            self._plane.evict(going)
        elif len(served) <= 1 and not self._told:
            self._told = True
            _log.warning(
                "%.0f MB are held and %.0f MB may be, with %d versions loaded: the memory budget is too small",
                held / 1e6,
                self.most / 1e6,
                len(served),
            )
        return True

    def _watch(self) -> None:
        over = False
        while not self._over.is_set():
            if self._soon.wait(SOON_SECONDS if over else LOOK_SECONDS):
                self._soon.clear()
            # What is on its way out is still counted by any measure; so it is waited for.
            if not self._over.is_set() and not self._plane.evicting():
                over = self.look()


def measured(served: Sequence[ServedVersion]) -> int:
    """Bytes that this process and the model processes of these versions hold for themselves."""
    return held_bytes() + sum(map(_process_bytes, served))


def _process_bytes(served: ServedVersion) -> int:
    pid = served.runtime.pid if isinstance(served.runtime, KeptRuntime) else None
    return 0 if pid is None else held_bytes(pid)


def _loaded(served: ServedVersion) -> Loaded:
    size = served.memory_bytes if served.memory_bytes is not None else _process_bytes(served)
    return Loaded(served.deployment.name, served.asked_at, size, served.leases.held > 0)
