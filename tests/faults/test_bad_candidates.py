"""A candidate that passes every check and misbehaves once callers ask it costs no more than its share: rolled back.

In the short form it crashes; in the long form it also hangs, eats memory, is slow, fails and answers NaN.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import user_models
from faults.promises import LONG, say
from load import RIGHT, Call, Target, load, quantile
from modelyard.bundle.pack import build_bundle
from modelyard.control import rollouts
from modelyard.control.rollouts import Rollout
from modelyard.control.up import running
from modelyard.home import Home
from modelyard.records.log import RecordFiles
from modelyard.registry import Registry
from modelyard.rollout.written import policy_of
from modelyard.serving.opening import MEMORY_SETTING
from scenarios.test_up_deploy import Yard, eventually

SPOILED = "spoiled"
SHARE = 0.2
MEMORY_MB = 450
UNTIL = 240.0
KINDS = ("crashes", "hangs", "eats memory", "answers slowly", "fails", "answers NaN")
POLICY = {
    "least": 1.0,
    "most": 3600,
    "metrics": {
        "errors": 0.02,
        "slow": {"margin": 0.05, "objective_ms": 250.0},
        "unusable": 0.02,
    },
}

pytestmark = pytest.mark.timeout(600)

UP = """
import signal, sys, threading
from pathlib import Path
from modelyard.control.up import Options, supervise
from modelyard.home import Home

stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
words = ("--python", sys.executable, "--workers", "2")
supervise(Home(Path(sys.argv[1])), Options(port=0, serving=words), stop, lambda _: None, lambda _: None)
"""


class Planes(Yard):
    """Both planes, with an interpreter for native forms that is there already."""

    def start(self) -> None:
        command = [sys.executable, "-P", "-c", UP, str(self.home.path)]
        self.planes = subprocess.Popen(command, text=True)
        eventually(lambda: running(self.home))


@pytest.fixture
def planes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Planes]:
    monkeypatch.setenv(MEMORY_SETTING, str(MEMORY_MB))
    made = Planes(Home(tmp_path / "yard").create())
    made.start()
    yield made
    made.down()


@pytest.mark.parametrize("share", [0.0, SHARE] if LONG else [SHARE])
@pytest.mark.parametrize("what", KINDS if LONG else KINDS[:1])
def test_a_candidate_that_misbehaves_costs_no_more_than_its_share_and_is_rolled_back(
    planes: Planes, tmp_path: Path, what: str, share: float
) -> None:
    there = running(planes.home)
    assert there is not None
    address = ("127.0.0.1", int(there.data.url.rpartition(":")[2]))
    with Registry.open(planes.home) as registry:
        refs = [_registered(registry, tmp_path / str(at), one) for at, one in enumerate(("behaves", what))]
        (tmp_path / SPOILED).touch()
        planes.json("deploy", refs[0], "--to", "live", "--unproven", "a test")
        with load(tmp_path, address, Target("/predict/live", "twice", callers=8, pause=0.01)) as callers:
            callers.wait_for_more(20)
            policy = policy_of(POLICY | {"steps": [share, 1.0]})
            rollouts.begin(registry, refs[1], "live", "canary", policy=policy, override_reason="a test")
            ended = eventually(lambda: _ended(registry), UNTIL)
            eventually(lambda: planes.json("status")["deployments"][0]["candidate"] is None)
            callers.wait_for_more(3)
            calls = callers.end()
    assert (ended.state, ended.changes[-1].by) == ("rolled back", rollouts.ITSELF), ended
    _check(planes, calls, ended, what, share)


def _registered(registry: Registry, folder: Path, what: str) -> str:
    sample = pd.DataFrame({"x": [1.0, -2.0, 3.0]})
    made = build_bundle(
        user_models.spoiled(what, str(folder.with_name(SPOILED))),
        sample=sample,
        name="twice",
        into=folder,
        golden_rows=3,
    )
    return registry.register(made).ref


def _ended(registry: Registry) -> Rollout | None:
    found = rollouts.shown(registry, "live")
    return None if found.is_live else found


def _check(planes: Planes, calls: list[Call], ended: Rollout, what: str, share: float) -> None:
    harmed = [call for call in calls if call.outcome != RIGHT]
    seconds = (ended.changes[-1].at - ended.changes[0].at).total_seconds()
    behind = quantile((one.seconds for one in calls if one.version == "1"), 0.99)
    say(
        f"{what}, {share:.0%} of the calls: rolled back after {seconds:.1f} s, {ended.changes[-1].reason};"
        f" {len(harmed)} of {len(calls)} calls harmed {Counter(call.outcome for call in harmed)};"
        f" of the others 99 % within {1e3 * behind:.0f} ms"
    )
    # Five standard deviations, and those that each worker had open when it ended.
    spread = 5 * math.sqrt(len(calls) * share * (1 - share)) + 5 * share
    assert len(harmed) <= len(calls) * share + spread
    # Whoever was answered by the version before was answered well, and what failed was the candidate's. On a machine
    # that is busy with other things calls may be refused, which is told apart.
    found = [one for one in RecordFiles(planes.home.records).predictions() if one.deployment == "live"]
    assert {one.version for one in found if one.outcome not in ("ok", "refused")} <= {2}
    assert {call.version for call in harmed} <= {"", "2"}
    if not share:
        assert [call for call in harmed if call.status != 429] == []
