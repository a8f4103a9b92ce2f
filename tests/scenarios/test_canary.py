"""A canary on real planes under load from a process of its own: promoted, rolled back, paused, held, killed under."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import compiled_bundles
from load import REFUSED, RIGHT, Load, Target, load
from modelyard.control.up import running
from modelyard.home import Home
from modelyard.registry import Registry
from scenarios.test_up_deploy import Yard, eventually
from small_bundles import report

QUICK = ("--least", "1s", "--most", "10m", "--metric", "errors=0.2")


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    made = Yard(Home(tmp_path / "yard").create())
    yield made
    made.down()


@pytest.fixture
def live(yard: Yard, tmp_path: Path) -> str:
    """A deployment ``live``, and a second version to roll out."""
    yard.up()
    yard.json("deploy", registered(yard, tmp_path / "1"), "--to", "live")
    return registered(yard, tmp_path / "2", bias=1.0)


def registered(yard: Yard, folder: Path, bias: float = 0.0, fails_above: float | None = None) -> str:
    with Registry.open(yard.home) as registry:
        bundle = compiled_bundles.write_compiled(folder, bias=bias, fails_above=fails_above)
        version = registry.register(bundle)
        registry.add_report(version, report(bundle, version.number))
        return version.ref


def asked(yard: Yard, folder: Path) -> Any:
    there = running(yard.home)
    assert there is not None
    address = ("127.0.0.1", int(there.data.url.rpartition(":")[2]))
    return load(folder, address, Target("/predict/live", callers=3, pause=0.005, biases={"1": 0.0, "2": 1.0}))


def shown(yard: Yard) -> Any:
    return yard.json("rollout", "show", "live")


def becomes(yard: Yard, state: str, running: Load) -> Any:
    def look() -> Any:
        running.wait_for_more(1)
        found = shown(yard)
        return found if found["rollout"]["state"] == state else None

    return eventually(look, 60)


def actions(found: Any) -> list[tuple[str, str]]:
    return [(one["action"], one["by"]) for one in found["rollout"]["changes"]]


def test_harmless_it_goes_to_the_end_by_itself_and_survives_the_control_plane(
    yard: Yard, live: str, tmp_path: Path
) -> None:
    with asked(yard, tmp_path) as callers:
        began = yard.json("deploy", live, "--to", "live", "--strategy", "canary", "--steps", "shadow,0.5,1", *QUICK)
        assert began["state"] == "done"
        assert yard.run("deploy", live, "--to", "live", "--strategy", "canary")[0] == 4
        eventually(lambda: callers.wait_for_more(1) or shown(yard)["rollout"]["share"] == 0.5, 60)
        there = running(yard.home)
        assert there is not None
        os.kill(there.control.pid, signal.SIGKILL)
        found = becomes(yard, "promoted", callers)
        calls = callers.end()
    assert {call.outcome for call in calls} == {RIGHT}
    assert {call.version for call in calls} == {"1", "2"}
    who = [pair for pair in actions(found) if pair[0] != "begin"]
    assert [one for one, _ in who] == ["advance", "advance", "promote", "finish"]
    assert {by for _, by in who} == {"modelyard"}
    told = yard.json("rollout", "decisions", "live", "--replay")
    assert told["replayed"] == len(told["decisions"])
    assert told["different"] == []
    [errors] = found["progress"]["metrics"]
    assert (errors["candidate_rate"], errors["verdict"]) == (0.0, "passed")
    assert "all" in yard.run("rollout", "decisions", "live", "--replay")[1]


def test_harmful_it_is_taken_back_within_a_second_and_costs_no_more_than_its_share(
    yard: Yard, live: str, tmp_path: Path
) -> None:
    harmful = registered(yard, tmp_path / "3", fails_above=1.0)
    with asked(yard, tmp_path) as callers:
        yard.json("deploy", harmful, "--to", "live", "--strategy", "canary", "--steps", "0.3,1", *QUICK)
        found = becomes(yard, "rolled back", callers)
        callers.wait_for_more(3)
        calls = callers.end()
    last = found["rollout"]["changes"][-1]
    assert (last["by"], "harm above the margin is shown: errors" in last["reason"]) == ("modelyard", True)
    assert {call.outcome for call in calls} <= {RIGHT, REFUSED}
    lost = [call for call in calls if call.outcome == REFUSED]
    assert lost, "it was harmful"
    verdict = time.monotonic() - (time.time() - moment(last["at"]))
    assert max(call.begun for call in lost) / 1e9 - verdict < 1.0
    assert yard.json("status")["deployments"][0]["candidate"] is None


def test_people_pause_it_let_it_go_on_and_have_to_agree(yard: Yard, live: str, tmp_path: Path) -> None:
    there = running(yard.home)
    assert there is not None
    with asked(yard, tmp_path) as callers:
        yard.json(
            "deploy", live, "--to", "live", "--strategy", "canary", "--steps", "0.5,1", *QUICK, "--approver", "ada"
        )
        assert yard.run("rollout", "pause", "live", "--reason", "a look first")[0] == 0
        paused = eventually(lambda: (found := shown(yard))["progress"]["decision"]["action"] == "pause" and found)
        assert "a look first" in paused["progress"]["paused"]
        assert httpx.post(f"{there.control.url}/deployments/live/rollout/resume", json={"by": "ben"}).status_code == 200
        eventually(lambda: callers.wait_for_more(1) or shown(yard)["progress"]["decision"]["action"] == "hold", 60)
        assert "to be approved by ada" in yard.run("rollout", "show", "live")[1]
        assert yard.run("rollout", "approve", "live")[0] == 5
        assert yard.run("rollout", "approve", "live", "--as", "ada", "--reason", "fine")[0] == 0
        found = becomes(yard, "promoted", callers)
        calls = callers.end()
    assert {call.outcome for call in calls} == {RIGHT}
    assert [one for one, _ in actions(found)][:4] == ["begin", "pause", "resume", "approve"]
    watched = yard.run("rollout", "watch", "live")
    assert (watched[0], "promoted" in watched[1]) == (0, True)


def moment(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()
