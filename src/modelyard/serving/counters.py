"""The merged counts in short, for programs that watch a data plane: one entry a version."""

from __future__ import annotations

import msgspec

from modelyard.domain.histogram import Histogram
from modelyard.serving.boards import Merged
from modelyard.serving.meters import TIME_BOUNDS, MeterSnapshot

_NS_PER_MS = 1e6


class VersionCounters(msgspec.Struct, frozen=True, kw_only=True):
    """One version in one deployment, over all workers, since the server began.

    `requests` were answered, with `rows` in all; `refused` were not, by reason. `p50_ms` and `p99_ms` are of the time
    from a call's first byte until its answer was handed over; `batch_rows` is the mean of rows computed at once. What
    is not known is None. Calls that reached no version have an empty `deployment`.
    """

    deployment: str
    model: str
    version: int
    digest: str
    requests: int
    rows: int
    refused: dict[str, int]
    in_flight: int
    p50_ms: float | None
    p99_ms: float | None
    batch_rows: float | None
    restarts: int
    memory_bytes: int | None


def counters(merged: Merged, only: str | None = None) -> tuple[VersionCounters, ...]:
    """One entry for each version that the metrics tell of; `only` those of one deployment."""
    memory = {(one.deployment, one.model, one.version, one.digest): one.memory_bytes for one in merged.versions}
    return tuple(
        _of(meter, memory.get(meter.key))
        for meter in merged.meters
        if meter.key in merged.current and only in (None, meter.deployment)
    )


def _of(meter: MeterSnapshot, memory_bytes: int | None) -> VersionCounters:
    return VersionCounters(
        deployment=meter.deployment,
        model=meter.model,
        version=meter.version,
        digest=meter.digest,
        requests=meter.answered,
        rows=meter.rows,
        refused=meter.refused,
        in_flight=meter.in_flight,
        p50_ms=_milliseconds(meter.total, 0.5),
        p99_ms=_milliseconds(meter.total, 0.99),
        batch_rows=round(meter.batches.sum / meter.batches.count, 3) if meter.batches.count else None,
        restarts=meter.restarts,
        memory_bytes=memory_bytes,
    )


def _milliseconds(times: Histogram, q: float) -> float | None:
    found = times.quantile(q, TIME_BOUNDS)
    return None if found is None else round(found / _NS_PER_MS, 4)
