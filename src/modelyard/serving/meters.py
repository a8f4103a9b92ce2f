"""What is counted of one version's calls: integers that add across processes and machines.

A `Meter` belongs to the event loop's thread and is a handful of lists of integers. Its `MeterSnapshot` is what leaves
the thread: snapshots of the same version, from any number of processes, add up with `merge`, in any order.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from operator import add
from typing import Literal, TypeAlias, get_args

import msgspec

from modelyard.domain.histogram import Histogram
from modelyard.errors import (
    Conflict,
    DeadlinePassed,
    NotFound,
    Overloaded,
    Rejected,
    RowsRefused,
    Unavailable,
)

_MICRO, _MILLI, _SECOND = 1_000, 1_000_000, 1_000_000_000

TIME_BOUNDS: tuple[int, ...] = (
    *(step * _MICRO for step in (10, 20, 50, 100, 200, 500)),
    *(step * _MILLI for step in (1, 2, 5, 10, 20, 50, 100, 200, 500)),
    *(step * _SECOND for step in (1, 2, 5, 10, 20, 60)),
)
"""Upper bounds of the classes of durations, in nanoseconds, bounds included. Longer ones have a class of their own."""

ROW_BOUNDS: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 16384, 65536)
"""Upper bounds of the classes of row counts, the bound included. Larger ones have a class of their own."""

Reason: TypeAlias = Literal["invalid", "overload", "deadline", "unavailable", "failed", "gone"]
"""Why a call got no answer.

``invalid``: what was sent cannot be answered as sent; ``overload`` and ``deadline``: not in time; ``unavailable``: the
version is not there now; ``failed``: the model or the server broke; ``gone``: the caller left.
"""

REASONS: tuple[Reason, ...] = get_args(Reason)

KEPT_CLOSED = 32
"""Versions that no longer answer whose counts are kept one by one; those of older ones are put together."""


def reason_of(error: BaseException) -> Reason:
    """Under which reason a call that ended with `error` is counted.

    >>> reason_of(Overloaded("full", 0.5)), reason_of(NotFound("no such thing")), reason_of(KeyError("bug"))
    ('overload', 'invalid', 'failed')
    """
    if isinstance(error, Overloaded):
        return "overload"
    if isinstance(error, DeadlinePassed):
        return "deadline"
    if isinstance(error, Unavailable):
        return "unavailable"
    return "invalid" if isinstance(error, Rejected | NotFound | Conflict | RowsRefused) else "failed"


_NO_TIMES = Histogram((0,) * (len(TIME_BOUNDS) + 1))
_NO_ROWS = Histogram((0,) * (len(ROW_BOUNDS) + 1))


class MeterSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The counts of one version in one deployment at one moment. Times are nanoseconds, `batch_ns` one a class of rows.

    `version` 0 stands for versions that no longer answer, or, with `deployment` empty too, for calls that reached none.
    `ended` is when the version stopped answering, of ``time.monotonic()``; 0 while it answers somewhere. `examples`
    has, for classes of `total`, the time of a call in it and its prediction id.
    """

    deployment: str
    model: str
    version: int
    digest: str
    answered: int = 0
    rows: int = 0
    queue: Histogram = _NO_TIMES
    decode: Histogram = _NO_TIMES
    compute: Histogram = _NO_TIMES
    encode: Histogram = _NO_TIMES
    total: Histogram = _NO_TIMES
    request_rows: Histogram = _NO_ROWS
    batches: Histogram = _NO_ROWS
    batch_ns: tuple[int, ...] = _NO_ROWS.counts
    refused: dict[str, int] = {}
    refused_ns: dict[str, int] = {}
    bytes_in: int = 0
    bytes_out: int = 0
    not_copied: int = 0
    """Answered calls that a candidate in the shadow was not asked, as there was no time for it."""
    in_flight: int = 0
    restarts: int = 0
    last_ns: int = 0
    ended: float = 0.0
    examples: dict[int, tuple[int, str]] = {}

    @property
    def key(self) -> tuple[str, str, int, str]:
        """What the counts are of: deployment, model, version, digest."""
        return self.deployment, self.model, self.version, self.digest

    @property
    def not_answered(self) -> int:
        """Calls that got no answer, for whatever reason."""
        return sum(self.refused.values())

    def __add__(self, other: MeterSnapshot) -> MeterSnapshot:
        """The counts of both, under this one's name."""
        return MeterSnapshot(
            deployment=self.deployment,
            model=self.model,
            version=self.version,
            digest=self.digest,
            answered=self.answered + other.answered,
            rows=self.rows + other.rows,
            queue=self.queue + other.queue,
            decode=self.decode + other.decode,
            compute=self.compute + other.compute,
            encode=self.encode + other.encode,
            total=self.total + other.total,
            request_rows=self.request_rows + other.request_rows,
            batches=self.batches + other.batches,
            batch_ns=tuple(map(add, self.batch_ns, other.batch_ns)),
            refused=_added(self.refused, other.refused),
            refused_ns=_added(self.refused_ns, other.refused_ns),
            bytes_in=self.bytes_in + other.bytes_in,
            bytes_out=self.bytes_out + other.bytes_out,
            not_copied=self.not_copied + other.not_copied,
            in_flight=self.in_flight + other.in_flight,
            restarts=self.restarts + other.restarts,
            last_ns=max(self.last_ns, other.last_ns),
            ended=max(self.ended, other.ended) if self.ended and other.ended else 0.0,
            examples=_slowest(self.examples, other.examples),
        )

    def left(self, at: float) -> MeterSnapshot:
        """What is left of it when its process is gone since `at`: nothing is in flight, and nothing answers there."""
        return msgspec.structs.replace(self, in_flight=0, ended=self.ended or at)


