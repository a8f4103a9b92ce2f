"""Calls for one deployment that are divided between two versions."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from modelyard.domain.desired import DesiredState, Split
from modelyard.errors import BundleRefused, VersionNotFound
from modelyard.serving.plane import DataPlane
from unit.serving.parts import PATIENCE, deployment
from unit.serving.test_plane import Opener

LIVE, CANDIDATE = deployment(version=1), deployment("live.candidate", version=2)
KEYS = [f"customer-{number}" for number in range(400)]


@pytest.fixture
def opener() -> Opener:
    return Opener()


@pytest.fixture
def plane(opener: Opener) -> Iterator[DataPlane]:
    made = DataPlane(opener)
    yield made
    made.close()


def divided(generation: int, share: float, **more: object) -> DesiredState:
    return DesiredState(generation, (LIVE, CANDIDATE), (Split("live", share, "live/1", **more),))  # type: ignore[arg-type]


def version(plane: DataPlane, key: str, asked: str | None = None) -> int:
    served = plane.lease("live", asked, key)
    served.leases.give_back()
    return served.deployment.version


def test_the_candidate_has_its_share_and_who_has_it_keeps_it(plane: DataPlane) -> None:
    before: set[str] = set()
    for generation, share in enumerate((0.0, 0.25, 0.5, 1.0), start=1):
        plane.apply(divided(generation, share))
        assert plane.settle(PATIENCE)
        got = {key for key in KEYS if version(plane, key) == 2}
        assert abs(len(got) / len(KEYS) - share) < 0.1
        assert before <= got
        before = got
    assert before == set(KEYS)


def test_who_names_a_version_gets_it(plane: DataPlane) -> None:
    plane.apply(divided(1, 0.0))
    assert plane.settle(PATIENCE)
    assert [version(plane, "a", asked) for asked in ("1", "2", None)] == [1, 2, 1]
    with pytest.raises(VersionNotFound):
        plane.lease("live", "3", "a")


def test_until_the_candidate_answers_nothing_is_divided(plane: DataPlane, opener: Opener) -> None:
    opener.gates[2] = threading.Event()
    plane.apply(divided(1, 1.0))
    assert [one.name for one in plane.status().deployments] == ["live", "live.candidate"]
    while not plane.is_loaded("live"):
        pass
    assert {version(plane, key) for key in KEYS} == {1}
    assert plane.readiness().ready, "a candidate on its way is no reason to send nothing here"
    opener.gates[2].set()
    assert plane.settle(PATIENCE)
    assert {version(plane, key) for key in KEYS} == {2}


def test_a_candidate_that_cannot_be_opened_gets_nothing(plane: DataPlane, opener: Opener) -> None:
    opener.errors[2] = BundleRefused("cut short")
    plane.apply(divided(1, 1.0))
    assert plane.settle(PATIENCE)
    assert {version(plane, key) for key in KEYS} == {1}
    assert plane.readiness().ready
    assert plane.status("live.candidate").deployments[0].reason == "cut short"


def test_taken_back_it_gets_nothing_more(plane: DataPlane) -> None:
    plane.apply(divided(1, 0.5))
    assert plane.settle(PATIENCE)
    plane.apply(DesiredState(2, (LIVE,)))
    assert {version(plane, key) for key in KEYS} == {1}
    assert plane.settle(PATIENCE)
    assert plane.names() == ["live"]
    assert [one.name for one in plane.status().deployments] == ["live"]


def test_a_candidate_is_no_deployment_of_its_own(plane: DataPlane) -> None:
    plane.apply(divided(1, 0.5))
    assert plane.settle(PATIENCE)
    assert plane.names() == ["live"]
