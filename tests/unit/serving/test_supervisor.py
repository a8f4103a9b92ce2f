"""What the supervisor of the workers decides, as tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelyard.domain.deaths import Death, ended_how, failures
from modelyard.serving.deaths import memory_kills
from modelyard.serving.supervisor import End, Rest, Seen, Start, Step, next_step, pause

STEADY = 2.0


@pytest.mark.parametrize(
    ("seen", "step"),
    [
        (Seen(alive=False), Start),
        (Seen(alive=False, pause=-3.0), Start),
        (Seen(alive=False, pause=0.1), Rest),
        (Seen(alive=True), Rest),
        (Seen(alive=True, silent=0.9), Rest),
        (Seen(alive=True, silent=1.0), End),
        (Seen(alive=True, silent=4.9, working=True), Rest),
        (Seen(alive=True, silent=5.0, working=True), End),
        (Seen(alive=True, silent=59.0, loading=True), Rest),
        (Seen(alive=True, silent=60.0, loading=True, working=True), End),
        (Seen(alive=True, silent=1.0, loading=True, stopped=True), End),
        (Seen(alive=True, silent=0.9, stopped=True), Rest),
    ],
)
def test_the_step_follows_from_what_is_seen(seen: Seen, step: type[Step]) -> None:
    assert isinstance(next_step(seen), step)


def test_who_was_stopped_is_told_from_who_hangs() -> None:
    stopped, hanging = (next_step(Seen(alive=True, silent=1.5, stopped=one)) for one in (True, False))
    assert stopped == End("it was stopped by a signal and has not turned for 1.5 s")
    assert hanging == End("its event loop has not turned for 1.5 s")


@pytest.mark.parametrize(
    ("deaths", "pauses"),
    [
        # killed by an operator while it serves, again and again, soon after it is back
        ([Death(-9, served=0.1)] * 12, [0.0] * 12),
        ([Death(0, served=0.1), Death(-15, served=0.0), Death(-2, served=5.0)], [0.0] * 3),
        # killed before it could serve: nobody knows whether it ever would
        ([Death(-9)] * 4, [0.0, 0.0, 0.2, 0.5]),
        # it cannot start
        ([Death(1)] * 10, [0.0, 0.0, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 30.0]),
        # it serves and crashes, soon: what else it serves does not wait for long
        ([Death(-11, served=0.5)] * 7, [0.0, 0.0, 0.2, 0.5, 1.0, 1.0, 1.0]),
        # it takes too much memory, or hangs, soon
        ([Death(-9, served=0.5, starved=True)] * 4, [0.0, 0.0, 0.2, 0.5]),
        ([Death(-9, served=0.5, forced=True)] * 4, [0.0, 0.0, 0.2, 0.5]),
        # it crashes now and then
        ([Death(-11, served=60.0)] * 4, [0.0] * 4),
        # a crash loop is over once somebody else had to kill it, or it was well for long
        ([Death(1)] * 5 + [Death(-9, served=1.0), Death(1)], [0.0, 0.0, 0.2, 0.5, 1.0, 0.0, 0.0]),
        ([Death(1)] * 5 + [Death(1, served=9.0), Death(1)], [0.0, 0.0, 0.2, 0.5, 1.0, 0.0, 0.0]),
    ],
)
def test_the_pause_grows_for_those_who_fail_by_their_own_doing(deaths: list[Death], pauses: list[float]) -> None:
    failed, got = 0, []
    for death in deaths:
        failed = failures(failed, death, STEADY)
        got.append(pause(failed, death))
    assert got == pauses


def test_deaths_are_told_in_words() -> None:
    said = [ended_how(death) for death in (Death(0), Death(-15), Death(-63), Death(-9, starved=True))]
    assert said == [
        "ended with status 0",
        "was killed by SIGTERM",
        "was killed by signal 63",
        "was killed by SIGKILL, as memory ran out",
    ]


def test_kills_for_memory_are_those_of_this_group_else_of_the_machine(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    assert memory_kills(tmp_path) == 0
    (tmp_path / "proc/vmstat").write_text("pgfault 9\noom_kill 7\n")
    assert memory_kills(tmp_path) == 7
    (tmp_path / "proc/self/cgroup").write_text("0::/a.slice/b.service\n")
    assert memory_kills(tmp_path) == 7
    group = tmp_path / "sys/fs/cgroup/a.slice/b.service"
    group.mkdir(parents=True)
    (group / "memory.events").write_text("oom 1\noom_kill 2\noom_group_kill 0\n")
    assert memory_kills(tmp_path) == 2
