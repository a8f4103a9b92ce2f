"""Speed: one more check of a long table, side by side with scipy's exact tests and with peers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.monitoring.ours import OURS
from benchmarks.monitoring.tables import table
from benchmarks.serving.servers import OUR_PATHS

PEERS = Path(__file__).parent / "peers"
EXACT = "scipy"
WIDEST = {"evidently": 1000, "alibi": 1000}
"""Columns of more texts than this are left out for peers that do not come to an end with them."""

PATIENCE = 600.0
ROUNDS = 3
"""So often ours and scipy's tests run, of which the quickest counts; the peers, which take long, once."""


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
    """Ours, scipy and the peers on the same two tables, drawn from one source, each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("before.parquet", "after.parquet")]
        for seed, file in zip((1, 2), files, strict=True):
            table(np.random.default_rng(seed), rows).to_parquet(file)
        for name in (OURS, EXACT):
            found = [_check(name, Path(sys.executable), files) for _ in range(ROUNDS)]
            yield min(found, key=lambda cost: cost.seconds)
        for name, python in peers.items():
            if (PEERS / f"on_{name}.py").exists():
                yield _check(name, python, files)


def _check(name: str, python: Path, files: list[Path]) -> Cost:
    command = [str(python), str(PEERS / f"on_{name}.py"), *map(str, files), str(WIDEST.get(name, 10**9))]
    settings = {**os.environ, **(OUR_PATHS if python == Path(sys.executable) else {})}
    quiet = {**settings, "NML_DISABLE_USAGE_LOGGING": "1", "DO_NOT_TRACK": "1"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE, env=quiet)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Cost(name, 0.0, 0.0, 0, 0, f"{type(error).__name__}: {error}"[:120])
    if done.returncode:
        return Cost(name, 0.0, 0.0, 0, 0, (done.stderr.strip().splitlines() or ["it failed"])[-1][:120])
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    print(f"{name}: {found}", file=sys.stderr, flush=True)
    return Cost(name, **found)
