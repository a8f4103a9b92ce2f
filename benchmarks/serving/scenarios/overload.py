"""Ten times as many requests as the server manages: how many it answers, how soon, and how soon it refuses the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Literal

from benchmarks.serving.bench import Bench, Contender, Drive, summary
from benchmarks.serving.forms import OURS, Body
from benchmarks.serving.models import Row
from benchmarks.serving.processes import NotStarted
from benchmarks.serving.report import Goal, divided
from benchmarks.serving.servers import ours, serving
from benchmarks.serving.stages import stages, told

TIMES = 10
OBJECTIVE_MS = 100
CONNECTIONS = 512
LATE = 0.02
"""Seconds that a request waits for a free connection; after that, the caller has gone elsewhere."""

KINDS: tuple[tuple[Literal["onnx", "python"], int], ...] = (("python", 100), ("onnx", 1000))


def measure(bench: Bench) -> None:
    """A native pipeline with a hundred rows a request, and a compiled one with a thousand.

    Requests are large so that ten times the capacity can be sent, and read, on the same cores.
    """
    for runtime, size in KINDS:
        try:
            _measure(bench, runtime, size)
        except NotStarted as problem:
            bench.left_out(f"overload, {runtime}", problem)


def _measure(bench: Bench, runtime: Literal["onnx", "python"], size: int) -> None:
    model = bench.model(bench.models[0])
    server = ours(runtime, options=["--objective-ms", str(OBJECTIVE_MS)])
    with serving(server, model, bench.folder / "overload") as running:
        contender = Contender(f"{server.name}, {size} row{'s' * (size > 1)}", running, OURS)
        patient = Contender("capacity", running, replace(OURS, write=_patient))
        bench.drive(patient, size)  # what a call costs is learnt
        before, flooded = [], []
        for _ in range(max(2, bench.rounds)):
            before.append(bench.drive(patient, size, connections=64))
            rate = before[-1].result.rate * TIMES
            started = stages(running.port)
            flooded.append(bench.drive(contender, size, connections=CONNECTIONS, rate=rate, late=LATE))
            explains = told(started, stages(running.port))
    bench.report.measured += [
        summary("capacity", contender, before),
        summary("overload", contender, flooded),
    ]
    _goals(bench, contender.name, before, flooded, explains)


def _patient(rows: Sequence[Row]) -> Body:
    body = OURS.write(rows)
    return Body(body.content, {**body.headers, "X-Request-Timeout-Ms": "10000"})


def _goals(bench: Bench, name: str, before: list[Drive], flooded: list[Drive], explains: str) -> None:
    goodput = median(drive.result.rate for drive in flooded)
    capacity = median(drive.result.rate for drive in before)
    kept = median(divided(one.result.rate, other.result.rate) for one, other in zip(flooded, before, strict=True))
    slowest = median(drive.result.service["ok"].quantile(0.99) for drive in flooded)
    refused = median(drive.result.service["refused"].quantile(0.5) for drive in flooded)
    result = flooded[-1].result
    explains += f"; answers {dict(result.statuses)}, lost {dict(result.lost)}, skipped {result.skipped} of {result.due}"
    failed = sum(drive.failed for drive in flooded)
    bench.say(f"  overload     {name:28} {goodput:,.0f} of {capacity:,.0f}/s, p99 {slowest:.1f} ms")
    bench.report.goals += [
        Goal("overload", f"{name}: goodput beside capacity", goodput, "/s", 0.9, capacity, kept, explains=explains),
        Goal(
            "overload",
            f"{name}: p99 of accepted beside the objective",
            slowest,
            "ms",
            1.0,
            OBJECTIVE_MS,
            at_least=False,
            explains=explains,
        ),
        Goal("overload", f"{name}: median of a refusal", refused, "ms", 5, at_least=False, explains=explains),
        Goal("overload", f"{name}: failed", failed, "", 0, at_least=False, explains=explains),
    ]
