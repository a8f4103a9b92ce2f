"""The record: coverage, bets against what intervals promise, and the walk over a deployment's rows."""

import os
from datetime import UTC, datetime

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from benchmarks.monitoring.shifted import LETTERS, NAMES, answered, draw

from modelyard.monitoring.estimate import walking
from modelyard.monitoring.estimate.estimating import Trust
from modelyard.monitoring.estimate.record import CONTRADICTED, LEVEL, Bets, Entry, Said, coverage, next_tail
from modelyard.monitoring.estimate.text import section, text
from modelyard.monitoring.estimate.walking import DAY, State, Walk, walk
from modelyard.monitoring.estimate.watch import Estimates, _weighed
from modelyard.monitoring.performance.judged import judge
from modelyard.monitoring.performance.task import Aim, Task
from modelyard.monitoring.reference import Reference
from modelyard.monitoring.settings import Settings
from modelyard.monitoring.watching import Facts

SEEDS = int(os.environ.get("MODELYARD_ESTIMATE_SEEDS", "12"))
TASK = Task(aim=Aim.BINARY, answer="predict", classes=(0, 1), probabilities=("predict_proba_0", "predict_proba_1"))
DAYS, A_DAY = 18, 400
FIRST = int(datetime(2026, 3, 2, tzinfo=UTC).timestamp())


def table(rng, days, kind_of=lambda day: ("steady", 0.0), labelled_after=DAY, labelled_until=10**6):
    """So many rows a day; labels become known a while after."""
    parts = []
    for day in range(days):
        x, y = draw(rng, A_DAY, *kind_of(day))
        rows = answered(x, y)
        at = FIRST + day * DAY + np.sort(rng.integers(0, DAY, A_DAY))
        known = np.where(day < labelled_until, y, np.nan)
        parts.append(x.assign(event_time=at, p=rows.score, predict=rows.decided, y=known, known=at + labelled_after))
    whole = pd.concat(parts)
    there = whole["y"].notna()
    utc = pa.timestamp("s", "UTC")
    return pa.table(
        {
            "event_time": pa.array(whole["event_time"].to_numpy(), utc),
            "predict": whole["predict"].astype(int),
            "predict_proba_0": 1 - whole["p"],
            "predict_proba_1": whole["p"],
            "label": pa.array(whole["y"], from_pandas=True).cast(pa.int64()),
            "labelled_at": pa.array(np.where(there, whole["known"], 0), mask=~there.to_numpy()).cast(utc),
            **{name: pa.array(whole[name]) for name in NAMES},
        }
    )


def walked(rows, now=DAYS, state=None):
    """Days as windows, whatever the number of rows."""
    return walk(state or State(seconds=DAY), Walk(judge(rows, TASK), rows, NAMES, FIRST + now * DAY))


@pytest.fixture(scope="module")
def steady():
    """Without the labels that come after the end."""
    rows = table(np.random.default_rng(0), DAYS)
    return rows.set_column(rows.column_names.index("label"), "label", known_by(rows, DAYS))


def known_by(rows, day):
    known = rows["labelled_at"].cast(pa.int64()).to_numpy()
    return pa.array(rows["label"].to_pylist(), pa.int64(), mask=known > FIRST + day * DAY)


@pytest.fixture(scope="module")
def at_once(steady):
    return walked(steady)


def test_a_steady_source_is_covered_and_settled(at_once):
    state = at_once
    assert len(state.record) == DAYS
    assert state.record[0].trust is Trust.REFUSED
    kept = coverage(state.record, "accuracy")
    assert kept.known >= DAYS - 3
    assert kept.share >= LEVEL
    assert not state.forget
    assert all(entry.blind for entry in state.record)
    assert state.record[-1].labelled == 0
    assert state.record[3].labelled == A_DAY


def test_day_by_day_it_says_the_same_as_at_once(steady, at_once):
    moments = steady["event_time"].cast(pa.int64()).to_numpy()
    state = State(seconds=DAY)
    for day in range(1, DAYS + 1):
        now = FIRST + day * DAY
        seen = steady.set_column(steady.column_names.index("label"), "label", known_by(steady, day))
        stored = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=State)
        state = walked(seen.filter(pa.array(moments < now)), day, stored)
    assert state == at_once


