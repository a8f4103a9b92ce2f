"""Power: rows until an alarm after a change that costs two points of accuracy, and the false alarms before it."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.monitoring.ours import HOUR, OURS, Ours
from benchmarks.monitoring.streams import PEERS, Order, sources, written
from modelyard.monitoring.budget import Budget

QUARTER = Budget.parse("1 per quarter").seconds
ALL = "ALL: median of sources"
Alarms = Mapping[str, list[int]]


@dataclass(frozen=True)
class Power:
    """What one tool did on the streams of one source; `rows` until the alarm: median, infinite where there was none.

    `false_alarms` are those before the change, in `checks` windows; `a_quarter`: so many would come in a quarter.
    """

    source: str
    tool: str
    rows: float
    worst: float
    streams: int
    false_alarms: int
    checks: int
    a_quarter: float


def power(peers: Mapping[str, Path], seeds: int, order: Order) -> Iterator[Power]:
    """Ours on all streams; the peers on the same. Every window is an hour; labels come at once."""
    with tempfile.TemporaryDirectory() as place:
        folder, streams = Path(place), Path(place) / "streams"
        (folder / "sources").mkdir()
        found: dict[tuple[str, str], list[list[int]]] = {}
        for source in sources(peers["river"], folder / "sources"):
            print(f"{source.name}: {source.accuracy:.1%} right, then {source.part:.1%} new", file=sys.stderr)
            for seed in range(seeds):
                live = source.live(np.random.default_rng(seed), order)
                written(source, live, streams / f"{source.name}.{seed}", order)
                _add(found, source.name, Ours(source, order).follow(live))
        for name, python in peers.items():
            for stream, alarms in _followed(name, python, streams, order.rows):
                _add(found, stream.rpartition(".")[0], alarms)
    told = {key: _told(*key, each, order) for key, each in sorted(found.items())}
    yield from told.values()
    for tool in dict.fromkeys(tool for _, tool in found):
        mine = [each for each in told.values() if each.tool == tool]
        wrong, checks = sum(each.false_alarms for each in mine), sum(each.checks for each in mine)
        delay, worst = median(each.rows for each in mine), max(each.worst for each in mine)
        runs = sum(each.streams for each in mine)
        yield Power(ALL, tool, delay, worst, runs, wrong, checks, _a_quarter(wrong, checks))


def _followed(name: str, python: Path, streams: Path, rows: int) -> Iterator[tuple[str, Alarms]]:
    program = PEERS / f"on_{name}_stream.py"
    if not program.exists():
        return
    command = [str(python), str(program), str(streams), str(rows)]
    quiet = {**os.environ, "NML_DISABLE_USAGE_LOGGING": "1", "DO_NOT_TRACK": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=quiet)
    for line in done.stdout.splitlines():
        if line.startswith('{"stream"'):
            told = json.loads(line)
            yield told["stream"], told["alarms"]
    if done.returncode:
        print(f"{name} failed: {(done.stderr.strip().splitlines() or ['no message'])[-1][:200]}", file=sys.stderr)


def _add(found: dict[tuple[str, str], list[list[int]]], source: str, alarms: Alarms) -> None:
    for tool, each in alarms.items():
        found.setdefault((source, tool), []).append(each)


def _told(source: str, tool: str, streams: Iterable[list[int]], order: Order) -> Power:
    each = list(streams)
    steady = order.steady if tool.startswith(OURS) else order.peers
    delays = [next(((at - steady + 1) * order.rows for at in one if at >= steady), math.inf) for one in each]
    wrong, checks = sum(at < steady for one in each for at in one), steady * len(each)
    return Power(source, tool, median(delays), max(delays), len(each), wrong, checks, _a_quarter(wrong, checks))


def _a_quarter(wrong: int, checks: int) -> float:
    return wrong / checks * QUARTER / HOUR
