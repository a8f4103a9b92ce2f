"""Jobs off the event loop: batched, told apart when one is bad, in time or not at all."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from modelyard.domain.frame import Answers, Frame, Vector
from modelyard.errors import DeadlinePassed, ModelFailed, RowsRefused, RuntimeLost, VersionNotReady
from modelyard.serving.costs import CostModel
from modelyard.serving.keeper import KeptRuntime
from modelyard.serving.lanes import BatchLane, Job

PATIENCE = 20.0
BAD, BROKEN, DEADLY, SHORT = 13.0, 14.0, 666.0, 77.0


@dataclass
class Doubling:
    """Twice x over a process that some values kill; holds its first batch until it is let go."""

    go: threading.Event = field(default_factory=threading.Event)
    begun: threading.Event = field(default_factory=threading.Event)
    batches: list[list[float]] = field(default_factory=list)
    dead: bool = False
    starts: int = 0
    restartable: bool = True
    pid: int | None = None

    def predict(self, frame: Frame, outputs: Sequence[str] | None = None) -> Answers:
        x = frame["x"].values
        self.batches.append(x.tolist())
        self.begun.set()
        assert self.go.wait(PATIENCE)
        if self.dead or (x == DEADLY).any():
            self.dead = True
            raise RuntimeLost("the process is gone")
        if (x == BAD).any():
            raise RowsRefused("13 is refused")
        if (x == BROKEN).any():
            raise ModelFailed("14 breaks")
        if (x == SHORT).any():
            return {"twice": x[1:] * 2}
        answers = {"twice": x * 2, "thrice": x * 3}
        return answers if outputs is None else {name: answers[name] for name in outputs}

    def alive(self) -> bool:
        return not self.dead

    def ended(self) -> int | None:
        return -9 if self.dead else None

    def restart(self) -> None:
        self.starts += 1
        if not self.restartable:
            raise RuntimeLost("it does not start")
        self.dead = False

    def close(self) -> None:
        self.go.set()


@dataclass
class Asked:
    """A job and what came back."""

    job: Job
    answer: asyncio.Future[Any]


Ask = Callable[..., Asked]


def on_lane(runtime: Any, story: Callable[[BatchLane, Ask], Any], **options: Any) -> None:
    """Run `story` with a lane over `runtime` on an event loop."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        lane = BatchLane(runtime, loop, CostModel(0.001, 0.0), **{"merge": True, "threads": 1} | options)

        def ask(*x: float, outputs: Sequence[str] | None = None, within: float | None = None) -> Asked:
            answer: asyncio.Future[Any] = loop.create_future()
            frame = Frame({"x": Vector(np.array(x))}, len(x))
            job = Job(frame, outputs, lambda result, *_: answer.set_result(result), size=8 * len(x))
            if within is not None:
                job.deadline_ns = time.perf_counter_ns() + int(within * 1e9)
            lane.submit(job)
            return Asked(job, answer)

        try:
            await asyncio.wait_for(story(lane, ask), PATIENCE)
        finally:
            lane.close()
            runtime.close()

    asyncio.run(main())


async def begun(runtime: Any) -> None:
    assert await asyncio.to_thread(runtime.begun.wait, PATIENCE)


async def twice(asked: Asked) -> list[float]:
    answer = await asked.answer
    assert isinstance(answer, dict), answer
    return list(answer["twice"].tolist())


def test_jobs_that_wait_are_computed_as_one_batch() -> None:
    runtime = Doubling()

    async def story(lane: BatchLane, ask: Ask) -> None:
        first = ask(0.0)
        await begun(runtime)
        rest = [ask(1.0), ask(2.0, 3.0), ask(4.0, outputs=["thrice"])]
        assert (lane.rows, lane.bytes) == (4, 32)
        runtime.go.set()
        assert await twice(first) == [0]
        assert [await twice(asked) for asked in rest[:2]] == [[2], [4, 6]]
        assert (await rest[2].answer)["thrice"].tolist() == [12]
        assert list(await rest[2].answer) == ["thrice"]
        assert runtime.batches == [[0.0], [1.0, 2.0, 3.0, 4.0]]
        assert (lane.rows, lane.bytes) == (0, 0)

    on_lane(runtime, story)


