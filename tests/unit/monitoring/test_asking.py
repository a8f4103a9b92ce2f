"""Packed questions answer as the questions of each column do, and drawn counts follow the law of drawn rows."""

import numpy as np
import pytest
from benchmarks.monitoring.sources import Drawing, Source, drawn
from benchmarks.monitoring.tables import table

from modelyard.monitoring.asking import Asked
from modelyard.monitoring.reference import Reference

POOL = table(np.random.default_rng(3), 3000)


def test_answers_are_those_of_each_column_alone() -> None:
    made = Reference.of_table(POOL)
    window = made.profile(table(np.random.default_rng(4), 700))
    asked = Asked(made)
    x, n = asked.answers(asked.in_cells(window))
    for at, (name, each) in enumerate(zip(asked.columns, asked.questions, strict=True)):
        here = slice(asked.first[at], asked.first[at + 1])
        inside, among = each.answers(window.columns[name].counts)
        np.testing.assert_array_equal(x[here], inside)
        np.testing.assert_array_equal(n[here], among)
    assert asked.cells < sum(asked.sizes)
    own, _ = asked.answers(asked.reference_cells())
    assert own.sum() > 0


def test_columns_that_a_window_lacks_have_no_rows() -> None:
    made = Reference.of_table({"a": [1.0, 2.0, 3.0], "b": ["x", "y", "x"]})
    asked = Asked(made)
    _, n = asked.answers(asked.in_cells(made.profile({"a": [1.0]})))
    assert n[asked.column_of == 0].max() == 1
    assert n[asked.column_of == 1].max() == 0


def test_a_reference_without_columns_asks_nothing() -> None:
    asked = Asked(Reference({}, 0))
    x, n = asked.answers(asked.reference_cells())
    assert len(asked) == len(x) == len(n) == 0


@pytest.mark.parametrize("rows", [30, 2000])
def test_drawn_counts_have_the_mean_and_the_spread_of_counted_rows(rows: int) -> None:
    """Against windows whose rows were drawn one by one, question by question; 300 windows each."""
    draw = np.random.default_rng(rows)
    source = Source.of(POOL, draw, 2000, 1)
    asked = Asked(source.reference)
    fast = np.array([asked.answers(each)[0] for each in Drawing(asked, source.shares).windows(draw, rows, 300)])
    if rows > 30:
        expected, _ = asked.answers((source.shares * 3000).round().astype(np.int64))
        np.testing.assert_allclose(fast.mean(axis=0), expected / 3000 * rows, atol=5 * np.sqrt(rows / 4 / 300) + 1e-9)
        return
    windows = (source.reference.profile(drawn(POOL, draw, rows, 1)) for _ in range(300))
    slow = np.array([asked.answers(asked.in_cells(each))[0] for each in windows])
    np.testing.assert_allclose(fast.mean(axis=0), slow.mean(axis=0), atol=7 * np.sqrt(rows / 4 / 300))
    np.testing.assert_allclose(fast.std(axis=0), slow.std(axis=0), atol=1.0)
