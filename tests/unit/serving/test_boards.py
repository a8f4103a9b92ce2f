"""What workers tell of themselves, and what all of them together come to."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from modelyard.serving.boards import (
    STALE_SECONDS,
    TOLD_ENDED,
    TOLD_SECONDS,
    Board,
    Boards,
    Crew,
    Merged,
    Retired,
    VersionFacts,
    all_living,
    combine,
    is_alive,
    living,
    merge_status,
    new_life,
    publish,
    publish_crew,
    read_all,
    read_status,
    retire,
)
from modelyard.serving.meters import KEPT_CLOSED, Meter, Meters, MeterSnapshot
from modelyard.serving.status import DeploymentStatus, PlaneStatus, State, VersionStatus


def version(number: int, state: State = "READY", reason: str = "") -> VersionStatus:
    return VersionStatus("delay", number, f"digest-{number}", state, reason, "onnx")


def deployment(shown: VersionStatus, wanted: VersionStatus | None, name: str = "flights") -> DeploymentStatus:
    return DeploymentStatus(
        name, shown.model, shown.version, shown.digest, shown.state, shown.reason, shown.runtime, wanted
    )


def plane(*deployments: DeploymentStatus, generation: int = 1) -> PlaneStatus:
    reason = next((f"{one.name}: {one.reason}" for one in deployments if one.state != "READY"), "")
    return PlaneStatus(not reason, reason, generation, deployments)


def serving(number: int, generation: int = 1) -> PlaneStatus:
    return plane(deployment(version(number), version(number)), generation=generation)


LOADING = version(2, "LOADING", "it is loading")
SWAPPING = plane(deployment(version(1), LOADING), generation=2)


def board(worker: int, status: PlaneStatus | None = None, calls: int = 0, pid: int = 0, **more: object) -> Board:
    meters = Meters()
    meter = meters.of("flights", "delay", 1, "digest-1")
    for _ in range(calls):
        meter.answered(1, 1000, 1000, 1000, 1000, 5000)
    meter.in_flight = 1
    facts: dict[str, object] = {
        "worker": worker,
        "pid": pid or 100 + worker,
        "life": f"{worker}-{pid or 100 + worker}",
        "started": 0.0,
        "written": 50.0,
        "status": status or serving(1),
        "meters": meters.snapshots(),
        "connections": 3,
        "accepted": 10,
        "records_written": calls,
    }
    return Board(**(facts | more))  # type: ignore[arg-type]


def answered(merged: Merged) -> int:
    return sum(one.answered for one in merged.meters)


def test_all_workers_serve() -> None:
    assert merge_status([(0, serving(1)), (1, serving(1))]) == serving(1)


def test_while_a_swap_is_under_way_the_older_version_is_shown_and_the_wanted_one_loads() -> None:
    for told in ([(0, serving(2, 2)), (1, SWAPPING)], [(0, SWAPPING), (1, serving(2, 2))]):
        (seen,) = merge_status(told).deployments
        assert (seen.version, seen.state, seen.reason) == (1, "READY", "")
        assert seen.wanted is not None
        assert (seen.wanted.version, seen.wanted.state) == (2, "LOADING")
        assert "1 of 2 workers" in seen.wanted.reason
    assert merge_status([(0, serving(2, 2)), (1, serving(2, 2))]).deployments[0].version == 2


def test_a_worker_that_has_not_heard_of_the_newest_state_yet_does_not_hide_it() -> None:
    merged = merge_status([(0, serving(1, 1)), (1, SWAPPING)])
    wanted = merged.deployments[0].wanted
    assert wanted is not None
    assert (wanted.version, wanted.state, merged.generation) == (2, "LOADING", 1)


def test_a_version_that_one_worker_cannot_open_is_told_with_the_worker_and_why() -> None:
    stuck = plane(deployment(version(1), version(2, "UNAVAILABLE", "3 answers differ")), generation=2)
    (seen,) = merge_status([(0, serving(2, 2)), (1, stuck)]).deployments
    assert seen.wanted is not None
    assert (seen.version, seen.wanted.state, seen.wanted.reason) == (1, "UNAVAILABLE", "worker 1: 3 answers differ")


def test_the_trouble_of_one_worker_is_the_trouble_of_all() -> None:
    dead = plane(deployment(version(1, "UNAVAILABLE", "its process died"), version(1, "UNAVAILABLE")))
    merged = merge_status([(0, serving(1)), (1, dead)])
    assert (merged.ready, merged.reason) == (False, "worker 1: flights: its process died")
    (seen,) = merged.deployments
    assert (seen.state, seen.reason) == ("UNAVAILABLE", "worker 1: its process died")


def test_a_deployment_that_one_worker_does_not_know_is_loading() -> None:
    empty = PlaneStatus(False, "nothing is deployed here", 0, ())
    merged = merge_status([(0, serving(1)), (1, empty)])
    assert (merged.ready, merged.deployments[0].state) == (False, "LOADING")
    assert "worker 1" in merged.deployments[0].reason


def test_what_one_worker_has_loaded_is_not_told_as_ready_on_request() -> None:
    on_request = VersionStatus("delay", 1, "digest-1", "READY", "ready on request", unloaded="for memory")
    parked = plane(replace(deployment(on_request, on_request), unloaded="for memory"))
    for told in ([(0, parked), (1, serving(1))], [(0, serving(1)), (1, parked)]):
        assert merge_status(told) == serving(1)
    (seen,) = merge_status([(0, parked), (1, parked)]).deployments
    assert (seen.state, seen.reason, seen.unloaded) == ("READY", "ready on request", "for memory")


def test_without_workers_nothing_is_ready() -> None:
    assert merge_status([]).reason == "no worker answers"


def test_counts_of_the_dead_stay_and_what_they_had_in_flight_does_not() -> None:
    boards = Boards(workers=(board(0, calls=3), board(1, calls=4)))
    both, one = combine(boards, {100, 101}, 50.0), combine(boards, {100}, 50.0)
    assert (answered(both), answered(one), one.accepted, one.records_written) == (7, 7, 20, 7)
    assert sum(meter.in_flight for meter in both.meters) == 2
    assert sum(meter.in_flight for meter in one.meters) == 1
    assert [worker.pid for worker in one.workers] == [100]


def test_a_worker_that_went_silent_is_not_ready() -> None:
    boards = Boards(workers=(board(0), board(1)))
    later = combine(boards, {100, 101}, 50.0 + STALE_SECONDS + 1)
    assert not later.status.ready
    assert "told nothing for 11 s" in later.status.reason


@given(st.lists(st.integers(0, 5), max_size=6), st.randoms(use_true_random=False))
def test_the_order_in_which_boards_are_read_does_not_matter(calls: list[int], rng: random.Random) -> None:
    boards = [board(worker, calls=count) for worker, count in enumerate(calls)]
    alive = {one.pid for one in boards if rng.random() < 0.5}
    whole = combine(Boards(workers=tuple(boards)), alive, 50.0)
    rng.shuffle(boards)
    assert combine(Boards(workers=tuple(boards)), alive, 50.0) == whole
    assert answered(whole) == sum(calls)


def test_memory_of_versions_adds_and_a_shared_process_counts_once() -> None:
    facts = VersionFacts(deployment="flights", model="delay", version=1, digest="d", memory_bytes=100)
    own = combine(Boards(workers=(board(0, versions=(facts,)), board(1, versions=(facts,)))), {100, 101}, 50.0)
    assert own.versions[0].memory_bytes == 200
    facts = msgspec.structs.replace(facts, pid=7)
    shared = combine(Boards(workers=(board(0, versions=(facts,)), board(1, versions=(facts,)))), {100, 101}, 50.0)
    assert shared.versions[0].memory_bytes == 100


def test_boards_are_read_as_they_were_published(tmp_path: Path) -> None:
    folder = tmp_path / "boards"
    assert read_all(folder) == Boards()
    first, second = board(0, calls=2), board(1, SWAPPING)
    crew = Crew(pid=1, started=0.0, wanted=2, pids=(100, 101), restarts=1)
    publish(folder, board(0))
    publish(folder, first)
    publish(folder, second)
    publish_crew(folder, crew)
    (folder / "worker-torn.board").write_bytes(b"\x85\xa6work")
    assert read_all(folder) == Boards(workers=(first, second), crew=crew)
    whole, short = (combine(read(folder), {100, 101}, 51.0) for read in (read_all, read_status))
    assert (short.status, short.meters) == (whole.status, ())
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith(".")) == []


def test_retired_counts_are_there_once_whatever_is_killed_when(tmp_path: Path) -> None:
    publish(tmp_path, board(0, calls=3))
    publish(tmp_path, board(1, calls=4))
    kept = (tmp_path / "worker-1-101.board").read_bytes()
    retire(tmp_path, {101})
    assert answered(combine(read_all(tmp_path), {100}, 50.0)) == 7
    # As after a kill between counting a board and taking it down:
    (tmp_path / "worker-1-101.board").write_bytes(kept)
    assert answered(combine(read_all(tmp_path), {100}, 50.0)) == 7
    retire(tmp_path, {101})
    retire(tmp_path, {999})
    merged = combine(read_all(tmp_path), {100}, 50.0)
    assert (answered(merged), len(read_all(tmp_path).workers)) == (7, 1)
    assert read_all(tmp_path).retired.lives == ()
    publish(tmp_path, board(1, calls=5, pid=102))
    assert answered(combine(read_all(tmp_path), {100, 102}, 50.0)) == 12


def test_retired_counts_of_versions_that_nobody_serves_are_told_together(tmp_path: Path) -> None:
    publish(tmp_path, board(0, calls=2))
    for life in range(KEPT_CLOSED + 3):
        meter = Meter("flights", "delay", 10 + life, "")
        meter.answered(1, 1, 1, 1, 1, 1)
        publish(tmp_path, board(1, pid=200 + life, meters=(meter.snapshot(),), written=50.0 + life))
        retire(tmp_path, {200 + life})
    retired = read_all(tmp_path).retired
    assert [(one.version, one.answered) for one in retired.meters] == [
        (0, 3),
        *((10 + life, 1) for life in range(3, KEPT_CLOSED + 3)),
    ]
    assert retired.workers == KEPT_CLOSED + 3


def ended(life: int, calls: int, at: float) -> MeterSnapshot:
    meter = Meter("flights", "delay", life, "")
    for _ in range(calls):
        meter.answered(1, 1, 1, 1, 1, 1)
    meter.ended = at
    return meter.snapshot()


def told(boards: Boards, alive: set[int], now: float) -> dict[int, int]:
    """Calls of each version that is told at that moment."""
    return {meter.version: meter.answered for meter in combine(boards, alive, now).told() if meter.deployment}


def test_a_replaced_version_is_told_for_a_while_and_never_with_less() -> None:
    one = board(0, meters=(ended(1, 2, 100.0), ended(2, 1, 0.0)))
    other = board(1, meters=(ended(1, 3, 0.0),))
    assert told(Boards(workers=(one, other)), {100, 101}, 1e6) == {1: 5, 2: 1}, "one worker still answers with it"
    other = board(1, meters=(ended(1, 4, 120.0), ended(2, 1, 0.0)))
    both = Boards(workers=(one, other))
    assert told(both, {100, 101}, 120.0 + TOLD_SECONDS - 1) == {1: 6, 2: 2}
    assert told(both, {100, 101}, 120.0 + TOLD_SECONDS + 1) == {2: 2}
    assert told(both, {100}, 120.0) == {1: 6, 2: 2}, "a worker was killed"


def test_counts_of_the_only_worker_survive_it(tmp_path: Path) -> None:
    publish(tmp_path, board(0, calls=3))
    retire(tmp_path, {100})
    assert told(read_all(tmp_path), set(), 51.0) == {1: 3}, "none has come in its place yet"
    publish(tmp_path, board(0, calls=2, pid=200))
    assert told(read_all(tmp_path), {200}, 1e6) == {1: 5}


@given(st.integers(1, 3 * KEPT_CLOSED), st.integers(0, 3))
def test_what_is_told_has_not_been_put_together_anywhere(swaps: int, behind: int) -> None:
    """Two workers go through versions, one of them a little behind; each keeps only so many."""
    boards = []
    for worker, done in enumerate((swaps, max(swaps - behind, 0))):
        meters = Meters()
        for number in range(1, done + 2):
            meter = meters.of("flights", "delay", number, "")
            meter.answered(1, 1, 1, 1, 1, 1)
            if number <= done:
                meters.closed(meter)
                meter.ended = 1.0 + number + worker / 2
        boards.append(board(worker, meters=meters.snapshots()))
    seen = told(Boards(workers=tuple(boards)), {100, 101}, float(swaps))
    assert len(seen) > min(swaps, TOLD_ENDED)
    assert {count for number, count in seen.items() if number <= swaps - behind} <= {2}


def test_who_lives() -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert is_alive(os.getpid())
    assert not is_alive(process.pid), "ended, though nobody has waited for it"
    process.wait()
    assert not is_alive(process.pid)
    boards = Boards(workers=(board(0), board(1), board(2)), crew=Crew(pid=1, started=0, wanted=3, pids=(100, 101)))
    assert living(boards, lambda pid: pid != 101) == {100}
    assert living(msgspec.structs.replace(boards, crew=None), lambda pid: True) == {100, 101, 102}
    crew = Crew(pid=1, started=0, wanted=4, pids=(100, 103), starting=(101, 104))
    assert all_living(msgspec.structs.replace(boards, crew=crew), lambda pid: pid != 104) == {100, 101, 103}
    assert all_living(msgspec.structs.replace(boards, crew=None), lambda pid: True) == {100, 101, 102}


def test_every_life_has_a_name_of_its_own() -> None:
    assert len({new_life(1) for _ in range(100)}) == 100
    assert Retired().meters == ()
    assert replace(serving(1), generation=2) == serving(1, 2)
