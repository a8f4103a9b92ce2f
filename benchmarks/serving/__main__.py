"""``python -m benchmarks.serving``: everything, or what is chosen."""

from __future__ import annotations

import argparse
import functools
import http.client
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.serving.bench import Bench
from benchmarks.serving.models import MODELS
from benchmarks.serving.peers import BASELINE, PEERS
from benchmarks.serving.processes import NotStarted
from benchmarks.serving.scenarios import cold_start, flooding, overload, pipelines, records, rpc, swaps

ALONE: dict[str, Callable[[Bench], None]] = {
    "grpc": rpc.measure,
    "cold-start": cold_start.measure,
    "overload": overload.measure,
    "flooding": flooding.measure,
    "records": records.measure,
}
SCENARIOS = (*pipelines.PARTS, *ALONE, "swaps")


def main() -> None:
    """Run from the command line."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="modelyard-") as folder:
        bench = _bench(options, Path(folder))
        try:
            _run(bench, options)
        except KeyboardInterrupt:
            bench.report.missing["the rest"] = "it was interrupted"
    report = bench.report
    print(report.as_json() if options.json else report.as_text())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="only this one; may be repeated")
    parser.add_argument("--model", action="append", choices=MODELS, help="only this pipeline; may be repeated")
    names = [peer.name for peer in PEERS]
    parser.add_argument("--peer", action="append", choices=[*names, "none"], help="only this peer; may be repeated")
    parser.add_argument("--seconds", type=float, help="how long each load is counted")
    parser.add_argument("--rounds", type=int, help="how often all servers are driven in turn")
    parser.add_argument("--swaps", type=int, help="how many versions are swapped")
    parser.add_argument("--quick", action="store_true", help="one short round beside the baseline alone")
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    return parser.parse_args()


def _bench(options: argparse.Namespace, folder: Path) -> Bench:
    names: Sequence[str] = options.peer or ([BASELINE] if options.quick else [peer.name for peer in PEERS])
    return Bench(
        folder,
        options.model or MODELS,
        [peer for peer in PEERS if peer.name in names],
        options.seconds or (1.0 if options.quick else 1.5),
        options.rounds or (1 if options.quick else 2),
    )


def _run(bench: Bench, options: argparse.Namespace) -> None:
    wanted = options.scenario or SCENARIOS
    work: dict[str, Callable[[Bench], None]] = {name: measure for name, measure in ALONE.items() if name in wanted}
    if "swaps" in wanted:
        work["swaps"] = functools.partial(swaps.measure, swaps=options.swaps or (10 if options.quick else 100))
    parts = [part for part in pipelines.PARTS if part in wanted]
    if parts:
        work = {"pipelines": functools.partial(pipelines.measure, parts=parts), **work}
    for name, measure in work.items():
        bench.say(name)
        try:
            measure(bench)
        except (NotStarted, OSError, RuntimeError, ValueError, http.client.HTTPException) as problem:
            bench.left_out(name, problem)


if __name__ == "__main__":
    main()
