"""What happened between two looks at a data plane, and how a terminal shows it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from modelyard.cli.top import _versions
from modelyard.control.traffic import Look, WorkerSeen, between

OLD, NEW, NOWHERE = ("live", "toy", "1"), ("live", "toy", "2"), ("", "", "")


def values(calls: int, **refused: int) -> dict[tuple[str, str], float]:
    told = {("modelyard_requests_refused_total", reason): float(count) for reason, count in refused.items()}
    return {("modelyard_requests_total", ""): float(calls)} | told


def look(at: float, old: int, new: int, **refused: int) -> Look:
    return Look(
        at,
        False,
        "a reason",
        {OLD: values(old), NEW: values(new, **refused), NOWHERE: values(0, invalid=3)},
        (WorkerSeen(0, 100, True, 4, old + new, processor_seconds=at / 4),),
        {NEW: ("ready", ""), ("other", "toy", "9"): ("loading", "it is loading")},
    )


def test_rates_are_of_the_time_between() -> None:
    seen = between(look(10.0, 5, 0), look(12.0, 9, 20, overload=6, invalid=2))
    told = {(one.deployment, one.version): one for one in seen.versions}
    assert list(told) == [("live", "1"), ("live", "2"), ("other", "9")], "nothing new came to no version"
    assert [one.requests_per_second for one in told.values()] == [2.0, 10.0, 0.0]
    assert told["live", "2"].refused == {"overload": 3.0, "invalid": 1.0}
    assert told["live", "2"].refused_per_second == 4.0
    assert [(one.state, one.reason) for one in told.values()] == [
        ("", ""),
        ("ready", ""),
        ("loading", "it is loading"),
    ]
    [worker] = seen.workers
    assert (worker.requests_per_second, worker.processor) == (12.0, 0.25)


def test_a_replaced_version_is_left_out_when_nothing_happens_to_it() -> None:
    seen = between(look(10.0, 9, 0), look(12.0, 9, 4))
    assert [one.version for one in seen.versions] == ["2", "9"]


def test_a_server_that_began_anew_and_a_new_worker_count_from_nothing() -> None:
    before = replace(look(10.0, 90, 90), workers=(WorkerSeen(0, 99, True, 1, 180),))
    seen = between(before, look(12.0, 0, 4))
    assert [one.requests_per_second for one in seen.versions] == [0.0, 0.0]
    assert [(one.requests_per_second, one.processor) for one in seen.workers] == [(2.0, None)]


@pytest.mark.parametrize("width", [None, 200, 100, 70])
def test_a_narrow_terminal_gets_fewer_columns(width: int | None) -> None:
    seen = between(look(10.0, 5, 0), look(12.0, 9, 20, overload=6, invalid=2))
    console = Console(width=width or 500)
    with console.capture() as captured:
        console.print(_versions(seen.versions, width))
    lines = captured.get().splitlines()
    assert len(lines) == 4, "no line is folded"
    assert {"deployment", "req/s", "p99 ms"} <= {part.strip() for part in lines[0].split("  ")}
    assert "4.0 overload, ..." in captured.get()
    assert ("restarts" in lines[0]) == (width in (None, 200))
