"""Speed: one more check of a long table, side by side with scipy's exact tests and with peers."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.monitoring.tables import table
from modelyard.monitoring.comparison import compare
from modelyard.monitoring.reference import Reference

PEERS = Path(__file__).parent / "peers"
WIDEST = {"evidently": 1000, "alibi": 1000}
"""Columns of more texts than this are left out for peers that do not come to an end with them."""


@dataclass(frozen=True)
class Cost:
    """Processor seconds and extra memory of one check, and how many of so many unchanged columns were flagged."""

    name: str
    seconds: float
    megabytes: float
    flagged: int
    columns: int
    failed: str = ""


def speed(rows: int, peers: Mapping[str, Path]) -> Iterator[Cost]:
    """Ours, scipy and the peers on the same two tables, drawn from one source."""
    before, after = (table(np.random.default_rng(seed), rows) for seed in (1, 2))
    made = Reference.of_table(before)
    yield _timed("modelyard", lambda: len(compare(made, after).moved), len(after.columns))
    yield _timed("scipy", lambda: _scipy(before, after), len(after.columns))
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("before.parquet", "after.parquet")]
        for data, file in zip((before, after), files, strict=True):
            data.to_parquet(file)
        for name, python in peers.items():
            if (PEERS / f"on_{name}.py").exists():
                yield _peer(name, python, files)


def _timed(name: str, check: Callable[[], int], columns: int) -> Cost:
    """The quickest of three, and once more with every allocation followed."""
    spent = []
    for _ in range(3):
        start = time.process_time()
        flagged = check()
        spent.append(time.process_time() - start)
    tracemalloc.start()
    check()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return Cost(name, min(spent), peak / 1e6, flagged, columns)


def _scipy(before: pd.DataFrame, after: pd.DataFrame) -> int:
    """Kolmogorov and Smirnov's test of numbers, chi-squared of texts, with Bonferroni's correction."""
    from scipy.stats import chi2_contingency, ks_2samp

    flagged = 0
    for name in before:
        one, other = before[name], after[name]
        if one.dtype.kind in "if":
            chance = ks_2samp(one.dropna(), other.dropna(), method="asymp").pvalue
        else:
            counts = pd.concat([one.value_counts(), other.value_counts()], axis=1).fillna(0)
            chance = chi2_contingency(counts.to_numpy().T)[1]
        flagged += bool(chance < 0.05 / len(before.columns))
    return flagged


def _peer(name: str, python: Path, files: list[Path]) -> Cost:
    command = [str(python), str(PEERS / f"on_{name}.py"), *map(str, files), str(WIDEST.get(name, 10**9))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Cost(name, 0.0, 0.0, 0, 0, f"{type(error).__name__}: {error}"[:120])
    if done.returncode:
        return Cost(name, 0.0, 0.0, 0, 0, (done.stderr.strip().splitlines() or ["it failed"])[-1][:120])
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    print(f"{name}: {found}", file=sys.stderr)
    return Cost(name, **found)
