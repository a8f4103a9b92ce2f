"""The control plane is killed at random in one rollout after the other; each ends as it must, and no call is lost.

200 rollouts in the long form.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import compiled_bundles
from faults.promises import Moments, say, size
from load import RIGHT, Load, Target, load
from modelyard.control import rollouts, steering
from modelyard.control.rollouts import Rollout
from modelyard.control.up import running
from modelyard.errors import Conflict, RolloutNotFound
from modelyard.home import Home
from modelyard.registry import Registry
from modelyard.rollout.written import policy_of
from scenarios.test_up_deploy import Yard, eventually
from small_bundles import report

ROLLOUTS = size(3, 200)
KINDS = ("a canary without harm", "a canary that stays unsure", "promoted by hand")
BIASES = {"1": 0.0, "2": 1.0}
UNTIL = 120.0

pytestmark = pytest.mark.timeout(240 + 60 * ROLLOUTS)


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    made = Yard(Home(tmp_path / "yard").create())
    yield made
    made.down()


def test_a_control_plane_that_dies_in_a_rollout_finds_its_place_again(yard: Yard, tmp_path: Path) -> None:
    there = yard.up()
    moments, kills = Moments(), 0
    address = ("127.0.0.1", int(there.data.url.rpartition(":")[2]))
    with Registry.open(yard.home) as registry:
        refs = [_registered(registry, tmp_path / str(bias), bias) for bias in BIASES.values()]
        yard.json("deploy", refs[0], "--to", "live")
        answering = 0
        with load(tmp_path, address, Target("/predict/live", callers=3, rows=2, pause=0.01, biases=BIASES)) as callers:
            for number in range(ROLLOUTS):
                kind = KINDS[number % len(KINDS)]
                begun = _begin(registry, refs[1 - answering], kind)
                for _ in range(moments.draw.randint(1, 2)):
                    moments.wait(2.5)
                    kills += _kill(yard)
                expected = "rolled back" if kind == KINDS[1] else "promoted"
                if kind == KINDS[2]:
                    rollouts.promote(registry, "live")
                    kills += _kill(yard)
                ended = eventually(lambda begun=begun: _ended(registry, begun), UNTIL)
                assert ended.state == expected, ended
                answering = 1 - answering if expected == "promoted" else answering
                _check_right(yard, registry, ended, refs[answering], callers)
            calls = callers.end()
    say(f"{ROLLOUTS} rollouts, {kills} kills of the control plane, {len(calls)} calls")
    assert kills >= ROLLOUTS
    # Every row of an answer was checked against the one version that the answer names.
    assert {call.outcome for call in calls} == {RIGHT}
    assert {call.version for call in calls} == set(BIASES)


def _registered(registry: Registry, folder: Path, bias: float) -> str:
    bundle = compiled_bundles.write_compiled(folder, bias=bias)
    version = registry.register(bundle)
    registry.add_report(version, report(bundle, version.number))
    return version.ref


def _begin(registry: Registry, ref: str, kind: str) -> Rollout:
    if kind == "promoted by hand":
        return rollouts.begin(registry, ref, "live", "blue-green")
    table = {"steps": ["shadow", 0.5, 1.0], "least": 0.5, "most": 3600, "metrics": {"errors": 0.3}}
    if kind == "a canary that stays unsure":
        table |= {"steps": [0.3, 1.0], "most": 2.0, "metrics": {"errors": 0.0001}, "undecided": "rollback"}
    return rollouts.begin(registry, ref, "live", "canary", policy=policy_of(table))


def _kill(yard: Yard) -> bool:
    """Kill the control plane, if there is one just now."""
    there = running(yard.home)
    assert there is not None
    with contextlib.suppress(ProcessLookupError):
        os.kill(there.control.pid, signal.SIGKILL)
        return True
    return False


def _ended(registry: Registry, begun: Rollout) -> Rollout | None:
    try:
        found = rollouts.shown(registry, "live")
    except (RolloutNotFound, Conflict):
        return None
    assert found.id == begun.id
    return None if found.is_live else found


def _check_right(yard: Yard, registry: Registry, ended: Rollout, ref: str, callers: Load) -> None:
    """What answers is what was decided, nothing is left of the candidate, and every step was taken once."""
    eventually(lambda: (entry := yard.json("status")["deployments"][0])["answers"] == ref and not entry["candidate"])
    callers.wait_for_more(1)
    assert rollouts.open_rollouts(registry) == ()
    actions = [one.action for one in ended.changes]
    generations = [one.generation for one in ended.changes]
    assert len(set(generations)) == len(generations)
    if ended.strategy != "canary":
        assert actions == ["begin", "promote", "finish"]
        return
    decided = steering.decided(registry, ended)
    assert [stored.replayed() for stored in decided] == [stored.decision for stored in decided]
    taken = [
        stored.decision.action for stored in decided if stored.decision.action in ("advance", "promote", "rollback")
    ]
    assert taken == [action for action in actions if action not in ("begin", "finish")]
    assert actions in (["begin", "rollback"], ["begin", "advance", "advance", "promote", "finish"])
