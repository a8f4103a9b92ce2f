"""Flights as live requests: in time order, with each label sent at the moment it became known."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import httpx
import msgspec
import pandas as pd

from modelyard.demo.flights import FEATURES
from modelyard.errors import ServiceUnreachable


@dataclass(frozen=True, slots=True)
class Departure:
    """A flight is scheduled now: ask for a prediction."""

    flight_id: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Arrival:
    """The label of an earlier departure is known now."""

    flight_id: str
    late: int


@dataclass(slots=True)
class Tally:
    """What happened on the way. Latencies are seconds, as the client saw them."""

    requests: int = 0
    failed: int = 0
    labels: int = 0
    latencies: list[float] = field(default_factory=list)
    first_error: str | None = None


def events(flights: pd.DataFrame) -> Iterator[tuple[pd.Timestamp, Departure | Arrival]]:
    """Departures and arrivals of `flights` (ordered by schedule) merged into one stream in time order.

    A label that becomes known after the last departure still comes, at the end; flights without one never arrive.
    """
    waiting: list[tuple[pd.Timestamp, str, int]] = []
    for row in flights.to_dict("records"):
        while waiting and waiting[0][0] <= row["sched"]:
            yield _arrival(heapq.heappop(waiting))
        yield row["sched"], Departure(row["flight_id"], _body(row))
        if not pd.isna(row["label_known_at"]):
            heapq.heappush(waiting, (row["label_known_at"], row["flight_id"], int(row["late"])))
    while waiting:
        yield _arrival(heapq.heappop(waiting))


def _arrival(entry: tuple[pd.Timestamp, str, int]) -> tuple[pd.Timestamp, Arrival]:
    moment, flight_id, late = entry
    return moment, Arrival(flight_id, late)


def _body(row: dict[Hashable, Any]) -> bytes:
    cells = {name: None if pd.isna(row[name]) else row[name] for name in FEATURES}
    return msgspec.json.encode({"rows": [cells], "ids": [row["flight_id"]]})


def play(flights: pd.DataFrame, url: str, deployment: str, progress: Callable[[pd.Timestamp, Tally], None]) -> Tally:
    """Send every event of `flights` to the deployment at `url`, one after the other, and count what came back.

    Labels go in bunches, at the latest before the next departure of another minute.

    Raises:
        ServiceUnreachable: when the server cannot be reached any more.
    """
    tally = Tally()
    known: list[Arrival] = []
    with httpx.Client(base_url=url, timeout=10.0) as client:
        try:
            for moment, event in events(flights):
                if isinstance(event, Arrival):
                    known.append(event)
                    continue
                if known:
                    _send_labels(client, known, tally)
                _ask(client, deployment, event, tally)
                progress(moment, tally)
            _send_labels(client, known, tally)
        except httpx.TransportError as error:
            raise ServiceUnreachable(
                f"the server at {url} stopped answering after {tally.requests} requests"
            ) from error
    return tally


def _ask(client: httpx.Client, deployment: str, event: Departure, tally: Tally) -> None:
    start = perf_counter()
    reply = client.post(f"/predict/{deployment}", content=event.body)
    tally.latencies.append(perf_counter() - start)
    tally.requests += 1
    if reply.status_code != httpx.codes.OK:
        tally.failed += 1
        tally.first_error = tally.first_error or f"{event.flight_id}: {reply.status_code} {reply.text}"


def _send_labels(client: httpx.Client, known: list[Arrival], tally: Tally) -> None:
    if not known:
        return
    labels = [{"prediction_id": arrival.flight_id, "value": arrival.late} for arrival in known]
    client.post("/labels", content=msgspec.json.encode({"labels": labels})).raise_for_status()
    tally.labels += len(known)
    known.clear()
