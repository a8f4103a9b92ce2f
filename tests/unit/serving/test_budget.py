"""Versions that nobody asks for make room, and come back when they are asked for."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from modelyard.errors import EnvironmentFailed, VersionNotFound
from modelyard.serving.app import Application
from modelyard.serving.budget import LEAST_BYTES, RESIDENT_SECONDS, Budget, Loaded, victims
from modelyard.serving.plane import DataPlane, NotLoaded, Open, Park, Rest, Seen, TakeAway, next_step
from modelyard.serving.repository import Repository
from unit.serving.parts import PATIENCE, Kept, application, ask, deployment, desired, get, run, until
from unit.serving.test_plane import Opener, answering

MB = 1_000_000
ONE, TWO = deployment(version=1), deployment(version=2)
BODY = json.dumps({"rows": [{"x0": 0.5, "x1": 1.0, "x2": 0.0, "carrier": "UA"}]}).encode()


def one(name: str, asked_at: float, size: int = MB, *, busy: bool = False) -> Loaded:
    return Loaded(name, asked_at, size, busy)


@pytest.mark.parametrize(
    ("loaded", "held", "gone"),
    [
        ([], 99 * MB, ()),
        ([one("a", 1.0), one("b", 2.0)], 10 * MB, ()),
        ([one("a", 1.0), one("b", 2.0)], 11 * MB, ("a",)),
        ([one("a", 2.0), one("b", 1.0)], 11 * MB, ("b",)),
        ([one("a", 1.0), one("b", 2.0)], 99 * MB, ("a",)),  # the last one asked for stays whatever it takes
        ([one("a", 1.0)], 99 * MB, ()),
        ([one("a", 1.0, busy=True), one("b", 2.0), one("c", 3.0)], 11 * MB, ("b",)),
        ([one("a", 1.0), one("b", 2.0), one("c", 3.0)], 12 * MB, ("a", "b")),
        ([one("a", 1.0, 5 * MB), one("b", 2.0), one("c", 3.0)], 12 * MB, ("a",)),
        ([one("a", 1.0, 1), one("b", 2.0, 1), one("c", 3.0)], 10 * MB + LEAST_BYTES, ("a",)),
        ([one("a", 100.0 - RESIDENT_SECONDS / 2), one("b", 100.0)], 99 * MB, ()),
    ],
)
def test_those_go_first_that_were_not_asked_for_longest(loaded: list[Loaded], held: int, gone: tuple[str, ...]) -> None:
    assert victims(loaded, held, 10 * MB, 100.0) == gone
    assert victims(loaded[::-1], held, 10 * MB, 100.0) == gone


@pytest.mark.parametrize(
    ("seen", "step"),
    [
        (Seen(ONE, ONE, None, 0.0, evict=True), Park(ONE)),
        (Seen(None, ONE, None, 0.0, evict=True), TakeAway()),
        (Seen(TWO, ONE, None, 0.0, evict=True), Open(TWO)),
        (Seen(ONE, None, None, 0.0, parked=ONE), Rest()),
        (Seen(ONE, None, None, 0.0, parked=ONE, full=True), Rest()),
        (Seen(ONE, None, None, 0.0, parked=ONE, asked=True), Open(ONE)),
        (Seen(ONE, None, None, 0.0, parked=ONE, asked=True, full=True), Open(ONE)),
        (Seen(TWO, None, None, 0.0, parked=ONE), Open(TWO)),
        (Seen(TWO, None, None, 0.0, parked=ONE, full=True), Open(TWO)),
        (Seen(ONE, None, None, 0.0, full=True), Park(ONE)),
        (Seen(ONE, None, None, 0.0, full=True, asked=True), Open(ONE)),
        (Seen(TWO, ONE, None, 0.0, full=True), Open(TWO)),
        (Seen(None, None, None, 0.0, parked=ONE), Rest()),
    ],
)
def test_the_same_snapshot_gives_the_same_step(seen: Seen, step: object) -> None:
    assert next_step(seen) == step


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
def kept() -> Kept:
    return Kept()


@pytest.fixture
def app(plane: DataPlane, kept: Kept) -> Application:
    return application(plane, kept)


def evict(plane: DataPlane, name: str = "live") -> None:
    plane.evict([name])
    assert plane.settle(PATIENCE)


def status(plane: DataPlane, name: str = "live") -> Any:
    found = plane.only(name)
    assert found is not None
    return found


def test_what_was_unloaded_for_memory_is_ready_on_request(plane: DataPlane, app: Application) -> None:
    evict(plane)
    assert (status(plane).state, status(plane).unloaded) == ("READY", "for memory")
    assert plane.readiness().ready
    assert get(app, "/v2/health/ready").json == {
        "ready": True,
        "reason": "1 of 2 deployments are loaded when they are asked for",
    }
    ready = get(app, "/v2/models/live/ready")
    assert (ready.status, "ready on request" in ready.json["reason"]) == (200, True)
    assert "ready on request" in run(ask(app, "POST", "/v2/repository/index")).json[0]["reason"]
    with pytest.raises(NotLoaded):
        plane.lease("live")
    with pytest.raises(VersionNotFound):
        plane.lease("live", "9")
    assert (plane.loads, plane.evictions) == (2, 1)


def test_a_call_loads_it_and_all_who_call_meanwhile_share_that(
    plane: DataPlane, app: Application, opener: Opener, kept: Kept
) -> None:
    evict(plane)
    opener.gates[1] = threading.Event()

    async def story() -> list[Any]:
        calls = [asyncio.create_task(ask(app, "POST", "/predict/live", BODY)) for _ in range(8)]
        other = await ask(app, "POST", "/predict/other", BODY)
        assert other.status == 200, "nobody else waits"
        assert not any(call.done() for call in calls)
        opener.gates[1].set()
        return await asyncio.gather(*calls)

    answers = run(story())
    assert [(answer.status, answer.json["version"]) for answer in answers] == [(200, 1)] * 8
    assert sorted(opener.opened) == [1, 1, 7]
    assert len(kept.records) == 9
    assert answering(plane) == 1


def test_what_it_tells_of_itself_is_loaded_too(plane: DataPlane, app: Application) -> None:
    evict(plane)
    assert get(app, "/v2/models/live").json["versions"] == ["1"]
    evict(plane)
    assert get(app, "/v2/models/live/config").status == 200
    evict(plane)
    assert get(app, "/v2/models/live/stats").status == 200
    assert status(plane).unloaded == "for memory", "counts need no model"


def test_a_call_that_cannot_wait_so_long_is_told_to_come_back(
    plane: DataPlane, app: Application, opener: Opener
) -> None:
    evict(plane)
    opener.gates[1] = threading.Event()
    refused = run(ask(app, "POST", "/predict/live", BODY, {"x-request-timeout-ms": "60"}))
    assert (refused.status, refused.json["code"]) == (503, "VersionLoading")
    assert "is being loaded now" in refused.error
    assert int(refused.headers["retry-after"]) >= 1
    opener.gates[1].set()
    until(lambda: status(plane).unloaded == "")
    assert run(ask(app, "POST", "/predict/live", BODY, {"x-request-timeout-ms": "20000"})).status == 200


def test_a_call_is_refused_at_once_if_loading_is_known_to_take_longer(
    plane: DataPlane, app: Application, opener: Opener
) -> None:
    evict(plane)
    plane._slots["live"].load_seconds = 60.0
    opener.gates[1] = threading.Event()
    refused = run(ask(app, "POST", "/predict/live", BODY, {"x-request-timeout-ms": "15000"}))
    assert (refused.status, refused.headers["retry-after"]) == (503, "60")
    opener.gates[1].set()
    until(lambda: status(plane).unloaded == "")
    assert run(ask(app, "POST", "/predict/live", BODY)).status == 200, "it is loaded all the same"


def test_who_waits_is_told_when_it_cannot_be_loaded(plane: DataPlane, app: Application, opener: Opener) -> None:
    evict(plane)
    opener.errors[1] = EnvironmentFailed("the disk is gone")
    refused = run(ask(app, "POST", "/predict/live", BODY))
    assert (refused.status, "the disk is gone" in refused.error) == (503, True)
    assert status(plane).state == "UNAVAILABLE"


def test_who_waits_is_told_when_it_is_not_wanted_any_more(plane: DataPlane, app: Application, opener: Opener) -> None:
    evict(plane)
    opener.gates[1] = threading.Event()

    async def story() -> Any:
        call = asyncio.create_task(ask(app, "POST", "/predict/live", BODY))
        while 1 not in opener.opened[2:]:
            await asyncio.sleep(0.005)
        plane.apply(desired(2, deployment("other", 7)))
        opener.gates[1].set()
        return await call

    assert run(story()).status in (200, 404)
    assert plane.settle(PATIENCE)
    assert plane.names() == ["other"]


def test_a_new_version_of_what_is_unloaded_for_memory_is_opened_at_once(plane: DataPlane, opener: Opener) -> None:
    evict(plane)
    plane.full = True
    plane.apply(desired(2, TWO, deployment("other", 7)))
    assert plane.settle(PATIENCE)
    assert answering(plane) == 2


def test_only_what_is_wanted_at_the_start_waits_for_the_first_call(opener: Opener) -> None:
    plane = DataPlane(opener)
    plane.full = True
    plane.apply(desired(1, ONE))
    assert plane.settle(PATIENCE)
    assert (opener.opened, status(plane).unloaded) == ([], "for memory")
    plane.apply(desired(2, ONE, deployment("other", 7)))
    assert plane.settle(PATIENCE)
    assert opener.opened == [7], "what is deployed later is opened, so that its deployer hears whether it can be"
    plane.close()


def test_what_waits_for_its_turn_to_be_opened_is_left_when_there_is_no_room_by_then(opener: Opener) -> None:
    gate = threading.Event()
    opener.gates |= dict.fromkeys((1, 2, 3, 4), gate)
    plane = DataPlane(opener, turn=threading.Lock())
    plane.apply(desired(1, *(deployment(f"line-{at}", at) for at in (1, 2, 3, 4))))
    until(lambda: opener.opened)
    plane.full = True
    gate.set()
    assert plane.settle(PATIENCE)
    assert len(opener.opened) == 1
    assert plane.readiness().ready
    plane.close()


def test_an_operator_loads_what_was_unloaded_for_memory(plane: DataPlane, opener: Opener) -> None:
    evict(plane)
    repository = Repository(plane)
    assert asyncio.run(repository.load("live", {}))["reason"] == ""
    assert answering(plane) == 1
    evict(plane)
    opener.gates[1] = threading.Event()
    loading = threading.Thread(target=lambda: asyncio.run(repository.load("live", {})))
    loading.start()
    until(lambda: status(plane).state == "LOADING")
    opener.gates[1].set()
    loading.join()


def test_the_budget_has_idle_versions_go_and_says_when_it_is_too_small(
    plane: DataPlane, caplog: pytest.LogCaptureFixture
) -> None:
    held = 30 * MB
    budget = Budget(plane, 20 * MB, lambda served: held)
    for version in plane.served():
        version.asked_at -= 10.0
    plane.lease("other").leases.give_back()
    assert budget.look()
    assert plane.full
    assert plane.settle(PATIENCE)
    assert [status(plane, name).unloaded for name in ("live", "other")] == ["for memory", ""]
    for _ in range(2):
        assert budget.look()
    assert caplog.text.count("the memory budget is too small") == 1
    held = 10 * MB
    assert not budget.look()
    assert not plane.full


def test_a_version_in_use_stays(plane: DataPlane) -> None:
    version = plane.lease("live")
    for one in plane.served():
        one.asked_at -= 10.0
    version.asked_at -= 10.0
    assert Budget(plane, MB, lambda served: 9 * MB).look()
    assert plane.settle(PATIENCE)
    assert status(plane).unloaded == ""
    version.leases.give_back()


def test_it_looks_by_itself(plane: DataPlane) -> None:
    budget = Budget(plane, MB, lambda served: 9 * MB if len(served) > 1 else MB)
    plane.opened = budget.look_soon
    budget.start()
    until(lambda: plane.evictions == 1)
    budget.close()