def test_without_merging_every_job_is_computed_alone() -> None:
    runtime = Doubling()

    async def story(lane: BatchLane, ask: Ask) -> None:
        runtime.go.set()
        asked = [ask(float(n), float(n)) for n in range(10)]
        assert [await twice(one) for one in asked] == [[2.0 * n, 2.0 * n] for n in range(10)]
        assert sorted(map(len, runtime.batches)) == [2] * 10

    on_lane(runtime, story, merge=False, threads=2)


def test_a_job_above_the_limit_runs_alone() -> None:
    runtime = Doubling()

    async def story(lane: BatchLane, ask: Ask) -> None:
        ask(0.0)
        await begun(runtime)
        asked = [ask(1.0), ask(*[2.0] * 10), ask(3.0)]
        runtime.go.set()
        for one in asked:
            await twice(one)
        assert [len(batch) for batch in runtime.batches] == [1, 1, 10, 1]

    on_lane(runtime, story, max_rows=4)


@pytest.mark.parametrize(("value", "error"), [(BAD, RowsRefused), (BROKEN, ModelFailed), (SHORT, ModelFailed)])
def test_a_bad_row_fails_alone(value: float, error: type[Exception]) -> None:
    runtime = Doubling()

    async def story(lane: BatchLane, ask: Ask) -> None:
        ask(0.0)
        await begun(runtime)
        asked = [ask(1.0), ask(2.0), ask(value), ask(3.0), ask(4.0)]
        runtime.go.set()
        assert isinstance(await asked.pop(2).answer, error)
        assert [await twice(one) for one in asked] == [[2], [4], [6], [8]]

    on_lane(runtime, story)


def test_a_job_that_kills_the_process_twice_is_told_so_and_the_others_are_answered() -> None:
    runtime = Doubling()
    kept = KeptRuntime(runtime, lambda _: None, "toy")

    async def story(lane: BatchLane, ask: Ask) -> None:
        ask(0.0)
        await begun(runtime)
        asked = [ask(1.0), ask(DEADLY), ask(2.0)]
        runtime.go.set()
        assert isinstance(await asked.pop(1).answer, RuntimeLost)
        assert [await twice(one) for one in asked] == [[2], [4]]
        assert [DEADLY] in runtime.batches

    on_lane_kept(kept, runtime, story)


def on_lane_kept(kept: KeptRuntime, runtime: Doubling, story: Callable[[BatchLane, Ask], Any]) -> None:
    try:
        on_lane(kept, story)
    finally:
        runtime.go.set()


def test_calls_are_refused_at_once_when_the_process_is_given_up() -> None:
    runtime = Doubling(dead=True, restartable=False)
    runtime.go.set()
    kept = KeptRuntime(runtime, lambda _: None, "toy")

    async def story(lane: BatchLane, ask: Ask) -> None:
        assert isinstance(await ask(1.0).answer, VersionNotReady)
        assert kept.isolated
        assert lane.wait_seconds() > 0

    on_lane_kept(kept, runtime, story)


def test_deadlines_hold_while_something_else_is_computed() -> None:
    runtime = Doubling()

    async def story(lane: BatchLane, ask: Ask) -> None:
        computing = ask(0.0, within=0.2)
        await begun(runtime)
        waiting = ask(1.0, within=0.1)
        assert isinstance(await waiting.answer, DeadlinePassed)
        assert isinstance(await computing.answer, DeadlinePassed)
        assert lane.rows == 0
        runtime.go.set()
        assert await twice(ask(2.0)) == [4]
        assert runtime.batches == [[0.0], [2.0]]

    on_lane(runtime, story)


def test_cancelled_jobs_are_neither_computed_nor_answered() -> None:
    runtime = Doubling()

    async def story(lane: BatchLane, ask: Ask) -> None:
        ask(0.0)
        await begun(runtime)
        left = ask(1.0)
        left.job.cancelled = True
        runtime.go.set()
        assert await twice(ask(2.0)) == [4]
        assert not left.answer.done()
        assert [1.0] not in runtime.batches

    on_lane(runtime, story)


def test_what_waits_at_the_end_is_refused() -> None:
    runtime = Doubling()

    async def story(lane: BatchLane, ask: Ask) -> None:
        first = ask(0.0)
        await begun(runtime)
        waiting = ask(1.0)
        lane.close()
        assert isinstance(await waiting.answer, VersionNotReady)
        assert isinstance(await ask(2.0).answer, VersionNotReady)
        runtime.go.set()
        assert await twice(first) == [0]

    on_lane(runtime, story)
