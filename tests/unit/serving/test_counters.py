"""The merged counts in short."""

from __future__ import annotations

import msgspec

from modelyard.serving.boards import TOLD_SECONDS, Board, Boards, VersionFacts, combine
from modelyard.serving.counters import counters
from modelyard.serving.meters import Meters
from modelyard.serving.status import PlaneStatus

MILLI = 1_000_000


def board(worker: int, calls: int, memory: int | None) -> Board:
    meters = Meters()
    meter = meters.of("live", "toy", 3, "sha")
    meter.restarts = 1
    for _ in range(calls):
        meter.answered(2, MILLI, MILLI, 3 * MILLI, MILLI, 8 * MILLI)
        meter.computed(2, 3 * MILLI)
    meter.refused("overload")
    meters.of("other", "toy", 3, "sha")
    meters.nowhere.refused("invalid")
    facts = VersionFacts(deployment="live", model="toy", version=3, digest="sha", pid=70 + worker, memory_bytes=memory)
    status = PlaneStatus(True, "", 1, ())
    return Board(
        worker=worker,
        pid=worker,
        life=str(worker),
        started=0.0,
        written=1.0,
        status=status,
        meters=meters.snapshots(),
        versions=(facts,),
    )


def test_counts_of_all_workers_are_told_by_version() -> None:
    merged = combine(Boards(workers=(board(0, 3, 10), board(1, 1, 20))), {0, 1}, 0.0)
    nowhere, live, other = counters(merged)
    assert (nowhere.deployment, nowhere.refused) == ("", {"invalid": 2})
    assert (live.deployment, live.model, live.version, live.digest) == ("live", "toy", 3, "sha")
    assert (live.requests, live.rows, live.refused, live.restarts) == (4, 8, {"overload": 2}, 2)
    assert (live.batch_rows, live.memory_bytes, live.in_flight) == (2.0, 30, 0)
    assert live.p50_ms is not None
    assert live.p99_ms is not None
    assert 5 < live.p50_ms < live.p99_ms <= 10
    assert (other.requests, other.p50_ms, other.p99_ms, other.batch_rows, other.memory_bytes) == (0, *[None] * 4)
    assert counters(merged, "live") == (live,)
    assert msgspec.json.encode(live)


def test_versions_that_only_the_dead_had_are_left_out_after_a_while() -> None:
    gone = combine(Boards(workers=(board(0, 3, None), board(1, 1, None))), {0}, 0.0)
    assert counters(gone, "live")[0].requests == 4
    nobody = Boards(workers=(board(0, 3, None),))
    assert [one.requests for one in counters(combine(nobody, (), TOLD_SECONDS / 2), "live")] == [3]
    assert counters(combine(nobody, (), 2 * TOLD_SECONDS), "live") == ()
