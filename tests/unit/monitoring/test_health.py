"""Answers that are no numbers or always the same, versions that are too old."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from modelyard.monitoring.calls import Calls, Repeats
from modelyard.monitoring.findings import Finding
from modelyard.monitoring.health import Health, Staleness, commonest, different_rows
from modelyard.monitoring.reference import Reference
from modelyard.monitoring.settings import Settings
from modelyard.monitoring.watching import Snapshot

BEGAN = datetime(2025, 3, 1, tzinfo=UTC)
DRAW = np.random.default_rng(0)


def answers(rows: int, **columns: Any) -> dict[str, Any]:
    plain = {"score": DRAW.beta(1, 4, rows), "predict": DRAW.choice(["no", "yes"], rows, p=[0.8, 0.2])}
    return plain | columns


REFERENCE = Reference.of_table(answers(5000))


def snapshot(hour: int, table: dict[str, Any], reference: Reference = REFERENCE, **settings: Any) -> Snapshot:
    rows = len(next(iter(table.values()))) if table else 0
    calls = settings.pop("calls", Calls(rows=rows))
    return Snapshot(
        deployment="d",
        version="m@1",
        began=BEGAN + timedelta(hours=hour),
        seconds=3600.0,
        reference=reference,
        window=reference.profile(table) if table else None,
        earlier=lambda began, seconds: None,
        calls=calls,
        settings=Settings(**settings).with_share(Health.share),
        made=BEGAN - timedelta(days=10),
        outputs=tuple(reference.slots),
    )


def looked(tables: list[dict[str, Any]], reference: Reference = REFERENCE, **settings: Any) -> list[Finding]:
    watch = Health()
    state, findings = watch.start(reference, Settings()), []
    for hour, table in enumerate(tables):
        state, found = watch.look(state, snapshot(hour, table, reference, **settings))
        findings += found
    return findings


def test_healthy_answers_say_nothing() -> None:
    assert looked([answers(20) for _ in range(50)] + [{}]) == []


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_answer_that_is_no_number_is_an_alarm(bad: float) -> None:
    scores = DRAW.beta(1, 4, 100)
    scores[3] = bad
    found = looked([answers(100), answers(100, score=scores)])
    assert [(one.watch, one.subject, one.alarm) for one in found] == [("health.not_finite", "score", True)]
    assert found[0].effect == 0.01
    assert "1 of 100" in found[0].said


def test_missing_answers_that_the_reference_has_too_are_a_question_of_drift() -> None:
    gaps = Reference.of_table(answers(5000, score=np.where(DRAW.random(5000) < 0.1, np.nan, DRAW.random(5000))))
    assert looked([answers(100, score=np.full(100, np.nan))], gaps) == []


def test_since_is_the_first_window_of_a_row() -> None:
    scores = np.full(20, np.nan)
    found = looked([answers(20, score=scores), answers(20, score=scores), answers(20), answers(20, score=scores)])
    bad = [one for one in found if one.watch == "health.not_finite"]
    assert [one.since for one in bad] == [BEGAN, BEGAN, BEGAN + timedelta(hours=3)]


def test_a_constant_score_is_an_alarm_at_once_and_a_constant_class_after_more_rows() -> None:
    stuck = {"score": np.full(20, 0.3), "predict": np.array(["no"] * 20)}
    found = looked([answers(20)] + [stuck] * 12)
    first = {one.subject: one.window for one in reversed(found) if one.alarm}
    assert first["score"] == BEGAN + timedelta(hours=1)
    assert BEGAN + timedelta(hours=2) < first["predict"] < BEGAN + timedelta(hours=10)
    assert "always 0.3" in next(one.said for one in found if one.subject == "score")


def test_single_answers_and_the_same_question_again_are_no_evidence() -> None:
    assert looked([answers(1) for _ in range(200)]) == []
    same = Calls(rows=50, repeated=Repeats(((7, 50),)))
    assert looked([{"score": np.full(50, 0.3), "predict": np.array(["no"] * 50)}] * 20, calls=same) == []


def test_a_class_that_nearly_all_rows_have_may_be_constant() -> None:
    rare = Reference.of_table(answers(5000, predict=DRAW.choice(["no", "yes"], 5000, p=[0.999, 0.001])))
    assert looked([answers(200, predict=np.array(["no"] * 200))] * 50, rare) == []


def test_a_class_may_be_constant_while_its_chances_vary() -> None:
    chances = DRAW.beta(1, 4, 5000)
    columns = {"predict_proba[no]": 1 - chances, "predict_proba[yes]": chances, "predict": chances > 0.4}
    made = Reference.of_table(columns)
    small = DRAW.uniform(0.0, 0.3, 200)
    table = {"predict_proba[no]": 1 - small, "predict_proba[yes]": small, "predict": small > 0.4}
    assert [one for one in looked([table] * 20, made) if one.alarm] == []
    stuck = {"predict_proba[no]": np.full(200, 0.9), "predict_proba[yes]": np.full(200, 0.1), "predict": small > 0.4}
    assert {one.subject for one in looked([stuck] * 20, made) if one.alarm} == set(columns)


@pytest.mark.parametrize("rows", [2, 6])
def test_false_alarms_of_a_coin_stay_within_the_budget(rows: int) -> None:
    """Windows of few rows of a fair coin are often constant; 2 % of one alarm an hour may be spent in 600 hours."""
    made = Reference.of_table({"predict": np.array(["a", "b"] * 50_000)})
    draw, watch, alarms = np.random.default_rng(rows), Health(), 0
    state = watch.start(made, Settings())
    for hour in range(600):
        table = {"predict": draw.choice(["a", "b"], rows)}
        state, found = watch.look(state, snapshot(hour, table, made, false_alarms="1 per hour"))
        alarms += any(one.alarm for one in found)
    assert alarms <= 600 * Health.share


def test_how_many_rows_are_different() -> None:
    assert different_rows(Calls(repeated=Repeats(((1, 3), (2, 1)))), 4) == 2
    many = Repeats(tuple((at, 2) for at in range(128)))
    assert different_rows(Calls(repeated=many), 1000) == 500


def test_the_commonest_share_has_room_for_what_the_reference_does_not_know() -> None:
    small, large = (Reference.of_table({"c": ["a", "b"] * half}).slots["c"] for half in (20, 20_000))
    assert 0.5 < commonest(large) < 0.53 < 0.7 < commonest(small) <= 1


def test_age_is_told_against_a_limit_only() -> None:
    watch = Staleness()

    def ages(max_age: float, table: dict[str, Any]) -> list[Finding]:
        return watch.look(watch.start(REFERENCE, Settings()), snapshot(0, table, max_age=max_age))[1]

    assert ages(0.0, answers(5)) == ages(86_400 * 30, answers(5)) == ages(86_400, {}) == []
    (old,) = ages(86_400 * 7, answers(5))
    assert old.alarm
    assert "10.0 days ago" in old.said
    (soon,) = ages(86_400 * 10.5, answers(5))
    assert not soon.alarm
