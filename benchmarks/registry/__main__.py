"""How fast a registry of 100,000 versions and 10 million links answers, on SQLite and on PostgreSQL.

    python -m benchmarks.registry [--versions 100000] [--links 10000000] [--only sqlite|postgresql] [--repeat 7]
                                  [--folder DIR] [--keep] [--json]

A registry is generated: models (one of them with a fifth of all versions), a run for every version with parameters and
metrics, versions of data that each run read (one of which all of them read), tags, reports, aliases, deployments. Then
the same questions are asked in this process (median of `--repeat` times, after one that is not counted; opening the
registry is part of each) and some as whole commands, each in a process of its own, beside the same command on a
registry with a single version, in SQLite: of both the processor time, which other programs disturb least; what they
differ by is what the size costs. Times are in milliseconds; the goal is 200 for each. Generating takes some minutes and
half a gigabyte of disk for every million links; `--links` makes it smaller.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.registry.filling import LARGE, POPULAR, Size, fill, run_id
from benchmarks.registry.server import postgresql
from modelyard.registry.database import upgrade

GOAL_MS = 200
KINDS = ("sqlite", "postgresql")
AS_COMMANDS = ("list: models", "show: a version", "search: metric and parameter", "lineage: a version")


def questions(size: Size) -> dict[str, list[str]]:
    """Name and words of each command."""
    middle = run_id(size.versions // 2)
    return {
        "list: models": ["list"],
        "list: the largest model": ["list", LARGE],
        "show: a version": ["show", "line@1"],
        "search: rare metric": ["list", "--where", "m01>0.9999"],
        "search: frequent metric": ["list", "--where", "m01>0.5"],
        "search: two that never meet": ["list", "--where", "m01>0.5", "--where", "m01<0.4"],
        "search: metric and parameter": ["list", "--where", "m01>0.9", "--where", "p00=3"],
        "search: tag of a quarter": ["list", "--tag", "season=winter"],
        "search: tag of one": ["list", "--tag", "ticket=T-77"],
        "search: data read by all": ["list", "--data", f"{POPULAR}@1"],
        "search: data read by few": ["list", "--data", "data-013@17"],
        "search: alias": ["list", "--alias", "champion"],
        "search: since": ["list", "--since", "2025-06-01", "--until", "2025-06-02"],
        "runs list: metric": ["runs", "list", "--where", "m01>0.9999"],
        "lineage: a version": ["lineage", f"{LARGE}@20"],
        "lineage: data read by all": ["lineage", f"data:{POPULAR}@1"],
        "lineage: a run": ["lineage", f"run:{middle}"],
        "lineage: a deployment": ["lineage", "deployment:live-01"],
        "history: a deployment": ["history", "live-01"],
    }


def main() -> None:
    """Make, ask, print."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--versions", type=int, default=100_000)
    asked.add_argument("--links", type=int, default=10_000_000)
    asked.add_argument("--only", choices=KINDS)
    asked.add_argument("--repeat", type=int, default=7)
    asked.add_argument("--folder", type=Path)
    asked.add_argument("--keep", action="store_true", help="leave the home of SQLite where it is")
    asked.add_argument("--json", action="store_true")
    given = asked.parse_args()
    size = Size(given.versions, given.links)
    results = {}
    for kind in KINDS if given.only is None else (given.only,):
        with (
            _home(given.folder, given.keep) as home,
            postgresql(given.folder) if kind == "postgresql" else nullcontext() as url,
        ):
            results[kind] = _measured(home, url, size, given.repeat, lambda said: print(said, file=sys.stderr))
    if given.json:
        print(json.dumps(results, indent=2))
    else:
        _print(results)


@contextmanager
def _home(folder: Path | None, keep: bool) -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="modelyard-registry-", dir=folder))
    try:
        yield home
    finally:
        if keep:
            print(f"kept: {home}", file=sys.stderr)
        else:
            shutil.rmtree(home, ignore_errors=True)


