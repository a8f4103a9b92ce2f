"""Versions swapped under load at half of what the server manages: nothing fails, and answers come as soon as before."""

from __future__ import annotations

import json
from collections.abc import Sequence

from benchmarks.serving.bench import Bench, Contender
from benchmarks.serving.desired import Wanted, deployment, following, settled_on
from benchmarks.serving.forms import OURS, parse_answer
from benchmarks.serving.load import Load, Result
from benchmarks.serving.models import trained
from benchmarks.serving.report import Goal
from benchmarks.serving.servers import TOLERANCE, Running, serving

CONNECTIONS = 32
QUIET_SECONDS = 8.0


def measure(bench: Bench, swaps: int) -> None:
    """Swap between two models that answer otherwise, one after the other."""
    first, second = bench.model("logistic"), trained("logistic", bench.folder / "other", seed=8)
    expected = [model.answers_to(first.rows) for model in (first, second)]
    bundles = [first.bundle("onnx"), second.bundle("onnx")]
    wanted = Wanted([deployment("bench", 1, bundles[0])])
    with wanted.told(), serving(following(wanted), first, bench.folder / "swaps") as running:
        settled_on(running, wanted)
        rate = bench.drive(Contender("modelyard", running, OURS), 1).result.rate / 2
        quiet = _load(running, rate, QUIET_SECONDS).result()
        load = _load(running, rate, 24 * 3600.0)
        try:
            for version in range(2, swaps + 2):
                wanted.set([deployment("bench", version, bundles[(version - 1) % 2])])
                settled_on(running, wanted)
        finally:
            during = load.stop()
    _report(bench, swaps, quiet, during, wrong(expected, during.answers))


def _load(running: Running, rate: float, seconds: float) -> Load:
    messages = [OURS.message([row]) for row in running.model.rows]
    return Load(running.port, messages, connections=CONNECTIONS, seconds=seconds, rate=rate)


def wrong(expected: Sequence[Sequence[float]], answers: Sequence[bytes]) -> int:
    """How many answers are not those of the version that they name: odd ones are the first model's."""
    count = 0
    for at, answer in enumerate(answers):
        if answer:
            said = parse_answer(answer)
            version = json.loads(said.body)["version"]
            count += abs(OURS.read(said)[0] - expected[(version - 1) % 2][at]) > TOLERANCE
    return count


def _report(bench: Bench, swaps: int, quiet: Result, during: Result, wrong: int) -> None:
    seconds = f"{swaps} swaps in {during.seconds:.0f} s at {during.rate:,.0f} requests/s"
    bench.say(f"  swaps        {seconds}, p99 {during.ms(0.99):.2f} after {quiet.ms(0.99):.2f} ms")
    explains = f"{seconds}; p50 {quiet.ms(0.5):.2f} then {during.ms(0.5):.2f} ms; answers {dict(during.statuses)}"
    before, after = quiet.ms(0.99), during.ms(0.99)
    failed = during.failed + wrong
    bench.report.goals += [
        Goal("swaps", f"{swaps} swaps: failed or wrong", failed, "", 0, at_least=False, explains=explains),
        Goal("swaps", f"{swaps} swaps: p99 beside before", after, "ms", 1.5, before, at_least=False, explains=explains),
    ]
    bench.report.notes.append(f"swaps: {seconds}")
