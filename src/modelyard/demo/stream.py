"""Flights as live requests, faster than life: calls in time order, with each label sent when it became known.

Mostly all flights of an hour are asked about in one call. While a new version is rolled out each flight is a call of
its own, as a version is chosen for a call.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from time import perf_counter, sleep
from typing import Any, Self, TypeAlias

import httpx
import msgspec
import numpy as np
import pandas as pd

from modelyard.demo.flights import FEATURES
from modelyard.errors import ServiceUnreachable

EVENT_TIME = "X-Modelyard-Event-Time"

Known: TypeAlias = tuple[int, str, int]
"""A label: when it became known (milliseconds since 1970, by the clock of New York), the flight's id, late or not."""


CALLERS = 2
"""So many ask at the same time while each flight is a call of its own,"""

CALLS_A_SECOND = 500.0
"""and so often at most, which leaves time for a shadow."""


@dataclass(frozen=True, slots=True)
class Calls:
    """What is asked and told in one hour: the flights that are scheduled in it, and what became known before it."""

    moment: pd.Timestamp
    rows: tuple[dict[str, Any], ...]
    ids: tuple[str, ...]
    known: tuple[Known, ...]

    @property
    def together(self) -> bytes:
        """All flights as one request."""
        return msgspec.json.encode({"rows": self.rows, "ids": self.ids})

    @property
    def singly(self) -> list[bytes]:
        """Each flight as a request of its own."""
        return [
            msgspec.json.encode({"rows": [row], "ids": [name]}) for row, name in zip(self.rows, self.ids, strict=True)
        ]


@dataclass(slots=True)
class Tally:
    """What happened on the way. Latencies are seconds, as the client saw them."""

    requests: int = 0
    failed: int = 0
    flights: int = 0
    labels: int = 0
    latencies: list[float] = field(default_factory=list)
    first_error: str | None = None

    def with_other(self, other: Tally) -> Tally:
        """Both together."""
        return Tally(
            self.requests + other.requests,
            self.failed + other.failed,
            self.flights + other.flights,
            self.labels + other.labels,
            self.latencies + other.latencies,
            self.first_error or other.first_error,
        )


def hours(flights: pd.DataFrame) -> Iterator[Calls]:
    """One call for all `flights` (ordered by schedule) that are scheduled in one hour, hour by hour.

    A label comes with the first hour that begins after it became known; the last ones come at the end, in a call of no
    flights. Those of cancelled and diverted flights never come.
    """
    waiting: list[Known] = []
    # By months, so that not all of a year is made into Python's objects at once.
    for _, month in flights.groupby(flights["sched"].dt.to_period("M"), sort=True):
        yield from _hours(month, waiting)
    if waiting:
        yield Calls(flights["sched"].max() + pd.Timedelta(days=2), (), (), tuple(_until(waiting, np.inf)))


