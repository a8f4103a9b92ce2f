"""A rollout followed from look to look: labels are looked for seldom where that takes long, and none is lost by it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from modelyard.domain.records import Label, PredictionRecord
from modelyard.monitoring.performance.task import Aim, Task
from modelyard.records.log import LabelLog, PredictionLog
from modelyard.rollout import following
from modelyard.rollout.batches import Divided
from modelyard.rollout.evidence import Evidence, start
from modelyard.rollout.following import Following
from modelyard.rollout.policy import Policy, Rule, Step
from modelyard.rollout.subject import Subject

BEGAN = datetime(2026, 3, 1, tzinfo=UTC)
TASK = Task(aim=Aim.BINARY, answer="predict", classes=(0, 1))
POLICY = Policy(steps=(Step(0.5), Step(1.0)), rules=(Rule("errors", 0.01), Rule("wrong", 0.05)))
SUBJECT = Subject(deployment="live", baseline="toy@1", candidate="toy@2", began=BEGAN, task=TASK)


def at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def nanoseconds(seconds: float) -> int:
    return (int(BEGAN.timestamp()) * 10**9) + int(seconds * 1e9)


def record(number: int, seconds: float) -> PredictionRecord:
    request, answer = b'{"rows":[{"x":1}]}', b'{"rows":[{"predict":1}]}'
    version = 1 + number % 2
    return PredictionRecord(
        f"p{number}", "live", "toy", version, "d", nanoseconds(seconds), 10**6, 200, "ok", "rows", 1, request, answer
    )


def test_labels_wait_their_turn_and_are_counted_once_also_by_one_who_takes_over(tmp_path: Path) -> None:
    log, labels, clock = PredictionLog(tmp_path), LabelLog(tmp_path), [0.0]

    def ticking() -> float:
        """Each reading takes a tenth of a second, so labels are due again after a second."""
        clock[0] += 0.1
        return clock[0]

    follower, found, counted = Following(tmp_path, ticking), start(POLICY), []
    for second in range(30):
        log.append_all([record(second * 4 + each, second + 0.1 * each) for each in range(4)])
        labels.append_many([Label(f"p{second * 4 + each}", each // 2, nanoseconds(second + 0.5)) for each in range(4)])
        if second == 17:  # another process goes on with what is stored
            follower.close()
            follower = Following(tmp_path, ticking)
            found = msgspec.json.decode(msgspec.json.encode(found), type=Evidence)
        clock[0] += 0.3
        found = follower.take(found, SUBJECT, at(second), at(second + 1), 0.5, POLICY)
        counted.append(found.divided["wrong"].seen.calls)
    assert found.divided["errors"].seen == Divided(60.0, 0.0, 60.0, 0.0)
    assert 3 < len(set(counted)) < 25, "not at every look"
    clock[0] += 100.0
    found = follower.take(found, SUBJECT, at(30), at(31), 0.5, POLICY)
    follower.close()
    assert found.divided["wrong"].seen == Divided(60.0, 30.0, 60.0, 30.0)


def test_each_stretch_has_its_own_share_of_the_labels(tmp_path: Path) -> None:
    """Calls of the first minute had another share than those of the second; their labels come together, later."""
    log, labels, found = PredictionLog(tmp_path), LabelLog(tmp_path), start(POLICY)
    follower = Following(tmp_path)
    log.append_all([record(number, float(number)) for number in range(120)])
    first = msgspec.structs.replace(SUBJECT, arrived=at(0), ended=at(60))
    second = msgspec.structs.replace(SUBJECT, arrived=at(70))
    for stretch in (first, second):
        found = follower.take(found, stretch, stretch.arrived or BEGAN, at(125), 0.5, POLICY)
    assert found.divided["errors"].seen.calls == 60 + 50
    labels.append_many([Label(f"p{number}", 1, nanoseconds(200)) for number in range(120)])
    follower.close()
    follower = Following(tmp_path)
    found = follower.take(found, first, at(125), at(300), 0.2, POLICY)
    assert found.divided["wrong"].seen.calls == 60
    found = follower.take(found, second, at(125), at(300), 0.5, POLICY)
    assert found.divided["wrong"].seen.calls == 110
    assert found.divided["errors"].seen.calls == 110
    follower.close()


def test_only_so_many_stretches_are_remembered() -> None:
    found = start(POLICY)
    for number in range(100):
        found = msgspec.structs.replace(found, labelled=following._noted(found, at(number).isoformat(), at(number)))
    assert len(found.labelled) == following._KEPT
    assert at(99).isoformat() in found.labelled
