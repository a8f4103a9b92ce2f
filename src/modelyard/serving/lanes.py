"""Where answers are computed that do not belong on the event loop: one lane a version."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from modelyard.domain.frame import Answers, Frame
from modelyard.errors import DeadlinePassed, Failed, ModelFailed, ModelyardError, RuntimeLost, VersionNotReady
from modelyard.runtime.interface import Runtime
from modelyard.serving.batching import BatchLimit, CannotMerge, gather_seconds, merged, parts, union
from modelyard.serving.costs import CostModel
from modelyard.serving.keeper import KeptRuntime, NotUp
from modelyard.serving.meters import Meter

_LOOK_SECONDS = 0.05
"""Seconds between two looks at what waits too long, and at a process that is being brought back."""

_log = logging.getLogger("modelyard.serving")

Computed: TypeAlias = Callable[["Answers | BaseException", int, int], None]
"""Called on the event loop's thread with the answers or the error, the nanoseconds the rows waited in the lane, and
those that the computation took."""


@dataclass(slots=True, eq=False)
class Job:
    """The rows of one call. `size` is the bytes of its body; `deadline_ns` is of ``time.perf_counter_ns()``.

    A job that is `cancelled`, or past its deadline, before its turn is never computed; `done` is then called with
    `DeadlinePassed`, or not at all when it was cancelled. The lane notes when it came (`queued_ns`) and how many
    processes died over it (`deaths`).
    """

    frame: Frame
    outputs: Sequence[str] | None
    done: Computed
    size: int = 0
    deadline_ns: int | None = None
    cancelled: bool = False
    queued_ns: int = 0
    deaths: int = 0


class Lane(Protocol):
    """Computes jobs in the order in which they came. All methods are called on the event loop's thread."""

    def submit(self, job: Job) -> None:
        """Take a job in; its `done` is called later, never from within this call."""
        ...

    def wait_seconds(self) -> float:
        """Expected seconds until a job that came now would begin."""
        ...

    def down_seconds(self) -> float:
        """What of that is for a process that is being brought back."""
        ...

    @property
    def rows(self) -> int:
        """Rows that wait."""
        ...

    @property
    def bytes(self) -> int:
        """Bytes of request bodies that wait."""
        ...

    def close(self) -> None:
        """End it; jobs that still wait get `VersionNotReady`."""
        ...


_Result: TypeAlias = tuple[Job, "Answers | BaseException", int, int]
"""What `Job.done` is called with, behind the job."""


