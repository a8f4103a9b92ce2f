"""Counts of a version's calls: what is counted where, and that counts add in any order."""

from __future__ import annotations

import random
from itertools import accumulate

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from modelyard.domain.histogram import Histogram
from modelyard.errors import DeadlinePassed, Failed, InvalidInput, ModelFailed, Overloaded, RowsRefused, VersionNotReady
from modelyard.serving.meters import (
    KEPT_CLOSED,
    REASONS,
    ROW_BOUNDS,
    TIME_BOUNDS,
    Meter,
    Meters,
    MeterSnapshot,
    merge,
    reason_of,
)

_TIMES = st.integers(0, 100_000_000_000)
_ROWS = st.integers(0, 200_000)
_ENCODER, _DECODER = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(MeterSnapshot)


@st.composite
def _meters(draw: st.DrawFn) -> Meter:
    meter = Meter("flights", "delay", draw(st.integers(1, 2)), "d")
    for rows, *times in draw(st.lists(st.tuples(_ROWS, *[_TIMES] * 5), max_size=5)):
        meter.answered(rows, *times, bytes_in=rows + 1, bytes_out=rows + 2)
        meter.computed(rows, times[2])
    for reason, ns in draw(st.lists(st.tuples(st.sampled_from(REASONS), _TIMES), max_size=5)):
        meter.refused(reason, ns)
    meter.in_flight = draw(st.integers(0, 3))
    return meter


_SNAPSHOTS = st.lists(_meters().map(Meter.snapshot), max_size=5)


@given(_SNAPSHOTS, st.randoms(use_true_random=False))
def test_counts_add_in_any_order_and_grouping(snapshots: list[MeterSnapshot], rng: random.Random) -> None:
    whole = merge(snapshots)
    shuffled = rng.sample(snapshots, len(snapshots))
    cut = rng.randint(0, len(shuffled))
    assert merge(shuffled) == whole
    assert merge([*merge(shuffled[:cut]), *merge(shuffled[cut:])]) == whole
    assert merge([*whole, *(MeterSnapshot(**dict(zip(_KEY, one.key, strict=True))) for one in whole)]) == whole


_KEY = ("deployment", "model", "version", "digest")


@given(_SNAPSHOTS)
def test_nothing_is_lost_or_counted_twice(snapshots: list[MeterSnapshot]) -> None:
    whole = merge(snapshots)
    assert len({one.key for one in whole}) == len(whole)
    for name in ("answered", "rows", "bytes_in", "bytes_out", "in_flight", "not_answered"):
        assert sum(getattr(one, name) for one in whole) == sum(getattr(one, name) for one in snapshots)
    for one in whole:
        times = (one.queue, one.decode, one.compute, one.encode, one.total)
        assert {histogram.count for histogram in (*times, one.request_rows)} == {one.answered}
        assert one.request_rows.sum == one.rows
        assert one.batches.sum == one.rows
        assert sum(one.batch_ns) == one.compute.sum


@given(_meters())
def test_a_snapshot_survives_the_way_to_another_process(meter: Meter) -> None:
    assert _DECODER.decode(_ENCODER.encode(meter.snapshot())) == meter.snapshot()


@given(_TIMES, _ROWS)
def test_an_observation_falls_below_its_bound_and_above_the_one_before(ns: int, rows: int) -> None:
    meter = Meter()
    meter.answered(rows, ns, ns, ns, ns, ns)
    seen = meter.snapshot()
    for histogram, value, bounds in ((seen.total, ns, TIME_BOUNDS), (seen.request_rows, rows, ROW_BOUNDS)):
        place = histogram.counts.index(1)
        assert place == len(bounds) or value <= bounds[place]
        assert place == 0 or value > bounds[place - 1]


@given(st.lists(_TIMES, min_size=1, max_size=30), st.floats(0, 1))
def test_a_quantile_lies_in_the_class_of_the_real_one(times: list[int], q: float) -> None:
    meter = Meter()
    for ns in times:
        meter.answered(1, 0, 0, 0, 0, ns)
    total = meter.snapshot().total
    guess = total.quantile(q, TIME_BOUNDS)
    assert guess is not None
    below = list(accumulate(total.counts))
    place = next(place for place, count in enumerate(below) if count and count >= q * len(times))
    assert (0 if place == 0 else TIME_BOUNDS[place - 1]) <= guess <= TIME_BOUNDS[min(place, len(TIME_BOUNDS) - 1)]


def test_without_observations_there_is_no_quantile() -> None:
    assert Meter().snapshot().total.quantile(0.5, TIME_BOUNDS) is None


def test_what_was_added_since() -> None:
    meter = Meter()
    meter.answered(1, 0, 0, 0, 0, 5_000)
    before = meter.snapshot().total
    meter.answered(1, 0, 0, 0, 0, 7_000_000)
    since = meter.snapshot().total - before
    assert (since.count, since.sum) == (1, 7_000_000)


def test_a_snapshot_stays_as_it_was_and_shows_every_change() -> None:
    meter = Meter("a", "a", 1, "")
    first = meter.snapshot()
    assert meter.snapshot() is first
    meter.in_flight += 1
    meter.refused("overload", 12)
    meter.computed(3, 30)
    later = meter.snapshot()
    assert first == MeterSnapshot(deployment="a", model="a", version=1, digest="")
    assert (later.in_flight, later.refused, later.refused_ns) == (1, {"overload": 1}, {"overload": 12})
    assert later.batches == Histogram((0, 0, 1, *(0,) * (len(ROW_BOUNDS) - 2)), 3)


def test_every_error_has_a_reason() -> None:
    errors = {
        "overload": Overloaded("full", 1.0),
        "deadline": DeadlinePassed("late"),
        "unavailable": VersionNotReady("loading"),
        "invalid": InvalidInput("no such column"),
        "failed": ModelFailed("broke"),
    }
    assert {reason: reason_of(error) for reason, error in errors.items()} == {reason: reason for reason in errors}
    assert (reason_of(RowsRefused("NaN")), reason_of(Failed("?")), reason_of(OSError())) == (
        "invalid",
        "failed",
        "failed",
    )


def test_versions_that_no_longer_answer_keep_their_counts() -> None:
    meters = Meters()
    calls = 3 * KEPT_CLOSED
    for version in range(1, calls + 1):
        meter = meters.of("a", "a", version, "")
        assert meters.of("a", "a", version, "") is meter
        meter.answered(2, 1, 1, 1, 1, 5)
        meters.closed(meter)
        assert not meter.ended, "it is still in use"
        meters.closed(meter)
        assert sum(one.answered for one in meters.snapshots()) == version
    snapshots = meters.snapshots()
    assert len(snapshots) == 1 + KEPT_CLOSED + 1
    assert sum(one.total.sum for one in snapshots) == 5 * calls


def test_a_version_that_answers_again_goes_on_counting() -> None:
    meters = Meters()
    meter = meters.of("a", "a", 1, "")
    meters.closed(meter)
    assert meter.snapshot().ended > 0
    assert meters.of("a", "a", 1, "") is meter
    assert meter.snapshot().ended == 0
    for version in range(2, KEPT_CLOSED + 3):
        meters.closed(meters.of("a", "a", version, ""))
    meter.refused("failed")
    assert sum(one.not_answered for one in meters.snapshots()) == 1
