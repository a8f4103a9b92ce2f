"""Versions are swapped while calls come at about half of what the server can do: 1,000 times in the long form."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import compiled_bundles
from faults.promises import check, say, size, workers
from load import RIGHT, SECOND, Call, Target, load, quantile
from modelyard.bundle.layout import Bundle
from modelyard.domain.desired import Deployment, DesiredState
from serving_process import ControlPlane, ServingProcess, start, until

SWAPS = size(8, 1_000)
CALLERS, ROWS = 8, 4
BEFORE_SECONDS = 1.0 if SWAPS < 100 else 20.0
"""How long calls are measured before the first swap."""

pytestmark = pytest.mark.timeout(180 + 5 * SWAPS)


def test_swaps_under_load_cost_no_call_and_never_mix_versions(tmp_path: Path) -> None:
    bundles = [compiled_bundles.write_compiled(tmp_path / f"{bias}", bias=float(bias)) for bias in (0, 1)]
    biases = {str(number): float(number % 2) for number in range(1, SWAPS + 2)}
    control = ControlPlane(_desired(1, bundles))
    control.start()
    server = start(tmp_path / "server", "--desired", control.url, "--workers", "2")
    try:
        server.wait_ready()
        until(lambda: len(workers(server)) == 2, "two workers")
        alive = workers(server)
        pause = _pause_at_half_capacity(server, tmp_path, biases)
        target = Target("/predict/live", callers=CALLERS, rows=ROWS, pause=pause, biases=biases)
        with load(tmp_path, server.address, target) as running:
            begun = time.monotonic_ns()
            until(lambda: time.monotonic_ns() - begun > BEFORE_SECONDS * SECOND, "calls before the first swap")
            running.wait_for_more(5)
            first = time.monotonic_ns()
            for number in range(2, SWAPS + 2):
                control.state = _desired(number, bundles)
                until(lambda number=number: _version(server) == number, "the swap")
                running.wait_for_more(1)  # each version answers somebody, also where callers hardly get a turn
            last = time.monotonic_ns()
            calls = running.end()
        assert workers(server) == alive
        assert server.stop() == 0
    finally:
        server.stop(signal.SIGKILL)
        control.stop()
    # Every row of an answer was checked against the one version that the answer names.
    check(calls, [], tmp_path / "server" / "home" / "records")
    assert {call.outcome for call in calls} == {RIGHT}
    assert {call.version for call in calls} == set(biases)
    _tell(calls, (begun, first), (first, last))


def _desired(number: int, bundles: Sequence[Bundle]) -> DesiredState:
    bundle = bundles[number % 2]
    return DesiredState(number, (Deployment("live", "toy", number, bundle.digest, str(bundle.path)),))


def _version(server: ServingProcess) -> int:
    return int(server.get("/status/live").json["deployments"][0]["version"])


def _pause_at_half_capacity(server: ServingProcess, folder: Path, biases: dict[str, float]) -> float:
    """What each caller has to rest between its calls, so that they come half as often as they can be answered."""
    target = Target("/predict/live", callers=CALLERS, rows=ROWS, pause=0.0, biases=biases)
    with load(folder, server.address, target, label="capacity") as running:
        running.wait_for_more(100)
        calls = running.end()
    middle = quantile((call.seconds for call in calls), 0.5)
    seconds = (max(call.ended for call in calls) - min(call.begun for call in calls)) / SECOND
    say(f"capacity with {CALLERS} callers: {len(calls) / seconds:.0f} calls of {ROWS} rows a second")
    return max(2 * CALLERS * seconds / len(calls) - middle, 0.001)


def _tell(calls: Sequence[Call], *spans: tuple[int, int]) -> None:
    before, during = ([call for call in calls if begun <= call.begun and call.ended <= end] for begun, end in spans)
    p99 = [1e3 * quantile((call.seconds for call in part), 0.99) for part in (before, during)]
    rate = [len(part) / (end - begun) * SECOND for part, (begun, end) in zip((before, during), spans, strict=True)]
    say(
        f"{SWAPS} swaps: p99 {p99[1]:.1f} ms during, {p99[0]:.1f} ms before, {p99[1] / p99[0]:.2f} times;"
        f" {rate[1]:.0f} and {rate[0]:.0f} calls a second"
    )
