"""A registering process is killed at random moments: the registry opens, and holds whole versions only."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from faults.promises import size
from modelyard.registry import Registry
from small_bundles import write_bundle

KILLS = size(10, 100)

REGISTERING = """
import itertools, os, sys
from pathlib import Path
from small_bundles import write_bundle
from modelyard.registry import Registry

home, work = map(Path, sys.argv[1:])
print("ready", flush=True)
with Registry.open(home) as registry:
    for count in itertools.count():
        content = os.urandom(16) * (2**19 if count % 3 == 1 else 1)  # now and then 8 MiB, stored in several pieces
        version = registry.register(write_bundle(work / str(count), content=content))
        print(version.number, version.digest, flush=True)
"""


def start(home: Path, work: Path) -> subprocess.Popen[str]:
    """A process that registers one bundle after the other and says so; it is about to open the registry."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", REGISTERING, str(home), str(work)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def kill(process: subprocess.Popen[str], first: str = "") -> dict[int, str]:
    """Kill it; returns what it acknowledged before, the `first` line included."""
    process.send_signal(signal.SIGKILL)
    said = first + process.communicate()[0]
    whole = [line.split() for line in said.splitlines(keepends=True) if line.endswith("\n")]
    return {int(number): digest for number, digest in whole}


def check(home: Path, acknowledged: dict[int, str], spare: Path) -> None:
    """Everything acknowledged is there, everything listed is whole, and registering goes on."""
    with Registry.open(home) as registry:
        listed = registry.versions("toy") if registry.models() else ()
        assert [version.number for version in listed] == list(range(1, len(listed) + 1))
        for version in listed:
            assert registry.bundle(version).digest == version.digest
        assert acknowledged.items() <= {version.number: version.digest for version in listed}.items()
        added = registry.register(write_bundle(spare, content=os.urandom(16)))
        assert added.number == len(listed) + 1


@pytest.mark.timeout(60 + 20 * KILLS)
def test_a_killed_process_leaves_whole_versions_or_none(tmp_path: Path) -> None:
    draw = random.Random(20130101)
    known: dict[Path, dict[int, str]] = {}
    for attempt in range(KILLS):
        # Every second time a home that does not exist yet, so that making the database is interrupted too.
        home = tmp_path / ("shared" if attempt % 2 else f"fresh-{attempt}")
        process = start(home, tmp_path / f"work-{attempt}")
        # Every third time only once it has registered something, however long that takes on a busy machine.
        assert process.stdout is not None
        first = process.stdout.readline() if attempt % 3 == 1 else ""
        time.sleep(draw.uniform(0.0, 0.5 if attempt % 2 else 0.2))
        known.setdefault(home, {}).update(kill(process, first))
        check(home, known[home], tmp_path / f"spare-{attempt}")
    assert any(known.values())
