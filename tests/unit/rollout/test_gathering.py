"""What records say of a rollout from look to look, against counts made by hand of the same calls."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pytest

from modelyard.domain.records import Label, PredictionRecord
from modelyard.monitoring.performance.task import Aim, Task
from modelyard.records.log import LabelLog, PredictionLog
from modelyard.records.recent import RecentRecords
from modelyard.records.shipping import record_shipments, ship
from modelyard.rollout.answers import unusable
from modelyard.rollout.batches import Batch, Divided
from modelyard.rollout.gathering import gather
from modelyard.rollout.policy import Policy, Rule
from modelyard.rollout.subject import Subject

BEGAN = datetime(2026, 3, 1, tzinfo=UTC)
TASK = Task(aim=Aim.BINARY, answer="predict", classes=(0, 1))
SUBJECT = Subject(deployment="live", baseline="toy@1", candidate="toy@2", began=BEGAN, task=TASK)
POLICY = Policy(
    rules=(
        Rule("errors", 0.01),
        Rule("refusals", 0.01),
        Rule("slow", 0.02, objective_ms=50.0),
        Rule("unusable", 0.01),
        Rule("wrong", 0.01),
    )
)


def at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def nanoseconds(seconds: float) -> int:
    return int(BEGAN.timestamp()) * 1_000_000_000 + int(seconds * 1e9)


def record(
    name: str,
    seconds: float,
    version: int,
    answers: list[object] | int = 200,
    *,
    ms: float = 1.0,
    deployment: str = "live",
) -> PredictionRecord:
    """A call that was answered with these classes, or with that status."""
    said = answers if isinstance(answers, list) else []
    status = answers if isinstance(answers, int) else 200
    lines = ",".join(f'{{"predict":{"null" if one is None else one}}}' for one in said)
    inputs = ",".join(f'{{"x":{number}}}' for number in range(len(said)))
    outcome = "ok" if said else ("refused" if status == 400 else "failed")
    return PredictionRecord(
        name,
        deployment,
        "toy",
        version,
        "d",
        nanoseconds(seconds),
        int(ms * 1e6),
        status,
        outcome,  # type: ignore[arg-type]
        "rows",
        len(said),
        b'{"rows":[%s]}' % inputs.encode(),
        b'{"rows":[%s]}' % lines.encode() if said else b"{}",
    )


@dataclass
class Written:
    """Records in a folder, and what somebody who looks is given."""

    folder: Path
    log: PredictionLog = field(init=False)
    labels: LabelLog = field(init=False)
    recent: RecentRecords = field(init=False)

    def __post_init__(self) -> None:
        self.log, self.labels = PredictionLog(self.folder), LabelLog(self.folder)
        self.recent = RecentRecords(self.folder)

    def look(self, since: float, until: float, share: float = 0.3, policy: Policy = POLICY) -> Batch:
        return gather(self.recent, SUBJECT, at(since), at(until), share, policy)

    def ship(self) -> None:
        for shipment in record_shipments(self.folder):
            ship(self.folder, shipment)


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return Written(tmp_path)


def total(found: list[Divided]) -> list[float]:
    each = [(one.baseline, one.baseline_bad, one.candidate, one.candidate_bad) for one in found]
    sums: list[float] = np.sum(each, axis=0).tolist()
    return sums


def test_every_call_counts_once_whatever_the_looks_are(written: Written) -> None:
    """Calls are written while somebody looks, and are shipped in between; slow ones count where they end."""
    draw, expected = np.random.default_rng(4), Counter[str]()
    looks, records = [0.0, 3.0, 3.5, 20.0, 21.0, 60.0], []
    for number in range(600):
        version, kind = int(draw.integers(1, 3)), draw.random()
        ms = float(draw.choice([1.0, 60.0, 4000.0]))
        status = 500 if kind < 0.1 else 400 if kind < 0.2 else None
        said: list[object] = [1] if draw.random() < 0.9 else [None, 1]
        records.append(record(f"p{number}", draw.random() * 50, version, status or said, ms=ms))
        side = "candidate" if version == 2 else "baseline"
        expected[f"calls {side}"] += 1
        expected[f"refused {side}"] += status == 400
        expected[f"errors {side}"] += status == 500
        expected[f"slow {side}"] += status != 400 and ms > 50
        expected[f"answered {side}"] += status is None
        expected[f"unusable {side}"] += 0 if status else 0.5 * (len(said) - 1)
    records.sort(key=lambda one: one.received_ns + one.latency_ns)
    batches, before = [], 0
    for since, until in itertools.pairwise(looks):
        ended = sum(one.received_ns + one.latency_ns < nanoseconds(until) for one in records)
        written.log.append_all(records[before:ended])
        before = ended
        if until in (3.5, 21.0):
            written.ship()
        batches.append(written.look(since, until))
    names = {"errors": ("calls", "refused", "errors"), "slow": ("calls", "refused", "slow")}
    for metric, (whole, less, bad) in names.items():
        found = total([each.divided[metric] for each in batches])
        wanted = [
            number
            for side in ("baseline", "candidate")
            for number in (expected[f"{whole} {side}"] - expected[f"{less} {side}"], expected[f"{bad} {side}"])
        ]
        assert found == wanted, metric
    refusals = total([each.divided["refusals"] for each in batches])
    assert refusals == [
        expected["calls baseline"], expected["refused baseline"],
        expected["calls candidate"], expected["refused candidate"],
    ]  # fmt: skip
    unusable = total([each.divided["unusable"] for each in batches])
    assert unusable == [
        expected["answered baseline"], expected["unusable baseline"],
        expected["answered candidate"], expected["unusable candidate"],
    ]  # fmt: skip


def test_rows_that_the_model_does_not_take_are_errors_and_a_busy_server_is_nobodys_fault(written: Written) -> None:
    """Divided and in the shadow. What does not fit the schema is refused: a candidate may take less."""
    ends = {"taken": 200, "not taken": 422, "misfit": 400, "busy": 429}
    for name, status in ends.items():
        made = record(name, 1, 2, [1] if status == 200 else status)
        refused = msgspec.structs.replace(made, outcome="ok" if status == 200 else "refused")
        before = record(name, 1, 1, [1], ms=0.5)
        written.log.append_all([before, refused, msgspec.structs.replace(refused, deployment="live.candidate")])
    divided = written.look(0, 10).divided
    assert divided["errors"] == Divided(4.0, 0.0, 2.0, 1.0)
    assert divided["refusals"] == Divided(4.0, 0.0, 3.0, 2.0)
    paired = written.look(0, 10, share=0.0).paired
    assert paired["errors"].sums == Divided(4.0, 0.0, 4.0, 1.0)
    assert paired["refusals"].differences == ((0.0, 2.0), (1.0, 2.0))


def test_other_versions_and_deployments_do_not_count(written: Written) -> None:
    written.log.append_all([record("a", 1, 1, [1]), record("b", 1, 3, [1]), record("c", 1, 2, [1], deployment="other")])
    assert written.look(0, 10).divided["errors"] == Divided(1.0, 0.0, 0.0, 0.0)


def test_a_row_is_judged_once_when_its_first_label_comes(written: Written) -> None:
    written.log.append_all(
        [record("a", 1, 1, [1]), record("b", 2, 2, [1]), record("c", 3, 2, [0, 1]), record("d", 4, 1, 500)]
    )
    assert "wrong" not in written.look(0, 10).divided
    written.ship()
    for name, value, when in (("a", 1, 11), ("b", 0, 12), ("c-0", 0, 13), ("d", 1, 13), ("unknown", 1, 13)):
        written.labels.append(Label(name, value, nanoseconds(when)))
    assert written.look(10, 20).divided["wrong"] == Divided(1.0, 0.0, 1.5, 1.0)
    written.labels.append(Label("a", 0, nanoseconds(21)))
    written.labels.append(Label("c-1", "0.0", nanoseconds(22)))
    written.ship()
    assert written.look(20, 30).divided["wrong"] == Divided(0.0, 0.0, 0.5, 0.5)


def test_labels_by_key_find_their_rows(written: Written) -> None:
    written.log.append_all([record("a", 1, 1, [1, 0]), record("b", 2, 2, [1])])
    written.labels.append(Label("", 1, nanoseconds(11), "", "live", '{"x":"0"}', known_ns=5))
    written.labels.append(Label("", 1, nanoseconds(11), "", "other", '{"x":"1"}'))
    assert written.look(10, 20).divided["wrong"] == Divided(0.5, 0.0, 1.0, 0.0)


def test_a_row_that_is_labelled_by_id_and_by_key_counts_once(written: Written) -> None:
    """In one look or in two, whichever comes first; a row without the key's column is found by its id as ever."""
    written.log.append_all([record(name, 1, 2, [1, 0]) for name in "abcd"] + [record("e", 1, 1, [1])])
    by_key = '{"x":"0"}'
    written.labels.append(Label("a-0", 1, nanoseconds(11)))
    written.labels.append(Label("b-0", 0, nanoseconds(12)))
    written.labels.append(Label("", 0, nanoseconds(12), "", "live", by_key))
    # Of a and b counts what was said by id; c and d are named by the key, as is e.
    assert written.look(10, 20).divided["wrong"] == Divided(1.0, 1.0, 2.0, 1.5)
    written.labels.append(Label("c-0", 1, nanoseconds(21)))
    written.labels.append(Label("c-1", 1, nanoseconds(21)))
    written.labels.append(Label("", 1, nanoseconds(22), "", "live", '{"x":"1"}'))
    # Both rows of c by id, of which the first was labelled before; the others' second rows by a key.
    assert written.look(20, 30).divided["wrong"] == Divided(0.0, 0.0, 2.0, 2.0)
    written.labels.append(Label("a-0", 0, nanoseconds(31)))
    written.labels.append(Label("d-0", 0, nanoseconds(31)))
    written.labels.append(Label("", 1, nanoseconds(31), "", "live", '{"other":"1"}'))
    assert "wrong" not in written.look(30, 40).divided
    written.labels.append(Label("", 1, nanoseconds(41), "", "live", '{"x":"7"}'))
    assert "wrong" not in written.look(40, 50).divided


