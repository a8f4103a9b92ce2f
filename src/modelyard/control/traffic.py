"""What a data plane does just now: the difference between two looks at its metrics and its status."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

import httpx
import msgspec
from prometheus_client.parser import text_string_to_metric_families

from modelyard.domain.histogram import Histogram
from modelyard.errors import ServiceUnreachable

_TIME_NS = 1e9
_NS_PER_MS = 1e6

Name: TypeAlias = tuple[str, str, str]
"""Deployment, model, version."""

_Values: TypeAlias = Mapping[tuple[str, str], float]
"""Values of one version, by the name of the sample and its class (``le``) or reason."""


class WorkerSeen(msgspec.Struct, frozen=True):
    """One worker, as the status page has it."""

    worker: int
    pid: int
    ready: bool
    connections: int
    calls: int
    memory_bytes: int | None = None
    processor_seconds: float = 0.0


class _Version(msgspec.Struct, frozen=True):
    model: str
    version: int
    state: str
    reason: str = ""


class _Deployment(msgspec.Struct, frozen=True):
    name: str
    model: str
    version: int
    state: str
    reason: str = ""
    wanted: _Version | None = None


class _Page(msgspec.Struct, frozen=True):
    ready: bool
    reason: str = ""
    workers: tuple[WorkerSeen, ...] = ()
    workers_wanted: int = 1
    worker_restarts: int = 0
    deployments: tuple[_Deployment, ...] = ()


@dataclass(frozen=True, slots=True)
class Look:
    """All that was counted until the moment `at` (of ``time.monotonic()``).

    `states` has the state and its reason of every version that answers or should.
    """

    at: float
    ready: bool
    reason: str
    versions: Mapping[Name, _Values]
    workers: tuple[WorkerSeen, ...]
    states: Mapping[Name, tuple[str, str]] = field(default_factory=dict)
    workers_wanted: int = 1
    worker_restarts: int = 0


@dataclass(frozen=True, slots=True)
class VersionTraffic:
    """One version between two looks. Times are milliseconds; queue, compute and rows of a batch are means.

    What cannot be known, for want of calls, is None. Calls that reached no version have an empty `deployment`. `state`
    is ``ready``, ``loading``, ``unavailable``, or empty for a version that was replaced; `reason` says why it is not
    ready. `refused` are refusals a second by reason, the most frequent first.
    """

    deployment: str
    model: str
    version: str
    requests_per_second: float
    refused_per_second: float
    p50_ms: float | None
    p99_ms: float | None
    queue_ms: float | None
    compute_ms: float | None
    batch_rows: float | None
    in_flight: int
    restarts: int
    memory_bytes: int | None
    state: str = ""
    reason: str = ""
    refused: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WorkerTraffic:
    """One worker between two looks; refused requests count too. `processor` is the share of one core that it used."""

    worker: int
    pid: int
    ready: bool
    connections: int
    requests_per_second: float
    memory_bytes: int | None
    processor: float | None = None


@dataclass(frozen=True, slots=True)
class Traffic:
    """A data plane between two looks. `worker_restarts` are those since it began."""

    seconds: float
    ready: bool
    reason: str
    versions: tuple[VersionTraffic, ...]
    workers: tuple[WorkerTraffic, ...]
    workers_wanted: int = 1
    worker_restarts: int = 0


def look(client: httpx.Client) -> Look:
    """What the data plane that `client` calls has counted until now.

    Raises:
        ServiceUnreachable: nothing answers there as a data plane would.
    """
    try:
        page = msgspec.json.decode(client.get("/status").content, type=_Page)
        answer = client.get("/metrics").raise_for_status()
        return Look(
            time.monotonic(),
            page.ready,
            page.reason,
            versions_in(answer.text),
            page.workers,
            _states(page.deployments),
            page.workers_wanted,
            page.worker_restarts,
        )
    except (httpx.HTTPError, msgspec.DecodeError, ValueError) as error:
        raise ServiceUnreachable(f"the data plane at {client.base_url} does not answer: {error}") from error


def _states(deployments: Sequence[_Deployment]) -> dict[Name, tuple[str, str]]:
    found: dict[Name, tuple[str, str]] = {}
    for one in deployments:
        for seen in (one.wanted, one):
            if seen is not None:
                found[one.name, seen.model, str(seen.version)] = (seen.state.lower(), seen.reason)
    return found


def versions_in(text: str) -> dict[Name, dict[tuple[str, str], float]]:
    """The samples of every version in a text of metrics.

    >>> versions_in('modelyard_rows_total{deployment="live",model="toy",version="3"} 4.0')
    {('live', 'toy', '3'): {('modelyard_rows_total', ''): 4.0}}
    """
    found: dict[Name, dict[tuple[str, str], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = sample.labels
            if "deployment" in labels:
                name = (labels["deployment"], labels.get("model", ""), labels.get("version", ""))
                kind = labels.get("le") or labels.get("reason", "")
                found.setdefault(name, {})[sample.name, kind] = sample.value
    return found


def between(before: Look, after: Look) -> Traffic:
    """What happened from one look to the next. A count that is lower than before began anew, with the server.

    Versions that were replaced are left out once nothing happens to them any more.
    """
    seconds = max(after.at - before.at, 1e-9)
    versions = []
    for name in sorted({*after.versions, *after.states}):
        now = after.versions.get(name, {})
        version = _version(name, _added(before.versions.get(name, {}), now), now, seconds, after.states.get(name))
        if version.state or version.requests_per_second or version.refused_per_second or version.in_flight:
            versions.append(version)
    known = {worker.pid: worker for worker in before.workers}
    workers = tuple(_worker(worker, known.get(worker.pid), seconds) for worker in after.workers)
    return Traffic(
        seconds, after.ready, after.reason, tuple(versions), workers, after.workers_wanted, after.worker_restarts
    )


def _worker(now: WorkerSeen, before: WorkerSeen | None, seconds: float) -> WorkerTraffic:
    calls, spent = (0, None) if before is None else (before.calls, before.processor_seconds)
    return WorkerTraffic(
        now.worker,
        now.pid,
        now.ready,
        now.connections,
        max(now.calls - calls, 0) / seconds,
        now.memory_bytes,
        None if spent is None else max(now.processor_seconds - spent, 0.0) / seconds,
    )


def _added(before: _Values, after: _Values) -> dict[tuple[str, str], float]:
    return {name: max(value - before.get(name, 0.0), 0.0) for name, value in after.items()}


def _version(name: Name, added: _Values, now: _Values, seconds: float, state: tuple[str, str] | None) -> VersionTraffic:
    reasons = [
        (reason, value / seconds)
        for (sample, reason), value in added.items()
        if sample == "modelyard_requests_refused_total" and value
    ]
    refused = dict(sorted(reasons, key=lambda item: -item[1]))
    memory = now.get(("modelyard_version_memory_bytes", ""))
    return VersionTraffic(
        *name,
        requests_per_second=added.get(("modelyard_requests_total", ""), 0.0) / seconds,
        refused_per_second=sum(refused.values()),
        p50_ms=_quantile(added, 0.5),
        p99_ms=_quantile(added, 0.99),
        queue_ms=_mean(added, "modelyard_request_queue_seconds", 1e3),
        compute_ms=_mean(added, "modelyard_request_compute_seconds", 1e3),
        batch_rows=_mean(added, "modelyard_batch_rows", 1),
        in_flight=round(now.get(("modelyard_requests_in_flight", ""), 0.0)),
        restarts=round(now.get(("modelyard_model_process_restarts_total", ""), 0.0)),
        memory_bytes=None if memory is None else round(memory),
        state="" if state is None else state[0],
        reason="" if state is None else state[1],
        refused=refused,
    )


def _mean(added: _Values, name: str, unit: float) -> float | None:
    count = added.get((f"{name}_count", ""), 0.0)
    return added.get((f"{name}_sum", ""), 0.0) * unit / count if count else None


def _quantile(added: _Values, q: float) -> float | None:
    name = "modelyard_request_duration_seconds_bucket"
    classes = sorted((float(edge), count) for (sample, edge), count in added.items() if sample == name)
    below = [0.0, *(count for _, count in classes)]
    counts = tuple(max(round(upto - less), 0) for less, upto in pairwise(below))
    bounds = [round(edge * _TIME_NS) for edge, _ in classes[:-1]]
    found = Histogram(counts).quantile(q, bounds)
    return None if found is None else found / _NS_PER_MS
