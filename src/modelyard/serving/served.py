"""A version that answers: its codec, its runtime, and the leases that keep it open while it computes."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from modelyard.domain.desired import Deployment
from modelyard.domain.frame import Answers
from modelyard.domain.manifest import Manifest
from modelyard.domain.schema import Schema
from modelyard.protocol.table import TableReader
from modelyard.runtime.interface import Runtime
from modelyard.serving.costs import CostModel
from modelyard.serving.keeper import KeptRuntime, resident_bytes
from modelyard.serving.lanes import BatchLane, Lane
from modelyard.serving.meters import Meter
from modelyard.serving.status import VersionStatus

INLINE_SECONDS = 0.001
"""A call that takes longer than this is computed in a thread, so that others are not kept waiting."""

Result = TypeVar("Result")

OBJECTIVE_MS = 1000.0
"""Within how many milliseconds calls are to be answered where nobody says otherwise."""

MEMORY_SECONDS = 10.0
"""Not more often than so is it looked at how much memory the process of a model holds, to be recorded with a call."""

THREADS = 4
"""Threads a version computes in; more calls than that wait their turn."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a call takes: `one` row in seconds, and each row more in `more` seconds; `inline` allows the event loop.

    >>> Pace(inline=True, one=30e-6, more=1e-6).is_short(100), Pace(inline=True, one=30e-6, more=1e-6).is_short(5000)
    (True, False)
    """

    inline: bool
    one: float
    more: float

    def is_short(self, rows: int) -> bool:
        """Whether that many rows may be computed without leaving the event loop."""
        return self.inline and self.one + rows * self.more < INLINE_SECONDS


class Leases:
    """Counts who is using a version. Nothing is closed under a user, and nobody gets what is about to be closed."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._held, self._retired = 0, False

    def take(self) -> bool:
        """Hold it, unless it is retired already; then the answer is False and nothing is held."""
        with self._change:
            if self._retired:
                return False
            self._held += 1
            return True

    def give_back(self) -> None:
        """Let go of it."""
        with self._change:
            self._held -= 1
            if self._retired and not self._held:
                self._change.notify_all()

    @property
    def held(self) -> int:
        """How many hold it now."""
        return self._held

    def drain(self, seconds: float) -> bool:
        """Give out no more and wait until none is held; False when that takes longer than `seconds`."""
        with self._change:
            self._retired = True
            return self._change.wait_for(lambda: not self._held, seconds)


@dataclass(slots=True, eq=False)
class ServedVersion:
    """One opened, proven version. Made by `modelyard.serving.opening`, closed when its last lease is back.

    `turn` is what a call takes of the event loop by the bytes of its body, `cost` what its rows take in the lane.
    """

    deployment: Deployment
    manifest: Manifest
    digest: str
    runtime: Runtime
    pace: Pace
    reader: TableReader
    meter: Meter = field(default_factory=Meter)
    leases: Leases = field(default_factory=Leases)
    threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(THREADS, "compute"))
    loaded_at: float = field(default_factory=time.time)
    asked_at: float = field(default_factory=time.monotonic)
    """When a call last came for it, of ``time.monotonic()``; at first, when it was opened."""
    turn: CostModel = field(default_factory=lambda: CostModel(one=1e-4, more=1e-8))
    cost: CostModel = field(default_factory=lambda: CostModel(one=1e-3, more=0.0))
    alone: str = ""
    """Why its calls may not be computed together; empty when they may."""
    closed: Callable[[], None] = lambda: None
    """Called when it is closed, and with it the counting of its calls."""
    memory_bytes: int | None = None
    """What this process grew by as it was opened; None where the model has a process of its own."""
    lane: Lane | None = None
    _bytes_a_row: float = 0.0
    _memory_told: float = -MEMORY_SECONDS
    _loop: asyncio.AbstractEventLoop | None = None

    @property
    def merges(self) -> bool:
        """Whether calls that wait are computed together: only a model in a process of its own gains by that."""
        return isinstance(self.runtime, KeptRuntime) and not self.alone

    @property
    def schema(self) -> Schema:
        """What it takes and answers."""
        return self.reader.schema

    def open_lane(self, loop: asyncio.AbstractEventLoop) -> Lane:
        """Where calls are computed that do not belong on the event loop; made when it is first needed."""
        if self.lane is None:
            self._loop = loop
            native = isinstance(self.runtime, KeptRuntime)
            self.lane = BatchLane(
                self.runtime,
                loop,
                self.cost,
                merge=self.merges,
                threads=1 if native else 2,
                objective_seconds=(self.deployment.objective_ms or OBJECTIVE_MS) / 1000,
                name=self.deployment.name,
                meter=self.meter,
            )
        return self.lane

    def learn_rows(self, size: int, rows: int) -> None:
        """Remember how large a body is that has so many rows."""
        a_row = size / max(rows, 1)
        self._bytes_a_row = a_row if not self._bytes_a_row else 0.9 * self._bytes_a_row + 0.1 * a_row

    def lane_seconds(self, size: int) -> float:
        """Expected seconds in the lane of a call whose body has `size` bytes."""
        if not self._bytes_a_row:
            return 0.0
        return self.cost.seconds(max(1, round(size / self._bytes_a_row)))

    async def aside(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Do `work` in one of this version's threads, while the event loop goes on."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, work, *arguments)

    def memory_to_tell(self) -> int:
        """How many bytes the model's own process holds, now and then; 0 in between, and where it has none."""
        now = time.monotonic()
        if not isinstance(self.runtime, KeptRuntime) or now - self._memory_told < MEMORY_SECONDS:
            return 0
        self._memory_told, pid = now, self.runtime.pid
        return 0 if pid is None else resident_bytes(pid)

    def trouble(self) -> str:
        """Why it does not answer now; empty when it does."""
        return self.runtime.trouble() if isinstance(self.runtime, KeptRuntime) else ""

    def status(self) -> VersionStatus:
        """Its facts, and whether it answers."""
        trouble = self.trouble()
        deployment = self.deployment
        return VersionStatus(
            deployment.model,
            deployment.version,
            self.digest,
            "UNAVAILABLE" if trouble else "READY",
            trouble,
            self.manifest.runtime,
            self.runtime.pid if isinstance(self.runtime, KeptRuntime) else None,
        )

    def close(self) -> None:
        """Give back the lane, the runtime and the threads."""
        if self.lane is not None and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the event loop is over, and with it everything that waited
                self._loop.call_soon_threadsafe(self.lane.close)
        self.threads.shutdown(wait=False, cancel_futures=True)
        self.runtime.close()
        self.closed()


def no_rows(schema: Schema, outputs: Sequence[str] | None) -> Answers:
    """The answer to no rows at all: empty arrays of the right kind and shape."""
    names = [output.name for output in schema.outputs] if outputs is None else outputs
    chosen = [schema.output(name) for name in names]
    return {
        output.name: np.empty((0, *(max(size, 0) for size in output.shape)), output.kind.numpy) for output in chosen
    }
