"""Moving versions to another home is killed at random moments: what is there is whole, and going on finishes it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_stores import content, write
from faults.promises import size
from modelyard import data
from modelyard.collecting.gc import collect_all
from modelyard.domain.names import Named
from modelyard.exchange.arriving import Terms
from modelyard.exchange.moving import move
from modelyard.exchange.side import opened
from modelyard.home import Home
from modelyard.registry import Registry
from small_bundles import write_bundle

KILLS = size(3, 60)
REFS = ("toy@1", "toy@2", "data:numbers@1", "data:numbers@2")

MOVES = """
import sys
from pathlib import Path
from modelyard.datasets import packs
from modelyard.domain.names import Named
from modelyard.exchange.arriving import Terms
from modelyard.exchange.moving import move
from modelyard.exchange.side import opened
from modelyard.home import Home
packs.FULL = 2**19  # many packs, so that kills come between and within them
print("ready", flush=True)
with opened(Home(Path(sys.argv[1])), "there") as source, opened(Home(Path(sys.argv[2])), "here") as target:
    move(source, target, [Named.parse(ref) for ref in sys.argv[3:]], Terms())
print("done", flush=True)
"""


def check(home: Home) -> None:
    for newest in data.newest(home=home):
        for version in data.versions(newest.dataset, home=home):
            assert data.verify(version.ref, home=home) == ()
    with Registry.open(home) as registry:
        for model in registry.models():
            for each in registry.versions(model.name):
                assert registry.bundle(each).digest == each.digest


@pytest.mark.timeout(60 + 20 * KILLS)
def test_a_killed_move_leaves_whole_things_and_goes_on(tmp_path: Path) -> None:
    source, draw = Home(tmp_path / "source"), random.Random(20130101)
    for number in range(2):
        files = {f"f{at}": content(300_000, 10 * number + at) for at in range(10)}
        write(tmp_path / f"data-{number}", files | {"same": content(2_000_000, 99)})
        data.snapshot(tmp_path / f"data-{number}", "numbers", home=source, profile=False)
    with Registry.open(source) as registry:
        for number in range(2):
            registry.register(write_bundle(tmp_path / f"bundle-{number}", content=content(500_000, number)))
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    for attempt in range(KILLS):
        target = Home(tmp_path / f"target-{attempt // 3}")
        command = [sys.executable, "-c", MOVES, str(source.path), str(target.path), *REFS]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path})
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(draw.uniform(0.0, 0.6))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        check(target)
        if attempt % 3 == 2:
            with opened(source, "there") as one, opened(target, "here") as other:
                done = move(one, other, [Named.parse(ref) for ref in REFS], Terms())
            assert [each.here for each in done.arrivals] == [each.there for each in done.arrivals]
            check(target)
            collect_all(target)
            check(target)