class BatchLane:
    """Computes jobs in threads of its own. With `merge`, those that wait are computed as one batch.

    For native versions: ``merge=True, threads=1``, as a model's process answers one call at a time. For compiled calls
    too long for the event loop: ``merge=False, threads=2``. A batch is whatever waits when a thread is free, up to a
    limit that finds itself so that a batch takes at most half of `objective_seconds` (a job waits for one batch and is
    computed in the next); those who were answered together get a moment to ask again together (`gather_seconds`).
    `cost` learns what batches take.

    A batch that fails is computed again in halves, so that only the jobs that are to blame get the error. Jobs over
    which the process died are computed again, each alone; one that does it twice gets `RuntimeLost`.
    """

    def __init__(
        self,
        runtime: Runtime,
        loop: asyncio.AbstractEventLoop,
        cost: CostModel,
        *,
        merge: bool,
        threads: int = 1,
        objective_seconds: float = 0.2,
        max_rows: int = 4096,
        name: str = "lane",
        meter: Meter | None = None,
    ) -> None:
        self._runtime, self._loop, self._cost = runtime, loop, cost
        self._kept = runtime if isinstance(runtime, KeptRuntime) else None
        self._merge, self._threads, self._name = merge, threads, name
        self._limit = BatchLimit(objective_seconds / 2, max_rows)
        self._change = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._again: deque[list[Job]] = deque()
        self._busy: dict[int, tuple[int, list[Job]]] = {}
        self._rows = self._bytes = 0
        self._before = self._enough = 1
        self._left_out = 0
        self._closed = False
        self._meter = meter or Meter()
        self._sweeper: asyncio.TimerHandle | None = None
        for number in range(threads):
            threading.Thread(target=self._work, args=(number,), name=f"{name}-{number}", daemon=True).start()

    @property
    def rows(self) -> int:
        """Rows that wait."""
        return self._rows

    @property
    def bytes(self) -> int:
        """Bytes of request bodies that wait."""
        return self._bytes

    @property
    def limit(self) -> int:
        """The most rows of a batch at present; one call of more is computed alone."""
        return self._limit.rows

    def submit(self, job: Job) -> None:
        """Take a job in; its `done` is called later, never from within this call."""
        job.queued_ns = time.perf_counter_ns()
        with self._change:
            if not self._closed:
                self._waiting.append(job)
                self._rows += job.frame.rows
                self._bytes += job.size
                if len(self._waiting) >= self._enough:
                    self._change.notify()
        if self._closed:
            self._loop.call_soon(self._deliver, [_without(job, self._ending())])
        elif self._sweeper is None:
            self._sweeper = self._loop.call_later(_LOOK_SECONDS, self._sweep)

    def wait_seconds(self) -> float:
        """Expected seconds until a job that came now would begin; honest while the process is being brought back."""
        now = time.perf_counter_ns()
        with self._change:
            running = [(now - start, sum(job.frame.rows for job in jobs)) for start, jobs in self._busy.values()]
            alone = [job.frame.rows for group in self._again for job in group]
            jobs, rows = len(self._waiting), self._rows - sum(alone)
        # A batch that is over its time takes, as far as anyone knows, as long again as it is over it.
        left = sum(abs(self._cost.seconds(count) - taken / 1e9) for taken, count in running)
        ahead = sum(map(self._cost.seconds, alone))
        if self._merge:
            full = rows // self._limit.rows
            ahead += full * self._cost.seconds(self._limit.rows)
        elif jobs:
            ahead += jobs * self._cost.seconds(rows // jobs)
        down = self.down_seconds()
        return down + (left + ahead) / self._threads if len(running) >= self._threads else down + ahead / self._threads

    def down_seconds(self) -> float:
        """What of that is for a process that is being brought back; 0 while there is one."""
        return 0.0 if self._kept is None else self._kept.back_in()

    def close(self) -> None:
        """End it; jobs that still wait get `VersionNotReady`. What is being computed is still answered."""
        with self._change:
            self._closed = True
            left = self._emptied()
            self._change.notify_all()
        if self._sweeper is not None:
            self._sweeper.cancel()
        if left:
            self._loop.call_soon(self._deliver, [_without(job, self._ending()) for job in left])

    def _ending(self) -> VersionNotReady:
        return VersionNotReady(f"{self._name}: the version is being closed; ask again")

    # On the event loop's thread ------------------------------------------------------------------------------------

    def _deliver(self, results: list[_Result], seen: tuple[int, float] | None = None) -> None:
        if seen is not None:
            rows, seconds = seen
            self._cost.observe(rows, seconds)
            self._meter.computed(rows, int(seconds * 1e9))
        for job, result, waited, taken in results:
            if job.cancelled:
                continue
            try:
                job.done(result, waited, taken)
            except Exception:  # noqa: BLE001 - one caller's trouble must not keep the others' answers back
                _log.exception("%s: an answer could not be handed over", self._name)

    def _sweep(self) -> None:
        """Tell those whose deadline has passed, also of jobs that are being computed; forget the cancelled."""
        now = time.perf_counter_ns()
        late: list[Job] = []
        with self._change:
            self._waiting = deque(self._kept_of(self._waiting, now, late))
            self._again = deque(group for group in (self._kept_of(g, now, late) for g in self._again) if group)
            computing = [job for _, jobs in self._busy.values() for job in jobs if _is_late(job, now)]
            more = bool(self._waiting or self._again or self._busy) and not self._closed
        self._sweeper = self._loop.call_later(_LOOK_SECONDS, self._sweep) if more else None
        self._deliver([_without(job, _late()) for job in (*late, *computing)])
        for job in (*late, *computing):
            job.cancelled = True  # it has its answer

    # In the lane's threads -----------------------------------------------------------------------------------------

    def _work(self, number: int) -> None:
        while (jobs := self._next(number)) is not None:
            try:
                self._compute(jobs)
            finally:
                with self._change:
                    self._busy.pop(number, None)

    def _next(self, number: int) -> list[Job] | None:
        """Wait for jobs and for a process that can compute them; None when the lane is closed."""
        while True:
            with self._change:
                while not (self._waiting or self._again or self._closed):
                    self._change.wait()
                if self._closed:
                    return None
            if not self._is_up():
                continue
            late: list[Job] = []
            with self._change:
                if self._merge and not self._again:
                    self._gather()
                jobs = self._taken(time.perf_counter_ns(), late)
                if jobs:
                    self._busy[number] = (time.perf_counter_ns(), jobs)
            self._tell([_without(job, _late()) for job in late])
            if jobs:
                return jobs

    def _gather(self) -> None:
        """Give the callers of the batch before a moment to ask again. The lock is held."""
        seconds = gather_seconds(len(self._waiting), self._before, self._cost.one)
        if seconds:
            self._enough = self._before
            self._change.wait_for(lambda: len(self._waiting) >= self._enough or self._closed, seconds)
            self._enough = 1

    def _is_up(self) -> bool:
        """Whether there is a process; if it is given up, all that wait are told why."""
        if self._kept is None:
            return True
        try:
            return self._kept.wait_up(_LOOK_SECONDS)
        except VersionNotReady as given_up:
            with self._change:
                left = self._emptied()
            self._tell([_without(job, given_up) for job in left])
            return False

    def _taken(self, now: int, late: list[Job]) -> list[Job]:
        """The jobs of the next batch: first those to be computed again. The lock is held."""
        while self._again:
            jobs = self._kept_of(self._again.popleft(), now, late)
            if jobs:
                self._forget(jobs)
                return jobs
        taken: list[Job] = []
        self._left_out = 0
        rows, most = 0, self._limit.rows if self._merge else 0
        while self._waiting:
            job = self._waiting[0]
            if taken and rows + job.frame.rows > most:
                self._left_out = job.frame.rows
                break
            self._waiting.popleft()
            if self._kept_of([job], now, late):
                taken.append(job)
                rows += job.frame.rows
        self._forget(taken)
        self._before = max(len(taken), 1)
        return taken

    def _kept_of(self, jobs: Sequence[Job] | deque[Job], now: int, late: list[Job]) -> list[Job]:
        """Those that someone still waits for in time; the late ones are noted. The lock is held."""
        kept = [job for job in jobs if not job.cancelled and not _is_late(job, now)]
        if len(kept) < len(jobs):
            gone = [job for job in jobs if job.cancelled or _is_late(job, now)]
            self._forget(gone)
            late.extend(job for job in gone if not job.cancelled)
        return kept

    def _forget(self, jobs: Sequence[Job]) -> None:
        self._rows -= sum(job.frame.rows for job in jobs)
        self._bytes -= sum(job.size for job in jobs)

    def _put_back(self, *groups: list[Job]) -> None:
        """Compute these before anything else, in this order."""
        with self._change:
            if not self._closed:
                for group in reversed(groups):
                    self._again.appendleft(group)
                    self._rows += sum(job.frame.rows for job in group)
                    self._bytes += sum(job.size for job in group)
                self._change.notify()
                return
        self._tell([_without(job, self._ending()) for group in groups for job in group])

    def _emptied(self) -> list[Job]:
        """All that wait, taken out. The lock is held."""
        left = [*(job for group in self._again for job in group), *self._waiting]
        self._again.clear()
        self._waiting.clear()
        self._rows = self._bytes = 0
        return left

    def _compute(self, jobs: list[Job]) -> None:
        start = time.perf_counter_ns()
        sizes, wanted = [job.frame.rows for job in jobs], [job.outputs for job in jobs]
        try:
            frame = merged([job.frame for job in jobs])
            answers = self._asked(frame, union(wanted))
            found = parts(answers, sizes, wanted)
        except NotUp:
            self._put_back(jobs)
            return
        except CannotMerge:
            self._put_back(*([job] for job in jobs))
            return
        except RuntimeLost as lost:
            self._after_death(jobs, lost, start)
            return
        except Exception as error:  # noqa: BLE001 - whatever a runtime raises is the answer to those who asked
            self._after_failure(jobs, error, start)
            return
        taken = time.perf_counter_ns() - start
        seen = (frame.rows, taken / 1e9)
        self._limit.after(*seen, self._least(), self._left_out)
        self._tell([(job, part, start - job.queued_ns, taken) for job, part in zip(jobs, found, strict=True)], seen)

    def _asked(self, frame: Frame, outputs: Sequence[str] | None) -> Answers:
        return (self._runtime.predict if self._kept is None else self._kept.attempt)(frame, outputs)

    def _least(self) -> float:
        """Rows of a batch of which half the time is spent whatever their number."""
        one, more = self._cost.one, self._cost.more
        return min(one / more, self._limit.rows) if more > 0 else float(self._limit.rows)

    def _after_failure(self, jobs: list[Job], error: Exception, start: int) -> None:
        if len(jobs) > 1:
            middle = len(jobs) // 2
            self._put_back(jobs[:middle], jobs[middle:])
            return
        known = error if isinstance(error, ModelyardError) else _broken(error)
        self._tell([_without(jobs[0], known, start)])

    def _after_death(self, jobs: list[Job], lost: RuntimeLost, start: int) -> None:
        for job in jobs:
            job.deaths += 1
        twice = [job for job in jobs if job.deaths > 1 or self._kept is None]
        self._tell([_without(job, lost, start) for job in twice])
        again = [[job] for job in jobs if not (job.deaths > 1 or self._kept is None)]
        if again:
            self._put_back(*again)

    def _tell(self, results: list[_Result], seen: tuple[int, float] | None = None) -> None:
        if results or seen:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._deliver, results, seen)


def _is_late(job: Job, now: int) -> bool:
    return job.deadline_ns is not None and job.deadline_ns < now


def _late() -> DeadlinePassed:
    return DeadlinePassed("the deadline passed before the rows were computed; ask again with more time, or later")


def _without(job: Job, error: ModelyardError, start: int | None = None) -> _Result:
    """An error in place of answers."""
    now = time.perf_counter_ns()
    return job, error, (start or now) - job.queued_ns, now - start if start else 0


def _broken(error: Exception) -> Failed:
    return ModelFailed(f"the model's answer cannot be used: {type(error).__name__}: {error}")