def _measured(home: Path, url: str | None, size: Size, repeat: int, tell: Callable[[str], None]) -> dict[str, Any]:
    from modelyard.registry import Registry

    small = home / "small"
    os.environ.pop("MODELYARD_DATABASE_URL", None)
    with Registry.open(small) as registry:
        _real_version(registry, small)
    if url is not None:
        upgrade(url)
        os.environ["MODELYARD_DATABASE_URL"] = url
    large = home / "large"
    with Registry.open(large) as registry:
        start = time.perf_counter()
        links = fill(registry.database, size)
        _real_version(registry, large)
        filled = time.perf_counter() - start
        tell(f"{size.versions:,} versions and {links:,} links in {filled:.0f} s")
        told = {name: _in_process(large, words, repeat) for name, words in questions(size).items()}
        told["registry.models(): all of them"] = _median(registry.models, repeat)
    tell("whole commands")
    chosen = {name: words for name, words in questions(size).items() if name in AS_COMMANDS}
    commands = {name: _commands((large, small), words, url) for name, words in chosen.items()}
    disk = sum(file.stat().st_size for file in large.rglob("*.db*")) if url is None else None
    return {"links": links, "seconds to fill": filled, "bytes": disk, "in process": told, "commands": commands}


def _real_version(registry: Any, folder: Path) -> None:
    """One version that has files, for what looks into them."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
    from small_bundles import write_line  # type: ignore[import-not-found, unused-ignore]

    registry.register(write_line(folder / "bundle"))


def _in_process(home: Path, words: list[str], repeat: int) -> tuple[float, float]:
    """The whole command but starting Python and loading modules."""
    from typer.testing import CliRunner

    from modelyard.cli.app import app

    def ask() -> None:
        done = CliRunner().invoke(app, words, env={"MODELYARD_HOME": str(home)}, catch_exceptions=False)
        if done.exit_code:
            raise SystemExit(f"{' '.join(words)}: {done.stderr}")

    return _median(ask, repeat)


def _median(ask: Callable[[], object], repeat: int) -> tuple[float, float]:
    """Wall and processor time, in milliseconds. On PostgreSQL the server's processor time is not in it."""
    ask()
    found = [_timed(ask) for _ in range(repeat)]
    return median(wall for wall, _ in found), median(cpu for _, cpu in found)


def _timed(ask: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    ask()
    return (time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3


def _commands(homes: tuple[Path, Path], words: list[str], url: str | None) -> tuple[float, float]:
    """Processor time of the whole command on the large and on the small registry, in turn: milliseconds, medians."""
    large, small = homes
    start_up = {"list": ["list"], "show": ["show", "line@1"], "lineage": ["lineage", "line@1"]}[words[0]]
    found = [(_command(large, url, words), _command(small, None, start_up)) for _ in range(3)]
    return median(one for one, _ in found), median(other for _, other in found)


def _command(home: Path, url: str | None, words: list[str]) -> float:
    environment = {name: value for name, value in os.environ.items() if name != "MODELYARD_DATABASE_URL"}
    environment |= {"MODELYARD_HOME": str(home), "COLUMNS": "160"}
    if url is not None:
        environment["MODELYARD_DATABASE_URL"] = url
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "modelyard.cli.app", *words], env=environment, capture_output=True, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3


def _print(results: dict[str, Any]) -> None:
    for kind, found in results.items():
        disk = f", {found['bytes'] / 1e9:.1f} GB" if found["bytes"] else ""
        print(f"\n{kind}: {found['links']:,} links, filled in {found['seconds to fill']:.0f} s{disk}")
        heads = ("in process", "processor", "command less start-up")
        print(f"{'':<34}{heads[0]:>12}{heads[1]:>12}{heads[2]:>24}   goal {GOAL_MS} ms")
        for name, (wall, cpu) in found["in process"].items():
            whole, start_up = found["commands"].get(name, (None, None))
            rest = "" if whole is None else f"{whole:.0f} - {start_up:.0f} = {whole - start_up:.0f} ms"
            verdict = "met" if wall < GOAL_MS else "NOT MET"
            print(f"{name:<34}{wall:>9.0f} ms{cpu:>9.0f} ms{rest:>24}   {verdict}")


if __name__ == "__main__":
    main()
