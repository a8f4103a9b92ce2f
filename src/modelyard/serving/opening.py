"""Opens a version for serving: verify, build, warm, prove in this process. Nothing answers that did not pass here."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

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
from modelyard.serving.keeper import KeptRuntime, ProcessRuntime
from modelyard.serving.meters import Meters
from modelyard.serving.served import Pace, ServedVersion

Opener = Callable[[Deployment], ServedVersion]
"""Opens what a deployment names. Raises a ModelyardError that says why it cannot be served."""

_TIMED_CALLS = 5


def open_version(
    deployment: Deployment, home: Home, python: Path | None = None, meters: Meters | None = None
) -> ServedVersion:
    """Open the deployment's bundle and prove that it answers as training did, one row at a time and as a batch.

    `python` is an interpreter to run native forms with, in place of a rebuilt environment; calls are counted in
    `meters`.

    Raises:
        BundleRefused: a file of it is not what its digest says, or the bundle is another than asked for.
        EnvironmentFailed: the environment of a native form cannot be rebuilt here.
        ParityFailed: answers differ from those of training.
    """
    directory = Path(deployment.bundle)
    if not directory.is_dir():
        raise BundleRefused(f"no bundle at {deployment.bundle}; only folders of this machine can be served")
    bundle = open_bundle(directory, expect_digest=deployment.digest or None)
    runtime = open_runtime(bundle, home=home, python=python)
    try:
        golden = bundle.golden()
        _prove(runtime, bundle, golden, ("single", "batch"))
        pace = _pace(runtime, bundle, golden)
    except BaseException:
        runtime.close()
        raise
    return ServedVersion(
        deployment,
        bundle.manifest,
        bundle.digest,
        _kept(runtime, bundle, golden),
        pace,
        TableReader(bundle.manifest.schema),
        (meters or Meters()).of(deployment.name, deployment.model, deployment.version, bundle.digest),
    )


def _kept(runtime: Runtime, bundle: Bundle, golden: GoldenSet) -> Runtime:
    if bundle.manifest.runtime != "python":
        return runtime
    process: ProcessRuntime = runtime  # type: ignore[assignment]

    def prove(restarted: Runtime) -> None:
        _prove(restarted, bundle, golden, ("batch",))

    return KeptRuntime(process, prove, bundle.manifest.name)


def _prove(runtime: Runtime, bundle: Bundle, golden: GoldenSet, modes: Sequence[Literal["single", "batch"]]) -> None:
    schema, tolerance = bundle.manifest.schema, bundle.manifest.tolerance

    def predict(frame: Frame) -> Answers:
        check(frame, schema)
        return runtime.predict(frame)

    for mode in modes:
        report = replay(predict, golden, schema, tolerance, mode=mode, stage="in process")
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
    if bundle.manifest.runtime != "onnx" or not answered:
        return Pace(inline=False, one=1e-3, more=0.0)
    row, batch = golden.inputs.take(answered[:1]), golden.inputs.take(answered)
    one = _seconds(runtime, row)
    return Pace(inline=True, one=one, more=max(_seconds(runtime, batch) - one, 0.0) / batch.rows)


def _seconds(runtime: Runtime, frame: Frame) -> float:
    taken = []
    for _ in range(_TIMED_CALLS):
        start = time.perf_counter()
        runtime.predict(frame)
        taken.append(time.perf_counter() - start)
    return min(taken)
