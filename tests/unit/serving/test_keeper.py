"""A dead process is noticed and brought back, and what it was computing is computed again, once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

import compiled_bundles
from modelyard.errors import ParityFailed, RuntimeLost, VersionNotReady
from modelyard.runtime.interface import Runtime
from modelyard.serving.deaths import pause_after
from modelyard.serving.keeper import DEATHS, KeptRuntime
from unit.serving.parts import Mortal, until

ROW = compiled_bundles.frame(1)
Keep = Callable[..., KeptRuntime]


@pytest.fixture
def keep() -> Iterator[Keep]:
    made: list[KeptRuntime] = []

    def start(mortal: Mortal, prove: Callable[[Runtime], None] = lambda runtime: None) -> KeptRuntime:
        made.append(KeptRuntime(mortal, prove, "toy"))
        return made[-1]

    yield start
    for kept in made:
        kept.close()


def life(kept: KeptRuntime) -> int:
    return int(kept.predict(ROW)["life"][0])


def test_a_killed_process_is_noticed_without_a_request_and_comes_back(keep: Keep) -> None:
    mortal = Mortal()
    kept = keep(mortal)
    assert (life(kept), kept.trouble()) == (1, "")
    mortal.dead = True
    assert kept.trouble()
    until(lambda: not kept.trouble(), 1.0)
    assert life(kept) == 2


def test_the_request_that_died_with_the_process_is_answered_by_the_next(keep: Keep) -> None:
    mortal = Mortal(deaths_to_come=1)
    assert life(keep(mortal)) == 2
    assert mortal.starts == 1


def test_a_request_that_kills_two_processes_is_not_tried_a_third_time(keep: Keep) -> None:
    mortal = Mortal(deaths_to_come=2)
    kept = keep(mortal)
    with pytest.raises(RuntimeLost):
        kept.predict(ROW)
    assert life(kept) == 3


def test_starting_is_tried_until_it_works_and_requests_wait_for_it(keep: Keep) -> None:
    mortal = Mortal(failing_starts=2, dead=True)
    kept = keep(mortal)
    assert life(kept) == 2
    assert mortal.starts == 3


def test_a_process_that_answers_differently_after_its_return_does_not_answer(keep: Keep) -> None:
    wrong = threading.Event()
    wrong.set()

    def prove(runtime: Runtime) -> None:
        if wrong.is_set():
            raise ParityFailed("2 answers differ")

    mortal = Mortal(dead=True)
    kept = keep(mortal, prove)
    until(lambda: "2 answers differ" in kept.trouble())
    wrong.clear()
    assert life(kept) > 1
    assert not kept.trouble()


def test_many_requests_share_one_restart(keep: Keep) -> None:
    mortal = Mortal(deaths_to_come=1)
    kept = keep(mortal)
    got: list[int] = []
    callers = [threading.Thread(target=lambda: got.append(life(kept))) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(got) == 8
    assert mortal.starts == 1


def test_closing_ends_the_process_and_refuses_requests(keep: Keep) -> None:
    mortal = Mortal()
    kept = keep(mortal)
    kept.close()
    assert mortal.closed
    mortal.dead = True
    with pytest.raises(RuntimeLost):
        kept.predict(ROW)


def test_deaths_with_answers_between_them_are_not_made_to_wait(keep: Keep) -> None:
    mortal = Mortal()
    kept = keep(mortal)
    started = time.monotonic()
    for number in range(1, 21):
        assert life(kept) == number
        mortal.deaths_to_come = 1
    assert time.monotonic() - started < sum(pause_after(deaths) for deaths in range(1, 21)) / 2


def test_the_pause_grows_to_half_a_minute() -> None:
    pauses = [pause_after(deaths) for deaths in range(1, 12)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (0.0, 30.0)


def test_one_that_is_killed_while_idle_is_back_at_once_however_often(keep: Keep) -> None:
    mortal = Mortal()
    kept = keep(mortal)
    for number in range(1, 3 * DEATHS):
        mortal.dead = True
        until(lambda number=number: kept.restarts == number)
        assert not kept.isolated
        assert kept.back_in() == 0.0
    until(lambda: not kept.trouble())


def test_one_that_ends_by_itself_while_idle_is_isolated_in_the_end(keep: Keep) -> None:
    mortal = Mortal(code=1)
    kept = keep(mortal)
    seen = list[bool]()

    def isolated_while_away() -> bool:
        mortal.dead = True
        seen.append(kept.isolated)
        return seen[-1]

    until(isolated_while_away)
    assert "isolated" in kept.trouble()


def test_one_attempt_neither_waits_nor_tries_twice(keep: Keep) -> None:
    mortal = Mortal(deaths_to_come=1)
    kept = keep(mortal)
    with pytest.raises(RuntimeLost):
        kept.attempt(ROW)
    until(lambda: kept.wait_up(0.1))
    assert kept.attempt(ROW)["life"].tolist() == [2]
    assert kept.restarts == 1


def test_a_version_that_keeps_dying_is_isolated_and_says_so(keep: Keep) -> None:
    mortal = Mortal(failing_starts=1000, dead=True)
    kept = keep(mortal)
    until(lambda: kept.isolated)
    with pytest.raises(VersionNotReady, match="toy"):
        kept.attempt(ROW)
    with pytest.raises(VersionNotReady, match="does not come back"):
        kept.predict(ROW)
    with pytest.raises(VersionNotReady):
        kept.wait_up(5)
    assert kept.trouble()
    assert kept.back_in() > 0
