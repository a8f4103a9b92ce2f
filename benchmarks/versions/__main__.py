"""How fast versions of data are, beside DVC and beside hashing alone.

    python -m benchmarks.versions [--dvc PATH] [--files 5000] [--bytes 1000000000] [--rows 5000000] [--repeat 3]
                                  [--only files|large|diff] [--folder DIR] [--json]

Before each step everything is brought to disk. Of the small files none is deleted before all is measured: ext4 passes
over inodes that were freed a moment ago, one by one, so that making thousands of files just after as many were deleted
takes it seconds.

Whole commands are timed, each in a process of its own, as a user would run them: `modelyard data snapshot` and
`dvc add`, in turn, each time on fresh homes and repositories on the same disk. Data is brought to disk before it is
used, so that no step pays for making it, and each tool has been started once, so that Python has its compiled files.
Printed are medians of wall time and of processor time, and the ratio of DVC's
to ours. `hash alone` reads the large file once and hashes it, in one thread.

For files: a first snapshot of many small files (1 to 20 kB), the same again with nothing changed, checkout. For a large
file: the same, and a snapshot after 1 kB was inserted in the middle; what this stores. For tables: two Parquet files of
10 columns, in which 1 % of the rows changed, 0.1 % came and went, compared by key.

`--dvc` names the `dvc` program of an environment of its own (`python -m venv DIR && DIR/bin/pip install dvc`); without
it only our side is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from blake3 import blake3


@dataclass(frozen=True)
class Cost:
    """Seconds of wall and processor time, and the largest memory in MB."""

    wall: float
    cpu: float
    memory: float


def timed(command: Sequence[str | Path], folder: Path, **environment: str) -> tuple[Cost, str]:
    """Run `command` in `folder` and see what it takes."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=folder,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": ""} | environment,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read()
    print(f"{wall:8.2f} s  {Path(command[0]).name} {' '.join(map(str, command[1:]))[:80]}", file=sys.stderr)
    if process.returncode:
        raise SystemExit(f"{command} failed:\n{text}")
    return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000), text


class Ours:
    """Modelyard on a home of its own."""

    name = "modelyard"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._program = [sys.executable, "-m", "modelyard.cli.app", "data"]
        self._home = {"MODELYARD_HOME": str(folder / "home")}
        timed([*self._program, "list"], folder, **self._home)

    def snapshot(self, what: str) -> tuple[Cost, dict[str, Any]]:
        cost, said = timed([*self._program, "snapshot", what, "--name", "d", "--json"], self.folder, **self._home)
        return cost, json.loads(said)

    def checkout(self, what: str) -> Cost:
        return timed([*self._program, "checkout", "d", f"out-{what}"], self.folder, **self._home)[0]

    def diff(self, before: str, after: str) -> Cost:
        return timed([*self._program, "diff", before, after, "--key", "id", "--json"], self.folder, **self._home)[0]


class Dvc:
    """DVC in a repository of its own, without Git, as it comes."""

    name = "dvc"

    def __init__(self, program: Path, folder: Path) -> None:
        self.folder, self._program = folder, program.absolute()
        timed([self._program, "init", "--no-scm", "--quiet"], folder)
        timed([self._program, "config", "core.analytics", "false"], folder)
        timed([self._program, "status", "--quiet"], folder)

    def snapshot(self, what: str) -> tuple[Cost, dict[str, Any]]:
        return timed([self._program, "add", "--quiet", what], self.folder)[0], {}

    def status(self) -> Cost:
        return timed([self._program, "status", "--quiet"], self.folder)[0]

    def checkout(self, what: str) -> Cost:
        target = self.folder / what
        target.rename(self.folder / f"{what}.aside") if target.is_dir() else target.unlink()
        at_rest()
        return timed([self._program, "checkout", "--quiet", f"{what}.dvc"], self.folder)[0]


def at_rest() -> None:
    """Bring what was made to disk, and let its times be past."""
    os.sync()
    time.sleep(0.2)


def small_files(folder: Path, count: int) -> str:
    draw = np.random.default_rng(0)
    for at, size in enumerate(draw.integers(1000, 20_000, count).tolist()):
        target = folder / "files" / f"{at // 500:03}" / f"{at:05}.bin"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(draw.bytes(size))
    return "files"


def large_file(folder: Path, size: int) -> str:
    draw = np.random.default_rng(1)
    with (folder / "large.bin").open("wb") as handle:
        for start in range(0, size, 10**7):
            handle.write(draw.bytes(min(10**7, size - start)))
    return "large.bin"


def insert(file: Path) -> None:
    """1 kB in the middle."""
    larger = file.with_suffix(".larger")
    with file.open("rb") as source, larger.open("wb") as target:
        half = file.stat().st_size // 2
        while part := source.read(min(2**20, half - source.tell()) if source.tell() < half else 2**20):
            target.write(part)
            if source.tell() == half:
                target.write(b"k" * 1000)
    with larger.open("rb") as source, file.open("wb") as target:
        shutil.copyfileobj(source, target, 2**20)
    larger.unlink()


def hash_alone(file: Path) -> Cost:
    start, cpu = time.perf_counter(), time.process_time()
    whole = blake3()
    with file.open("rb", buffering=0) as handle:
        buffer = memoryview(bytearray(2**24))
        while count := handle.readinto(buffer):
            whole.update(buffer[:count])
    return Cost(time.perf_counter() - start, time.process_time() - cpu, 0.0)


Costs = dict[str, dict[str, list[Cost]]]


