"""What has come of a rollout that people steer, against counts made by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from modelyard.domain.records import Label, PredictionRecord
from modelyard.monitoring.performance.task import Aim, Task
from modelyard.records.log import LabelLog, PredictionLog
from modelyard.rollout.measuring import Period, come_to
from modelyard.rollout.subject import Subject
from modelyard.rollout.telling import Told

BEGAN = datetime(2026, 3, 1, tzinfo=UTC)
TASK = Task(aim=Aim.BINARY, answer="predict", classes=(0, 1))
SUBJECT = Subject(deployment="live", baseline="toy@1", candidate="toy@2", began=BEGAN, task=TASK)


def at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def record(
    seconds: int, version: int, deployment: str = "live", *, status: int = 200, ms: float = 1.0, said: int = 1
) -> PredictionRecord:
    moment = int(at(seconds).timestamp()) * 1_000_000_000
    answer = b'{"rows":[{"predict":%d}]}' % said if status == 200 else b"{}"
    outcome = "ok" if status == 200 else "failed"
    request = b'{"rows":[{"x":1.0}]}'
    return PredictionRecord(
        f"p{seconds}",
        deployment,
        "toy",
        version,
        "",
        moment,
        int(ms * 1e6),
        status,
        outcome,
        "rows",
        1,
        request,
        answer,
    )


def by_metric(found: tuple[Told, ...]) -> dict[str, Told]:
    return {one.metric: one for one in found}


def test_versions_that_share_calls_are_compared_over_the_same_time(tmp_path: Path) -> None:
    draw, log, labels = np.random.default_rng(2), PredictionLog(tmp_path), LabelLog(tmp_path)
    calls, bad, right, records = {1: 0, 2: 0}, {1: 0, 2: 0}, 0, []
    for seconds in range(4000):
        version = 2 if draw.random() < (0.3 if seconds < 2000 else 0.6) else 1
        fails = draw.random() < (0.02 if version == 1 else 0.12)
        bad[version] += fails
        calls[version] += 1
        records.append(record(seconds, version, status=500 if fails else 200, ms=250.0 if seconds % 50 == 0 else 1.0))
        if not fails and seconds % 4 == 0:
            labels.append(Label(f"p{seconds}", int(draw.random() < 0.9), records[-1].received_ns + 10**9 * 3000))
            right += 1
    log.append_all([*records, record(-5, 1, status=500), record(9000, 1, status=500)])
    periods = [Period(at(0), at(2000), 0.3), Period(at(2000), at(8000), 0.6)]
    found = by_metric(come_to(tmp_path, SUBJECT, periods, 100.0))
    errors = found["errors"]
    assert (errors.baseline, errors.candidate) == (calls[1], calls[2])
    assert errors.baseline_rate == pytest.approx(bad[1] / calls[1])
    assert errors.candidate_rate == pytest.approx(bad[2] / calls[2])
    assert errors.low is not None
    assert errors.high is not None
    assert 0.0 < errors.low <= 0.1 <= errors.high < 1.0
    assert found["wrong"].baseline + found["wrong"].candidate == right
    assert found["wrong"].baseline_rate == pytest.approx(0.1, abs=0.05)
    assert found["slow"].candidate_rate == pytest.approx(0.02, abs=0.02)


def test_a_shadow_is_compared_row_by_row(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path)
    for seconds in range(300):
        log.append(record(seconds, 1))
        log.append(record(seconds, 2, "live.candidate", said=0 if seconds % 10 == 0 else 1))
    found = by_metric(come_to(tmp_path, SUBJECT, [Period(at(0), at(400), 0.0)], 100.0))
    different = found["different"]
    assert (different.candidate, different.candidate_rate) == (300.0, 0.1)
    assert different.low is not None
    assert different.high is not None
    assert 0.0 < different.low <= 0.1 <= different.high < 0.5
    assert found["errors"].candidate_rate == 0.0


def test_without_calls_nothing_is_told(tmp_path: Path) -> None:
    PredictionLog(tmp_path).append(record(0, 1))
    assert come_to(tmp_path, SUBJECT, [Period(at(0), at(9), 1.0)], 100.0) == ()
    assert come_to(tmp_path, SUBJECT, [], 100.0) == ()
