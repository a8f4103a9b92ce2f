from __future__ import annotations

from pathlib import Path

import pytest

from modelyard.collecting.removing import remove
from modelyard.control import rollouts
from modelyard.control.closing import is_carried_out
from modelyard.control.deployments import deploy, desired_state, generation, history, in_force, undeploy
from modelyard.control.watch import Served, Sighting
from modelyard.domain.desired import Split
from modelyard.domain.names import Named
from modelyard.errors import (
    Conflict,
    DeploymentNotFound,
    InvalidRequest,
    PolicyDenied,
    RolloutNotFound,
    StillReferenced,
)
from modelyard.registry import Registry
from small_bundles import write_bundle
from unit.control.test_deployments import proven


@pytest.fixture
def two(registry: Registry, tmp_path: Path) -> tuple[str, str]:
    """A deployment ``live`` of the first of two versions."""
    first, second = proven(registry, tmp_path / "1", b"1"), proven(registry, tmp_path / "2", b"2")
    deploy(registry, first, "live")
    return first, second


def asked(registry: Registry) -> list[tuple[str, int]]:
    return [(one.name, one.version) for one in desired_state(registry).deployments]


def test_a_candidate_stands_beside_and_is_promoted(registry: Registry, two: tuple[str, str]) -> None:
    begun = rollouts.begin(registry, two[1], "live", "ab", share=0.1, key="customer", by="ada")
    assert (begun.candidate, begun.before, begun.state, begun.is_live) == (two[1], two[0], "open", True)
    state = desired_state(registry)
    assert asked(registry) == [("live", 1), ("live.candidate", 2)]
    assert state.splits == (Split("live", 0.1, f"live/{begun.id}", "customer"),)
    assert state.generation == generation(registry) == 2

    rollouts.set_share(registry, "live", 0.3, "it does well", by="ben")
    assert desired_state(registry).splits[0].share == 0.3

    promoted = rollouts.promote(registry, "live", "better", by="ada")
    assert asked(registry) == [("live", 2), ("live.candidate", 2)], "nobody goes back meanwhile"
    assert desired_state(registry).splits[0].share == 1.0
    assert rollouts.promote(registry, "live") == promoted, "asking twice is harmless"

    rollouts.finish(registry, "live")
    assert asked(registry) == [("live", 2)]
    assert desired_state(registry).splits == ()
    ended = rollouts.shown(registry, "live")
    assert [(one.action, one.share, one.by) for one in ended.changes] == [
        ("begin", 0.1, "ada"), ("share", 0.3, "ben"), ("promote", 1.0, "ada"), ("finish", 1.0, "ada"),
    ]  # fmt: skip
    numbers = [one.generation for one in (*ended.changes, *history(registry, "live"))]
    assert len(set(numbers)) == len(numbers)
    assert (ended.state, ended.is_live) == ("promoted", False)


@pytest.mark.parametrize("promoting", [False, True])
def test_rolled_back_the_version_before_answers(registry: Registry, two: tuple[str, str], promoting: bool) -> None:
    rollouts.begin(registry, two[1], "live", "blue-green")
    if promoting:
        rollouts.promote(registry, "live")
    rollouts.rollback(registry, "live", "slower at night", by="ada")
    assert asked(registry) == [("live", 1)]
    assert rollouts.shown(registry, "live").changes[-1].reason == "slower at night"
    assert rollouts.begin(registry, two[1], "live", "ab").is_live, "another one may begin"


def test_one_at_a_time_and_nothing_else_meanwhile(registry: Registry, two: tuple[str, str]) -> None:
    rollouts.begin(registry, two[1], "live", "shadow")
    assert desired_state(registry).splits[0].shadow
    with pytest.raises(Conflict, match="modelyard rollback live"):
        rollouts.begin(registry, two[1], "live", "ab")
    with pytest.raises(Conflict, match="is open"):
        deploy(registry, two[1], "live")
    with pytest.raises(StillReferenced, match="modelyard rollback live"):
        remove(registry.database, Named("model", two[1]), why="not needed")
    undeploy(registry, "live")
    assert (desired_state(registry).deployments, rollouts.shown(registry, "live").state) == ((), "rolled back")


def test_what_cannot_be_rolled_out_says_why(registry: Registry, two: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(DeploymentNotFound):
        rollouts.begin(registry, two[1], "other", "ab")
    with pytest.raises(InvalidRequest, match="is what 'live' answers with"):
        rollouts.begin(registry, two[0], "live", "ab")
    with pytest.raises(InvalidRequest, match="from 0 to 1"):
        rollouts.begin(registry, two[1], "live", "ab", share=1.5)
    with pytest.raises(InvalidRequest, match="--strategy ab"):
        rollouts.begin(registry, two[1], "live", "shadow", share=0.5)
    unproven = registry.register(write_bundle(tmp_path / "3", content=b"3"))
    with pytest.raises(PolicyDenied):
        rollouts.begin(registry, unproven.ref, "live", "ab")
    assert rollouts.begin(registry, unproven.ref, "live", "ab", override_reason="drill").unproven == "drill"
    for act in (rollouts.promote, rollouts.rollback, rollouts.finish, rollouts.shown):
        with pytest.raises(RolloutNotFound, match="no rollout of 'none'"):
            act(registry, "none")
    with pytest.raises(Conflict, match="not being promoted"):
        rollouts.finish(registry, "live")
    with pytest.raises(InvalidRequest, match="candidates"):
        deploy(registry, two[1], "other.candidate")


def test_a_promotion_is_closed_when_the_data_plane_answers_with_it(registry: Registry, two: tuple[str, str]) -> None:
    rollouts.begin(registry, two[1], "live", "ab")
    promoted = rollouts.promote(registry, "live")
    made = promoted.changes[-1].generation
    old, new = Served("live", "toy", 1, "READY"), Served("live", "toy", 2, "READY")
    assert not is_carried_out(promoted, Sighting(True, "", made - 1, (new,)))
    assert not is_carried_out(promoted, Sighting(True, "", made, (old,)))
    assert is_carried_out(promoted, Sighting(True, "", made, (new,)))
    assert [one.version for one in in_force(registry)] == [2]
