"""Orders to unload and load: what they mean beside a desired state, and when they are carried out."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelyard.errors import DeadlinePassed, DeploymentNotFound, NotOffered, ParityFailed, VersionNotReady
from modelyard.serving import boards, orders
from modelyard.serving.boards import Board
from modelyard.serving.orders import Orders
from modelyard.serving.plane import DataPlane
from modelyard.serving.repository import Repository, Told, loaded, unloaded
from modelyard.serving.status import DeploymentStatus, PlaneStatus, State, Unloaded, VersionStatus
from unit.serving.parts import PATIENCE, deployment, desired, until
from unit.serving.test_plane import Opener, answering

ONE, TWO = deployment(version=1), deployment(version=2)


@pytest.fixture
def opener() -> Opener:
    return Opener()


@pytest.fixture
def plane(opener: Opener) -> Iterator[DataPlane]:
    plane = DataPlane(opener)
    plane.apply(desired(1, ONE, deployment("other", 7)))
    assert plane.settle(PATIENCE)
    yield plane
    for gate in opener.gates.values():
        gate.set()
    plane.close()


@pytest.fixture
def repository(plane: DataPlane) -> Repository:
    return Repository(plane)


def ordered(verb: str, repository: Repository, name: str = "live", **options: Any) -> dict[str, str]:
    return asyncio.run(getattr(repository, verb)(name, options.pop("parameters", {}), **options))


def test_what_is_unloaded_stays_so_until_it_is_loaded(repository: Repository, plane: DataPlane, opener: Opener) -> None:
    said = ordered("unload", repository)
    assert (said["name"], said["version"], said["state"]) == ("live", "1", "UNAVAILABLE")
    with pytest.raises(VersionNotReady, match="unloaded on request; an order to load it brings it back"):
        plane.lease("live")
    assert answering(plane, "other") == 7
    assert plane.readiness().ready, "it is not to answer"
    plane.apply(desired(2, ONE, deployment("other", 7)))
    assert plane.settle(PATIENCE)
    assert sorted(opener.opened) == [1, 7], "the same version, wanted again, stays unloaded"
    assert ordered("load", repository) == {"name": "live", "version": "1", "state": "READY", "reason": ""}
    assert answering(plane) == 1
    assert ordered("load", repository)["state"] == "READY", "loading what is loaded changes nothing"
    assert sorted(opener.opened) == [1, 1, 7]


def test_a_server_where_all_is_unloaded_is_not_ready(repository: Repository, plane: DataPlane) -> None:
    for name in ("live", "other"):
        ordered("unload", repository, name)
    assert plane.readiness().reason == "nothing is loaded: all that is deployed here was unloaded on request"


def test_another_version_is_loaded_and_a_return_to_the_first_too(tmp_path: Path, plane: DataPlane) -> None:
    repository = Repository(plane, tmp_path)
    orders.change(tmp_path, lambda before: before.unload(ONE, 1))
    repository.look()
    assert plane.settle(PATIENCE)
    assert plane.only("live").unloaded == "on request"  # type: ignore[union-attr]
    plane.apply(desired(2, TWO))
    repository.look()
    assert plane.settle(PATIENCE)
    assert answering(plane) == 2
    assert orders.read(tmp_path).unloaded == ()
    plane.apply(desired(3, ONE))
    assert plane.settle(PATIENCE)
    assert answering(plane) == 1


def test_a_worker_that_is_behind_does_not_drop_an_order(tmp_path: Path, plane: DataPlane) -> None:
    """It was given for a version of which this one has not heard yet."""
    repository = Repository(plane, tmp_path)
    orders.change(tmp_path, lambda before: before.unload(TWO, 2))
    repository.look()
    assert answering(plane) == 1
    plane.apply(desired(2, TWO))
    repository.look()
    assert plane.settle(PATIENCE)
    with pytest.raises(VersionNotReady, match="unloaded on request"):
        plane.lease("live")


def test_a_worker_that_starts_does_not_load_what_is_unloaded(tmp_path: Path) -> None:
    orders.change(tmp_path, lambda before: before.unload(ONE, 1))
    opener = Opener()
    plane = DataPlane(opener)
    Repository(plane, tmp_path).look()
    plane.apply(desired(1, ONE))
    assert plane.settle(PATIENCE)
    assert opener.opened == []
    plane.close()


def test_what_cannot_be_loaded_says_why_and_is_tried_again_when_ordered(
    repository: Repository, plane: DataPlane, opener: Opener
) -> None:
    ordered("unload", repository)
    opener.errors[1] = ParityFailed("3 answers differ")
    with pytest.raises(VersionNotReady, match="version 1 of 'toy' cannot be loaded: 3 answers differ"):
        ordered("load", repository)
    opener.errors.clear()
    assert ordered("load", repository)["state"] == "READY"


def test_an_order_for_what_is_being_loaded_waits_or_gives_up(
    repository: Repository, plane: DataPlane, opener: Opener
) -> None:
    ordered("unload", repository)
    opener.gates[1] = threading.Event()
    with pytest.raises(DeadlinePassed, match="still loading"):
        ordered("load", repository, seconds=0.1)
    with pytest.raises(DeadlinePassed, match="still unloading"):
        ordered("unload", repository, seconds=0.1)
    status = plane.only("live")
    assert status is not None
    assert status.state == "UNLOADING"
    opener.gates[1].set()
    assert until(lambda: plane.only("live").state == "UNAVAILABLE")  # type: ignore[union-attr]


def test_unloading_waits_for_the_calls_under_way(repository: Repository, plane: DataPlane) -> None:
    version = plane.lease("live")
    with pytest.raises(DeadlinePassed):
        ordered("unload", repository, seconds=0.1)
    version.leases.give_back()
    assert ordered("unload", repository, parameters={"unload_dependents": False})["state"] == "UNAVAILABLE"


def test_what_is_unknown_is_refused(repository: Repository) -> None:
    with pytest.raises(DeploymentNotFound, match="there are: live, other"):
        ordered("load", repository, "nothing")
    with pytest.raises(DeploymentNotFound):
        ordered("unload", repository, "nothing")
    with pytest.raises(NotOffered, match="no place for config"):
        ordered("load", repository, parameters={"config": "{}"})
    with pytest.raises(NotOffered, match="no parameter now"):
        ordered("unload", repository, parameters={"now": True})


def test_orders_that_cannot_be_read_change_nothing(tmp_path: Path, plane: DataPlane) -> None:
    repository = Repository(plane, tmp_path)
    (tmp_path / "orders").write_text("{")
    repository.look()
    assert answering(plane) == 1


def told(revision: int, state: State, why: Unloaded = "", wanted: State | None = None) -> Told:
    version = VersionStatus("toy", 1, "", wanted or state, "because", unloaded=why)
    return Told(revision, DeploymentStatus("live", "toy", 1, "", state, "because", "onnx", version, unloaded=why))


@pytest.mark.parametrize(
    ("one", "other", "is_loaded", "is_unloaded"),
    [
        (told(4, "READY"), told(5, "READY"), False, False),
        (told(5, "READY"), told(5, "READY"), True, False),
        (told(5, "READY"), told(6, "LOADING"), False, False),
        (told(5, "READY", wanted="LOADING"), told(5, "READY"), False, False),
        (told(5, "UNLOADING", "on request"), told(5, "UNAVAILABLE", "on request"), None, False),
        (told(5, "UNAVAILABLE", "on request"), told(5, "UNAVAILABLE", "on request"), None, True),
        (told(5, "UNAVAILABLE"), told(5, "READY"), None, False),
        (Told(5, None), told(5, "READY"), False, False),
        (Told(5, None), Told(5, None), False, True),
    ],
)
def test_an_order_is_carried_out_when_all_workers_have(
    one: Told, other: Told, is_loaded: bool | None, is_unloaded: bool
) -> None:
    for pair in ([one, other], [other, one]):
        assert unloaded(pair, 5) == is_unloaded
        if is_loaded is None:
            with pytest.raises(VersionNotReady, match="because"):
                loaded(pair, 5)
        else:
            assert loaded(pair, 5) == is_loaded
    assert not loaded([], 5)
    assert not unloaded([], 5)


def test_an_order_waits_for_the_boards_of_all_who_live(tmp_path: Path, plane: DataPlane) -> None:
    def put(worker: int, pid: int, revision: int) -> None:
        ready = PlaneStatus(True, "", 1, plane.status().deployments)
        told = Board(worker=worker, pid=pid, life=str(worker), started=0, written=0, status=ready, orders=revision)
        boards.publish(tmp_path, told)

    put(0, os.getpid(), 0)
    put(1, 2**22 + 1, 0)  # no such process
    repository = Repository(plane, tmp_path, publish=lambda: put(0, os.getpid(), plane.orders.revision))
    assert ordered("unload", repository)["state"] == "UNAVAILABLE"
    put(2, os.getppid(), 0)
    with pytest.raises(DeadlinePassed):
        ordered("load", repository, seconds=0.1)
    assert plane.settle(PATIENCE)
    put(2, os.getppid(), 3)
    assert ordered("load", repository, seconds=PATIENCE)["state"] == "READY"


def test_orders_are_kept_one_a_deployment() -> None:
    both = Orders().unload(ONE, 1).unload(TWO, 2).load("other")
    assert [hold.deployment for hold in both.unloaded] == [TWO]
    assert both.asked == {"other": 3}
    assert both.unload(deployment("other", 7), 2).asked == {}
    assert both.drop(()) is both
    assert both.drop(both.unloaded).revision == 4