def fold(snapshots: Iterable[MeterSnapshot], kept: Collection[tuple[str, str, int, str]]) -> tuple[MeterSnapshot, ...]:
    """The same counts, those of versions whose keys are not `kept` told together, by deployment, as version 0."""
    return merge(
        one if one.key in kept else msgspec.structs.replace(one, model="", version=0, digest="", in_flight=0)
        for one in snapshots
    )


def _added(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {reason: one.get(reason, 0) + other.get(reason, 0) for reason in REASONS if reason in one or reason in other}


def _slowest(one: Mapping[int, tuple[int, str]], other: Mapping[int, tuple[int, str]]) -> dict[int, tuple[int, str]]:
    return {place: max(one.get(place, (-1, "")), other.get(place, (-1, ""))) for place in {*one, *other}}


def merge(snapshots: Iterable[MeterSnapshot]) -> tuple[MeterSnapshot, ...]:
    """One snapshot a version, with the counts of all that there are of it, in order of their keys.

    The order in which they come, and which are merged first, does not matter.
    """
    found: dict[tuple[str, str, int, str], MeterSnapshot] = {}
    for snapshot in snapshots:
        before = found.get(snapshot.key)
        found[snapshot.key] = snapshot if before is None else before + snapshot
    return tuple(found[key] for key in sorted(found))


class Meter:
    """Counts the calls of one version in one deployment. Used on the event loop's thread only.

    `in_flight` is raised by whoever takes a call in and lowered when it has ended, however it ended. `restarts` is
    raised by whoever brings the model's own process back, in whatever thread, if it is always the same. `users` and
    `ended` belong to the `Meters` that it is from.
    """

    __slots__ = (
        "_answered",
        "_batch_ns",
        "_batches",
        "_bytes_in",
        "_bytes_out",
        "_compute",
        "_decode",
        "_encode",
        "_example_ids",
        "_example_ns",
        "_last_ns",
        "_not_copied",
        "_queue",
        "_refused",
        "_refused_ns",
        "_request_rows",
        "_rows",
        "_total",
        "_untouched",
        "ended",
        "in_flight",
        "key",
        "restarts",
        "users",
    )

    def __init__(self, deployment: str = "", model: str = "", version: int = 0, digest: str = "") -> None:
        self.key = (deployment, model, version, digest)
        self.in_flight = self.restarts = self.users = 0
        self.ended = 0.0
        self._answered = self._rows = self._bytes_in = self._bytes_out = self._last_ns = 0
        self._not_copied = 0
        # One list a histogram: a count for each class, the last of them unbounded, and after these the sum.
        self._queue, self._decode, self._compute, self._encode, self._total = (
            [0] * (len(TIME_BOUNDS) + 2) for _ in range(5)
        )
        self._request_rows, self._batches = ([0] * (len(ROW_BOUNDS) + 2) for _ in range(2))
        self._batch_ns = [0] * (len(ROW_BOUNDS) + 1)
        self._refused, self._refused_ns = dict.fromkeys(REASONS, 0), dict.fromkeys(REASONS, 0)
        self._example_ids, self._example_ns = [""] * (len(TIME_BOUNDS) + 1), [0] * (len(TIME_BOUNDS) + 1)
        self._untouched: MeterSnapshot | None = None

    def answered(
        self,
        rows: int,
        decode_ns: int,
        queue_ns: int,
        compute_ns: int,
        encode_ns: int,
        total_ns: int,
        bytes_in: int = 0,
        bytes_out: int = 0,
        prediction_id: str = "",
    ) -> None:
        """A call was answered with status 200. Bytes are those of the bodies, without compression.

        `total_ns` is from the first byte of the request until the answer is handed to the connection. The
        `prediction_id`, if given, is kept as an example of calls that took as long.
        """
        self._untouched = None
        self._answered += 1
        self._rows += rows
        self._bytes_in += bytes_in
        self._bytes_out += bytes_out
        counts = self._decode
        counts[bisect_left(TIME_BOUNDS, decode_ns)] += 1
        counts[-1] += decode_ns
        counts = self._queue
        counts[bisect_left(TIME_BOUNDS, queue_ns)] += 1
        counts[-1] += queue_ns
        counts = self._compute
        counts[bisect_left(TIME_BOUNDS, compute_ns)] += 1
        counts[-1] += compute_ns
        counts = self._encode
        counts[bisect_left(TIME_BOUNDS, encode_ns)] += 1
        counts[-1] += encode_ns
        counts, place = self._total, bisect_left(TIME_BOUNDS, total_ns)
        counts[place] += 1
        counts[-1] += total_ns
        self._example_ids[place] = prediction_id
        self._example_ns[place] = total_ns
        counts = self._request_rows
        counts[bisect_left(ROW_BOUNDS, rows)] += 1
        counts[-1] += rows
        self._last_ns = time.time_ns()

    def computed(self, rows: int, compute_ns: int) -> None:
        """The model was called once, for that many rows (of one call, or of several together), and took so long."""
        self._untouched = None
        place = bisect_left(ROW_BOUNDS, rows)
        self._batches[place] += 1
        self._batches[-1] += rows
        self._batch_ns[place] += compute_ns

    def not_copied(self) -> None:
        """A candidate in the shadow was not asked what was answered here, as there was no time for it."""
        self._untouched = None
        self._not_copied += 1

    def refused(self, reason: Reason, total_ns: int = 0) -> None:
        """A call got no answer. `reason_of` gives the reason for an error."""
        self._untouched = None
        self._refused[reason] += 1
        self._refused_ns[reason] += total_ns

    def snapshot(self) -> MeterSnapshot:
        """All counts as they are now."""
        kept = self._untouched
        now = (self.in_flight, self.restarts, self.ended)
        if kept is not None and (kept.in_flight, kept.restarts, kept.ended) == now:
            return kept
        deployment, model, version, digest = self.key
        kept = self._untouched = MeterSnapshot(
            deployment=deployment,
            model=model,
            version=version,
            digest=digest,
            answered=self._answered,
            rows=self._rows,
            queue=_histogram(self._queue),
            decode=_histogram(self._decode),
            compute=_histogram(self._compute),
            encode=_histogram(self._encode),
            total=_histogram(self._total),
            request_rows=_histogram(self._request_rows),
            batches=_histogram(self._batches),
            batch_ns=tuple(self._batch_ns),
            refused={reason: count for reason, count in self._refused.items() if count},
            refused_ns={reason: self._refused_ns[reason] for reason, count in self._refused.items() if count},
            bytes_in=self._bytes_in,
            bytes_out=self._bytes_out,
            not_copied=self._not_copied,
            in_flight=self.in_flight,
            restarts=self.restarts,
            last_ns=self._last_ns,
            ended=self.ended,
            examples={place: (self._example_ns[place], name) for place, name in enumerate(self._example_ids) if name},
        )
        return kept


def _histogram(counts: list[int]) -> Histogram:
    return Histogram(tuple(counts[:-1]), counts[-1])


class Meters:
    """All meters of one process, those of versions that no longer answer included: no count ever goes down.

    `of` and `closed` may be called from any thread, `snapshots` only on the event loop's.
    """

    def __init__(self) -> None:
        self.nowhere = Meter()
        """Counts the calls that reached no version: unknown names, nothing ready, unreadable before it is known."""
        self._lock = threading.Lock()
        self._meters: dict[tuple[str, str, int, str], Meter] = {}
        self._closed: deque[Meter] = deque()
        self._older: tuple[MeterSnapshot, ...] = ()

    def of(self, deployment: str, model: str, version: int, digest: str) -> Meter:
        """The meter of that version in that deployment: always the same one while it is kept.

        Each use has to be ended with `closed`.
        """
        key = (deployment, model, version, digest)
        with self._lock:
            meter = self._meters.get(key)
            if meter is None:
                meter = self._meters[key] = Meter(*key)
            elif meter in self._closed:
                self._closed.remove(meter)
            meter.users, meter.ended = meter.users + 1, 0.0
            return meter

    def closed(self, meter: Meter) -> None:
        """A use has ended; after the last one the version no longer answers and has no call left.

        Its counts stay; those of long ago are put together.
        """
        with self._lock:
            meter.users -= 1
            if meter.users > 0 or meter in self._closed:
                return
            meter.ended = time.monotonic()
            self._closed.append(meter)
            while len(self._closed) > KEPT_CLOSED:
                oldest = self._closed.popleft()
                self._meters.pop(oldest.key, None)
                self._older = fold([*self._older, oldest.snapshot()], ())

    def snapshots(self) -> tuple[MeterSnapshot, ...]:
        """All counts as they are now, one snapshot a version."""
        with self._lock:
            kept = [self.nowhere, *self._meters.values()]
            return (*(meter.snapshot() for meter in kept), *self._older)
