"""Where answers are computed that do not belong on the event loop: one lane a version."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from modelyard.domain.frame import Answers, Frame
from modelyard.errors import DeadlinePassed
from modelyard.runtime.interface import Runtime
from modelyard.serving.costs import CostModel

Computed: TypeAlias = Callable[["Answers | BaseException", int, int], None]
"""Called on the event loop's thread with the answers or the error, the nanoseconds the rows waited in the lane, and
those that the computation took."""


@dataclass(slots=True, eq=False)
class Job:
    """The rows of one call. `size` is the bytes of its body; `deadline_ns` is of ``time.perf_counter_ns()``.

    A job that is `cancelled`, or past its deadline, before its turn is never computed; `done` is then called with
    `DeadlinePassed`, or not at all when it was cancelled.
    """

    frame: Frame
    outputs: Sequence[str] | None
    done: Computed
    size: int = 0
    deadline_ns: int | None = None
    cancelled: bool = False


class Lane(Protocol):
    """Computes jobs in the order in which they came. All methods are called on the event loop's thread."""

    def submit(self, job: Job) -> None:
        """Take a job in; its `done` is called later, never from within this call."""
        ...

    def wait_seconds(self) -> float:
        """Expected seconds until a job that came now would begin."""
        ...

    @property
    def rows(self) -> int:
        """Rows that wait."""
        ...

    @property
    def bytes(self) -> int:
        """Bytes of request bodies that wait."""
        ...

    @property
    def cost(self) -> CostModel:
        """What rows take in it."""
        ...

    def close(self) -> None:
        """End it; jobs that still wait get `VersionNotReady`."""
        ...


class ThreadLane:
    """Computes each job for itself, in a few threads."""

    def __init__(self, runtime: Runtime, loop: asyncio.AbstractEventLoop, cost: CostModel, threads: int = 2) -> None:
        self.cost = cost
        self.rows = self.bytes = 0
        self._runtime, self._loop, self._threads = runtime, loop, threads
        self._pool = ThreadPoolExecutor(threads, "lane")

    def submit(self, job: Job) -> None:
        """Take a job in; its `done` is called later, never from within this call."""
        self.rows, self.bytes = self.rows + job.frame.rows, self.bytes + job.size
        self._pool.submit(self._work, job, time.perf_counter_ns())

    def wait_seconds(self) -> float:
        """Expected seconds until a job that came now would begin."""
        return self.cost.seconds(self.rows) / self._threads if self.rows else 0.0

    def close(self) -> None:
        """End it when all that was taken in is done."""
        self._pool.shutdown(wait=False)

    def _work(self, job: Job, came_ns: int) -> None:
        begun = time.perf_counter_ns()
        result: Answers | BaseException
        try:
            if job.deadline_ns is not None and begun > job.deadline_ns:
                raise DeadlinePassed("the deadline of this call passed while it waited for its turn")
            result = {} if job.cancelled else self._runtime.predict(job.frame, job.outputs)
        except BaseException as error:  # noqa: BLE001 - it is the caller's to tell
            result = error
        taken = time.perf_counter_ns() - begun
        with contextlib.suppress(RuntimeError):  # the loop is over: nobody waits
            self._loop.call_soon_threadsafe(self._finish, job, result, begun - came_ns, taken)

    def _finish(self, job: Job, result: Answers | BaseException, waited_ns: int, taken_ns: int) -> None:
        self.rows, self.bytes = self.rows - job.frame.rows, self.bytes - job.size
        if not isinstance(result, BaseException) and not job.cancelled:
            self.cost.observe(job.frame.rows, taken_ns / 1e9)
        job.done(result, waited_ns, taken_ns)
