"""Answers calls, whichever entrance they came by.

A call is taken in or refused at once, waits in the line of its deployment, and is answered in its turn. One loop, the
pump, goes round the lines in fair shares (deficit round robin, Shreedhar and Varghese 1995) and rests after a few
milliseconds, so that what arrives meanwhile is read, and refused if there is no time for it.

What a turn takes is read the body, check it, compute, write the answer; a model that is slow or has a process of its
own computes in its lane, and the answer is written when that is done. Records of all answers of one turn of the event
loop are written together, and only then do the answers go out: whatever a client saw is in the log. Who is turned away
by the head of a request is told at once, as that acknowledges nothing; its record is written with the others.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec

from modelyard.domain.checks import check
from modelyard.domain.desired import CANDIDATE
from modelyard.domain.frame import Answers
from modelyard.domain.records import PredictionRecord
from modelyard.domain.splitting import key_in
from modelyard.errors import DeadlinePassed, ModelyardError, Overloaded, TooLarge
from modelyard.protocol.forms import FORMS, Written
from modelyard.protocol.media import Media
from modelyard.protocol.table import Call, Source
from modelyard.records.interface import RecordSink
from modelyard.serving.admission import Bounds, Outlook, refusal, turn_after
from modelyard.serving.call_log import CallLog
from modelyard.serving.exchange import Done, Incoming, Ticket
from modelyard.serving.http import Reply, UnknownPath, error_reply, outcome_of
from modelyard.serving.lanes import Job
from modelyard.serving.meters import Meters, reason_of
from modelyard.serving.onrequest import Loading
from modelyard.serving.plane import DataPlane, NotLoaded
from modelyard.serving.served import ServedVersion, no_rows
from modelyard.serving.shadows import Shadows
from modelyard.serving.tracing import TraceFacts, Tracer

LONG_BODY_BYTES, LONG_ROWS = 256 * 1024, 2000
"""Bodies from here on are read and answers written in a thread, so that others are not kept waiting."""

SLICE_NS = 2_000_000
"""How long the pump works before what has arrived is looked at."""

QUANTUM_NS = 500_000
"""What a deployment may take of the pump before the next one has its turn."""

_TELL_SECONDS = 1.0
"""The least time between two lines of the log about calls that could not be recorded."""

_log = logging.getLogger("modelyard.serving")


@dataclass(slots=True, eq=False)
class _Call(Ticket):
    """One call, as far as it has come. Times are of ``time.perf_counter_ns()``.

    A `copy` is for a candidate in the shadow: nobody waits for it.
    """

    incoming: Incoming
    done: Done
    copy: bool = False
    served: ServedVersion | None = None
    call: Call | None = None
    job: Job | None = None
    expected: float = 0.0
    queue_ns: int = 0
    decode_ns: int = 0
    compute_ns: int = 0
    encode_ns: int = 0
    arrived_ns: int = 0
    loading_ns: int = 0
    leave: Callable[[_Call], None] | None = None

    def cancel(self) -> None:
        """Nobody waits for the answer any more. A job in a lane is never heard of again once it is cancelled."""
        self.cancelled = True
        job, self.job = self.job, None
        if job is not None and self.leave is not None:
            job.cancelled = True
            self.leave(self)


_Finished: TypeAlias = tuple[_Call, PredictionRecord, Reply]


@dataclass(slots=True, eq=False)
class _Line:
    """The calls that wait for one deployment. `expected` is what they will take of the event loop, in seconds.

    `bytes` are those of their bodies, and of the long ones that have had their turn and are not read yet.
    """

    calls: deque[_Call] = field(default_factory=deque)
    bytes: int = 0
    expected: float = 0.0
    credit_ns: int = 0
    waiting: bool = False

    def push(self, call: _Call) -> None:
        self.calls.append(call)
        self.bytes += len(call.incoming.body)
        self.expected += call.expected

    def pop(self) -> _Call:
        call = self.calls.popleft()
        self.bytes -= len(call.incoming.body)
        self.expected = self.expected - call.expected if self.calls else 0.0
        return call


class Answering:
    """Takes calls in and answers them. Belongs to one event loop's thread.

    Args:
        plane: the versions that answer.
        records: where every call is kept before its answer goes out.
        meters: where calls are counted.
        tracer: makes spans of calls, if that is set up.
        bounds: what may wait.
        max_rows: the most rows that one call may have; None for as many as fit its body.
        durable: whether records are forced to disk, which is then done in a thread.
    """

    def __init__(
        self,
        plane: DataPlane,
        records: RecordSink,
        meters: Meters,
        *,
        tracer: Tracer | None = None,
        bounds: Bounds | None = None,
        max_rows: int | None = None,
        durable: bool = False,
    ) -> None:
        self._plane, self._records, self._meters, self._tracer = plane, records, meters, tracer
        self._calls = CallLog()
        self._bounds, self._max_rows = bounds or Bounds(), max_rows
        self._lines: dict[str, _Line] = {}
        self._turns: deque[_Line] = deque()
        self._expected = 0.0
        self._awake = self._flushing = False
        self._keeping = 0
        self._finished: list[_Finished] = []
        self._writer = ThreadPoolExecutor(1, "records") if durable else None
        self._under_way: set[asyncio.Task[None]] = set()
        self._loading = Loading(plane, self._bounds.bytes, self._enter, self._fail, self._gone)
        self._shadows = Shadows()
        self.in_flight = self.recorded = self.unrecorded = 0
        self._unkept_told = -_TELL_SECONDS

    @property
    def traced(self) -> bool:
        """Whether spans are made of calls."""
        return self._tracer is not None

    def submit(self, incoming: Incoming, done: Done) -> Ticket:
        """Take a call in, or refuse it; `done` is called in a later turn of the event loop, never from within this."""
        call = _Call(incoming, done, arrived_ns=time.perf_counter_ns())
        self.in_flight += 1
        self._enter(call)
        return call

    def turned_away(self, incoming: Incoming, size: int) -> Reply | None:
        """Refuse a call whose body of `size` bytes is still to come, if it would not be answered in time; else None."""
        try:
            name = incoming.deployment = incoming.deployment or self._only_deployment()
            served = self._plane.lease(name, incoming.version, incoming.key or incoming.prediction_id)
        except ModelyardError:
            return None  # which is told when the call is complete
        call = _Call(incoming, _unheard, served=served, arrived_ns=time.perf_counter_ns())
        call.expected = served.turn.seconds(size)
        refused = self._refusal(call, served, self._line_of(served), size)
        if refused is None:
            served.leases.give_back()
            return None
        self.in_flight += 1
        served.meter.in_flight += 1
        self._fail(call, refused)
        return self._finished[-1][2]

    def _line_of(self, served: ServedVersion) -> _Line:
        name = served.deployment.name
        line = self._lines.get(name)
        if line is None:
            line = self._lines[name] = _Line()
        return line

    def _enter(self, call: _Call) -> None:
        incoming = call.incoming
        try:
            name = incoming.deployment = incoming.deployment or self._only_deployment()
            served = self._plane.lease(name, incoming.version, incoming.key or incoming.prediction_id)
        except NotLoaded as error:
            self._loading.wait(call, error.deployment)
            return
        except ModelyardError as error:
            self._fail(call, error)
            return
        call.served = served
        served.meter.in_flight += 1
        line, size = self._line_of(served), len(incoming.body)
        call.expected = served.turn.seconds(size)
        refused = self._refusal(call, served, line, size)
        if refused is not None:
            self._fail(call, refused)
            return
        line.push(call)
        self._expected += call.expected
        if not line.waiting:
            line.waiting = True
            self._turns.append(line)
        self._wake()

    async def drained(self) -> None:
        """Wait until every call that was taken in has its answer."""
        while self.in_flight or self._finished or self._keeping:
            await asyncio.sleep(0.005)

    def close(self) -> None:
        """Give back the thread that writes records. To be called when nothing is under way."""
        if self._writer is not None:
            self._writer.shutdown()

    def _only_deployment(self) -> str:
        names = self._plane.names()
        if len(names) != 1:
            there = f"there are: {', '.join(names)}" if names else "nothing is deployed"
            raise UnknownPath(f"a call that names no deployment needs exactly one; {there}")
        return names[0]

    def _refusal(self, call: _Call, served: ServedVersion, line: _Line, size: int) -> Overloaded | None:
        asked = call.incoming.deadline_ns
        wait = 0.0
        if line.calls or self._turns:
            lines = len(self._turns) + (not line.waiting)
            wait = turn_after(line.expected, self._expected, lines, QUANTUM_NS / 1e9)
        own, rows, lane = call.expected, 0, served.lane
        if lane is not None:
            wait += lane.wait_seconds()
            if asked is None:
                wait -= lane.down_seconds()  # an objective is no reason to turn calls away while a process comes back
            own += served.lane_seconds(size)
            rows = lane.rows
        if asked is not None:
            left = (asked - call.arrived_ns) / 1e9
        else:
            objective = served.deployment.objective_ms or self._bounds.objective_ms
            # An objective is no reason to turn calls away for which a version had to be loaded.
            left = objective / 1e3 - (call.arrived_ns - call.incoming.started_ns - call.loading_ns) / 1e9
        waiting = line.bytes + (0 if lane is None else lane.bytes)
        return refusal(Outlook(left, wait, own, waiting, rows, size, asked is not None), self._bounds)

    # The pump.

    def _wake(self) -> None:
        if not self._awake:
            self._awake = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        """Answer calls, line by line, for a slice of time; then let the event loop look at what arrived."""
        now = time.perf_counter_ns()
        until = now + SLICE_NS
        self._flushing = True  # at the end of this turn
        while self._turns and now < until:
            line = self._turns.popleft()
            line.credit_ns += QUANTUM_NS
            while line.calls and line.credit_ns > 0 and now < until:
                call = line.pop()
                self._expected -= call.expected
                begun, now = now, self._take(call, now)
                line.credit_ns -= now - begun
            if line.calls:
                self._turns.append(line)
            else:
                line.waiting, line.credit_ns = False, 0
        if not self._turns:
            self._expected = 0.0
            self._begin_copy()
        self._awake = False
        if self._turns:
            self._wake()
        self._flush()

    def _take(self, call: _Call, now: int) -> int:
        """Give one call its turn; the time when it is over."""
        served = call.served
        call.queue_ns = now - call.arrived_ns + call.loading_ns
        size = len(call.incoming.body)
        if served is None or call.cancelled:
            self._gone(call)
            return now
        try:
            if _is_late(call, now):
                raise DeadlinePassed("the deadline of this call passed while it waited for its turn")
            if size >= LONG_BODY_BYTES:
                # Its bytes wait on, for a thread that reads them.
                line = self._lines[served.deployment.name]
                line.bytes += size
                self._start(self._answer_long(call, served, line))
            else:
                self._compute(call, *self._read(call, served))
        except Exception as error:  # noqa: BLE001 - whatever a body or model does, the caller is owed an answer
            self._fail(call, error)
        after = time.perf_counter_ns()
        served.turn.observe(size, (after - now) / 1e9)
        return after

    def _read(self, call: _Call, served: ServedVersion) -> tuple[ServedVersion, Call]:
        """The rows of a call, and the version that answers them: which one may depend on what is in them."""
        read = self._read_by(call, served)
        other = self._rerouted(call, served, read)
        return (served, read) if other is served else (other, self._read_by(call, other))

    def _rerouted(self, call: _Call, served: ServedVersion, read: Call) -> ServedVersion:
        """Hand a call over to the other version where the calls are divided by one of their inputs, and it says so."""
        incoming = call.incoming
        split = self._plane.split(served.deployment.name.removesuffix(CANDIDATE))
        if split is None or not split.key or incoming.key or incoming.version or incoming.deployment != split.name:
            return served
        other = self._plane.lease(split.name, None, key_in(read.frame, split.key) or incoming.prediction_id)
        if other is served:
            other.leases.give_back()
            return served
        served.meter.in_flight -= 1
        served.leases.give_back()
        other.meter.in_flight += 1
        call.served = other
        return other

    def _read_by(self, call: _Call, served: ServedVersion) -> Call:
        begun = time.perf_counter_ns()
        incoming = call.incoming
        read = call.call = FORMS[incoming.form].read(incoming.body, incoming.media, served.reader)
        rows = read.frame.rows
        if self._max_rows is not None and rows > self._max_rows:
            raise TooLarge(f"{rows} rows in one call; {self._max_rows} is the most that is taken")
        if not read.checked:
            check(read.frame, served.schema)
        call.decode_ns = time.perf_counter_ns() - begun
        return read

    def _compute(self, call: _Call, served: ServedVersion, read: Call) -> None:
        """Compute and write the answer here, or leave that to the version's lane."""
        frame = read.frame
        if not frame.rows:
            self._write(call, served, read, no_rows(served.schema, read.outputs))
        elif served.pace.is_short(frame.rows):
            begun = time.perf_counter_ns()
            answers = served.runtime.predict(frame, read.outputs)
            taken = call.compute_ns = time.perf_counter_ns() - begun
            served.meter.computed(frame.rows, taken)
            self._write(call, served, read, answers)
        else:
            self._hand_over(call, served, read)

    def _hand_over(self, call: _Call, served: ServedVersion, read: Call) -> None:
        size = len(call.incoming.body)
        served.learn_rows(size, read.frame.rows)

        def computed(result: Answers | BaseException, waited_ns: int, computed_ns: int) -> None:
            call.job = None
            call.queue_ns += waited_ns
            call.compute_ns = computed_ns
            if isinstance(result, BaseException):
                self._fail(call, result)
            else:
                self._write_safely(call, served, read, result)

        call.leave = self._gone
        call.job = Job(read.frame, read.outputs, computed, size, call.incoming.deadline_ns)
        served.open_lane(asyncio.get_running_loop()).submit(call.job)

    def _write_safely(self, call: _Call, served: ServedVersion, read: Call, answers: Answers) -> None:
        try:
            self._write(call, served, read, answers)
        except Exception as error:  # noqa: BLE001 - as for a turn
            self._fail(call, error)

    def _write(self, call: _Call, served: ServedVersion, read: Call, answers: Answers) -> None:
        if read.frame.rows >= LONG_ROWS:
            self._start(self._write_long(call, served, read, answers))
            return
        begun = time.perf_counter_ns()
        written = _written(call, served, read, answers)
        call.encode_ns = time.perf_counter_ns() - begun
        self._succeed(call, served, read, written)

    # What takes long is done in the version's threads, step by step.

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _answer_long(self, call: _Call, served: ServedVersion, line: _Line) -> None:
        try:
            try:
                read = await served.aside(self._read_by, call, served)
                other = self._rerouted(call, served, read)
                if other is not served:
                    served, read = other, await other.aside(self._read_by, call, other)
            finally:
                line.bytes -= len(call.incoming.body)
            if call.cancelled:
                self._gone(call)
            else:
                self._compute(call, served, read)
        except Exception as error:  # noqa: BLE001 - as for a turn
            self._fail(call, error)

    async def _write_long(self, call: _Call, served: ServedVersion, read: Call, answers: Answers) -> None:
        begun = time.perf_counter_ns()
        try:
            written = await served.aside(_written, call, served, read, answers)
        except Exception as error:  # noqa: BLE001 - as for a turn
            self._fail(call, error)
            return
        call.encode_ns = time.perf_counter_ns() - begun
        self._succeed(call, served, read, written)

    # Ends.

    def _succeed(self, call: _Call, served: ServedVersion, read: Call, written: Written) -> None:
        incoming = call.incoming
        total = time.perf_counter_ns() - incoming.started_ns
        served.meter.answered(
            read.frame.rows,
            call.decode_ns,
            call.queue_ns,
            call.compute_ns,
            call.encode_ns,
            total,
            len(incoming.body),
            len(written.body),
            incoming.prediction_id,
        )
        headers: tuple[tuple[bytes, bytes], ...] = ()
        if written.headers:
            headers = tuple((name.encode(), value.encode()) for name, value in written.headers)
        if self._tracer is not None:
            headers += self._traced(self._tracer, call, 200, total, "")
        self._finish(call, Reply(200, written.body, headers, written.content_type.encode()), total, None, written)

    def _fail(self, call: _Call, error: BaseException) -> None:
        incoming, served = call.incoming, call.served
        if not isinstance(error, ModelyardError):
            _log.error("%s: call %s", incoming.deployment, incoming.prediction_id, exc_info=error, extra=_labels(call))
        total = time.perf_counter_ns() - incoming.started_ns
        meter = self._meters.nowhere if served is None else served.meter
        reason = reason_of(error)
        meter.refused(reason, total)
        if reason in ("failed", "unavailable") and isinstance(error, ModelyardError):
            version = 0 if served is None else served.deployment.version
            kind = type(error).__name__
            self._calls.not_answered(reason, incoming.prediction_id, incoming.deployment or "", version, kind)
        reply = error_reply(error, incoming.prediction_id)
        if self._tracer is not None:
            traced = self._traced(self._tracer, call, reply.status, total, type(error).__name__)
            reply = msgspec.structs.replace(reply, headers=reply.headers + traced)
        text = str(error) if isinstance(error, ModelyardError) else f"{type(error).__name__}: {error}"
        self._finish(call, reply, total, text, None)

    def _gone(self, call: _Call) -> None:
        """The caller left before anything came of it: nothing is owed and nothing is kept."""
        served = call.served
        if served is not None:
            served.meter.refused("gone", time.perf_counter_ns() - call.incoming.started_ns)
        self._let_go(call)

    def _let_go(self, call: _Call) -> None:
        self.in_flight -= 1
        served = call.served
        if served is not None:
            served.meter.in_flight -= 1
            served.leases.give_back()
        if call.copy:
            self._shadows.ended(call.decode_ns + call.compute_ns + call.encode_ns)

    def _finish(self, call: _Call, reply: Reply, total_ns: int, error: str | None, written: Written | None) -> None:
        self._finished.append((call, _record(call, reply, total_ns, error, written), reply))
        if reply.status == 200 and not call.copy:
            self._shadow(call)
        self._let_go(call)
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _shadow(self, call: _Call) -> None:
        """Have the candidate compute the same, if it is asked to, can, and nobody has to wait for it."""
        split = self._plane.split(call.incoming.deployment or "")
        if split is None or not split.shadow or not self._plane.is_loaded(split.candidate):
            return
        if not self._shadows.take(call.incoming, split.candidate):
            if call.served is not None:
                call.served.meter.not_copied()
        elif not self._awake:
            self._wake()

    def _begin_copy(self) -> None:
        """Take in what a shadow is to compute, now that no call waits: one call, then what has arrived is looked at."""
        while (copy := self._shadows.next()) is not None:
            if self._plane.is_loaded(copy.deployment or ""):
                self.in_flight += 1
                self._enter(_Call(copy, _unheard, copy=True, arrived_ns=copy.started_ns))
                return
            self._shadows.ended(0)

    def _traced(
        self, tracer: Tracer, call: _Call, status: int, total_ns: int, error: str
    ) -> tuple[tuple[bytes, bytes], ...]:
        incoming, served = call.incoming, call.served
        deployment = None if served is None else served.deployment
        parent = tracer.record(
            TraceFacts(
                route="ModelInfer" if incoming.form == "grpc" else incoming.form,
                status=status,
                prediction_id=incoming.prediction_id,
                received_ns=incoming.received_ns,
                decode_ns=call.decode_ns,
                queue_ns=call.queue_ns,
                compute_ns=call.compute_ns,
                encode_ns=call.encode_ns,
                total_ns=total_ns,
                deployment=incoming.deployment or "",
                model=deployment.model if deployment else "",
                version=deployment.version if deployment else 0,
                rows=call.call.frame.rows if call.call else 0,
                error=error,
                trace=incoming.trace,
                rpc=incoming.form == "grpc",
            )
        )
        return () if parent is None else ((b"traceparent", parent.encode()),)

    # Records.

    def _flush(self) -> None:
        """Write the records there are with one write, then send the answers."""
        self._flushing = False
        finished, self._finished = self._finished, []
        if not finished:
            return
        records = [record for _, record, _ in finished]
        if self._writer is None:
            try:
                self._records.append_all(records)
            except ModelyardError as error:
                self._answer(finished, error)
            else:
                self._answer(finished, None)
            return
        self._keeping += 1
        future = asyncio.get_running_loop().run_in_executor(self._writer, self._records.append_all, records)
        future.add_done_callback(lambda kept: self._kept(finished, kept.exception()))

    def _kept(self, finished: list[_Finished], error: BaseException | None) -> None:
        self._keeping -= 1
        self._answer(finished, error)

    def _answer(self, finished: list[_Finished], error: BaseException | None) -> None:
        """Send the answers, whose records are kept, or are not because of `error`."""
        if error is None:
            self.recorded += len(finished)
            _answer(finished)
        else:
            self.unrecorded += len(finished)
            self._tell_unkept(error)
            _answer_unkept(finished, error)

    def _tell_unkept(self, error: BaseException) -> None:
        """Say that calls could not be recorded, once a second at most: the log may lie on the disk that is full."""
        now = time.monotonic()
        if now - self._unkept_told >= _TELL_SECONDS:
            self._unkept_told = now
            _log.error("calls could not be recorded (%d so far): %s", self.unrecorded, error)


