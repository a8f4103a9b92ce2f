"""Opens a version for serving: verify, build, warm, prove in this process. Nothing answers that did not pass here."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from modelyard.bundle import ready_golden
from modelyard.bundle.layout import Bundle, open_bundle
from modelyard.bundle.parity import replay
from modelyard.bundle.runtimes import open_runtime
from modelyard.domain.checks import check
from modelyard.domain.desired import Deployment
from modelyard.domain.frame import Answers, Frame
from modelyard.domain.golden import GoldenSet
from modelyard.domain.parity import StageReport
from modelyard.errors import BundleRefused, ParityFailed
from modelyard.home import Home
from modelyard.protocol.table import TableReader
from modelyard.runtime.interface import Runtime
from modelyard.runtime.python import PythonRuntime
from modelyard.serving.costs import CostModel
from modelyard.serving.gentle import Turns
from modelyard.serving.keeper import KeptRuntime
from modelyard.serving.memory import give_back, held_bytes
from modelyard.serving.merging import why_alone
from modelyard.serving.meters import Meter, Meters
from modelyard.serving.served import Pace, ServedVersion

Opener = Callable[[Deployment], ServedVersion]
"""Opens what a deployment names. Raises a ModelyardError that says why it cannot be served."""

_TIMED_CALLS = 5
MEMORY_SETTING = "MODELYARD_MODEL_MEMORY_MB"
CALL_SECONDS = 30.0
"""What one call of a model's own process may take, whatever it does meanwhile."""

_log = logging.getLogger("modelyard.serving")


def open_version(
    deployment: Deployment,
    home: Home,
    python: Path | None = None,
    meters: Meters | None = None,
    threads: int = 1,
    turns: Turns | None = None,
) -> ServedVersion:
    """Open the deployment's bundle and prove that it answers as training did, one row at a time and as a batch.

    `python` is an interpreter to run native forms with, in place of a rebuilt environment, and `threads` how many
    threads such a form may compute with; compiled ones use one. Calls are counted in `meters`. What computes waits for
    its turn among the `turns`, and rests between rows while calls are answered.

    Raises:
        BundleRefused: a file of it is not what its digest says, or the bundle is another than asked for.
        EnvironmentFailed: the environment of a native form cannot be rebuilt here.
        ParityFailed: answers differ from those of training.
    """
    memory = _memory_bytes()
    directory = Path(deployment.bundle)
    if not directory.is_dir():
        raise BundleRefused(f"no bundle at {deployment.bundle}; only folders of this machine can be served")
    bundle = open_bundle(directory, expect_digest=deployment.digest or None)
    golden = ready_golden.golden(bundle, home)
    python = _interpreter(bundle, home, python)
    with (turns or Turns()).turn() as paced:
        native, held = bundle.manifest.runtime == "python", held_bytes()
        runtime = open_runtime(bundle, home=home, python=python, threads=threads if native else 1)
        try:
            _prove(runtime, bundle, golden, ("single", "batch"), paced.step)
            pace = _pace(runtime, bundle, golden)
            alone = _why_alone(runtime, bundle, golden)
            cost = CostModel(max(pace.one, 1e-4), pace.more)
            taken = None if native else _taken(held, bundle)
        except BaseException:
            runtime.close()
            raise
    meters = meters or Meters()
    meter = meters.of(deployment.name, deployment.model, deployment.version, bundle.digest)
    return ServedVersion(
        deployment,
        bundle.manifest,
        bundle.digest,
        _kept(runtime, bundle, golden, cost, meter, memory),
        pace,
        TableReader(bundle.manifest.schema),
        meter,
        alone=alone,
        cost=cost,
        closed=partial(meters.closed, meter),
        memory_bytes=taken,
    )


def _interpreter(bundle: Bundle, home: Home, python: Path | None) -> Path | None:
    """What runs a native form; its environment is rebuilt before anybody waits for a turn."""
    if bundle.manifest.runtime != "python" or python is not None:
        return python
    from modelyard.bundle.environment import cached

    return cached(bundle.manifest.environment, home)


def _taken(before: int, bundle: Bundle) -> int:
    """Memory of a compiled version: what this process grew by; at least the graph, as freed pages are used again."""
    give_back()  # reading the graph leaves more behind than the graph takes
    form = bundle.manifest.compiled
    return max(held_bytes() - before, 0 if form is None else (bundle.path / form.path).stat().st_size)


def _why_alone(runtime: Runtime, bundle: Bundle, golden: GoldenSet) -> str:
    """Why calls of a native version may not be merged; empty when they may, and for compiled ones, which never are."""
    manifest = bundle.manifest
    if manifest.runtime != "python":
        return ""
    why = why_alone(runtime.predict, golden, manifest.schema, manifest.tolerance)
    if why:
        _log.warning("%s: calls are computed one by one: %s", manifest.name, why)
    return why


def _kept(
    runtime: Runtime, bundle: Bundle, golden: GoldenSet, cost: CostModel, meter: Meter, memory: int | None
) -> Runtime:
    if not isinstance(runtime, PythonRuntime):
        return runtime
    runtime.set_patience(CALL_SECONDS, cost.seconds)

    def prove(restarted: Runtime) -> None:
        meter.restarts += 1
        _prove(restarted, bundle, golden, ("batch",))

    return KeptRuntime(runtime, prove, bundle.manifest.name, memory)


def _memory_bytes() -> int | None:
    """What a model's own process may hold, as ``MODELYARD_MODEL_MEMORY_MB`` says; None without it."""
    said = os.environ.get(MEMORY_SETTING, "")
    if not said:
        return None
    if not said.isdecimal() or not int(said):
        raise BundleRefused(f"{MEMORY_SETTING}={said!r} is no number of megabytes; set a whole one, such as 2000")
    return int(said) * 1_000_000


def _prove(
    runtime: Runtime,
    bundle: Bundle,
    golden: GoldenSet,
    modes: Sequence[Literal["single", "batch"]],
    on_row: Callable[[], None] | None = None,
) -> None:
    schema, tolerance = bundle.manifest.schema, bundle.manifest.tolerance

    def predict(frame: Frame) -> Answers:
        check(frame, schema)
        return runtime.predict(frame)

    for mode in modes:
        report = replay(predict, golden, schema, tolerance, mode=mode, stage="in process", on_row=on_row)
        if not report.passed:
            raise ParityFailed(_failure(report, mode))


def _failure(report: StageReport, mode: str) -> str:
    counted = f"{report.mismatched} answers differ from those of training ({mode})"
    if report.mismatches:
        first = report.mismatches[0]
        counted += f"; row {first.row} ({first.origin}), {first.output}: expected {first.expected}, got {first.got}"
    return f"{counted}. {report.reason}".strip()


def _pace(runtime: Runtime, bundle: Bundle, golden: GoldenSet) -> Pace:
    """Measure one row and one batch, after the replay has warmed everything."""
    answered = golden.answered()
    inline = bundle.manifest.runtime == "onnx"
    if not answered:
        return Pace(inline=False, one=1e-3, more=0.0)
    row, batch = golden.inputs.take(answered[:1]), golden.inputs.take(answered)
    one = _seconds(runtime, row)
    return Pace(inline=inline, one=one, more=max(_seconds(runtime, batch) - one, 0.0) / batch.rows)


def _seconds(runtime: Runtime, frame: Frame) -> float:
    taken = []
    for _ in range(_TIMED_CALLS):
        start = time.perf_counter()
        runtime.predict(frame)
        taken.append(time.perf_counter() - start)
    return min(taken)
