"""What records say of a rollout, against counts made by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from modelyard.domain.records import Label, PredictionRecord
from modelyard.records.log import LabelLog, PredictionLog
from modelyard.records.query import RecordDatabase
from modelyard.rollout.measuring import Period, divided, shadowed

BEGAN = datetime(2026, 3, 1, tzinfo=UTC)


def record(
    at: int, version: int, deployment: str = "live", *, status: int = 200, ms: float = 1.0, said: int = 1, who: str = ""
) -> PredictionRecord:
    moment = int((BEGAN + timedelta(seconds=at)).timestamp()) * 1_000_000_000
    answer = b'{"rows":[{"predict":%d}]}' % said if status == 200 else b"{}"
    outcome = "ok" if status == 200 else "failed"
    name = who or f"p{at}-{version}"
    request = b'{"rows":[{"x":1.0}]}'
    return PredictionRecord(
        name, deployment, "toy", version, "", moment, int(ms * 1e6), status, outcome, "rows", 1, request, answer
    )


def test_versions_that_share_calls_are_compared_over_the_same_time(tmp_path: Path) -> None:
    draw, log, labels = np.random.default_rng(2), PredictionLog(tmp_path), LabelLog(tmp_path)
    bad = {1: 0, 2: 0}
    calls = {1: 0, 2: 0}
    records = []
    for at in range(4000):
        version = 2 if draw.random() < 0.3 else 1
        fails = draw.random() < (0.02 if version == 1 else 0.12)
        bad[version] += fails
        calls[version] += 1
        records.append(record(at, version, status=500 if fails else 200, ms=250.0 if at % 50 == 0 else 1.0))
        if not fails and at % 4 == 0:
            labels.append(Label(f"p{at}-{version}", 1 if draw.random() < 0.9 else 0, 1))
    log.append_all([*records, record(-5, 1, status=500), record(9000, 1, status=500), record(10, 3, status=500)])
    period = Period(BEGAN, BEGAN + timedelta(seconds=5000), 0.3)
    with RecordDatabase(tmp_path) as database:
        errors, slow, wrong = divided(database, "live", "toy@1", "toy@2", [period], slow_ms=100.0)
    assert (errors.baseline, errors.candidate) == (calls[1], calls[2])
    assert errors.baseline_rate == pytest.approx(bad[1] / calls[1])
    assert errors.candidate_rate == pytest.approx(bad[2] / calls[2])
    assert 0.0 < errors.low <= 0.1 <= errors.high < 1.0
    assert slow.low < 0.0 < slow.high
    assert wrong.baseline + wrong.candidate == sum(1 for one in records if one.status == 200 and _at(one) % 4 == 0)
    assert wrong.baseline_rate == pytest.approx(0.1, abs=0.05)


def test_a_shadow_is_compared_row_by_row(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path)
    for at in range(300):
        log.append(record(at, 1, who=f"p{at}", said=1))
        log.append(record(at, 2, "live.candidate", who=f"p{at}", said=0 if at % 10 == 0 else 1))
    with RecordDatabase(tmp_path) as database:
        found = shadowed(database, "live", "live.candidate", "toy@2", BEGAN)
    assert (found.rows, found.different) == (300, 30)
    assert 0.0 < found.low <= 0.1 <= found.high < 0.5


def test_without_calls_nothing_is_known(tmp_path: Path) -> None:
    PredictionLog(tmp_path).append(record(0, 1))
    with RecordDatabase(tmp_path) as database:
        errors, *_ = divided(database, "live", "toy@1", "toy@2", [Period(BEGAN, BEGAN, 0.5)], slow_ms=100.0)
    assert (errors.baseline, errors.candidate_rate, errors.low, errors.high) == (0, None, -1.0, 1.0)


def _at(one: PredictionRecord) -> int:
    return int(one.prediction_id[1:].split("-")[0])