def test_what_comes_later_does_not_change_what_was_said(steady, at_once):
    early = walked(steady, 12)
    for one, other in zip(early.record, at_once.record, strict=False):
        assert {name: (said.value, said.low) for name, said in one.values.items()} == {
            name: (said.value, said.low) for name, said in other.values.items()
        }


def test_windows_become_shorter_when_more_callers_come_before_the_first_estimate():
    rows = table(np.random.default_rng(1), 84, labelled_after=100 * DAY)
    day = (rows["event_time"].cast(pa.int64()).to_numpy() - FIRST) // DAY
    chosen = (day >= 35) | (np.arange(len(day)) % 20 == 0)
    some, later = (rows.filter(pa.array(chosen & (day < until))) for until in (35, 84))
    few = walk(State(), Walk(judge(some, TASK), some, NAMES, FIRST + 35 * DAY))
    many = walk(few, Walk(judge(later, TASK), later, NAMES, FIRST + 84 * DAY))
    assert (few.seconds, many.seconds) == (28 * DAY, 7 * DAY)
    entries = [(entry.began, entry.seconds) for entry in many.record]
    assert [began + seconds for began, seconds in entries[:-1]] == [began for began, _ in entries[1:]]
    assert sum(entry.rows for entry in many.record) == later.num_rows


def changed(day):
    return ("concept", 1.5) if day >= 12 else ("steady", 0.0)


def test_a_changed_concept_widens_with_the_first_labels_of_it():
    record = walked(table(np.random.default_rng(1), 20, changed), 20).record
    before, late, after = record[1:12], record[12:14], record[14:]
    assert coverage(before, "auc").share >= 0.9
    assert coverage(late, "auc").share < 0.9  # no label said so yet
    assert coverage(after, "auc").share >= 0.8
    assert all(entry.trust is Trust.WIDENED for entry in after[:4])


