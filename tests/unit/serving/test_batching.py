"""Calls become one batch and get their own answers back; the batch's size finds itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.domain.frame import Frame, Vector
from modelyard.serving.batching import BatchLimit, CannotMerge, gather_seconds, merged, parts, union


def simulated(one: float, more: float, objective: float, batches: int = 400) -> list[int]:
    """The limits that are found while every batch is full."""
    limit, found = BatchLimit(objective, most=100_000), []
    for _ in range(batches):
        limit.after(limit.rows, one + limit.rows * more)
        found.append(limit.rows)
    return found


@given(st.floats(0, 0.04), st.floats(1e-4, 1e-3))
def test_the_limit_settles_where_a_batch_takes_as_long_as_it_may(one: float, more: float) -> None:
    best = (0.05 - one) / more
    found = simulated(one, more, 0.05)[-50:]
    assert max(found) <= best + 8
    assert min(found) >= 0.8 * best - 8


def test_the_limit_stays_within_its_bounds() -> None:
    assert simulated(1.0, 1.0, 0.05)[-1] == 1
    small = BatchLimit(1.0, most=10)
    for _ in range(100):
        small.after(small.rows, 0.0)
    assert small.rows == 10


def test_batches_that_were_not_full_and_slow_lone_large_calls_say_nothing() -> None:
    limit = BatchLimit(0.05, most=1000)
    before = limit.rows
    limit.after(1, 0.001)
    limit.after(500, 3.0)
    assert limit.rows == before


def test_large_calls_come_together_as_long_as_that_is_quick_enough() -> None:
    limit, batch = BatchLimit(0.05, most=10_000), 100
    for _ in range(200):
        batch = max(limit.rows // 100, 1) * 100
        limit.after(batch, batch * 1e-4, left_out=100)
    assert 300 <= batch <= 600


def test_callers_that_were_answered_together_are_waited_for_and_no_others() -> None:
    assert gather_seconds(waiting=3, before=4, one=0.004) == pytest.approx(0.001)
    assert gather_seconds(waiting=4, before=4, one=0.004) == 0.0
    assert gather_seconds(waiting=1, before=1, one=0.004) == 0.0


def test_it_does_not_fall_where_smaller_batches_would_not_be_faster() -> None:
    limit = BatchLimit(0.05, most=1000)
    for _ in range(100):
        limit.after(limit.rows, 0.2, least=20)
    assert limit.rows == 20


def frame(values: list[float], missing: list[bool] | None = None, dtype: str = "int64") -> Frame:
    mask = None if missing is None else np.array(missing)
    return Frame({"x": Vector(np.array(values, dtype=dtype), mask)}, len(values))


def test_frames_are_joined_with_what_is_missing() -> None:
    joined = merged([frame([1, 2]), frame([0, 3], [True, False]), frame([4])])
    assert joined.rows == 5
    assert joined["x"].values.tolist() == [1, 2, 0, 3, 4]
    assert joined["x"].is_missing().tolist() == [False, False, True, False, False]


def test_frames_of_different_types_or_shapes_are_not_joined() -> None:
    with pytest.raises(CannotMerge):
        merged([frame([1]), frame([1], dtype="float64")])
    with pytest.raises(CannotMerge):
        merged([frame([1]), Frame({"x": Vector(np.ones((1, 2), dtype="int64"))}, 1)])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6))
def test_every_call_gets_its_rows_and_outputs(sizes: list[int]) -> None:
    total = sum(sizes)
    answers = {"a": np.arange(total), "b": np.arange(total) * 10}
    wanted = [None if at % 2 else ["b"] for at in range(len(sizes))]
    found = parts(answers, sizes, wanted)
    assert np.concatenate([part["b"] for part in found]).tolist() == answers["b"].tolist()
    assert [list(part) for part in found] == [["a", "b"] if names is None else ["b"] for names in wanted]


def test_answers_of_another_length_or_without_an_output_are_no_answers() -> None:
    with pytest.raises(ValueError, match="3 answers"):
        parts({"a": np.arange(3)}, [1, 1], [None, None])
    with pytest.raises(ValueError, match="no answer"):
        parts({"a": np.arange(2)}, [1, 1], [None, ["b"]])


def test_outputs_are_asked_for_together() -> None:
    assert union([["a"], ["b", "a"]]) == ["a", "b"]
    assert union([["a"], None]) is None
