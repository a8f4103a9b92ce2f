"""Twelve deployments, two of them native: while one is flooded, how long do calls of the other eleven take?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.serving.bench import Bench
from benchmarks.serving.desired import Wanted, deployment, following, settled_on
from benchmarks.serving.forms import OURS
from benchmarks.serving.load import Load, Result
from benchmarks.serving.report import Goal, divided
from benchmarks.serving.servers import Running, launch

COMPILED = [f"compiled{at}" for at in range(10)]
NATIVE = ["native0", "native1"]
RATE = 20.0
"""Requests a second for each deployment that is not flooded."""
FLOOD_CONNECTIONS = 64
SECONDS = 3.0
ROUNDS = 3


def measure(bench: Bench) -> None:
    """Flood a native deployment, then a compiled one."""
    model = bench.model("logistic")
    compiled, native = model.bundle("onnx"), model.bundle("python")
    wanted = Wanted(
        [deployment(name, 1, compiled) for name in COMPILED] + [deployment(name, 1, native) for name in NATIVE]
    )
    with wanted.told():
        running = launch(following(wanted), model, bench.folder / "flooding")
        try:
            settled_on(running, wanted)
            for flooded in (NATIVE[0], COMPILED[0]):
                _measure(bench, running, flooded)
        finally:
            running.process.end()


def _measure(bench: Bench, running: Running, flooded: str) -> None:
    others = [name for name in (*COMPILED, *NATIVE) if name != flooded]
    rounds = []
    for _ in range(ROUNDS):
        quiet = _load(running, others, rate=RATE * len(others), seconds=SECONDS).result()
        flood = _load(running, [flooded], connections=FLOOD_CONNECTIONS, seconds=24 * 3600.0)
        try:
            loud = _load(running, others, rate=RATE * len(others), seconds=SECONDS).result()
        finally:
            against = flood.stop()
        rounds.append((divided(loud.ms(0.99), quiet.ms(0.99)), quiet, loud, against))
    _report(bench, flooded, sorted(rounds, key=lambda found: found[0]))


def _report(bench: Bench, flooded: str, rounds: Sequence[tuple[float, Result, Result, Result]]) -> None:
    ratio, quiet, loud, against = rounds[len(rounds) // 2]
    before, after = quiet.ms(0.99), loud.ms(0.99)
    bench.say(f"  flooding     {flooded:28} p99 of the others {after:.2f} after {before:.2f} ms")
    ratios = ", ".join(f"{found[0]:.1f}" for found in rounds)
    explains = (
        f"rounds {ratios}; p50 {quiet.ms(0.5):.2f} then {loud.ms(0.5):.2f} ms; the flooded one answered "
        f"{against.rate:,.0f}/s {dict(against.statuses)}"
    )
    failed = sum(_failed(found[2]) for found in rounds)
    what = f"{flooded}: p99 of the 11 others beside quiet"
    bench.report.goals += [
        Goal("flooding", what, after, "ms", 2.0, before, ratio, at_least=False, explains=explains),
        Goal("flooding", f"{flooded}: failed calls of others", failed, "", 0, at_least=False, explains=explains),
    ]


def _failed(result: Result) -> int:
    return result.failed + result.statuses.get(429, 0)


def _load(running: Running, names: Sequence[str], *, seconds: float, connections: int = 16, rate: float = 0.0) -> Load:
    forms = [replace(OURS, path=f"/predict/{name}") for name in names]
    messages = [form.message([row]) for row in running.model.rows[:16] for form in forms]
    return Load(running.port, messages, connections=connections, seconds=seconds, rate=rate)
