"""Counts in the words of the protocol's statistics extension."""

from __future__ import annotations

from modelyard.serving.boards import Board, Boards, Merged, VersionFacts, combine
from modelyard.serving.meters import ROW_BOUNDS, Meters
from modelyard.serving.statistics import BATCH_SIZES, model_statistics
from modelyard.serving.status import PlaneStatus


def board(worker: int, *versions: int) -> Board:
    meters = Meters()
    for version in versions:
        meter = meters.of("flights", "delay", version, f"digest-{version}")
        for _ in range(3):
            meter.answered(2, decode_ns=10, queue_ns=20, compute_ns=30, encode_ns=40, total_ns=1_000)
        meter.computed(2, 30)
        meter.computed(4, 50)
        meter.computed(ROW_BOUNDS[-1] + 7, 1_000)
        meter.refused("overload", 5)
        meter.refused("failed", 6)
    meters.nowhere.refused("invalid", 7)
    facts = VersionFacts(deployment="flights", model="delay", version=3, digest="digest-3", memory_bytes=1_000)
    return Board(
        worker=worker,
        pid=100 + worker,
        life=str(worker),
        started=0.0,
        written=1.0,
        status=PlaneStatus(True, "", 1, ()),
        meters=meters.snapshots(),
        versions=(facts,),
    )


def merged() -> Merged:
    return combine(Boards(workers=(board(0, 3, 4), board(1, 3))), {100, 101}, 1.0)


def test_durations_are_added_over_workers() -> None:
    [entry] = model_statistics(merged(), "flights", "3")
    assert entry["inference_stats"] == {
        "success": {"count": 6, "ns": 6_000},
        "fail": {"count": 4, "ns": 22},
        "queue": {"count": 6, "ns": 120},
        "compute_input": {"count": 6, "ns": 60},
        "compute_infer": {"count": 6, "ns": 180},
        "compute_output": {"count": 6, "ns": 240},
        "cache_hit": {"count": 0, "ns": 0},
        "cache_miss": {"count": 0, "ns": 0},
    }
    assert (entry["name"], entry["version"], entry["inference_count"], entry["execution_count"]) == (
        "flights",
        "3",
        12,
        6,
    )
    assert entry["last_inference"] > 1_600_000_000_000  # milliseconds
    assert entry["memory_usage"] == [{"type": "CPU", "id": 0, "byte_size": 2_000}]


def test_computations_are_told_by_the_largest_batch_of_their_class() -> None:
    [entry] = model_statistics(merged(), "flights", "4")
    told = [
        (one["batch_size"], one["compute_infer"]["count"], one["compute_infer"]["ns"]) for one in entry["batch_stats"]
    ]
    assert told == [(2, 1, 30), (4, 1, 50), (BATCH_SIZES[-1], 1, 1_000)]
    assert sum(one["compute_infer"]["count"] for one in entry["batch_stats"]) == entry["execution_count"]
    assert entry["memory_usage"] == []


def test_each_version_has_an_entry_and_calls_that_reached_none_have_not() -> None:
    assert [entry["version"] for entry in model_statistics(merged())] == ["3", "4"]
    assert model_statistics(merged(), "other") == model_statistics(merged(), "flights", "9") == []