def test_a_shadow_is_compared_on_the_same_rows(written: Written) -> None:
    live = [record("a", 1, 1, [1]), record("b", 2, 1, [0, 1]), record("c", 3, 1, 500), record("d", 4, 1, [1])]
    shadow = [
        record("a", 1, 2, [None], deployment="live.candidate"),
        record("b", 2, 2, [0, 0], ms=200.0, deployment="live.candidate"),
        record("d", 4, 2, 500, deployment="live.candidate"),
    ]
    written.log.append_all([*live, *shadow])
    found = written.look(0, 10, share=0.0)
    assert not found.divided
    errors = found.paired["errors"]
    assert (errors.differences, errors.least) == (((0.0, 3.0), (1.0, 1.0)), ((-1.0, 1.0), (0.0, 2.0), (1.0, 1.0)))
    assert errors.sums == Divided(3.0, 0.0, 3.0, 1.0)
    assert found.paired["slow"].sums == Divided(3.0, 0.0, 3.0, 1.0)
    assert found.paired["unusable"].differences == ((0.0, 1.0), (1.0, 1.0))
    written.labels.append(Label("b-1", 1, nanoseconds(11)))
    written.labels.append(Label("b-0", 1, nanoseconds(11)))
    assert written.look(10, 20, share=0.0).paired["wrong"].differences == ((0.0, 0.5), (1.0, 0.5))


