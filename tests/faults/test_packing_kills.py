"""A training program is killed at random moments while it packs: no half version, and packing works again."""

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

KILLS = size(6, 100)

PACKING = """
import itertools, sys
import numpy as np
from sklearn.linear_model import LinearRegression
import modelyard as my
import modelyard.bundle.pack, modelyard.registry  # what is killed is packing, not importing

X = np.arange(60.0).reshape(-1, 3)
for count in itertools.count(int(sys.argv[1])):
    model = LinearRegression().fit(X, X.sum(axis=1) * (count + 1))
    print("packing", flush=True)
    version = my.pack(model, sample=X, name="line", golden_rows=16)
    print(version.number, version.digest, flush=True)
"""
"""Each version it packs is another one, numbered from the argument."""


def start(home: Path, work: Path, first: int) -> subprocess.Popen[str]:
    work.mkdir()
    environment = os.environ | {"MODELYARD_HOME": str(home), "TMPDIR": str(work)}
    process = subprocess.Popen(
        [sys.executable, "-c", PACKING, str(first)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "packing\n"
    return process


def acknowledged(process: subprocess.Popen[str]) -> dict[int, str]:
    """What it said was registered before it died."""
    said, _ = process.communicate()
    whole = [line.split() for line in said.splitlines(keepends=True) if line.endswith("\n") and line != "packing\n"]
    return {int(number): digest for number, digest in whole}


@pytest.mark.timeout(120 + 30 * KILLS)
def test_a_killed_training_program_leaves_whole_versions_or_none(tmp_path: Path) -> None:
    draw, home, known = random.Random(4), tmp_path / "home", dict[int, str]()
    for attempt in range(KILLS):
        process = start(home, tmp_path / f"work-{attempt}", first=1000 * attempt)
        time.sleep(draw.uniform(0.0, 2.0))
        process.send_signal(signal.SIGKILL)
        known |= acknowledged(process)
        with Registry.open(home) as registry:
            listed = registry.versions("line") if registry.models() else ()
            assert [version.number for version in listed] == list(range(1, len(listed) + 1))
            assert known.items() <= {version.number: version.digest for version in listed}.items()
            for version in listed:
                assert registry.bundle(version).digest == version.digest
    after = start(home, tmp_path / "after", first=10**6)
    assert after.stdout is not None
    assert after.stdout.readline().startswith(f"{len(listed) + 1} blake3:")
    after.kill()
    after.communicate()
