"""The watch of performance: silent where nothing became worse; soon, and with its slice, where it did."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from modelyard.monitoring.findings import Finding
from modelyard.monitoring.performance.watch import Performance, State
from modelyard.monitoring.reference import Reference
from modelyard.monitoring.settings import Settings
from modelyard.monitoring.watching import Facts

START = datetime(2026, 3, 2, tzinfo=UTC)
HOUR_US = 3_600_000_000
WATCH = Performance()
CLASSES = ("predict", "predict_proba[no]", "predict_proba[yes]")

Harder = Callable[[dict[str, Any], np.ndarray], np.ndarray]


def stream(rng: np.random.Generator, hours: int, a_day: int, harder: Harder | None = None) -> pa.Table:
    """Answers of two classes, as sure as they are right; of their truth the part that `harder` says is drawn anew."""
    rows = hours * a_day // 24
    moments = START.timestamp() * 1e6 + np.sort(rng.uniform(0, hours * HOUR_US, rows))
    columns: dict[str, Any] = {"shop": rng.choice(list("abcde"), rows), "size": rng.normal(size=rows)}
    said = rng.beta(0.6, 0.6, rows)
    truth = rng.random(rows) < said
    if harder is not None:
        anew = rng.random(rows) < harder(columns, (moments - moments[0]) / HOUR_US)
        truth = np.where(anew, rng.random(rows) < 0.5, truth)
    words = np.array(["no", "yes"])
    columns |= {"event_time": moments.astype("datetime64[us]"), "predict": words[(said > 0.5) * 1]}
    columns |= {"predict_proba_no": 1 - said, "predict_proba_yes": said, "label": words[truth * 1]}
    columns["labelled_at"] = (moments + 0.5 * HOUR_US).astype("datetime64[us]")
    return pa.table(columns)


def facts(table: pa.Table, hours: float, settings: Settings, **changes: Any) -> Facts:
    reference = Reference.of_table({name: table[name].to_pandas() for name in ("shop", "size")})
    now = START + timedelta(hours=hours)
    told: dict[str, Any] = {"task": "classification", "classes": ("no", "yes"), "outputs": CLASSES} | changes
    return Facts(
        deployment="shop",
        version="shop@1",
        began=START,
        ended=now,
        now=now,
        reference=reference,
        settings=settings,
        **told,
    )


def looked(
    table: pa.Table, hours: int, settings: Settings, every: int = 12, **changes: Any
) -> tuple[State, list[tuple[int, Finding]]]:
    """What is found by looking every so many hours, with only those labels that have come."""
    about = facts(table, hours, settings, **changes)
    state, found = WATCH.start(about.reference, settings), []
    moments, known = (table[name].to_numpy().astype(np.int64) for name in ("event_time", "labelled_at"))
    at = table.column_names.index("label")
    for hour in range(every, hours + 1, every):
        until = START.timestamp() * 1e6 + hour * HOUR_US
        there = int(np.searchsorted(moments, until))
        labels = pa.array(table["label"].to_numpy()[:there], mask=known[:there] > until)
        part = table.slice(0, there).set_column(at, "label", labels)
        now = START + timedelta(hours=hour)
        state, findings = WATCH.look(state, part, replace(about, now=now, ended=now))
        found += [(hour, each) for each in findings]
    return state, found


def alarms(found: list[tuple[int, Finding]]) -> list[tuple[int, Finding]]:
    return [(hour, each) for hour, each in found if each.alarm]


def test_a_steady_source_is_silent_and_one_alarm_a_day_is_more_than_it_takes() -> None:
    """With no margin and one a day allowed to this watch alone, over all metrics and slices."""
    settings = Settings(false_alarms="1 per day", harm=1e-9)
    hours = 24 * 25
    many = []
    for seed in range(3):
        state, found = looked(stream(np.random.default_rng(seed), hours, 2400), hours, settings, every=24)
        assert state.baseline is not None
        assert len(state.baseline.streams) > 12
        many.append(len(alarms(found)))
    assert sum(many) <= 3 * 22


def test_hours_that_are_always_harder_make_whole_days_the_step_and_no_alarm() -> None:
    def evening(_: dict[str, Any], hour: np.ndarray) -> np.ndarray:
        return np.where(hour % 24 >= 18, 0.6, 0.0)

    hours = 24 * 30
    state, found = looked(stream(np.random.default_rng(5), hours, 2400, evening), hours, Settings(), every=24)
    assert state.baseline is not None
    assert state.baseline.step == 86_400
    assert not alarms(found)


def test_a_change_is_alarmed_soon_with_its_size_and_since_when() -> None:
    def later(_: dict[str, Any], hour: np.ndarray) -> np.ndarray:
        return np.where(hour >= 300, 0.4, 0.0)

    state, found = looked(stream(np.random.default_rng(6), 360, 2400, later), 360, Settings(harm=0.01))
    assert state.baseline is not None
    first, alarm = alarms(found)[0]
    assert 300 < first <= 330
    assert alarm.details["now"] < alarm.details["was"]
    assert alarm.since is not None
    assert abs((alarm.since - START).total_seconds() / 3600 - 300) < 24
    assert {each.watch for _, each in alarms(found)} >= {
        "performance.errors",
        "performance.accuracy",
        "performance.brier",
    }


def test_the_slice_that_became_worse_is_found_by_itself_and_sooner_when_declared() -> None:
    def one_shop(columns: dict[str, Any], hour: np.ndarray) -> np.ndarray:
        return np.where((hour >= 300) & (columns["shop"] == "c"), 0.9, 0.0)

    table = stream(np.random.default_rng(7), 480, 2400, one_shop)
    _, found = looked(table, 480, Settings())
    of_slices = [each for _, each in alarms(found) if each.slice]
    assert {each.slice for each in of_slices} == {"shop = 'c'"}
    assert "accuracy where shop = 'c'" in of_slices[0].said
    state, _ = looked(table.slice(0, 30_000), 300, Settings(slices=("shop",)))
    assert state.baseline is not None
    weights = {each.slice: each.weight for each in state.baseline.streams}
    assert weights["shop = 'c'"] == pytest.approx(0.1 / 6)
    assert sum(weights.values()) < 1


def test_labels_that_stay_away_are_told() -> None:
    table = stream(np.random.default_rng(8), 400, 2400)
    late = (table["event_time"].to_numpy().astype(np.int64) - START.timestamp() * 1e6 > 300 * HOUR_US) & (
        np.random.default_rng(9).random(len(table)) < 0.3
    )
    known = table["labelled_at"].to_numpy() + np.where(late, np.timedelta64(900, "h"), np.timedelta64(0, "h"))
    _, found = looked(
        table.set_column(table.column_names.index("labelled_at"), "labelled_at", pa.array(known)), 400, Settings()
    )
    assert {each.watch for _, each in alarms(found)} == {"performance.coverage"}
    assert "rows have one in time, 100.0% at first" in alarms(found)[-1][1].said


def test_labels_written_otherwise_are_told_and_are_no_errors() -> None:
    table = stream(np.random.default_rng(10), 240, 2400)
    labels = np.array(table["label"].to_pylist(), dtype=object)
    labels[-500:] = "YES"
    _, found = looked(table.set_column(table.column_names.index("label"), "label", pa.array(labels)), 240, Settings())
    assert {each.watch for _, each in alarms(found)} <= {"performance.labels", "performance.coverage"}
    assert "'YES'" in alarms(found)[-1][1].said or "'YES'" in alarms(found)[0][1].said


@pytest.mark.parametrize("what", ["scale", "shift"])
def test_numbers_that_are_further_off(what: str) -> None:
    rng = np.random.default_rng(11)
    rows, hours = 40_000, 400
    moments = START.timestamp() * 1e6 + np.sort(rng.uniform(0, hours * HOUR_US, rows))
    late = moments > START.timestamp() * 1e6 + 300 * HOUR_US
    errors = rng.standard_t(5, rows) * np.where(late & (what == "scale"), 1.3, 1.0) + late * (what == "shift") * 0.3
    truth = rng.normal(100, 10, rows)
    times = moments.astype("datetime64[us]")
    columns = {"event_time": times, "predict": truth + errors, "label": truth, "labelled_at": times}
    table = pa.table(columns | {"shop": rng.choice(list("ab"), rows), "size": rng.normal(size=rows)})
    _, found = looked(table, hours, Settings(), task="regression", classes=(), outputs=("predict",))
    told = {each.watch for _, each in alarms(found)}
    assert ("performance.bias" if what == "shift" else "performance.mae") in told
    assert all(hour > 300 for hour, _ in alarms(found))


def test_rows_are_taken_once_however_often_and_late_it_is_looked_and_the_state_can_be_stored() -> None:
    table = stream(np.random.default_rng(12), 300, 2400)
    states = []
    for every in (12, 60):
        state, _ = looked(table, 300, Settings(), every=every)
        states.append(state)
    assert states[0].taken == states[1].taken
    one, other = (np.array([each.logs for each in state.gathered]) for state in states)
    assert states[0].baseline == states[1].baseline
    np.testing.assert_allclose(one, other)
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(states[0]), type=State)
    about = facts(table, 300, Settings())
    assert WATCH.look(again, table, about) == WATCH.look(states[0], table, about)


def test_too_few_rows_are_waited_for() -> None:
    table = stream(np.random.default_rng(13), 100, 100)
    state, found = looked(table, 100, Settings())
    assert state == State()
    assert not found


def test_what_was_bad_and_is_over_is_told_though_it_is_looked_only_once() -> None:
    def for_a_day(_: dict[str, Any], hour: np.ndarray) -> np.ndarray:
        return np.where((hour >= 300) & (hour < 330), 0.8, 0.0)

    _, found = looked(stream(np.random.default_rng(6), 720, 2400, for_a_day), 720, Settings(), every=720)
    told = [each for _, each in alarms(found) if each.watch == "performance.errors"]
    assert len(told) == 1
    assert "spells" not in told[0].details
    assert told[0].window is not None
    assert 300 <= (told[0].window - START).total_seconds() / 3600 <= 330


def test_every_time_that_it_was_bad_is_told_though_it_is_looked_only_once() -> None:
    def twice(_: dict[str, Any], hour: np.ndarray) -> np.ndarray:
        return np.where(((hour >= 300) & (hour < 330)) | ((hour >= 600) & (hour < 630)), 0.8, 0.0)

    _, found = looked(stream(np.random.default_rng(6), 720, 2400, twice), 720, Settings(), every=720)
    [told] = [each for _, each in alarms(found) if each.watch == "performance.errors"]
    began = [datetime.fromisoformat(each["since"]) for each in told.details["spells"]]
    assert [round((each - START).total_seconds() / 3600 / 300) for each in began] == [1, 2]


def test_a_slice_is_held_against_all_rows_as_they_were_when_it_was_bad() -> None:
    """What was bad everywhere and is over is told of all rows first, though all of it is looked at afterwards."""

    def everywhere_and_later_a_little(_: dict[str, Any], hour: np.ndarray) -> np.ndarray:
        return np.where((hour >= 300) & (hour < 400), 0.9, np.where(hour >= 500, 0.15, 0.0))

    table = stream(np.random.default_rng(6), 720, 2400, everywhere_and_later_a_little)
    found = [each for _, each in alarms(looked(table, 720, Settings(), every=720)[1])]
    first = max(found, key=lambda each: each.effect)
    assert not first.slice
    assert first.since is not None
    assert all(each.effect < first.effect / 2 for each in found if each.slice)


def test_an_alarm_tells_the_slices_that_the_model_does_worst_in_and_how_it_was_there_before() -> None:
    def one_corner(columns: dict[str, Any], hour: np.ndarray) -> np.ndarray:
        return np.where((hour >= 300) & (columns["shop"] == "c") & (columns["size"] > 0), 1.0, 0.0)

    _, found = looked(stream(np.random.default_rng(7), 480, 4800, one_corner), 480, Settings(), every=60)
    told = [each for _, each in alarms(found) if "worst" in each.details]
    assert len({hour for hour, _ in alarms(found)}) == len(told), "one finding of each look tells it"
    first = told[-1].details["worst"][0]
    assert "shop = 'c'" in first["slice"]
    assert "size" in first["slice"]
    assert first["value"] < 0.65
    assert first["before"] == pytest.approx(0.8, abs=0.05)
    assert first["said"].endswith("before")


def held_out(seed: int, harder: Harder | None = None) -> dict[str, Any]:
    """What a bundle keeps of rows like those of `stream`."""
    table = stream(np.random.default_rng(seed), 240, 480, harder)
    sure = np.column_stack([table["predict_proba_no"].to_numpy(), table["predict_proba_yes"].to_numpy()])
    answers = {"predict": table["predict"].to_pylist(), "predict_proba": sure.tolist()}
    return {"label": table["label"].to_pylist(), "answers": answers}


def test_what_is_bad_from_its_first_day_is_told_where_training_promised_better() -> None:
    def always(_: dict[str, Any], hour: np.ndarray) -> np.ndarray:
        return np.full(len(hour), 0.4)

    table = stream(np.random.default_rng(6), 240, 2400, always)
    assert not alarms(looked(table, 240, Settings())[1])
    state, found = looked(table, 240, Settings(), holdout=held_out(1))
    assert {each.watch for _, each in alarms(found)} == {"performance.promised"}
    told = next(each for _, each in alarms(found) if each.subject == "accuracy")
    assert told.since is not None
    assert (told.since - START).total_seconds() < 24 * 3600
    assert "spells" not in told.details
    [once] = [
        each
        for _, each in alarms(looked(table, 240, Settings(), every=240, holdout=held_out(1))[1])
        if each.subject == "accuracy"
    ]
    assert once.since == told.since
    assert "over 4,800 rows held out of training" in told.said
    assert state.baseline is not None
    assert {each.metric for each in state.baseline.streams if each.promised} == {"accuracy", "brier", "log_loss", "auc"}
    assert sum(each.weight for each in state.baseline.streams) + 0.5 <= 1 + 1e-9


def test_what_is_as_good_as_training_promised_is_silent_and_its_alarms_keep_to_the_budget() -> None:
    """With no margin and one a day allowed to this watch alone, the promises included."""
    for seed in range(3):
        table = stream(np.random.default_rng(seed), 480, 2400)
        assert not alarms(looked(table, 480, Settings(), every=48, holdout=held_out(10 + seed))[1])
    settings = Settings(false_alarms="1 per day", harm=1e-9)
    _, found = looked(table, 480, settings, every=24, holdout=held_out(12))
    assert len(alarms(found)) <= 20


def test_numbers_are_held_against_what_training_promised_and_too_few_rows_promise_nothing() -> None:
    rng = np.random.default_rng(3)
    truth = rng.normal(size=400)
    promise = {"label": truth.tolist(), "answers": {"predict": (truth + rng.normal(0, 0.5, 400)).tolist()}}
    table = stream(rng, 240, 2400)
    live = rng.normal(size=len(table))
    for name, column in (("label", live), ("predict", live + rng.normal(0, 1.0, len(table)))):
        table = table.set_column(table.column_names.index(name), name, pa.array(column))
    about = {"task": "regression", "classes": (), "outputs": ("predict",)}
    found = looked(table, 240, Settings(), holdout=promise, **about)[1]
    assert {each.subject for _, each in alarms(found)} >= {"mae", "rmse"}
    few = {"label": promise["label"][:100], "answers": {"predict": promise["answers"]["predict"][:100]}}
    assert not alarms(looked(table, 240, Settings(), holdout=few, **about)[1])