def test_calls_that_a_busy_server_did_not_copy_say_nothing_and_failed_ones_weigh_as_they_do_among_all(
    written: Written,
) -> None:
    live = [record(name, at_, 1, [1]) for at_, name in enumerate("abcdef", 1)]
    failed = [record(name, at_, 1, 500) for at_, name in enumerate("gh", 7)]
    copied = [record("a", 1, 2, [1], deployment="live.candidate"), record("d", 4, 2, 500, deployment="live.candidate")]
    written.log.append_all([*live, *failed, *copied])
    errors = written.look(0, 10, share=0.0).paired["errors"]
    third = 2 / 6
    assert errors.differences == ((0.0, 1.0 + 2 * third), (1.0, 1.0))
    assert errors.least == ((-1.0, 2 * third), (0.0, 1.0), (1.0, 1.0))
    assert errors.sums == Divided(2.0, 0.0, 2.0, 1.0)


def test_answers_are_counted_by_class_and_compared_row_by_row(written: Written) -> None:
    policy = Policy(rules=(Rule("answers", 0.1), Rule("different", 0.0)))
    live = [record("a", 1, 1, [1]), record("b", 2, 1, [0, 1]), record("c", 3, 2, [1, 1])]
    shadow = [
        record("a", 1, 2, [1], deployment="live.candidate"),
        record("b", 2, 2, [1, 1], deployment="live.candidate"),
    ]
    written.log.append_all([*live, *shadow])
    divided = written.look(0, 10, policy=policy).divided
    assert divided["answers=1"] == Divided(2.0, 1.5, 1.0, 1.0)
    assert divided["ratio"] == Divided(2.0, 0.0, 1.0, 0.0)
    assert "different" not in divided
    paired = written.look(0, 10, 0.0, policy).paired
    assert paired["different"].differences == ((0.0, 1.5), (1.0, 0.5))
    assert paired["answers=1"].differences == ((0.0, 1.5), (1.0, 0.5))