def test_a_changed_concept_is_contradicted_where_labels_come_late():
    state = walked(table(np.random.default_rng(1), 26, changed, labelled_after=5 * DAY), 26)
    assert FIRST + 12 * DAY <= state.forget <= FIRST + 13 * DAY
    withdrawn = [(entry.began - FIRST) // DAY for entry in state.record if entry.withdrawn]
    assert withdrawn
    assert 12 <= min(withdrawn) < max(withdrawn) <= 21
    after = [entry for entry in state.record if (entry.began - FIRST) // DAY > max(withdrawn)]
    assert all("learned anew" in entry.reason or entry.trust is Trust.REFUSED for entry in after[:1])
    assert coverage(after, "auc").share in (None, 1.0)
    assert "labels contradicted the estimates" in text(state)
    assert "withdrawn" in text(state)


def test_without_labels_it_says_so_and_stops_in_the_end():
    state = walked(table(np.random.default_rng(2), DAYS, labelled_until=6))
    assert state.record[7].trust is not Trust.REFUSED
    assert "blocks old" in state.record[-1].reason
    assert state.record[-1].labelled == 0
    never = walked(table(np.random.default_rng(2), 5, labelled_until=0), 5)
    assert {entry.reason for entry in never.record} == {"no labels so far"}


def test_labels_brought_in_long_after_count_as_known_at_once():
    rows = table(np.random.default_rng(0), 12, labelled_after=400 * DAY)
    assert coverage(walked(rows, 12).record, "auc").known > 2


def test_windows_are_as_long_as_rows_want():
    rows = table(np.random.default_rng(0), 21)
    state = walk(State(), Walk(judge(rows, TASK), rows, NAMES, FIRST + 21 * DAY))
    assert state.seconds == 7 * DAY
    assert [entry.began for entry in state.record] == [FIRST + at * 7 * DAY for at in range(3)]
    assert walk(State(), Walk(judge(rows, TASK), rows, NAMES, FIRST + DAY)).seconds == 0


def test_bets_hold_their_promise():
    """No more false contradictions than one in as many windows as the limit says, however often one looks."""
    rng = np.random.default_rng(0)
    runs, times = 0, 0
    for _ in range(20 * SEEDS):
        bets = Bets()
        for window in range(100):
            bets = bets.after(float(rng.random() > LEVEL), window)
            times += 1
            if bets.evidence >= CONTRADICTED:
                runs, bets = runs + 1, Bets()
    assert runs / times <= 1.3 / CONTRADICTED


def test_bets_gain_on_misses_and_tell_since_when():
    bets = Bets()
    for window in range(50):
        bets = bets.after(0.0, window)
    assert bets.since is None
    many = 0
    while bets.evidence < CONTRADICTED:
        bets, many = bets.after(1.0, 50 + many), many + 1
    assert many <= 4
    assert bets.since == 50


def test_tails_bring_misses_down_to_what_is_promised():
    """Where errors are twice as wide as intervals think, they grow until nine in ten are covered."""
    from modelyard.monitoring.estimate.drifting import quantile

    rng = np.random.default_rng(0)
    tail, hits = 1 - LEVEL, []
    for _ in range(2000):
        hit = abs(rng.normal(0, 1.6)) <= quantile(max(tail, 0.002) / 2, 20)
        hits.append(hit)
        tail = next_tail(tail, missed=not hit)
    assert np.mean(hits) >= LEVEL - 0.02


def test_coverage_counts_what_is_known():
    said = Said(0.5, 0.4, 0.6)
    entries = [
        Entry(
            began=at,
            seconds=1,
            rows=1,
            trust=trust,
            reason="",
            values={"auc": msgspec.structs.replace(said, truth=truth)},
        )
        for at, (trust, truth) in enumerate([(Trust.TRUSTED, 0.5), (Trust.WIDENED, 0.7), (Trust.TRUSTED, None)])
    ]
    assert coverage(entries, "auc").share == 0.5
    assert coverage(entries, "auc", Trust.TRUSTED).known == 1
    assert coverage(entries, "f1").share is None


def facts(rows, now, **settings):
    names = ("predict", "predict_proba[0]", "predict_proba[1]")
    reference = Reference.of_table(
        {name: rows[name].to_numpy() if name != "c" else rows[name].to_pylist() for name in NAMES}
        | dict.fromkeys(names, np.linspace(0, 1, len(rows)))
    )
    return Facts(
        deployment="live", version="m@1", began=datetime.fromtimestamp(FIRST, UTC),
        ended=datetime.fromtimestamp(FIRST + now * DAY, UTC), now=datetime.fromtimestamp(FIRST + now * DAY, UTC),
        reference=reference, settings=Settings(**settings), outputs=names, task="classification", classes=(0, 1),
    )  # fmt: skip


@pytest.fixture
def days(monkeypatch):
    monkeypatch.setattr(walking, "WINDOW_ROWS", 100)


def test_the_watch_tells_about_the_newest_window(steady, days):
    watch = Estimates()
    known = facts(steady, DAYS)
    state, [found] = watch.look(watch.start(known.reference, known.settings), steady, known)
    assert found.watch == "estimate.accuracy"
    assert "accuracy is estimated at 0.7" in found.said
    assert not found.alarm
    assert found.details["trust"] == "trusted"
    assert watch.look(state, steady, known)[0] == state


def test_the_watch_alarms_where_intervals_lie_below_what_is_harmless(steady):
    known = facts(steady, DAYS, false_alarms="1 per month")

    def looked(high, many):
        state = State(seconds=DAY, usual={"accuracy": 0.8})
        for at in range(many):
            values = {"accuracy": Said(high - 0.02, high - 0.04, high)}
            began = FIRST + at * DAY
            entry = Entry(began=began, seconds=DAY, rows=500, trust=Trust.TRUSTED, reason="", values=values)
            state, found = _weighed(state, entry, known)
        return found

    assert not looked(0.79, 30).alarm  # within the margin
    assert not looked(0.7, 1).alarm  # one window may be chance
    found = looked(0.7, 3)
    assert found.alarm
    assert found.effect == pytest.approx(0.12)
    assert found.since == datetime.fromtimestamp(FIRST, UTC)


def test_text_and_page_show_what_was_said_and_what_turned_out(at_once):
    state = at_once
    said = text(state, ["auc"])
    assert f"{DAYS} windows of a day" in said
    assert "→" in said
    assert "no labels so far" in said
    page = "".join(section(state))
    assert "<svg" in page
    assert "accuracy" in page
    assert text(State()).startswith("nothing estimated yet")
    assert set(LETTERS) == set("pqrst")
