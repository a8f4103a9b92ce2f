"""Processes snapshot, pack, remove and collect at once, collections are killed at random moments: nothing is lost."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from faults.promises import LONG, size
from modelyard import data
from modelyard.collecting.gc import Collector, collect_all
from modelyard.home import Home
from modelyard.registry import Registry
from modelyard.registry.datasets import Datasets

KILLS = size(4, 200)
AT_ONCE = "timedelta(seconds=-3600)"

SNAPSHOTS = """
import itertools, random, sys
from pathlib import Path
from modelyard import data
from modelyard.datasets import packs
packs.FULL = 2**19  # many packs
draw, folder, name = random.Random(int(sys.argv[1])), Path(sys.argv[2]), sys.argv[3]
folder.mkdir()
print("ready", flush=True)
for turn in itertools.count():
    for at in range(4):  # contents come and go, so that what is unused is wanted again
        seed = draw.randrange(12)
        (folder / f"f{at}").write_bytes(random.Random(seed).randbytes(200_000 + seed))
    made = data.snapshot(folder, name, profile=False)
    print(made.version.ref, made.version.digest, flush=True)
"""

PACKS = """
import itertools, sys
from pathlib import Path
from small_bundles import write_bundle
from modelyard.registry import Registry
print("ready", flush=True)
with Registry.open() as registry:
    for turn in itertools.count():
        content = str(turn % 5).encode() * 50_000  # the same bundles again, removed and registered anew
        version = registry.register(write_bundle(Path(sys.argv[2]) / str(turn), sys.argv[3], content))
        print(version.ref, version.digest, flush=True)
"""

REMOVES = """
import random, sys
from modelyard import data, errors
from modelyard.collecting import removing
from modelyard.domain.names import Named
from modelyard.registry import Registry
draw = random.Random(int(sys.argv[1]))
print("ready", flush=True)
with Registry.open() as registry:
    while True:
        there = [f"data:{each.ref}" for newest in data.newest() for each in data.versions(newest.dataset)]
        there += [each.ref for model in registry.models() for each in registry.versions(model.name)]
        if len(there) > 6:
            ref = draw.choice(there)
            print(ref, "removing", flush=True)
            removing.remove(registry.database, Named.parse(ref), why="test")
"""

COLLECTS = f"""
from datetime import timedelta
from modelyard.collecting import content
from modelyard.collecting.gc import collect_all
from modelyard.datasets import packs
from modelyard.home import Home
packs.FULL = 2**19
content._WORTH_BYTES = 2**16
print("ready", flush=True)
while True:
    freed = collect_all(Home.locate(), {AT_ONCE})
    print(freed.packs, freed.rewritten, flush=True)
"""


def start(program: str, environment: Mapping[str, str], *words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()[1]
    return process


def killed(process: subprocess.Popen[str]) -> list[list[str]]:
    """Kill it, unless it died by itself, which is a failure; what it said."""
    assert process.poll() is None, process.communicate()[1]
    process.send_signal(signal.SIGKILL)
    said, _ = process.communicate()
    return [line.split() for line in said.splitlines(keepends=True) if line.endswith("\n")]


@contextmanager
def at_work(environment: Mapping[str, str], folder: Path) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Processes that write and remove."""
    works = {
        "one": start(SNAPSHOTS, environment, 1, folder / "one", "one"),
        "two": start(SNAPSHOTS, environment, 2, folder / "two", "two"),
        "packs": start(PACKS, environment, 3, folder / "bundles", "toy"),
        "removes": start(REMOVES, environment, 4),
    }
    try:
        yield works
    finally:
        for process in works.values():
            process.kill()
            process.communicate()


@pytest.mark.timeout(120 + 10 * KILLS)
def test_nothing_in_use_is_lost(tmp_path: Path, any_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    if any_home.objects_url is not None and not LONG:
        pytest.skip("the long form does this with PostgreSQL and S3 too")
    home = any_home.path
    monkeypatch.setenv("MODELYARD_HOME", str(home))
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path}
    data.newest(home=home)
    draw = random.Random(20130101)
    finished = 0
    with at_work(environment, tmp_path) as works:
        for attempt in range(KILLS):
            collecting = start(COLLECTS, environment)
            # Some only once they have collected something, however long that takes on a busy machine.
            if attempt % 2 and collecting.stdout is not None:
                collecting.stdout.readline()
                finished += 1
            time.sleep(draw.uniform(0.0, 0.6))
            killed(collecting)
        said = {name: killed(process) for name, process in works.items()}
    assert finished
    removed = {ref for ref, _ in said["removes"]}
    made = {f"data:{ref}": digest for name in ("one", "two") for ref, digest in said[name]}
    made |= dict(said["packs"])
    assert len(made) > 6
    assert removed
    check(any_home, {ref: digest for ref, digest in made.items() if ref not in removed})
    collect_all(any_home, timedelta(seconds=-3600))
    check(any_home, {ref: digest for ref, digest in made.items() if ref not in removed})
    with Registry.open(any_home) as registry:
        datasets = Datasets(registry.home, registry.database)
        found = Collector(registry, datasets, timedelta(seconds=-3600), lambda what, count: None).survey()
        datasets.close()
        assert not found.content.dead
        assert not found.bundles


def check(home: Home, acknowledged: Mapping[str, str]) -> None:
    """Everything acknowledged and not removed is there, and everything that is known is whole."""
    known: dict[str, str] = {}
    for newest in data.newest(home=home):
        for version in data.versions(newest.dataset, home=home):
            known[f"data:{version.ref}"] = version.digest
            assert data.verify(version.ref, home=home) == (), version.ref
    with Registry.open(home) as registry:
        for model in registry.models():
            for each in registry.versions(model.name):
                known[each.ref] = registry.bundle(each).digest
    assert acknowledged.items() <= known.items(), json.dumps(sorted(set(acknowledged) - set(known)))
