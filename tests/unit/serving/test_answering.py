"""Calls on their way: in turn, in fair shares, refused when there is no time, recorded before they are answered."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import compiled_bundles
from modelyard.domain.desired import Deployment
from modelyard.domain.frame import Answers, Frame
from modelyard.errors import Overloaded
from modelyard.protocol import rows
from modelyard.runtime.onnx import OnnxRuntime
from modelyard.serving import answering
from modelyard.serving.admission import Bounds, Outlook, refusal, turn_after
from modelyard.serving.answering import Answering
from modelyard.serving.exchange import Incoming, Ticket
from modelyard.serving.http import Reply
from modelyard.serving.meters import Meters
from modelyard.serving.plane import DataPlane
from modelyard.serving.served import THREADS, ServedVersion
from unit.serving.parts import PATIENCE, Gate, Kept, deployment, desired, logistic, run, served, until

BODY = rows.write_request(compiled_bundles.frame(1), compiled_bundles.schema())


@dataclass
class Busy:
    """A compiled runtime that keeps the event loop busy for a while before it answers."""

    seconds: float
    log: list[str]
    name: str
    inner: OnnxRuntime = field(default_factory=logistic)

    def predict(self, frame: Frame, outputs: Sequence[str] | None = None) -> Answers:
        end = time.perf_counter() + self.seconds
        while time.perf_counter() < end:
            pass
        self.log.append(self.name)
        return self.inner.predict(frame, outputs)

    def close(self) -> None:
        """Nothing to give back."""


class Stage:
    """A plane, its answering, and what came of the calls."""

    def __init__(self, **options: Any) -> None:
        self.log: list[str] = []
        self.gate = Gate()
        self.kept = Kept()
        self.plane = DataPlane(self.open)
        self.plane.apply(desired(1, deployment("quick"), deployment("flooded"), deployment("aside")))
        assert self.plane.settle(PATIENCE)
        self.answering = Answering(self.plane, self.kept, Meters(), **options)
        self.ids = itertools.count()
        self.replies: dict[str, Reply] = {}

    def open(self, wanted: Deployment) -> ServedVersion:
        if wanted.name == "aside":
            return served(wanted, self.gate, inline=False)
        return served(wanted, Busy(0.0005, self.log, wanted.name))

    def submit(self, name: str, body: bytes = BODY, left: float | None = None) -> Ticket:
        number = str(next(self.ids))
        now = time.perf_counter_ns()
        deadline = None if left is None else now + int(left * 1e9)
        incoming = Incoming(number, "rows", name, None, body, time.time_ns(), now, deadline_ns=deadline)
        return self.answering.submit(incoming, lambda reply: self.replies.__setitem__(number, reply))

    def statuses(self) -> list[int]:
        return [self.replies[number].status for number in sorted(self.replies, key=int)]


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.gate.go.set()
    run(stage.answering.drained())
    stage.plane.close()


def test_a_flood_of_one_deployment_leaves_the_other_its_turn(stage: Stage) -> None:
    async def story() -> None:
        for _ in range(100):
            stage.submit("flooded")
        stage.submit("quick")
        await stage.answering.drained()

    run(story())
    assert stage.statuses() == [200] * 101
    assert stage.log.index("quick") < 10


def test_long_bodies_wait_within_the_bound_until_they_are_read() -> None:
    long = b" " * (answering.LONG_BODY_BYTES - len(BODY)) + BODY
    stage, go = Stage(bounds=Bounds(bytes=3 * len(long))), threading.Event()
    version = stage.plane.lease("quick")

    async def story() -> None:
        for _ in range(2 * THREADS):
            version.threads.submit(go.wait, PATIENCE)  # nobody reads
        for _ in range(3):
            stage.submit("quick", long)
            await asyncio.sleep(0)
        stage.submit("quick", long)
        go.set()
        await stage.answering.drained()
        stage.submit("quick", long)
        await stage.answering.drained()

    run(story())
    version.leases.give_back()
    assert stage.statuses() == [200, 200, 200, 429, 200]
    stage.plane.close()


def test_what_cannot_be_done_in_time_is_refused_at_once_and_costs_no_body_in_the_log(stage: Stage) -> None:
    async def story() -> None:
        for _ in range(20):
            stage.submit("flooded")
        await stage.answering.drained()  # now it is known what one takes
        for _ in range(200):
            stage.submit("flooded", left=0.02)
        await stage.answering.drained()

    run(story())
    statuses = stage.statuses()[20:]
    assert set(statuses) <= {200, 429, 504}
    refused = [record for record in stage.kept.records if record.status == 429]
    assert len(refused) == statuses.count(429) > 100
    assert all(record.request == b"" and record.outcome == "refused" for record in refused)
    reply = next(reply for reply in stage.replies.values() if reply.status == 429)
    assert (b"retry-after", b"1") in reply.headers
    assert isinstance(reply.error, Overloaded)


def test_a_call_whose_client_left_is_never_computed(stage: Stage) -> None:
    async def story() -> None:
        first = stage.submit("flooded")
        stage.submit("quick")
        first.cancel()
        await stage.answering.drained()

    run(story())
    assert stage.log == ["quick"]
    assert list(stage.replies) == ["1"]
    assert [record.prediction_id for record in stage.kept.records] == ["1"]


def test_a_call_that_waits_in_a_lane_can_still_be_cancelled(stage: Stage) -> None:
    async def story() -> None:
        tickets = [stage.submit("aside") for _ in range(4)]
        await asyncio.to_thread(until, lambda: stage.gate.waiting.acquire(timeout=PATIENCE))
        for ticket in tickets[2:]:
            ticket.cancel()
        stage.gate.go.set()
        await stage.answering.drained()

    run(story())
    assert sorted(stage.replies) == ["0", "1"]
    assert stage.answering.in_flight == 0


def test_a_deadline_that_passes_in_the_line_is_said(stage: Stage) -> None:
    async def story() -> None:
        stage.submit("quick", left=0.001)
        time.sleep(0.005)
        await stage.answering.drained()

    run(story())
    assert stage.statuses() == [504]
    assert stage.log == []


def test_too_many_rows_are_refused(stage: Stage) -> None:
    body = rows.write_request(compiled_bundles.frame(3), compiled_bundles.schema())

    async def story() -> None:
        answering = Answering(stage.plane, stage.kept, Meters(), max_rows=2)
        stage.answering = answering
        stage.submit("quick", body)
        await answering.drained()

    run(story())
    assert stage.statuses() == [413]


@pytest.mark.parametrize("durable", [False, True])
def test_records_of_one_turn_are_written_together_and_before_the_answers(
    durable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "SLICE_NS", 10**12)  # a turn takes all there is, however slow the machine
    monkeypatch.setattr(answering, "QUANTUM_NS", 10**12)
    stage = Stage(durable=durable)
    written: list[int] = []
    keep = stage.kept.append_all

    def watched(records: Sequence[Any]) -> None:
        assert not {record.prediction_id for record in records} & set(stage.replies)
        written.append(len(records))
        keep(records)

    stage.kept.append_all = watched  # type: ignore[method-assign]

    async def story() -> None:
        for _ in range(3):
            stage.submit("quick")
        await stage.answering.drained()

    run(story())
    assert stage.statuses() == [200] * 3
    assert written == [3]
    stage.answering.close()
    stage.plane.close()


TIMES = st.floats(0.0, 100.0)


@given(TIMES, TIMES, TIMES, st.booleans())
def test_admission_never_lets_in_what_is_late_and_never_refuses_what_is_in_time(
    left: float, wait: float, own: float, asked: bool
) -> None:
    error = refusal(Outlook(left, wait, own, 0, 0, 1, asked), Bounds())
    late = wait + own - left > 0
    if not late:
        assert error is None
    elif asked or wait > 0:
        assert error is not None
        assert error.retry_after >= min(late, 0.05)


@given(TIMES, TIMES, st.integers(1, 50))
def test_a_turn_comes_no_later_than_all_work_and_no_later_than_the_fair_share(own: float, more: float, n: int) -> None:
    assert turn_after(own, own + more, n, 0.001) <= min(own + more, (own + 0.001) * n)


def test_full_lines_are_refused() -> None:
    assert refusal(Outlook(1, 0, 0, 100, 0, 1), Bounds(bytes=100)) is not None
    assert refusal(Outlook(1, 0, 0, 0, 0, 10**9), Bounds(bytes=100)) is None
    assert refusal(Outlook(1, 0, 0, 0, 101, 1), Bounds(rows=100)) is not None


def test_a_call_is_refused_by_its_head_where_too_much_waits_and_only_there(stage: Stage) -> None:
    def head(left: float) -> Reply | None:
        now = time.perf_counter_ns()
        deadline = now + int(left * 1e9)
        incoming = Incoming("head", "rows", "flooded", None, b"", time.time_ns(), now, deadline_ns=deadline)
        return stage.answering.turned_away(incoming, 10_000)

    async def story() -> None:
        for _ in range(20):
            stage.submit("flooded")
        await stage.answering.drained()  # now it is known what one takes
        assert head(PATIENCE) is None
        for _ in range(100):
            stage.submit("flooded")
        assert head(1000 * PATIENCE) is None
        reply = head(0.005)
        assert reply is not None
        assert reply.status == 429
        await stage.answering.drained()

    run(story())
    assert stage.statuses() == [200] * 120
    assert stage.answering.in_flight == 0
    [record] = [record for record in stage.kept.records if record.status == 429]
    assert (record.prediction_id, record.deployment, record.request) == ("head", "flooded", b"")
    version = stage.plane.lease("flooded")
    version.leases.give_back()
    assert version.leases.held == 0 == version.meter.in_flight
