"""Rollouts that go on by themselves, over a real registry and real records; what the data plane says is given."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from modelyard.control import driving, rollouts, steering
from modelyard.control.deployments import deploy, desired_state
from modelyard.control.driving import Driver
from modelyard.control.watch import Served, Sighting
from modelyard.domain.records import PredictionRecord
from modelyard.errors import Conflict, InvalidRequest
from modelyard.records.log import PredictionLog
from modelyard.registry import Registry
from modelyard.rollout.policy import Policy, Rule, Step
from unit.control.test_deployments import proven

POLICY = Policy(
    steps=(Step(0.0, 3, 60), Step(0.5, 3, 60), Step(1.0, 3, 60)),
    rules=(Rule("errors", 0.05, required=False),),
    approvers=("ada",),
)


class Plane:
    """Answers for the data plane, and is the clock."""

    def __init__(self, registry: Registry) -> None:
        self.registry, self.now = registry, datetime.now(UTC)
        self.state, self.reason, self.silent = "READY", "", ""

    def __call__(self, _registry: Registry) -> Sighting | str:
        wanted = desired_state(self.registry)
        served = [
            Served(one.name, one.model, one.version, *(self.state, self.reason) if "." in one.name else ("READY",))
            for one in wanted.deployments
        ]
        return self.silent or Sighting(True, "", wanted.generation, tuple(served))

    def clock(self) -> datetime:
        return self.now


@pytest.fixture
def plane(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plane:
    first, second = proven(registry, tmp_path / "1", b"1"), proven(registry, tmp_path / "2", b"2")
    deploy(registry, first, "live")
    rollouts.begin(registry, second, "live", "canary", policy=POLICY, by="ada")
    made = Plane(registry)
    monkeypatch.setattr(driving, "sight", made)
    return made


def looks(driver: Driver, plane: Plane, times: int, seconds: float = 1.0) -> list[str]:
    found = []
    for _ in range(times):
        plane.now += timedelta(seconds=seconds)
        found += [one.action for one in driver.look()]
    return found


def test_it_goes_from_step_to_step_and_waits_for_who_has_to_agree(registry: Registry, plane: Plane) -> None:
    driver = Driver(registry, plane.clock)
    assert desired_state(registry).splits[0].shadow
    assert looks(driver, plane, 4) == ["wait", "wait", "wait", "advance"]
    assert [(split.share, split.shadow) for split in desired_state(registry).splits] == [(0.5, False)]
    assert looks(driver, plane, 5)[-2:] == ["hold", "hold"]
    with pytest.raises(InvalidRequest, match="only ada"):
        steering.approve(registry, "live", by="eve")
    steering.approve(registry, "live", "looks good", by="ada")
    with pytest.raises(Conflict, match="already"):
        steering.approve(registry, "live", by="ada")
    assert looks(driver, plane, 1) == ["advance"]
    assert looks(driver, plane, 5) == ["wait", "wait", "wait", "promote"]
    rollout = rollouts.shown(registry, "live")
    assert [(one.action, one.share, one.by) for one in rollout.changes] == [
        ("begin", 0.0, "ada"), ("advance", 0.5, "modelyard"), ("approve", 0.5, "ada"),
        ("advance", 1.0, "modelyard"), ("promote", 1.0, "modelyard"),
    ]  # fmt: skip
    stored = steering.decided(registry, rollout)
    assert [one.decision.action for one in stored] == ["wait", "advance", "wait", "hold", "advance", "wait", "promote"]
    assert all(one.replayed() == one.decision for one in stored)


def test_paused_by_hand_it_stays_and_its_time_stands_still(registry: Registry, plane: Plane) -> None:
    driver = Driver(registry, plane.clock)
    looks(driver, plane, 2)
    steering.pause(registry, "live", "a look first", by="ben")
    assert looks(driver, plane, 12, seconds=10) == ["pause"] * 12
    assert rollouts.shown(registry, "live").paused == "paused by ben: a look first"
    with pytest.raises(Conflict, match="a look first"):
        steering.pause(registry, "live")
    steering.resume(registry, "live", by="ben")
    assert looks(driver, plane, 4) == ["wait", "wait", "advance", "wait"]
    with pytest.raises(Conflict, match="not paused"):
        steering.resume(registry, "live")


def test_another_control_plane_goes_on_where_the_last_one_was(registry: Registry, plane: Plane) -> None:
    assert looks(Driver(registry, plane.clock), plane, 4)[-1] == "advance"
    looks(Driver(registry, plane.clock), plane, 2)
    again = Driver(registry, plane.clock)
    assert looks(again, plane, 1) == ["wait"]
    found = steering.standing_of(registry, rollouts.shown(registry, "live"))
    assert found is not None
    assert (found.course.step, len(found.course.stretches)) == (1, 2)
    assert looks(again, plane, 3)[-1] == "hold"


@pytest.mark.parametrize(("undecided", "action"), [("hold", "hold"), ("rollback", "rollback"), ("promote", "advance")])
def test_without_a_call_it_is_undecided(registry: Registry, plane: Plane, undecided: Any, action: str) -> None:
    rollouts.rollback(registry, "live")
    policy = msgspec.structs.replace(POLICY, rules=(Rule("errors", 0.05),), undecided=undecided, approvers=())
    rollouts.begin(registry, "toy@2", "live", "canary", policy=policy)
    driver = Driver(registry, plane.clock)
    assert looks(driver, plane, 4, seconds=25) == ["wait", "wait", "wait", action]
    share = {"hold": 0.0, "rollback": 0.0, "promote": 0.5}[undecided]
    assert rollouts.shown(registry, "live").share == share


def test_who_promotes_without_an_approval_is_on_record(registry: Registry, plane: Plane) -> None:
    promoted = rollouts.promote(registry, "live", "it is urgent", by="eve")
    assert promoted.changes[-1].reason == "it is urgent (without the approval of ada)"
    assert Driver(registry, plane.clock).look() == [], "what is being promoted is nobody's to decide any more"


def test_a_candidate_that_cannot_be_opened_is_taken_back(registry: Registry, plane: Plane) -> None:
    plane.state, plane.reason = "UNAVAILABLE", "its answers differ"
    found = looks(Driver(registry, plane.clock), plane, 20)
    assert found == ["wait"] * 10 + ["rollback"]
    assert "its answers differ" in rollouts.shown(registry, "live").changes[-1].reason
    assert [one.name for one in desired_state(registry).deployments] == ["live"]


def test_while_the_data_plane_is_silent_time_stands_still(registry: Registry, plane: Plane) -> None:
    driver = Driver(registry, plane.clock)
    looks(driver, plane, 2)
    plane.silent = "nothing runs on this home"
    assert looks(driver, plane, 15) == ["wait"] * 15
    plane.silent = ""
    assert looks(driver, plane, 3) == ["wait", "wait", "advance"]


def test_the_next_step_by_hand(registry: Registry, plane: Plane) -> None:
    driver = Driver(registry, plane.clock)
    looks(driver, plane, 1)
    assert steering.advance(registry, "live", "in a hurry", by="ada").share == 0.5
    assert looks(driver, plane, 1) == ["wait"]
    steering.advance(registry, "live", by="ada")
    with pytest.raises(Conflict, match="last step"):
        steering.advance(registry, "live")
    assert rollouts.rollback(registry, "live", "enough").state == "rolled back"
    assert driver.look() == []


def test_every_call_counts_once_by_the_share_that_it_arrived_under(
    registry: Registry, plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steering, "now", plane.clock)
    steps = (Step(0.2, 0, 60), Step(0.5, 900, 900), Step(1.0, 900, 900))
    rollouts.rollback(registry, "live")
    policy = msgspec.structs.replace(POLICY, steps=steps, rules=(Rule("errors", 0.05),))
    rollouts.begin(registry, "toy@2", "live", "canary", policy=policy)
    log = PredictionLog(registry.home.records)
    driver = Driver(registry, plane.clock)

    def calls(version: int, many: int, ms: float = 1.0) -> None:
        for number in range(many):
            arrived = int(plane.now.timestamp() * 1e9) + (number + 1) * 1000
            name = f"{version}-{arrived}"
            log.append(
                PredictionRecord(
                    name, "live", "toy", version, "d", arrived, int(ms * 1e6), 500, "failed", "rows", 0, b"", b"{}"
                )
            )
        plane.now += timedelta(seconds=0.5)

    def counted() -> list[float]:
        found = steering.standing_of(registry, rollouts.shown(registry, "live"))
        assert found is not None
        errors = found.course.evidence.divided.get("errors")
        return [] if errors is None else [errors.seen.baseline, errors.seen.candidate]

    calls(1, 7)  # nobody divides yet
    looks(driver, plane, 1)
    calls(1, 4)
    calls(2, 1, ms=4000.0)  # its answer comes when the share is another
    looks(driver, plane, 3)
    assert counted() == [4, 0]
    steering.advance(registry, "live")
    calls(2, 50)  # some workers divide by the old share, some by the new one
    looks(driver, plane, 1)
    calls(1, 3)
    calls(2, 2)
    looks(driver, plane, 9)
    assert counted() == [7, 3]
    looks(Driver(registry, plane.clock), plane, 3)
    assert counted() == [7, 3]
