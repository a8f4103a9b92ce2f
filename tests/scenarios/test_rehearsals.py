"""The way back is rehearsed on real planes under load: it works and nobody notices, or it does not and why."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

import compiled_bundles
from load import RIGHT, Target, load
from modelyard.bundle.layout import Bundle
from modelyard.control import rehearsing, rollouts
from modelyard.home import Home
from modelyard.registry import Registry
from scenarios.test_rollouts import BIASES, registered
from scenarios.test_up_deploy import Yard, eventually
from small_bundles import report


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    made = Yard(Home(tmp_path / "yard").create())
    yield made
    made.down()


def test_the_way_back_is_measured_over_the_wire_and_costs_no_call(yard: Yard, tmp_path: Path) -> None:
    first, second = (registered(yard, tmp_path / str(bias), bias) for bias in (0.0, 1.0))
    there = yard.up()
    url = there.data.url
    yard.json("deploy", first, "--to", "live")
    code, _, said = yard.run("rehearse", "live")
    assert (code, "nothing to go back to" in said) == (5, True)
    yard.json("deploy", second, "--to", "live")

    address = ("127.0.0.1", int(url.rpartition(":")[2]))
    with load(tmp_path, address, Target("/predict/live", callers=2, rows=2, biases=BIASES)) as running:
        done = yard.json("rehearse", "live")
        running.wait_for_more(3)
        calls = running.end()
    found = done["rehearsal"]
    assert (done["passed"], found["present"], found["other"], found["reason"]) == (True, second, first, "")
    assert found["load_seconds"] > 0
    for switch in (found["there"], found["back"]):
        assert (switch["calls"] >= 12, switch["failed"], switch["seconds"] < 30) == (True, 0, True)
    assert {call.outcome for call in calls} == {RIGHT}
    # One call of a hundred thousand may go to the version before; two of these few do not.
    assert sum(call.version == "1" for call in calls) <= 1

    eventually(lambda: httpx.get(f"{url}/v2/models/live", trust_env=False).json()["versions"] == ["2"])
    assert yard.json("status")["deployments"][0]["rehearsal"] == found
    assert "the way back took" in yard.run("status")[1]
    assert yard.run("rollout", "show", "live")[0] == 3, "a rehearsal is no rollout that somebody asked for"
    told = httpx.get(f"{there.control.url}/deployments/live/rehearsals", trust_env=False).json()
    assert told == {"rehearsals": [found]}
    assert yard.run("rehearse", "live", "--within", "0")[0] == 1


def test_a_version_that_cannot_come_back_is_told_while_nobody_needs_it(yard: Yard, tmp_path: Path) -> None:
    with Registry.open(yard.home) as registry:
        refs = [
            _register(registry, compiled_bundles.write_compiled(tmp_path / str(width), width=width)) for width in (4, 3)
        ]
    yard.up()
    for ref in refs:
        yard.json("deploy", ref, "--to", "live")
    found = yard.json("rehearse", "live", status=1)["rehearsal"]
    assert "does not take rows that toy@2 takes" in found["reason"]
    assert "x3" in found["reason"]

    # The present version's rows aside, its files have to be there and answer as training did.
    with Registry.open(yard.home) as registry:
        broken = _register(registry, compiled_bundles.write_compiled(tmp_path / "shifted", shift=0.25))
    found = yard.json("rehearse", "live", "--to", broken, status=1)["rehearsal"]
    assert (found["other"], found["there"]) == (broken, None)
    assert "differ from those of training" in found["reason"]
    assert "does not work" in yard.run("status")[1]
    with Registry.open(yard.home) as registry:
        assert rollouts.open_rollouts(registry) == ()


def test_a_rehearsal_that_was_left_does_not_stay_open(yard: Yard, tmp_path: Path) -> None:
    first, second = (registered(yard, tmp_path / str(bias), bias) for bias in (0.0, 1.0))
    assert yard.run("deploy", first, "--to", "live", "--no-wait")[0] == 0
    code, _, said = yard.run("rehearse", "live", "--to", second)
    assert (code, "modelyard up" in said) == (7, True)
    with Registry.open(yard.home) as registry:
        begun = rollouts.begin(registry, second, "live", "rehearsal")
        now = datetime.now(UTC)
        assert rehearsing.end_forgotten(registry, now + timedelta(minutes=1)) == ()
        assert rehearsing.end_forgotten(registry, now + timedelta(hours=1)) == ("live",)
        assert rollouts.open_rollouts(registry) == ()
        assert begun.strategy == "rehearsal"


def _register(registry: Registry, bundle: Bundle) -> str:
    version = registry.register(bundle)
    registry.add_report(version, report(bundle, version.number))
    return version.ref