def twin(past: pd.DataFrame, live: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """As many flights at the same times as `live`, each drawn from `past`: a year in which nothing changes.

    A flight keeps all that it was, its delay included, but for the moment; its id is its own.
    """
    drawn = past.iloc[np.random.default_rng(seed).integers(len(past), size=len(live))].reset_index(drop=True)
    delay = drawn["label_known_at"] - drawn["sched"]
    sched = live["sched"].reset_index(drop=True)
    ids = [f"twin-{number:06d}" for number in range(len(drawn))]
    return drawn.assign(sched=sched, label_known_at=sched + delay, flight_id=ids)


class Traffic:
    """The flights of a deployment on their way to it: which come next, and what happened to those before."""

    def __init__(self, flights: pd.DataFrame, url: str, deployment: str) -> None:
        self.tally = Tally()
        self._deployment, self._url = deployment, url
        self._hours = hours(flights)
        self._next: Calls | None = next(self._hours, None)
        self._client = httpx.Client(base_url=url, timeout=30.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    @property
    def moment(self) -> pd.Timestamp | None:
        """The hour that comes next; None when all are sent."""
        return None if self._next is None else self._next.moment

    def by_hours(self, until: pd.Timestamp | None, progress: Callable[[pd.Timestamp, Tally], None]) -> None:
        """Send every hour before `until` (None: all) as one call, one after the other, and count what came back.

        Raises:
            ServiceUnreachable: when the server cannot be reached any more.
        """
        for calls in self._before(until):
            if calls.ids:
                self._count(calls.moment, [self._ask(calls.together, calls.moment)], len(calls.ids))
            progress(calls.moment, self.tally)

    def by_flights(self, until: pd.Timestamp | None, goes_on: Callable[[pd.Timestamp], bool]) -> None:
        """Send each flight before `until` as a call of its own, as long as `goes_on` says so, which is asked each hour.

        Raises:
            ServiceUnreachable: when the server cannot be reached any more.
        """
        with ThreadPoolExecutor(CALLERS) as callers:
            for calls in self._before(until):
                start = perf_counter()
                replies = list(callers.map(lambda body, moment=calls.moment: self._ask(body, moment), calls.singly))
                self._count(calls.moment, replies, len(calls.ids))
                if not goes_on(calls.moment):
                    return
                sleep(max(0.0, len(calls.ids) / CALLS_A_SECOND - (perf_counter() - start)))

    def _before(self, until: pd.Timestamp | None) -> Iterator[Calls]:
        """The hours that come next, each once its labels are told."""
        while self._next is not None and (until is None or self._next.moment < until):
            calls, self._next = self._next, next(self._hours, None)
            self._tell(calls.known)
            yield calls

    def _tell(self, known: tuple[Known, ...]) -> None:
        """Send labels."""
        if not known:
            return
        labels = [{"prediction_id": flight, "value": late, "known_at": moment} for moment, flight, late in known]
        with self._reachable():
            self._client.post("/labels", content=msgspec.json.encode({"labels": labels})).raise_for_status()
        self.tally.labels += len(known)

    def _ask(self, body: bytes, moment: pd.Timestamp) -> tuple[float, httpx.Response]:
        """The reply, and the seconds that it took."""
        start = perf_counter()
        # The airports' own clock is taken as it is, so that the same hour of day is the same hour all year.
        header = {EVENT_TIME: f"{moment:%Y-%m-%dT%H:%M:%SZ}"}
        with self._reachable():
            reply = self._client.post(f"/predict/{self._deployment}", content=body, headers=header)
        return perf_counter() - start, reply

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except httpx.TransportError as error:
            raise ServiceUnreachable(
                f"the server at {self._url} stopped answering after {self.tally.requests} requests"
            ) from error

    def _count(self, moment: pd.Timestamp, replies: list[tuple[float, httpx.Response]], flights: int) -> None:
        tally = self.tally
        tally.latencies += [seconds for seconds, _ in replies]
        tally.requests += len(replies)
        tally.flights += flights
        for _, reply in replies:
            if reply.status_code != httpx.codes.OK:
                tally.failed += 1
                tally.first_error = tally.first_error or f"{moment}: {reply.status_code} {reply.text}"


def _hours(flights: pd.DataFrame, waiting: list[Known]) -> Iterator[Calls]:
    rows = _rows(flights)
    ids = flights["flight_id"].tolist()
    known = flights["label_known_at"].astype("datetime64[ms]").astype("int64").tolist()
    late = flights["late"].astype(object).where(flights["late"].notna(), None).tolist()
    began = flights["sched"].dt.floor("h")
    starts = [*np.flatnonzero(~began.duplicated()), len(flights)]
    for start, end in pairwise(map(int, starts)):
        moment = pd.Timestamp(began.iloc[start])
        known_now = tuple(_until(waiting, _milliseconds(moment)))
        yield Calls(moment, tuple(rows[start:end]), tuple(ids[start:end]), known_now)
        for at in range(start, end):
            if late[at] is not None:
                heapq.heappush(waiting, (known[at], ids[at], int(late[at])))


def _rows(flights: pd.DataFrame) -> list[dict[str, Any]]:
    columns = [
        column.astype(object).where(column.notna(), None).tolist() for column in (flights[name] for name in FEATURES)
    ]
    return [dict(zip(FEATURES, cells, strict=True)) for cells in zip(*columns, strict=True)]


def _until(waiting: list[Known], moment: float) -> Iterator[Known]:
    while waiting and waiting[0][0] <= moment:
        yield heapq.heappop(waiting)


def _milliseconds(moment: pd.Timestamp) -> int:
    return int(moment.timestamp() * 1000)
