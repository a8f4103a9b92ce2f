"""gRPC: ours beside grpc.aio with a fixed answer, in as many processes and with the real messages."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import grpc

from benchmarks.serving.bench import Bench
from benchmarks.serving.frames import METHOD, call, probabilities, request_for
from benchmarks.serving.load import Load, Result
from benchmarks.serving.models import Model
from benchmarks.serving.processes import Process, answers_from, free_port, start
from benchmarks.serving.report import Goal, Measured, divided
from benchmarks.serving.servers import OUR_PATHS, PATIENCE, TOLERANCE, WORKERS, Place, ours

CONNECTIONS = 16
OURS, BARE = "modelyard, gRPC", "bare grpc.aio"


@dataclass(frozen=True)
class _Served:
    name: str
    process: Process
    port: int


def measure(bench: Bench) -> None:
    """Drive both in turn, one row a call."""
    model = bench.model(bench.models[0])
    served: list[_Served] = []
    try:
        served += [_ours(bench, model), _bare(bench)]
        for one in served:
            answers_from(one.process, functools.partial(_status, one.port, model), PATIENCE)
        results: dict[str, list[tuple[Result, float]]] = {one.name: [] for one in served}
        for _ in range(max(2, bench.rounds)):
            for one in served:
                results[one.name].append(_drive(bench, one, model))
    finally:
        for one in served:
            one.process.end()
    _report(bench, model, results)


def _ours(bench: Bench, model: Model) -> _Served:
    port = free_port()
    server = ours(options=["--grpc-port", str(port)])
    place = Place(model, bench.folder / "rpc" / "ours", free_port())
    return _Served(OURS, start(server.command(place), place.folder, server.settings(place)), port)


def _bare(bench: Bench) -> _Served:
    port = free_port()
    settings = {**OUR_PATHS, "PORT": str(port), "WORKERS": str(WORKERS)}
    command = [sys.executable, "-m", "benchmarks.serving.bare_grpc"]
    return _Served(BARE, start(command, bench.folder / "rpc" / "bare", settings), port)


def _status(port: int, model: Model) -> int:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            channel.unary_unary(METHOD)(request_for(model.rows[:1]), timeout=10)
        except grpc.RpcError:
            return 503
    return 200


def _drive(bench: Bench, one: _Served, model: Model) -> tuple[Result, float]:
    messages = [call(request_for([row]), one.port) for row in model.rows]
    before = one.process.cpu_seconds()
    result = Load(one.port, messages, connections=CONNECTIONS, seconds=bench.seconds, protocol="grpc").result()
    return result, divided((one.process.cpu_seconds() - before) * 1e6, result.all_answered)


def _wrong(model: Model, results: Sequence[Result]) -> int:
    answers = [(at, answer) for result in results for at, answer in enumerate(result.answers) if answer]
    return sum(abs(probabilities(answer)[0] - model.expected[at]) > TOLERANCE for at, answer in answers)


def _report(bench: Bench, model: Model, results: dict[str, list[tuple[Result, float]]]) -> None:
    figures = {}
    for name, drives in results.items():
        found = [result for result, _ in drives]
        failed = sum(result.failed for result in found) + (_wrong(model, found) if name == OURS else 0)
        figures[name] = Measured(
            "grpc",
            model.name,
            name,
            median(result.rate for result in found),
            median(result.ms(0.5) for result in found),
            median(result.ms(0.99) for result in found),
            median(cpu for _, cpu in drives),
            failed,
        )
        bench.say(f"  grpc         {name:28} {figures[name].per_second:9,.0f}/s p99 {figures[name].p99_ms:.2f} ms")
    bench.report.measured += figures.values()
    pairs = zip(results[OURS], results[BARE], strict=True)
    share = median(divided(mine.rate, bare.rate) for (mine, _), (bare, _) in pairs)
    explains = f"processor time of a call: {figures[OURS].cpu_us:.0f} us beside {figures[BARE].cpu_us:.0f} us"
    rate, beside = figures[OURS].per_second, figures[BARE].per_second
    goal = Goal("grpc", "one row a call beside bare grpc.aio", rate, "/s", 0.7, beside, share, explains=explains)
    bench.report.goals.append(goal)