def test_numbers_may_differ_a_little_and_are_judged_by_how_far_off_they_are(written: Written) -> None:
    numbers = msgspec.structs.replace(SUBJECT, task=Task(aim=Aim.REGRESSION, answer="predict"))
    rules = (
        Rule("different", 0.0, tolerance=0.5),
        Rule("loss", 0.1, bound=10.0),
        Rule("unusable", 0.0, range=(0.0, 100.0)),
        Rule("wrong", 0.1),
    )
    said = {"a": (10.0, 10.25), "b": (50.0, 55.0), "c": (99.0, 101.0)}
    for name, (before, after) in said.items():
        written.log.append(record(name, 1, 1, [before]))
        written.log.append(record(name, 1, 2, [after], deployment="live.candidate"))
        written.labels.append(Label(name, 12, nanoseconds(5)))
    found = gather(written.recent, numbers, at(0), at(10), 0.0, Policy(rules=rules)).paired
    assert found["different"].differences == ((0.0, 1.0), (1.0, 2.0))
    assert found["unusable"].sums == Divided(3.0, 0.0, 3.0, 1.0)
    assert found["loss"].sums == Divided(3.0, 2.2, 3.0, 2.175)
    assert "wrong" not in found


def test_numbers_are_told_apart_at_a_few_values(written: Written) -> None:
    """Four rows of two calls of each version, in halves of a call; a number that is missing lies above nothing."""
    task = Task(aim=Aim.REGRESSION, answer="predict")
    numbers = msgspec.structs.replace(SUBJECT, task=task, cuts=(10.0, 20.0))
    written.log.append_all([record("a", 1, 1, [10, 5]), record("b", 1, 1, [30.5, 20])])
    written.log.append_all([record("c", 1, 2, [25, 30]), record("d", 1, 2, [10, None])])
    policy = Policy(rules=(Rule("answers", 0.1),))
    found = gather(written.recent, numbers, at(0), at(10), 0.5, policy)
    assert {name: one for name, one in found.divided.items() if "=" in name} == {
        "answers=from 10.0": Divided(2.0, 1.5, 2.0, 1.5),
        "answers=over 10.0": Divided(2.0, 1.0, 2.0, 1.0),
        "answers=over 20.0": Divided(2.0, 0.5, 2.0, 1.0),
    }
    assert not found.broken
    own = Policy(rules=(Rule("answers", 0.1, cuts=(28.0,)),))
    assert gather(written.recent, numbers, at(0), at(10), 0.5, own).divided["answers=over 28.0"].candidate_bad == 0.5
    unknown = msgspec.structs.replace(SUBJECT, task=task)
    assert "say `cuts`" in gather(written.recent, unknown, at(0), at(10), 0.5, policy).broken["answers"]


@pytest.mark.parametrize(
    ("answer", "is_bad"),
    [
        ('{"predict":1,"predict_proba":{"0":0.25,"1":0.75}}', False),
        ('{"predict":1,"predict_proba":{"0":-0.25,"1":1.25}}', True),
        ('{"predict":1,"predict_proba":[0.25,0.75]}', False),
        ('{"predict":1,"predict_proba":[0.25,1.75]}', True),
        ('{"predict":"say null, \\"null\\" or: null","predict_proba":[0.25,0.75]}', False),
        ('{"predict":null,"predict_proba":[0.25,0.75]}', True),
        ('{"predict":1,"predict_proba":[null,0.75]}', True),
    ],
)
def test_answers_that_nobody_can_use(answer: str, is_bad: bool) -> None:
    import duckdb

    task = Task(aim=Aim.BINARY, answer="predict", classes=(0, 1), together="predict_proba")
    sql = f"SELECT {unusable(Rule('unusable', 0.0), task)} FROM (SELECT ? AS outputs)"
    assert duckdb.execute(sql, [answer]).fetchall() == [(float(is_bad),)]


def test_without_records_there_is_nothing(written: Written) -> None:
    assert written.look(0, 10).divided["errors"] == Divided()
    assert not written.look(0, 10, share=0.0).paired["errors"].differences
    assert not written.look(0, 10).broken
