"""The table of updates under load: what is counted where, and whose answers are mixed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from benchmarks.rollouts.service import Span, _back, _Calls, _row
from benchmarks.serving.load import Answered

EXPECTED = {1: np.array([[0.1, 0.2]]), 2: np.array([[0.7, 0.8]])}


def answered(due: int, ms: float, said: list[float], version: int = 1, status: int = 200) -> Answered:
    rows = [{"predict_proba": {"0": 1 - one, "1": one}} for one in said]
    body = json.dumps({"version": version, "rows": rows}).encode()
    return Answered(due, due + round(ms * 1e6), 0, status, b"HTTP/1.1 200 OK\r\n\r\n" + body)


def test_an_answer_is_mixed_unless_every_row_comes_from_the_version_that_it_names() -> None:
    calls = _Calls.of(
        iter(
            [
                answered(1, 1.0, [0.1, 0.2], 1),
                answered(2, 1.0, [0.7, 0.8], 2),
                answered(3, 1.0, [0.1, 0.8], 1),
                answered(4, 1.0, [0.1, 0.2], 2),
                answered(5, 1.0, [0.1], 1),
                answered(6, 1.0, [], status=503),
            ]
        ),
        EXPECTED,
    )
    assert calls.mixed.tolist() == [False, False, True, True, True, False]
    assert calls.failed.tolist() == [False] * 5 + [True]


def test_calls_due_in_an_update_are_compared_with_those_due_in_the_rests_before_updates_of_that_kind() -> None:
    spans = [Span("", 0, 100), Span("replace", 100, 200), Span("", 200, 300), Span("shadow, promoted", 300, 400)]
    dues = {10: 1.0, 110: 3.0, 210: 5.0, 310: 5.0, 450: 99.0}
    calls = _Calls.of(iter([answered(due, ms, [0.1, 0.2]) for due, ms in dues.items()]), EXPECTED)
    replaced, shadowed, every = (_row(kind, spans, calls) for kind in ("replace", "shadow, promoted", ""))
    assert (replaced.p99_before, replaced.p99_during, replaced.ratio) == pytest.approx((1.0, 3.0, 3.0))
    assert shadowed.ratio == pytest.approx(1.0)
    assert (every.changes, every.calls, every.failed, every.mixed) == (2, 4, 0, 0)


def test_the_way_back_ends_with_the_last_call_to_the_version_that_goes() -> None:
    second = 10**9
    spans = [
        Span("", 0, second),
        Span("ab, rolled back", second, 9 * second, 2, 2 * second, 4 * second),
        Span("", 9 * second, 10 * second),
        Span("shadow, rolled back", 10 * second, 19 * second, 2, 12 * second, 13 * second),
    ]
    dues = {second: 2, 2 * second: 2, 3 * second: 2, 4 * second: 1, 18 * second: 1}
    said = {1: [0.1, 0.2], 2: [0.7, 0.8]}
    calls = _Calls.of(iter([answered(due, 1.0, said[one], one) for due, one in dues.items()]), EXPECTED)
    found = _back(spans, calls)
    assert found is not None
    assert (found.times, found.followed_median, found.followed_most) == (2, 1.5, 2.0)
    assert (found.last_median, found.last_most) == (0.5, 1.0)
    assert _back(spans[:1], calls) is None
