"""Flights as live requests, faster than life: calls in time order, with each label sent when it became known."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from time import perf_counter
from typing import Any, TypeAlias

import httpx
import msgspec
import numpy as np
import pandas as pd

from modelyard.demo.flights import FEATURES
from modelyard.errors import ServiceUnreachable

EVENT_TIME = "X-Modelyard-Event-Time"

Known: TypeAlias = tuple[int, str, int]
"""A label: when it became known (milliseconds since 1970, by the clock of New York), the flight's id, late or not."""


@dataclass(frozen=True, slots=True)
class Calls:
    """What is asked and told in one hour: the flights that are scheduled in it, and what became known before it."""

    moment: pd.Timestamp
    flights: int
    body: bytes
    known: tuple[Known, ...]


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
        yield Calls(flights["sched"].max() + pd.Timedelta(days=2), 0, b"", tuple(_until(waiting, np.inf)))


def twin(past: pd.DataFrame, live: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """As many flights at the same times as `live`, each drawn from `past`: a year in which nothing changes.

    A flight keeps all that it was, its delay included, but for the moment; its id is its own.
    """
    drawn = past.iloc[np.random.default_rng(seed).integers(len(past), size=len(live))].reset_index(drop=True)
    delay = drawn["label_known_at"] - drawn["sched"]
    sched = live["sched"].reset_index(drop=True)
    ids = [f"twin-{number:06d}" for number in range(len(drawn))]
    return drawn.assign(sched=sched, label_known_at=sched + delay, flight_id=ids)


def play(flights: pd.DataFrame, url: str, deployment: str, progress: Callable[[pd.Timestamp, Tally], None]) -> Tally:
    """Send every hour of `flights` to the deployment at `url`, one after the other, and count what came back.

    Raises:
        ServiceUnreachable: when the server cannot be reached any more.
    """
    tally = Tally()
    with httpx.Client(base_url=url, timeout=30.0) as client:
        try:
            for calls in hours(flights):
                _send_labels(client, calls.known, tally)
                if calls.flights:
                    _ask(client, deployment, calls, tally)
                progress(calls.moment, tally)
        except httpx.TransportError as error:
            raise ServiceUnreachable(
                f"the server at {url} stopped answering after {tally.requests} requests"
            ) from error
    return tally


def _hours(flights: pd.DataFrame, waiting: list[Known]) -> Iterator[Calls]:
    rows = _rows(flights)
    ids = flights["flight_id"].tolist()
    known = flights["label_known_at"].astype("datetime64[ms]").astype("int64").tolist()
    late = flights["late"].astype(object).where(flights["late"].notna(), None).tolist()
    began = flights["sched"].dt.floor("h")
    starts = [*np.flatnonzero(~began.duplicated()), len(flights)]
    for start, end in pairwise(map(int, starts)):
        moment = pd.Timestamp(began.iloc[start])
        body = msgspec.json.encode({"rows": rows[start:end], "ids": ids[start:end]})
        yield Calls(moment, end - start, body, tuple(_until(waiting, _milliseconds(moment))))
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


def _ask(client: httpx.Client, deployment: str, calls: Calls, tally: Tally) -> None:
    start = perf_counter()
    # The airports' own clock is taken as it is, so that the same hour of day is the same hour all year.
    header = {EVENT_TIME: f"{calls.moment:%Y-%m-%dT%H:%M:%SZ}"}
    reply = client.post(f"/predict/{deployment}", content=calls.body, headers=header)
    tally.latencies.append(perf_counter() - start)
    tally.requests += 1
    tally.flights += calls.flights
    if reply.status_code != httpx.codes.OK:
        tally.failed += 1
        tally.first_error = tally.first_error or f"{calls.moment}: {reply.status_code} {reply.text}"


def _send_labels(client: httpx.Client, known: tuple[Known, ...], tally: Tally) -> None:
    if not known:
        return
    labels = [{"prediction_id": flight, "value": late, "known_at": moment} for moment, flight, late in known]
    client.post("/labels", content=msgspec.json.encode({"labels": labels})).raise_for_status()
    tally.labels += len(known)
