"""The pipelines that users write every day: all servers of one model are up at the same time and driven in turn."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from statistics import median

from benchmarks.serving.bench import Bench, Contender, Drive, rates, ratio
from benchmarks.serving.peers import BASELINE
from benchmarks.serving.processes import NotStarted
from benchmarks.serving.report import Goal, divided
from benchmarks.serving.servers import Running, Server, floor, ours
from benchmarks.serving.stages import stages, told

PARTS = ("single", "hundred", "half-load")
COMPILED, NATIVE, FLOOR = "modelyard compiled", "modelyard native", "bare uvicorn"
Drives = Mapping[str, Sequence[Drive]]


def measure(bench: Bench, parts: Collection[str]) -> None:
    """Measure the wanted parts for every model."""
    servers = [floor(), ours("onnx"), ours("python"), *_peers(bench)]
    for name in bench.models:
        bench.say(name)
        with bench.running(servers, bench.model(name)) as up:
            for part in parts:
                _PARTS[part](bench, up)


def _peers(bench: Bench) -> list[Server]:
    servers = []
    for peer in bench.peers:
        try:
            servers.append(peer.server())
        except NotStarted as problem:
            bench.left_out(peer.name, problem)
    return servers


def _contenders(up: Sequence[Running]) -> list[Contender]:
    return [Contender(running.server.name, running, running.server.form) for running in up]


def _compiled(up: Sequence[Running]) -> Running | None:
    return next((running for running in up if running.server.name == COMPILED), None)


def single(bench: Bench, up: Sequence[Running]) -> None:
    """One row a request, 16 connections."""
    compiled = _compiled(up)
    if compiled is None:
        return
    before = stages(compiled.port)
    drives = bench.race("single", _contenders(up), 1)
    explains = told(before, stages(compiled.port))
    _beside_baseline(bench, "single", compiled.model.name, drives, {COMPILED: 25, NATIVE: 4}, explains)
    _beside_peers(bench, compiled.model.name, drives, explains)
    _goal(bench, "single", compiled.model.name, drives, COMPILED, FLOOR, 0.35, explains)


def _goal(
    bench: Bench, scenario: str, model: str, drives: Drives, ours: str, other: str, limit: float, explains: str = ""
) -> None:
    """How many times as many requests a second ours answers; nothing where one of the two was not there."""
    if ours not in drives or other not in drives:
        return
    what = f"{model}: {ours.removeprefix('modelyard ')} beside {other.removeprefix('modelyard ')}"
    figure, beside, times = rates(drives[ours]), rates(drives[other]), ratio(drives, ours, other)
    mine, theirs = (median(drive.cpu_us for drive in drives[name]) for name in (ours, other))
    explains = "; ".join(filter(None, [f"processor time {mine:,.0f} us a request beside {theirs:,.0f} us", explains]))
    bench.report.goals.append(Goal(scenario, what, figure, "/s", limit, beside, times, explains=explains))


def _beside_baseline(
    bench: Bench, scenario: str, model: str, drives: Drives, limits: Mapping[str, float], explains: str
) -> None:
    for name, limit in limits.items():
        _goal(bench, scenario, model, drives, name, BASELINE, limit, explains if name == COMPILED else "")


def _beside_peers(bench: Bench, model: str, drives: Drives, explains: str) -> None:
    others = [peer.name for peer in bench.peers if peer.name in drives and not peer.name.startswith(BASELINE)]
    if others:
        best = max(others, key=lambda name: rates(drives[name]))
        _goal(bench, "single", model, drives, COMPILED, best, 10.0, explains)
        _goal(bench, "single", model, drives, NATIVE, best, 1.0)


def hundred(bench: Bench, up: Sequence[Running]) -> None:
    """A hundred rows a request beside the baseline; ours also as tensors, in JSON and bytes, and as Arrow streams."""
    contenders = _contenders([running for running in up if running.server.name in (COMPILED, NATIVE, BASELINE)])
    compiled = _compiled(up)
    if compiled is None:
        return
    contenders += [Contender(f"{COMPILED}, {name}", compiled, form) for name, form in compiled.server.forms.items()]
    before = stages(compiled.port)
    drives = bench.race("hundred", contenders, 100)
    model = compiled.model.name
    explains = told(before, stages(compiled.port))
    _beside_baseline(bench, "hundred", model, drives, {COMPILED: 20, NATIVE: 4}, explains)
    for name in ("binary", "arrow"):
        _goal(bench, "hundred", model, drives, f"{COMPILED}, {name}", f"{COMPILED}, protocol", 1.0)


def half_load(bench: Bench, up: Sequence[Running]) -> None:
    """One row a request, at half of what the server manages: how much longer the slowest hundredth waits."""
    compiled = _compiled(up)
    if compiled is None:
        return
    contender = Contender(COMPILED, compiled, compiled.server.form)
    ratios, drives = [], []
    for _ in range(max(3, bench.rounds)):
        capacity = bench.drive(contender, 1, seconds=bench.seconds / 2).result.rate
        drives.append(bench.drive(contender, 1, connections=32, rate=capacity / 2))
        ratios.append(divided(drives[-1].result.ms(0.99), drives[-1].result.ms(0.5)))
    last = sorted(zip(ratios, drives, strict=True), key=lambda pair: pair[0])[len(ratios) // 2][1]
    goal = Goal(
        "half-load",
        f"{compiled.model.name}: p99 beside p50",
        last.result.ms(0.99),
        "ms",
        3.0,
        last.result.ms(0.5),
        median(ratios),
        at_least=False,
    )
    bench.report.goals.append(dataclasses.replace(goal, explains=f"in {len(ratios)} rounds: " + _list(ratios)))


def _list(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:.1f}" for number in numbers)


_PARTS = {"single": single, "hundred": hundred, "half-load": half_load}
