"""How soon ``modelyard serve`` answers, golden set reproduced, and how much memory it holds then and under load."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from statistics import median

from benchmarks.serving.bench import Bench, Contender
from benchmarks.serving.forms import OURS
from benchmarks.serving.processes import NotStarted
from benchmarks.serving.report import Goal
from benchmarks.serving.servers import OUR_PATHS, WORKERS, Place, Server, serving

STARTS = 3


def measure(bench: Bench) -> None:
    """Start it several times for every model."""
    for name in bench.models:
        try:
            _measure(bench, name)
        except NotStarted as problem:
            bench.left_out(f"cold start, {name}", problem)


def _measure(bench: Bench, name: str) -> None:
    model = bench.model(name)
    model.bundle("onnx")
    started, spent, memory = [], [], []
    for at in range(STARTS):
        with serving(_server(), model, bench.folder / "cold" / f"{name}-{at}".replace(" ", "-")) as running:
            started.append(running.started_s)
            spent.append(running.process.cpu_seconds())
            bench.drive(Contender("modelyard", running, OURS), 1, seconds=0.5)
            memory.append(running.process.memory_mb())
    first, held = median(started), median(memory)
    bench.say(f"  cold start   {name:28} {first:.2f} s, {held:.0f} MB")
    said = f"{min(started):.2f} to {max(started):.2f} s in {STARTS} starts, {median(spent):.2f} s of processor time"
    bench.report.goals += [
        Goal("cold start", f"{name}: first answer", first, "s", 1.5, at_least=False, explains=said),
        Goal("cold start", f"{name}: memory with {WORKERS} workers (PSS)", held, "MB", 150, at_least=False),
    ]


def _server() -> Server:
    def command(place: Place) -> Sequence[str]:
        options = ["--name", "bench", "--port", str(place.port), "--workers", str(WORKERS)]
        return [sys.executable, "-m", "modelyard.cli.app", "serve", str(place.model.bundle("onnx").path), *options]

    home = "MODELYARD_HOME"
    return Server("serve", "compiled", OURS, command, lambda place: {**OUR_PATHS, home: str(place.folder / "home")})