def tools(folder: Path, dvc: Path | None) -> list[Ours | Dvc]:
    made: list[Ours | Dvc] = []
    for name in ("modelyard", "dvc"):
        (folder / name).mkdir(parents=True)
    made.append(Ours(folder / "modelyard"))
    if dvc is not None:
        made.append(Dvc(dvc, folder / "dvc"))
    return made


def status_of(tool: Ours | Dvc, unchanged: Cost) -> Cost:
    """DVC can also only ask whether anything changed; of ours, the snapshot that finds nothing changed is that."""
    return tool.status() if isinstance(tool, Dvc) else unchanged


def measure_files(folder: Path, dvc: Path | None, count: int, costs: Costs) -> None:
    for tool in tools(folder, dvc):
        what = small_files(tool.folder, count)
        at_rest()
        costs[f"first snapshot of {count} files"][tool.name].append(tool.snapshot(what)[0])
        at_rest()
        unchanged = tool.snapshot(what)[0]
        costs[f"{count} files, nothing changed"][tool.name].append(unchanged)
        costs[f"{count} files, nothing changed (dvc status)"][tool.name].append(status_of(tool, unchanged))
        at_rest()
        costs[f"checkout of {count} files"][tool.name].append(tool.checkout(what))


def measure_large(folder: Path, dvc: Path | None, size: int, costs: Costs) -> dict[str, float]:
    facts: dict[str, float] = {}
    for tool in tools(folder, dvc):
        what = large_file(tool.folder, size)
        at_rest()
        costs["hash alone"][tool.name].append(hash_alone(tool.folder / what))
        costs[f"first snapshot of {size / 1e9:g} GB"][tool.name].append(tool.snapshot(what)[0])
        at_rest()
        unchanged = tool.snapshot(what)[0]
        costs[f"{size / 1e9:g} GB, nothing changed"][tool.name].append(unchanged)
        costs[f"{size / 1e9:g} GB, nothing changed (dvc status)"][tool.name].append(status_of(tool, unchanged))
        insert(tool.folder / what)
        at_rest()
        cost, said = tool.snapshot(what)
        costs[f"{size / 1e9:g} GB after 1 kB was inserted"][tool.name].append(cost)
        if said:
            facts["share stored after the insertion"] = said["stored_bytes"] / size
        at_rest()
        costs[f"checkout of {size / 1e9:g} GB"][tool.name].append(tool.checkout(what))
    return facts


def measure_diff(folder: Path, rows: int, costs: Costs) -> dict[str, float]:
    tool = tools(folder, None)[0]
    assert isinstance(tool, Ours)
    draw = np.random.default_rng(2)
    columns: dict[str, Any] = {"id": np.arange(rows)}
    columns |= {f"n{at}": draw.normal(size=rows) for at in range(5)}
    columns |= {f"i{at}": draw.integers(0, 1000, rows) for at in range(2)}
    columns |= {f"s{at}": np.array(["EWR", "JFK", "LGA", "BOS"])[draw.integers(0, 4, rows)] for at in range(2)}
    (tool.folder / "table").mkdir()
    for _ in range(2):
        pq.write_table(pa.table(columns), tool.folder / "table" / "t.parquet")
        at_rest()
        cost, _ = tool.snapshot("table")
        costs[f"snapshot of a table of {rows} rows, with profile"][tool.name].append(cost)
        changed = draw.random(rows) < 0.01
        columns["n0"] = np.where(changed, columns["n0"] + 1, columns["n0"])
        columns["id"] = np.where(draw.random(rows) < 0.001, columns["id"] + rows, columns["id"])
    for _ in range(3):
        costs[f"difference by key of {rows} rows x 10 columns"][tool.name].append(tool.diff("d@1", "d@2"))
    return {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dvc", type=Path)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--bytes", type=int, default=10**9)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", choices=["files", "large", "diff"])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    costs: Costs = defaultdict(lambda: defaultdict(list))
    facts: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=asked.folder, prefix="versions-") as name:
        for turn in range(asked.repeat):
            if asked.only in (None, "files"):
                measure_files(Path(name) / f"files-{turn}", asked.dvc, asked.files, costs)
            if asked.only in (None, "large"):
                facts |= measure_large(Path(name) / f"large-{turn}", asked.dvc, asked.bytes, costs)
                shutil.rmtree(Path(name) / f"large-{turn}")
        if asked.only in (None, "diff"):
            facts |= measure_diff(Path(name) / "diff", asked.rows, costs)
    report(costs, facts, as_json=asked.json)


def report(costs: Costs, facts: dict[str, float], *, as_json: bool) -> None:
    table = {
        step: {
            tool: {field: median(getattr(cost, field) for cost in listed) for field in ("wall", "cpu", "memory")}
            for tool, listed in by_tool.items()
        }
        for step, by_tool in costs.items()
    }
    if as_json:
        print(json.dumps({"steps": table, **facts}, indent=2))
        return
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, page size {resource.getpagesize()}")
    print(f"{'step':52} {'ours s':>8} {'cpu':>6} {'MB':>6} {'dvc s':>8} {'cpu':>6} {'wall':>6} {'cpu':>6}")
    for step, by_tool in table.items():
        ours, dvc = by_tool["modelyard"], by_tool.get("dvc")
        line = f"{step:52} {ours['wall']:8.2f} {ours['cpu']:6.2f} {ours['memory']:6.0f}"
        if dvc:
            ratios = f"{dvc['wall'] / ours['wall']:5.1f}x {dvc['cpu'] / ours['cpu']:5.1f}x"
            line += f" {dvc['wall']:8.2f} {dvc['cpu']:6.2f} {ratios}"
        print(line)
    for name, value in facts.items():
        print(f"{name}: {value:.3%}")


if __name__ == "__main__":
    main()
