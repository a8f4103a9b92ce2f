"""The data plane carries out desired state without interrupting what answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

import compiled_bundles
from modelyard.domain.desired import Deployment
from modelyard.errors import (
    BundleRefused,
    DeploymentNotFound,
    EnvironmentFailed,
    ParityFailed,
    VersionNotFound,
    VersionNotReady,
)
from modelyard.serving.plane import DataPlane, Failure, LookAgain, Open, Rest, Seen, TakeAway, failed, next_step
from modelyard.serving.served import ServedVersion
from unit.serving.parts import PATIENCE, Gate, deployment, desired, served, until

ONE, TWO = deployment(version=1), deployment(version=2)
FINAL = Failure(TWO, "no", 1, None)


@pytest.mark.parametrize(
    ("seen", "step"),
    [
        (Seen(None, None, None, 0.0), Rest()),
        (Seen(None, ONE, None, 0.0), TakeAway()),
        (Seen(ONE, None, None, 0.0), Open(ONE)),
        (Seen(ONE, ONE, None, 0.0), Rest()),
        (Seen(TWO, ONE, None, 0.0), Open(TWO)),
        (Seen(TWO, ONE, FINAL, 99.0), Rest()),
        (Seen(ONE, None, FINAL, 0.0), Open(ONE)),
        (Seen(TWO, ONE, Failure(TWO, "later", 1, 5.0), 4.0), LookAgain(5.0)),
        (Seen(TWO, ONE, Failure(TWO, "later", 1, 5.0), 5.0), Open(TWO)),
    ],
)
def test_the_same_snapshot_gives_the_same_step(seen: Seen, step: object) -> None:
    assert next_step(seen) == step


def test_only_what_may_heal_is_tried_again_and_ever_more_rarely() -> None:
    assert failed(ONE, BundleRefused("cut short"), None, 10.0).retry_at is None
    first = failed(ONE, EnvironmentFailed("no index"), None, 10.0)
    second = failed(ONE, OSError("disk"), first, 10.0)
    assert first.retry_at is not None
    assert second.retry_at is not None
    assert 10.0 < first.retry_at < second.retry_at
    assert failed(TWO, OSError("disk"), second, 10.0).attempts == 1


@dataclass
class Opener:
    """Opens versions as told: at once, after a gate, or not at all."""

    errors: dict[int, Exception] = field(default_factory=dict)
    gates: dict[int, threading.Event] = field(default_factory=dict)
    runtimes: dict[int, Gate] = field(default_factory=dict)
    opened: list[int] = field(default_factory=list)

    def __call__(self, wanted: Deployment) -> ServedVersion:
        self.opened.append(wanted.version)
        if wanted.version in self.gates:
            assert self.gates[wanted.version].wait(PATIENCE)
        if wanted.version in self.errors:
            raise self.errors[wanted.version]
        runtime = self.runtimes.get(wanted.version)
        return served(wanted, runtime, inline=runtime is None)


@pytest.fixture
def opener() -> Opener:
    return Opener()


@pytest.fixture
def plane(opener: Opener) -> Iterator[DataPlane]:
    plane = DataPlane(opener)
    yield plane
    for gate in [*opener.gates.values(), *(runtime.go for runtime in opener.runtimes.values())]:
        gate.set()
    plane.close()


def answering(plane: DataPlane, name: str = "live", number: str | None = None) -> int:
    version = plane.lease(name, number)
    version.leases.give_back()
    return version.deployment.version


def test_nothing_known_and_nothing_deployed_are_both_not_ready(plane: DataPlane) -> None:
    plane.waiting_for = "no desired state yet"
    assert plane.readiness().reason == "no desired state yet"
    plane.apply(desired(1))
    assert plane.readiness().reason == "nothing is deployed here"
    with pytest.raises(DeploymentNotFound, match="nothing is deployed"):
        plane.lease("live")


def test_before_anything_is_known_nobody_is_told_that_there_is_no_such_deployment() -> None:
    plane = DataPlane(served, waiting_for="no desired state yet")
    with pytest.raises(VersionNotReady, match="'live' is not ready: no desired state yet"):
        plane.lease("live")


def test_a_version_answers_once_it_is_open(plane: DataPlane, opener: Opener) -> None:
    opener.gates[1] = threading.Event()
    plane.apply(desired(1, ONE))
    [status] = plane.status().deployments
    assert (status.state, status.version, plane.readiness().ready) == ("LOADING", 1, False)
    with pytest.raises(VersionNotReady, match="loading"):
        plane.lease("live")
    opener.gates[1].set()
    assert plane.settle(PATIENCE)
    assert plane.readiness().ready
    assert answering(plane) == 1
    assert answering(plane, "live", "1") == 1
    with pytest.raises(VersionNotFound, match="newest: 1"):
        plane.lease("live", "2")


def test_the_old_version_answers_while_the_new_one_opens_and_is_closed_after_it(
    plane: DataPlane, opener: Opener
) -> None:
    opener.gates[2] = threading.Event()
    plane.apply(desired(1, ONE))
    assert plane.settle(PATIENCE)
    plane.apply(desired(2, TWO))
    until(lambda: 2 in opener.opened)
    [status] = plane.status().deployments
    assert (status.version, status.state) == (1, "READY")
    assert status.wanted is not None
    assert (status.wanted.version, status.wanted.state) == (2, "LOADING")
    assert plane.readiness().ready
    with pytest.raises(VersionNotReady, match="version 2"):
        plane.lease("live", "2")
    opener.gates[2].set()
    assert plane.settle(PATIENCE)
    assert answering(plane) == 2


@pytest.mark.parametrize("error", [ParityFailed("3 answers differ"), BundleRefused("cut short"), ValueError("broken")])
def test_a_failure_leaves_the_old_version_answering_and_the_reason_on_display(
    plane: DataPlane, opener: Opener, error: Exception
) -> None:
    plane.apply(desired(1, ONE))
    assert plane.settle(PATIENCE)
    opener.errors[2] = error
    plane.apply(desired(2, TWO))
    wanted = until(
        lambda: next((one.wanted for one in plane.status().deployments if one.wanted.state == "UNAVAILABLE"), None)
    )
    assert wanted.reason == str(error)
    assert answering(plane) == 1
    assert plane.readiness().ready


def test_a_server_whose_only_version_failed_is_not_ready(plane: DataPlane, opener: Opener) -> None:
    opener.errors[1] = ParityFailed("3 answers differ")
    plane.apply(desired(1, ONE))
    assert plane.settle(PATIENCE)
    assert plane.readiness().reason == "live: 3 answers differ"
    with pytest.raises(VersionNotReady, match="3 answers differ"):
        plane.lease("live")


def test_a_newer_state_gives_another_chance_and_an_older_one_is_ignored(plane: DataPlane, opener: Opener) -> None:
    opener.errors[1] = BundleRefused("cut short")
    plane.apply(desired(2, ONE))
    assert plane.settle(PATIENCE)
    plane.apply(desired(1, TWO))
    plane.apply(desired(2, TWO))
    assert plane.settle(PATIENCE)
    assert opener.opened == [1]
    opener.errors.clear()
    plane.apply(desired(3, ONE))
    assert plane.settle(PATIENCE)
    assert answering(plane) == 1


def test_the_same_version_again_is_not_opened_again(plane: DataPlane, opener: Opener) -> None:
    for generation in (1, 2):
        plane.apply(desired(generation, ONE))
        assert plane.settle(PATIENCE)
    assert opener.opened == [1]


def test_a_deployment_that_is_no_longer_wanted_goes_and_others_stay(plane: DataPlane) -> None:
    plane.apply(desired(1, ONE, deployment("other", 3)))
    assert plane.settle(PATIENCE)
    plane.apply(desired(2, ONE))
    assert plane.settle(PATIENCE)
    assert (plane.names(), answering(plane)) == (["live"], 1)
    with pytest.raises(DeploymentNotFound, match="there are: live"):
        plane.lease("other")


def test_a_slow_deployment_does_not_hold_up_another(plane: DataPlane, opener: Opener) -> None:
    opener.gates[1] = threading.Event()
    plane.apply(desired(1, ONE, deployment("other", 3)))
    assert until(lambda: plane.status("other").deployments[0].state == "READY")
    assert plane.status("live").deployments[0].state == "LOADING"
    assert "live" in plane.readiness().reason


def test_a_version_is_not_closed_under_the_requests_it_has(plane: DataPlane, opener: Opener) -> None:
    gate = opener.runtimes[1] = Gate()
    plane.apply(desired(1, ONE))
    assert plane.settle(PATIENCE)
    version = plane.lease("live")
    answers: list[object] = []

    def call() -> None:
        answers.append(version.runtime.predict(compiled_bundles.frame(1)))
        version.leases.give_back()

    caller = threading.Thread(target=call)
    caller.start()
    assert gate.waiting.acquire(timeout=PATIENCE)
    plane.apply(desired(2, TWO))
    assert until(lambda: answering(plane) == 2)
    assert not gate.closed
    gate.go.set()
    caller.join()
    assert plane.settle(PATIENCE)
    assert gate.closed
    assert len(answers) == 1


def test_no_request_is_lost_or_mixed_while_versions_are_replaced(plane: DataPlane) -> None:
    plane.apply(desired(1, ONE))
    assert plane.settle(PATIENCE)
    frame = compiled_bundles.frame(2)
    expected = {number: served(deployment(version=number)).runtime.predict(frame) for number in range(1, 21)}
    stop, wrong, calls = threading.Event(), [], 0

    def call_on() -> None:
        nonlocal calls
        while not stop.is_set():
            version = plane.lease("live")
            got = version.runtime.predict(frame)
            if not np.array_equal(got["predict_proba"], expected[version.deployment.version]["predict_proba"]):
                wrong.append(version.deployment.version)
            version.leases.give_back()
            calls += 1

    caller = threading.Thread(target=call_on)
    caller.start()
    for number in range(2, 21):
        plane.apply(desired(number, deployment(version=number)))
        assert until(lambda number=number: answering(plane) == number)
    stop.set()
    caller.join()
    assert (wrong, calls > 20) == ([], True)


def test_closing_waits_for_requests_and_then_closes(opener: Opener) -> None:
    plane = DataPlane(opener)
    gate = opener.runtimes[1] = Gate()
    plane.apply(desired(1, ONE))
    assert plane.settle(PATIENCE)
    version = plane.lease("live")
    closing = threading.Thread(target=plane.close)
    closing.start()
    assert until(lambda: plane.draining)
    assert plane.readiness().reason == "the server is stopping"
    assert not gate.closed
    version.leases.give_back()
    closing.join()
    assert gate.closed