def _unheard(_reply: Reply) -> None:
    """Nobody waits for this: what a shadow answers is in the records, and who is turned away has been told."""


def _is_late(call: _Call, now: int) -> bool:
    deadline = call.incoming.deadline_ns
    return deadline is not None and now > deadline


def _labels(call: _Call) -> dict[str, object]:
    served = call.served
    return {
        "prediction_id": call.incoming.prediction_id,
        "deployment": call.incoming.deployment,
        "version": served.deployment.version if served is not None else None,
    }


def _written(call: _Call, served: ServedVersion, read: Call, answers: Answers) -> Written:
    deployment, incoming = served.deployment, call.incoming
    outputs = read.outputs
    ordered = answers if outputs is None else {name: answers[name] for name in outputs}
    source = Source(
        deployment.model,
        deployment.version,
        incoming.prediction_id,
        read.frame.rows,
        read.row_ids,
        deployment.name,
    )
    return FORMS[incoming.form].write(ordered, served.schema, read, source)


def _record(call: _Call, reply: Reply, total_ns: int, error: str | None, written: Written | None) -> PredictionRecord:
    incoming, served, read = call.incoming, call.served, call.call
    deployment = None if served is None else served.deployment
    # What was refused for want of time or for its size is told without its body: neither must fill the disk.
    request = b"" if reply.status in (413, 429) else incoming.body
    return PredictionRecord(
        incoming.prediction_id,
        incoming.deployment or (deployment.name if deployment else ""),
        deployment.model if deployment else "",
        deployment.version if deployment else 0,
        served.digest if served else "",
        incoming.received_ns,
        total_ns,
        reply.status,
        outcome_of(reply.status),
        incoming.form,
        read.frame.rows if read else 0,
        request,
        reply.body,
        error,
        read.row_ids if read else (),
        _type_of(incoming.media),
        _type_of_answer(written),
        incoming.event_ns,
        served.memory_to_tell() if served else 0,
    )


def _type_of(media: Media) -> str:
    if media.json_length is not None:
        return f"application/octet-stream; json={media.json_length}"
    return media.content_type or "application/json"


def _type_of_answer(written: Written | None) -> str:
    if written is None:
        return "application/json"
    length = dict(written.headers).get("inference-header-content-length") if written.headers else None
    return written.content_type if length is None else f"{written.content_type}; json={length}"


def _answer(finished: list[_Finished]) -> None:
    for call, _, reply in finished:
        if not call.cancelled:
            call.done(reply)


def _answer_unkept(finished: list[_Finished], error: BaseException) -> None:
    """Nothing is acknowledged that is not in the log; refusals may go out, they acknowledge nothing."""
    for call, record, reply in finished:
        if not call.cancelled:
            call.done(reply if reply.status >= 400 else error_reply(error, record.prediction_id))
