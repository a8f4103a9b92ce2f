"""Loading rests while calls are answered, and one worker after the other loads."""

from __future__ import annotations

import multiprocessing
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from modelyard.serving.gentle import REST, SLICE_SECONDS, Paced, Turns
from unit.serving.parts import PATIENCE, until


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now, self.rests = 0.0, list[float]()

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.rests.append(seconds)
        self.now += seconds


def test_it_rests_after_each_slice_for_as_long_as_it_worked_and_more() -> None:
    clock = Clock()
    paced = Paced(lambda: True, clock.sleep, clock)
    for _ in range(20):
        paced.step()
        clock.now += SLICE_SECONDS / 4
    assert len(clock.rests) == 4
    assert all(abs(rest - SLICE_SECONDS * REST) < 1e-9 for rest in clock.rests)


def test_one_long_piece_of_work_is_followed_by_a_long_rest() -> None:
    clock = Clock()
    paced = Paced(lambda: True, clock.sleep, clock)
    paced.step()
    clock.now += 0.1
    paced.step()
    assert clock.rests == [pytest.approx(0.1 * REST)]


def test_it_does_not_rest_while_nothing_answers() -> None:
    clock = Clock()
    paced = Paced(lambda: False, clock.sleep, clock)
    for _ in range(20):
        paced.step()
        clock.now += SLICE_SECONDS
    assert clock.rests == []


def hold(file: Path, has_it: Any, go: Any) -> None:
    with Turns(file, lambda: True).turn():
        has_it.set()
        go.wait(PATIENCE)


def test_workers_load_one_after_the_other_and_a_dead_one_keeps_nobody_waiting(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("spawn")
    file, has_it, go = tmp_path / "lock", fork.Event(), fork.Event()
    other = fork.Process(target=hold, args=(file, has_it, go))
    other.start()
    assert has_it.wait(PATIENCE)
    got = threading.Event()

    def load() -> None:
        with Turns(file, lambda: True, patience=PATIENCE).turn():
            got.set()

    waiting = threading.Thread(target=load)
    waiting.start()
    with Turns(file, lambda: False).turn():
        assert not got.is_set()  # nobody answers there: no reason to wait
    assert other.pid is not None
    os.kill(other.pid, 9)
    assert got.wait(PATIENCE)
    waiting.join()
    other.join()


def test_who_waits_too_long_for_a_turn_loads_all_the_same(tmp_path: Path) -> None:
    turns = Turns(tmp_path / "lock", lambda: True, patience=0.05)
    with turns.turn(), Turns(tmp_path / "lock", lambda: True, patience=0.05).turn():
        pass
    with Turns(tmp_path / "nowhere" / "lock", lambda: True).turn():
        pass


def test_threads_of_a_worker_take_turns() -> None:
    turns, inside, most = Turns(), 0, 0

    def load() -> None:
        nonlocal inside, most
        with turns.turn():
            inside += 1
            most = max(most, inside)
            os.sched_yield()
            inside -= 1

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    until(lambda: not any(thread.is_alive() for thread in threads))
    assert most == 1
