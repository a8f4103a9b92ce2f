"""Worst slices: found where there is one, not where there is none, and told by rows that did not choose them."""

import numpy as np
import pyarrow as pa
import pytest

from modelyard.errors import InvalidRequest
from modelyard.monitoring.performance.cuts import Cut, cuts
from modelyard.monitoring.performance.task import Aim, Task
from modelyard.monitoring.performance.text import worst_text
from modelyard.monitoring.performance.worst import worst

TASK = Task(aim=Aim.BINARY, answer="predict", classes=(0, 1))
COLUMNS = ["shop", "size", "hour", "noise0", "noise1", "noise2"]


def rows(seed: int, number: int = 20_000, bad: float = 0.0) -> pa.Table:
    """Answers wrong in one case of ten, and by `bad` more often in large sizes of shop c."""
    rng = np.random.default_rng(seed)
    columns = {"shop": rng.choice(list("abcde"), number), "size": rng.normal(size=number)}
    columns |= {"hour": rng.integers(0, 24, number)} | {f"noise{at}": rng.normal(size=number) for at in range(3)}
    chance = 0.1 + bad * ((columns["shop"] == "c") & (columns["size"] > 0.674))
    wrong = rng.random(number) < chance
    predict = rng.integers(0, 2, number)
    return pa.table(columns | {"predict": predict, "label": np.where(wrong, 1 - predict, predict)})


def test_a_bad_corner_of_two_columns_is_found_and_its_size_is_not_exaggerated() -> None:
    gaps = []
    for seed in range(8):
        found = worst(rows(seed, bad=0.25), TASK, COLUMNS)
        assert found.slices, seed
        first = found.slices[0]
        assert "shop = 'c'" in first.conditions
        assert any(each.startswith("size > ") for each in first.conditions)
        assert (first.worse.low or 0) > 0
        gaps.append(first.worse.value or 0.0)
    assert np.mean(gaps) == pytest.approx(0.25, abs=0.03)
    assert "confirmed on the other half" in worst_text(found)


def test_where_no_slice_is_worse_one_is_told_as_seldom_as_the_level_says() -> None:
    """In 60 tables at most 5% on average; seven or more would happen once in a hundred times."""
    told = sum(bool(worst(rows(100 + seed, 4000), TASK, COLUMNS).slices) for seed in range(60))
    assert told <= 7


def test_numbers_and_what_cannot_be_ranked_by() -> None:
    rng = np.random.default_rng(1)
    group = rng.choice(["x", "y"], 4000)
    truth = rng.normal(size=4000)
    table = pa.table(
        {"g": group, "predict": truth + rng.normal(size=4000) * np.where(group == "y", 2.0, 1.0), "label": truth}
    )
    task = Task(aim=Aim.REGRESSION, answer="predict")
    assert worst(table, task, ["g"]).slices[0].conditions == ("g = 'y'",)
    with pytest.raises(InvalidRequest, match="no mean over rows"):
        worst(table, task, ["g"], metric="r2")
    nothing = worst(table.slice(0, 0), task, ["g"])
    assert nothing.slices == ()
    assert "none that the other half confirms" in worst_text(nothing)


def test_a_cut_means_the_same_rows_in_every_table() -> None:
    first = pa.table({"n": np.arange(1000.0), "t": ["a", "b", None, "c"] * 250, "few": np.arange(1000) % 2})
    by_number, by_text, by_few = cuts(first, ["n", "t", "few"], 50)
    assert by_number.edges == (249.0, 499.0, 749.0)
    assert by_text == Cut(column="t", values=("a", "b", "c"))
    assert by_few.values == ("0", "1")
    later = pa.table(
        {"n": [0.0, 249.0, 250.0, 1e9, np.nan], "t": ["b", "new", None, "a", "c"], "few": [1, 0, None, 7, 1]}
    )
    assert by_number.codes(later).tolist() == [0, 0, 1, 3, 4]
    assert by_text.codes(later).tolist() == [1, -1, 3, 0, 2]
    assert by_few.codes(later).tolist() == [1, 0, 2, -1, 1]
    assert by_number.codes(later.select(["t"])).tolist() == [-1] * 5
    assert by_number.codes(pa.table({"n": ["1", "2"]})).tolist() == [-1, -1]
