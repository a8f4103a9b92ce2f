"""The merged counts in the words of the Open Inference Protocol's statistics extension."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelyard.domain.histogram import Histogram
from modelyard.serving.boards import Merged
from modelyard.serving.meters import ROW_BOUNDS, MeterSnapshot

_NS_PER_MS = 1_000_000

BATCH_SIZES: tuple[int, ...] = (*ROW_BOUNDS, ROW_BOUNDS[-1] + 1)
"""The ``batch_size`` under which computations are told: the largest of its class of rows; the last stands for more."""


def model_statistics(merged: Merged, only: str | None = None, version: str | None = None) -> list[dict[str, Any]]:
    """One entry for each version that the metrics tell of, over all workers; `only` of one deployment or version.

    Durations are nanoseconds since the server began, `last_inference` milliseconds since 1970 (0 for never).
    ``inference_count`` are rows, ``execution_count`` calls of the model, so that one by the other is the mean batch.
    What reading and writing took is not known by batch, so nothing is counted there. Nothing is ever cached.
    """
    memory: dict[tuple[str, str, int], int] = {}
    for facts in merged.versions:
        if facts.memory_bytes is not None:
            memory[facts.deployment, facts.model, facts.version] = facts.memory_bytes
    return [
        _entry(meter, memory.get(meter.key[:3]))
        for meter in merged.told()
        if meter.deployment and only in (None, meter.deployment) and version in (None, str(meter.version))
    ]


def _entry(meter: MeterSnapshot, memory_bytes: int | None) -> dict[str, Any]:
    count = meter.answered
    return {
        "name": meter.deployment,
        "version": str(meter.version),
        "last_inference": meter.last_ns // _NS_PER_MS,
        "inference_count": meter.rows,
        "execution_count": meter.batches.count,
        "inference_stats": {
            "success": _duration(count, meter.total.sum),
            "fail": _duration(meter.not_answered, sum(meter.refused_ns.values())),
            "queue": _duration(count, meter.queue.sum),
            "compute_input": _duration(count, meter.decode.sum),
            "compute_infer": _duration(count, meter.compute.sum),
            "compute_output": _duration(count, meter.encode.sum),
            "cache_hit": _duration(0, 0),
            "cache_miss": _duration(0, 0),
        },
        "response_stats": {},
        "batch_stats": _batches(meter.batches, meter.batch_ns),
        "memory_usage": [] if memory_bytes is None else [{"type": "CPU", "id": 0, "byte_size": memory_bytes}],
    }


def _batches(batches: Histogram, batch_ns: Sequence[int]) -> list[dict[str, Any]]:
    return [
        {
            "batch_size": size,
            "compute_input": _duration(0, 0),
            "compute_infer": _duration(count, ns),
            "compute_output": _duration(0, 0),
        }
        for size, count, ns in zip(BATCH_SIZES, batches.counts, batch_ns, strict=True)
        if count
    ]


def _duration(count: int, ns: int) -> dict[str, int]:
    return {"count": count, "ns": ns}
