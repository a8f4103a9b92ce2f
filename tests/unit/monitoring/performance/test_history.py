"""Windows, slices, and what labels that come late do to them."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from modelyard.errors import InvalidRequest
from modelyard.monitoring.performance.groups import By, by_column, by_range, ends_of, window_of
from modelyard.monitoring.performance.history import history, usual_age
from modelyard.monitoring.performance.judged import judge
from modelyard.monitoring.performance.page import section
from modelyard.monitoring.performance.task import Aim, Task
from modelyard.monitoring.performance.text import text

TASK = Task(aim=Aim.BINARY, answer="predict", classes=(0, 1), probabilities=("p0", "p1"))
DAY = np.timedelta64(24 * 3600 * 1_000_000, "us")
START = np.datetime64("2013-03-04T00:00", "us")


def stream(days: int, rows_a_day: int = 50, *, minutes: int = 120) -> dict[str, Any]:
    """An answer every so often, right in 4 of 5 cases, with the label known some `minutes` after."""
    rows = days * rows_a_day
    rng = np.random.default_rng(5)
    moments = START + np.arange(rows) * (DAY // rows_a_day)
    said = rng.random(rows)
    label = np.where(rng.random(rows) < 0.8, said > 0.5, said <= 0.5) * 1
    columns = {"event_time": moments, "predict": (said > 0.5) * 1, "p0": 1 - said, "p1": said, "label": label}
    known_at = moments + np.timedelta64(minutes, "m")
    return columns | {"labelled_at": known_at, "carrier": rng.choice(["EV", "UA"], rows)}


def test_windows_are_those_of_the_calendar() -> None:
    found = history(pa.table(stream(21)), TASK, by=By.WEEK)
    assert [point.began for point in found.points] == [datetime(2013, 3, day, tzinfo=UTC) for day in (4, 11, 18)]
    assert [point.rows for point in found.points] == [350] * 3
    assert found.whole[0].labelled == 21 * 50
    by_hour = history(pa.table(stream(2, 48)), TASK, by=By.HOUR)
    assert {point.rows for point in by_hour.points} == {2}
    months = np.array(["2012-12-31T23:59", "2013-01-01", "2013-02-28"], "datetime64[us]")
    began = window_of(months, By.MONTH)
    assert began.astype("datetime64[D]").astype(str).tolist() == ["2012-12-01", "2013-01-01", "2013-02-01"]
    assert ends_of(began, By.MONTH).astype("datetime64[D]").astype(str).tolist() == [
        "2013-01-01",
        "2013-02-01",
        "2013-03-01",
    ]


def test_a_window_whose_labels_still_come_is_young_and_stands_beside_older_ones_at_its_age() -> None:
    """Wrong answers are known a day later than right ones, so that what comes first looks too good."""
    columns = stream(10)
    wrong = columns["predict"] != columns["label"]
    columns["labelled_at"] = columns["event_time"] + np.where(wrong, 26, 1) * np.timedelta64(1, "h")
    now = np.datetime64("2013-03-14T02:00", "us")
    there = columns["labelled_at"] <= now
    labels = pa.array(columns["label"], mask=~there)
    table = pa.table(columns | {"label": labels, "labelled_at": pa.array(columns["labelled_at"], mask=~there)})
    found = history(table, TASK, by=By.DAY, now=now.item())
    assert found.age == 2 * 86_400
    *old, before_last, last = found.points
    assert [point.young for point in (*old, before_last, last)] == [False] * 8 + [True] * 2
    assert last.coverage < 0.9
    assert (last.measures["accuracy"].value or 0) > 0.95
    assert (last.alike["accuracy"].value or 0) > 0.95
    assert (old[0].measures["accuracy"].value or 0) < 0.9
    said = text(found)
    assert "… 2013-03-13: labels are still coming; older ones showed" in said


def test_labels_that_come_after_a_window_was_complete_are_told_with_what_it_showed_before() -> None:
    columns = stream(30)
    late = np.zeros(1500, dtype=bool)
    late[10:20] = True
    columns["labelled_at"] = np.where(late, START + 20 * DAY, columns["labelled_at"])
    columns["label"] = np.where(late, 1 - columns["predict"], columns["label"])
    found = history(pa.table(columns), TASK, by=By.DAY)
    assert [point.later for point in found.points] == [10] + [0] * 29
    point = found.points[0]
    assert point.changed
    assert point.first["accuracy"].rows == 40
    assert (point.first["accuracy"].value or 0) > (point.measures["accuracy"].value or 1)
    said = text(found)
    assert "* 2013-03-04: 10 labels came or changed later; before, it showed" in said
    assert "2013-03-04 *" in said
    assert "changed: 10 labels later" in "".join(section(found))


def test_slices_add_up_to_the_whole() -> None:
    table = pa.table(stream(14))
    found = history(table, TASK, by=By.WEEK, column="carrier", metrics=["accuracy", "brier"])
    assert found.slices == ("EV", "UA")
    assert found.metrics == ("accuracy", "brier")
    assert sum(point.rows for point in found.points) == sum(point.rows for point in found.whole) == table.num_rows
    for point in found.whole:
        rows = table.filter(pa.compute.equal(table["carrier"], point.slice))
        alone = history(rows, TASK, by=By.WEEK, metrics=["brier"])
        assert alone.whole[0].measures["brier"] == point.measures["brier"]
    assert "UA" in text(found)
    with pytest.raises(InvalidRequest, match="no column 'airline'"):
        history(table, TASK, column="airline")


def test_columns_are_told_apart_by_value_or_by_range() -> None:
    many = pa.table({"n": np.arange(1000), "few": np.arange(1000) % 3, "word": [f"w{at % 30}" for at in range(1000)]})
    assert by_column(many, "few").names == ("0", "1", "2")
    assert by_column(many, "n").names == ("up to 249", "above 249 up to 499", "above 499 up to 749", "above 749")
    words = by_column(many, "word")
    assert words.names[-1] == "other"
    assert len(words.names) == 21
    gone = by_range(np.array([*range(100), np.nan, np.inf]))
    assert gone.names[-1] == "missing"
    assert np.bincount(gone.codes).tolist() == [25, 25, 25, 25, 2]


def test_the_usual_age_is_one_by_which_nearly_all_labels_came() -> None:
    read = judge(pa.table(stream(5, minutes=100)), TASK)
    assert usual_age(read) == 3 * 3600
    assert usual_age(read.take(slice(0, 0))) == 0


def test_nothing_answered_and_nothing_labelled_are_said_so() -> None:
    table = pa.table(stream(3))
    nothing = history(table.slice(0, 0), TASK)
    assert nothing.points == nothing.whole == ()
    assert "no answered rows" in text(nothing)
    unlabelled = history(table.set_column(4, "label", pa.nulls(150, pa.int64())), TASK)
    assert unlabelled.whole[0].coverage == 0
    assert "0 (0.0%) with a label" in text(unlabelled)
    assert "no labels" in "".join(section(unlabelled))
