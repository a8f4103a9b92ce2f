"""Memory of versions that are no longer served goes back to the system."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from modelyard.domain.desired import Deployment
from modelyard.domain.frame import Frame, Vector
from modelyard.home import Home
from modelyard.serving import memory
from modelyard.serving.meters import Meters
from modelyard.serving.opening import open_version
from modelyard.serving.plane import DataPlane
from small_bundles import write_line
from unit.serving.parts import PATIENCE, desired

SWAPS = int(os.environ.get("MODELYARD_SWAPS", "40"))
BALLAST = 4_000_000


def test_versions_that_come_and_go_leave_no_memory_behind(tmp_path: Path) -> None:
    made = [write_line(tmp_path / str(slope), slope=slope, ballast=BALLAST) for slope in (2.0, 3.0)]
    versions = [Deployment("line", "line", at + 1, one.digest, str(one.path)) for at, one in enumerate(made)]
    home, meters = Home(tmp_path / "home").create(), Meters()
    plane = DataPlane(lambda wanted: open_version(wanted, home, meters=meters), memory.give_back)
    row = Frame({"x": Vector(np.array([1.0]))}, 1)

    def swap(number: int) -> None:
        plane.apply(desired(number, versions[number % 2]))
        assert plane.settle(PATIENCE)
        served = plane.lease("line")
        assert served.runtime.predict(row)["predict"].tolist() == [3.0 if number % 2 else 2.0]
        served.leases.give_back()

    try:
        for number in range(1, 11):
            swap(number)
        before = memory.held_bytes()
        for number in range(11, 11 + SWAPS):
            swap(number)
        grown = memory.held_bytes() - before
    finally:
        plane.close()
    # Huge pages come and go by themselves; what all versions leave behind would be several times as much.
    assert grown < SWAPS // 4 * BALLAST


def test_what_was_freed_goes_back_to_the_system() -> None:
    used = [os.urandom(60_000) for _ in range(600)]
    kept = os.urandom(60_000)  # above them, so that they do not go by themselves
    before = memory.held_bytes()
    used.clear()
    memory.give_back()
    assert before - memory.held_bytes() > 20_000_000
    assert kept
