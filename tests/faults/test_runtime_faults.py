"""A model's process that dies, hangs or sends nonsense while it is asked: nobody gets a wrong answer, and it is back.

The short form has the shorter half of the faults.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import native_bundles
from faults.promises import LONG, size
from modelyard.domain.schema import Schema
from modelyard.errors import ModelyardError, RuntimeLost
from modelyard.runtime.python import PythonRuntime
from modelyard.serving.costs import CostModel
from modelyard.serving.keeper import KeptRuntime
from modelyard.serving.lanes import BatchLane, Job

KILLS = size(6, 100)
CALLERS = 8
PATIENCE = 60.0
MOMENTS = random.Random(20130101)
SAMPLE = pd.DataFrame({"x": [1.0, 2.0, 3.0]})

pytestmark = pytest.mark.timeout(120 + 5 * KILLS)

SLEEP, LOOP, EXIT, RANDOM, HUGE, STALE, CLOSE, SHORT, EXTRA, STOP, HALF = (-float(n) for n in range(1, 12))
FEW = (SLEEP, EXIT, HUGE, STALE)
FAULTS = FEW if not LONG else (*FEW, LOOP, RANDOM, CLOSE, SHORT, STOP, HALF)


def model(rows: Any) -> Any:  # noqa: C901 - one line a fault
    """Twice x, with a fault for each of some negative values."""
    import os
    import signal
    import stat
    import struct
    import time

    def sockets() -> list[int]:
        found = []
        for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - the function takes its modules along
            try:
                if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                    found.append(int(name))
            except OSError:
                pass
        return found

    low = rows["x"].min()
    sent = {
        -4.0: bytes(range(256)),
        -5.0: struct.pack("<B3xIQ", 17, 1, 1 << 60),
        -6.0: struct.pack("<B3xIQ", 17, 0, 8) + bytes(8),
        -8.0: struct.pack("<B3xIQ", 17, 1, 8) + bytes(8),
        -11.0: struct.pack("<B3xIQ", 17, 1, 100) + bytes(8),
    }
    if low == -1:
        time.sleep(600)
    while low == -2:
        pass
    if low in (-3, -11):
        if low in sent:
            os.write(sockets()[0], sent[low])
        os._exit(3)
    if low in sent:
        os.write(sockets()[0], sent[low])
    if low == -7:
        for number in sockets():
            os.close(number)
        time.sleep(600)
    if low == -9:
        os.write(sockets()[0], struct.pack("<B3xIQ", 17, 12345, 0))
    if low == -10:
        os.kill(os.getpid(), signal.SIGSTOP)
    return rows["x"] * 2


SCHEMA = native_bundles.schema_of(native_bundles.of_main(model), SAMPLE)


class Lane:
    """A lane over a real process, and callers that check every answer."""

    def __init__(self, lane: BatchLane) -> None:
        self.lane = lane
        self.answered, self.wrong = 0, list[Any]()
        self.stop = False

    async def ask(self, x: float) -> Any:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        frame = native_bundles.frame_of(Schema("dataframe", SCHEMA.columns, ()), pd.DataFrame({"x": [x]}))
        self.lane.submit(Job(frame, None, lambda result, *_: answer.set_result(result)))
        return await answer

    async def call_on(self, number: int) -> None:
        x = float(number * 1_000_000)
        while not self.stop:
            x += 1
            result = await self.ask(x)
            if isinstance(result, ModelyardError) or result["output"].tolist() != [2 * x]:
                self.wrong.append((x, result))
            else:
                self.answered += 1

    async def more(self, calls: int) -> None:
        wanted, deadline = self.answered + calls, time.monotonic() + PATIENCE
        while self.answered < wanted:
            assert time.monotonic() < deadline, "no answers any more"
            await asyncio.sleep(0.01)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[PythonRuntime]:
    runtime = native_bundles.start(tmp_path, native_bundles.of_main(model), SAMPLE)
    yield runtime
    runtime.close()


def under_load(process: PythonRuntime, story: Callable[[Lane], Any]) -> KeptRuntime:
    """Run `story` while callers ask on and on; none of them may get anything but its own right answer."""
    cost = CostModel(0.002, 0.0)
    process.set_patience(2.5, cost.seconds)
    kept = KeptRuntime(process, lambda _: None, "model")

    async def main() -> None:
        lane = Lane(BatchLane(kept, asyncio.get_running_loop(), cost, merge=True))
        callers = [asyncio.create_task(lane.call_on(number)) for number in range(1, CALLERS + 1)]
        try:
            await lane.more(20)
            await story(lane)
            await lane.more(20)
        finally:
            lane.stop = True
            await asyncio.gather(*callers)
            lane.lane.close()
        assert lane.wrong == []

    try:
        asyncio.run(main())
    finally:
        kept.close()
    return kept


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_call_that_ruins_its_process_is_told_so_and_no_other_is_harmed(process: PythonRuntime, fault: float) -> None:
    async def story(lane: Lane) -> None:
        assert isinstance(await lane.ask(fault), RuntimeLost)

    assert under_load(process, story).restarts >= 2


def test_a_message_that_nobody_asked_for_is_never_an_answer(process: PythonRuntime) -> None:
    async def story(lane: Lane) -> None:
        for _ in range(3):
            await lane.ask(EXTRA)

    assert under_load(process, story).restarts >= 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_is_killed_or_stopped_at_any_moment_costs_no_answer(
    process: PythonRuntime, number: signal.Signals
) -> None:
    async def story(lane: Lane) -> None:
        for _ in range(KILLS if number == signal.SIGKILL else 1):
            await lane.more(MOMENTS.randint(1, 40))
            os.kill(process.pid, number)
            await lane.more(2 * CALLERS)

    under_load(process, story)
