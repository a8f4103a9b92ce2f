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
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.monitoring.streams import PEERS, Source, sources, written
from modelyard.monitoring.budget import Budget
from modelyard.monitoring.detector import Detector, Settings
from modelyard.monitoring.reference import Reference
from modelyard.monitoring.worsening import Ladder, Worsening

HOUR = 3600.0
NOT_SHOWN = ["wrong", "label", "sure"]
HARMLESS = 0.01
BUDGET = Budget.parse("1 per quarter")
HALF = Budget(1, 2 * BUDGET.seconds)
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


def power(peers: Mapping[str, Path], *, rows: int, seeds: int, steady: int, changed: int) -> Iterator[Power]:
    """Ours on all streams; the peers on the same. Every window is an hour of `rows` rows; labels come at once."""
    with tempfile.TemporaryDirectory() as place:
        folder, streams = Path(place), Path(place) / "streams"
        (folder / "sources").mkdir()
        found: dict[tuple[str, str], list[list[int]]] = {}
        for source in sources(peers["river"], folder / "sources"):
            print(f"{source.name}: {source.accuracy:.1%} right, then {source.part:.1%} new", file=sys.stderr)
            ours = Ours(source)
            for seed in range(seeds):
                live = source.live(np.random.default_rng(seed), rows, steady, changed)
                written(source, live, streams / f"{source.name}.{seed}", rows, steady)
                _add(found, source.name, ours.follow(live, rows, steady))
        for name, python in peers.items():
            for stream, alarms in _followed(name, python, streams, rows):
                _add(found, stream.rpartition(".")[0], alarms)
    yield from (_told(*key, each, rows, steady) for key, each in sorted(found.items()))
    for tool in dict.fromkeys(tool for _, tool in found):
        delays = [_told(*key, each, rows, steady).rows for key, each in found.items() if key[1] == tool]
        every = [each for key, one in found.items() if key[1] == tool for each in one]
        whole = _told("ALL: median of the sources", tool, every, rows, steady)
        yield Power(**{**whole.__dict__, "rows": median(delays), "worst": max(delays)})


class Ours:
    """Inputs and answers with half of the budget, labels with the other half: together one false alarm a quarter."""

    def __init__(self, source: Source) -> None:
        self._reference = Reference.of_table(source.reference.drop(columns=NOT_SHOWN))
        self._drift = Detector(self._reference, Settings(HALF))
        self._ladder = Ladder.of_classes(source.reference["sure"].to_numpy())
        baseline = self._ladder.count(_severities(source.reference))
        self._worse = Worsening(self._ladder, baseline, HALF.seconds_each)

    def follow(self, live: pd.DataFrame, rows: int, steady: int) -> Alarms:
        """The windows in which there was an alarm, until the first after the change."""
        drift, worse = self._drift.start(), self._worse.start()
        alarms: dict[str, list[int]] = {"modelyard": [], "modelyard (no labels)": []}
        for at in range(len(live) // rows):
            window = live.iloc[at * rows : (at + 1) * rows]
            drift, verdict = self._drift.step(drift, self._reference.profile(window.drop(columns=NOT_SHOWN)), HOUR)
            worse, judged = self._worse.step(worse, self._ladder.count(_severities(window)), HOUR)
            harmed = judged.evidence >= 1 and judged.effect > HARMLESS
            if harmed:
                worse = self._worse.start()
            if verdict.alarm:
                alarms["modelyard (no labels)"].append(at)
            if verdict.alarm or harmed:
                alarms["modelyard"].append(at)
            if all(each and each[-1] >= steady for each in alarms.values()):
                break
        return alarms


def _severities(table: pd.DataFrame) -> Any:
    return np.where(table["wrong"], table["sure"], 0.0)


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


def _told(source: str, tool: str, streams: Iterable[list[int]], rows: int, steady: int) -> Power:
    each = list(streams)
    delays = [next(((at - steady + 1) * rows for at in one if at >= steady), math.inf) for one in each]
    wrong, checks = sum(at < steady for one in each for at in one), steady * len(each)
    quarter = wrong / checks * BUDGET.seconds_each / HOUR
    return Power(source, tool, median(delays), max(delays), len(each), wrong, checks, quarter)
