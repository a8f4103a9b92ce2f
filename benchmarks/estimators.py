"""Pack and verify every scikit-learn estimator that predicts, and XGBoost and LightGBM.

    python -m benchmarks.estimators [--only REGEX] [--rows 300] [--golden 64] [--workers 2] [--fresh] [--json FILE]

Each case is fitted, packed and put through ``modelyard verify``'s stages: in process, in a rebuilt environment, over
HTTP one row at a time and in batches, and in bulk. The rebuilt environment is made once for each distinct lock and
compared with it every time; ``--fresh`` rebuilds it for every case. One row is printed for each case, then totals.
Times are medians of one-row calls to the compiled form in this process and to the native form in its own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

CASE_SECONDS = 600
TIMED_CALLS = 50


@dataclass(slots=True)
class Row:
    """What became of one case. Times in microseconds; `error` is the largest absolute difference from training."""

    name: str
    kind: str
    data: str
    packed: bool = False
    runtime: str = ""
    verified: bool = False
    why: str = ""
    error: float = 0.0
    flips: int = 0
    excused: int = 0
    refused: int = 0
    onnx_us: float | None = None
    python_us: float | None = None
    seconds: float = 0.0


def examine(case: Any, rows: int, golden: int, home: str, fresh: bool) -> Row:
    """Fit, pack, verify and time one case. Whatever goes wrong is in the row."""
    row, start = Row(case.name, case.kind, case.data), time.perf_counter()
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(CASE_SECONDS)
    try:
        with tempfile.TemporaryDirectory(prefix="modelyard-zoo-") as folder:
            _examine(case, rows, golden, Path(home), Path(folder), fresh, row)
    except Exception as error:  # noqa: BLE001 - one estimator's trouble is a row of the table
        row.why = f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
    row.seconds = time.perf_counter() - start
    return row


def _too_long(*_: object) -> None:
    raise TimeoutError(f"not done after {CASE_SECONDS} s")


def _examine(case: Any, rows: int, golden: int, home: Path, folder: Path, fresh: bool, row: Row) -> None:
    from benchmarks import zoo
    from modelyard.bundle import environment
    from modelyard.bundle.pack import build_bundle
    from modelyard.verification import verify

    model, sample = zoo.fitted(case, rows)
    bundle = build_bundle(model, sample=sample, name=case.name, into=folder / "bundle", golden_rows=golden)
    manifest = bundle.manifest
    row.packed, row.runtime = True, manifest.runtime
    if manifest.runtime == "python":
        row.why = "; ".join(f"{tried.precision} {tried.outcome}: {tried.reason}" for tried in manifest.attempts)
    python = environment.cached(manifest.environment, home)
    report = verify(bundle, case.name, home=home, python=None if fresh else python)
    row.verified = report.passed
    row.error = max(stage.largest_abs for stage in report.stages)
    row.flips = max(stage.flips for stage in report.stages)
    row.excused = max(stage.excused for stage in report.stages)
    row.refused = max(stage.refused for stage in report.stages)
    if not report.passed:
        row.why = "; ".join(f"{stage.stage}: {stage.reason}" for stage in report.stages if not stage.passed)
    _time(bundle, python, row)


def _time(bundle: Any, python: Path, row: Row) -> None:
    from modelyard.bundle.runtimes import open_compiled, open_native

    recorded = bundle.golden()
    one = recorded.inputs.take(recorded.answered()[:1])
    if bundle.manifest.compiled is not None:
        compiled = open_compiled(bundle)
        row.onnx_us = _median_us(lambda: compiled.predict(one))
        compiled.close()
    native = open_native(bundle, python)
    row.python_us = _median_us(lambda: native.predict(one))
    native.close()


def _median_us(call: Callable[[], object]) -> float:
    taken = []
    call()
    for _ in range(TIMED_CALLS):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1e6


def sweep(cases: list[Any], options: argparse.Namespace, home: str) -> Iterator[Row]:
    """Rows as they become known."""
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(examine, case, options.rows, options.golden, home, options.fresh) for case in cases]
        for done in as_completed(waiting):
            yield done.result()


def line(row: Row) -> str:
    """One row of the table."""
    verdict = "same" if row.verified else "DIFFERS" if row.packed else "NOT PACKED"
    times = " ".join(f"{'-' if value is None else f'{value:.0f}':>8}" for value in (row.onnx_us, row.python_us))
    facts = f"{row.runtime or '-':6} {verdict:10} {row.error:8.1e} {row.flips:3d}({row.excused}) {times}"
    return f"{row.name:32} {row.data:6} {facts}  {row.why[:160]}"


def totals(rows: list[Row]) -> dict[str, Any]:
    """How many of all cases were packed, verified and compiled."""
    count = Counter(row.runtime for row in rows if row.packed)
    both = [row for row in rows if row.onnx_us and row.python_us]
    gain = (
        statistics.median([row.python_us / row.onnx_us for row in both if row.onnx_us and row.python_us]) if both else 0
    )
    return {
        "cases": len(rows),
        "packed": sum(row.packed for row in rows),
        "verified": sum(row.verified for row in rows),
        "served with other numbers": sum(row.packed and not row.verified for row in rows),
        "compiled": count["onnx"],
        "compiled share": round(count["onnx"] / max(len(rows), 1), 3),
        "median ratio of one-row times, native to compiled": round(gain, 1),
    }


def main() -> int:
    """Run the sweep; 1 if anything was not packed or gives other numbers than training."""
    # One thread each: two workers on two cores, and OpenMP's spinning threads would starve each other.
    os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})
    parser = argparse.ArgumentParser(prog="python -m benchmarks.estimators", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="a regular expression on names")
    parser.add_argument("--rows", type=int, default=300, help="rows to fit on")
    parser.add_argument("--golden", type=int, default=64, help="golden rows beside the edges")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--fresh", action="store_true", help="rebuild the environment for every case")
    parser.add_argument("--json", type=Path, help="write rows and totals to this file")
    options = parser.parse_args()
    from benchmarks import zoo

    cases = [case for case in zoo.cases() if re.search(options.only, case.name)]
    measured = f"{'error':>8} {'flips':>6} {'onnx us':>8} {'python':>8}"
    print(f"{'estimator':32} {'data':6} {'runs':6} {'numbers':10} {measured}  why")
    start, rows = time.perf_counter(), []
    with tempfile.TemporaryDirectory(prefix="modelyard-zoo-home-") as home:
        for row in sweep(cases, options, home):
            rows.append(row)
            print(line(row), flush=True)
    found = totals(rows) | {"minutes": round((time.perf_counter() - start) / 60, 1)}
    print("\n" + "\n".join(f"{name:52} {value}" for name, value in found.items()))
    if options.json:
        options.json.write_text(json.dumps({"totals": found, "rows": [asdict(row) for row in rows]}, indent=1))
    return 0 if found["verified"] == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
