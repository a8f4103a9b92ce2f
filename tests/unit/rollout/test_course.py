"""Where a rollout stands, from look to look: stretches, time, and what is counted of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

from modelyard.rollout import course
from modelyard.rollout.course import Course
from modelyard.rollout.decision import Decision
from modelyard.rollout.policy import Policy, Step
from modelyard.rollout.subject import LAG, LONGEST

BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)
POLICY = Policy(steps=(Step(0.1, 10, 60), Step(0.5, 10, 60), Step(1.0, 10, 60)))


def after(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def looked(made: Course, *seconds: float) -> Course:
    for each in seconds:
        made = course.look(made, after(each))
    return made


def stretches(made: Course) -> list[tuple[float, float, float | None]]:
    return [
        (one.share, (one.began - BEGAN).total_seconds(), one.ended and (one.ended - BEGAN).total_seconds())
        for one in made.stretches
    ]


def test_calls_between_a_step_and_its_carrying_out_belong_to_no_stretch() -> None:
    made = course.look(course.begin(POLICY, 7, BEGAN), after(1), "not seen yet")
    assert (stretches(made), made.spent) == ([], 0.0)
    made = looked(made, 2, 3, 4)
    made = course.look(course.move(made, 1, 8, after(5)), after(6), "not seen yet")
    assert stretches(made) == [(0.1, 2, 5)]
    made = looked(made, 7, 9)
    assert stretches(made) == [(0.1, 2, 5), (0.5, 7, None)]
    assert made.spent == 2.0


def test_a_candidate_that_goes_away_ends_a_stretch_when_it_was_last_seen() -> None:
    made = looked(course.begin(POLICY, 7, BEGAN), 1, 2)
    made = course.look(made, after(9), "unavailable", lost=True)
    assert stretches(made) == [(0.1, 1, 2)]
    assert made.lost_since == after(9)
    assert course.snapshot(course.look(made, after(12), "unavailable", lost=True), (), "", ()).lost_seconds == 3.0
    assert looked(made, 10).lost_since is None


def test_time_stands_still_in_a_pause_and_a_gap_counts_a_minute_at_most() -> None:
    made = looked(course.begin(POLICY, 7, BEGAN), 1, 3)
    assert made.spent == 2.0
    assert course.look(made, after(30), paused=True).spent == 2.0
    assert looked(course.decided(made, Decision("pause", "it cannot be measured"), None), 30).spent == 2.0
    assert looked(made, 5000).spent == 2.0 + course.GAP_SECONDS


def test_every_stretch_is_counted_by_itself_and_the_old_ones_seldom() -> None:
    made = course.move(looked(course.begin(POLICY, 7, BEGAN), 0, 1), 1, 8, after(2))
    made = looked(made, 3)
    [(number, stretch, until)] = course.due(made, after(4))
    assert (number, stretch.share, until) == (0, 0.1, after(4) - LAG)
    found = list(course.due(made, after(10)))
    assert [(number, stretch.share) for number, stretch, _ in found] == [(0, 0.1), (1, 0.5)]
    for number, _, until in found:
        made = course.take(made, number, until, made.evidence)
    assert list(course.due(made, after(10))) == []
    late = after(20) + LONGEST
    for number, _, until in course.due(made, late):
        made = course.take(made, number, until, made.evidence)
    assert [number for number, _, _ in course.due(made, late + timedelta(seconds=1))] == [1]
    assert [number for number, _, _ in course.due(made, late + course.SELDOM * 1.1)] == [0, 1]


def test_where_everybody_has_it_there_is_nothing_to_count() -> None:
    made = looked(course.move(course.begin(POLICY, 7, BEGAN), 2, 8, BEGAN), 1)
    assert list(course.due(made, after(20))) == []


def test_it_is_the_same_after_it_was_stored() -> None:
    made = course.move(looked(course.begin(POLICY, 7, BEGAN), 0, 1), 1, 8, after(2))
    assert msgspec.json.decode(msgspec.json.encode(made), type=Course) == made
