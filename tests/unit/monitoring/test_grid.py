"""Many numbers are counted without sorting them exactly as if they were sorted, and as if each were looked at alone."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.domain.frame import Array
from modelyard.domain.profile import numbers_described
from modelyard.monitoring.grid import Grid, GridCounts
from modelyard.monitoring.moments import BLOCK
from modelyard.monitoring.slots import NumberSlots

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
BOUNDS = st.lists(FLOATS, min_size=2, max_size=30, unique=True)


def between(bounds: Array, values: Array) -> list[int]:
    found = [0] * (len(bounds) + 1)
    for value in values.tolist():
        found[sum(bound <= value for bound in bounds.tolist())] += 1
    return found


@given(BOUNDS, st.lists(FLOATS, max_size=60), st.data())
def test_values_are_counted_as_if_each_were_looked_at_alone(
    bounds: list[float], others: list[float], data: st.DataObject
) -> None:
    ordered = np.unique(np.array(bounds) + 0.0)
    frequent = data.draw(st.sets(st.integers(0, len(ordered) - 1)))
    ends = (-math.inf, math.inf)
    close = [each for bound in ordered.tolist() for each in (bound, *(math.nextafter(bound, end) for end in ends))]
    values = np.array([*others, *filter(math.isfinite, close)])
    grid = Grid.over(ordered, frequent)
    if grid is not None:
        counting = GridCounts(grid)
        counting.add(values)
        counting.add(values[:3])
        assert counting.between().tolist() == between(ordered, np.concatenate([values, values[:3]]))


def drawn(kind: str, rows: int, seed: int) -> Array:
    draw = np.random.default_rng(seed)
    plain = draw.normal(size=rows)
    made: dict[str, Array] = {
        "normal": plain,
        "heavy tails": draw.standard_cauchy(rows) ** 3,
        "far from zero": 1e9 + plain,
        "whole": draw.poisson(3, rows).astype(float),
        "rounded": np.round(plain, 1),
        "spiked": np.where(draw.random(rows) < 0.4, 0.0, plain),
        "minus zero": np.where(draw.random(rows) < 0.4, -0.0, np.abs(plain)),
        "tiny": plain * 1e-310,
        "huge": plain * 1e307,
        "constant": np.full(rows, 3.5),
        "gaps": np.where(draw.random(rows) < 0.2, np.nan, plain),
        "all gone": np.full(rows, np.nan),
    }
    return made[kind]


KINDS = (
    "normal", "heavy tails", "far from zero", "whole", "rounded", "spiked", "minus zero", "tiny", "huge", "constant",
    "gaps", "all gone",
)  # fmt: skip


@pytest.mark.parametrize(("reference", "live"), [*pairwise((*KINDS, KINDS[0])), *((kind, kind) for kind in KINDS)])
def test_a_long_column_has_the_counts_and_moments_of_its_pieces(reference: str, live: str) -> None:
    rows = 2 * BLOCK + 17
    before = drawn(reference, 5000, 1)
    slots = NumberSlots(numbers_described(before[~np.isnan(before)], int(np.isnan(before).sum())))
    values = drawn(live, rows, 2)
    values[::50], values[1::1000], values[2::1000] = slots.largest or 0.0, np.inf, -np.inf
    whole = slots.tally(values)
    pieces = [slots.tally(values[at : at + 1000]) for at in range(0, rows, 1000)]
    added = pieces[0]
    for piece in pieces[1:]:
        added = added + piece
    assert whole.counts.tolist() == added.counts.tolist()
    assert whole.moments == added.moments
    assert whole.counts.sum() == rows


def test_most_kinds_of_columns_have_a_grid() -> None:
    """Otherwise these tests would hold sorting against sorting."""
    gridded = [kind for kind in KINDS if NumberSlots(numbers_described(np.nan_to_num(drawn(kind, 5000, 1)), 0))._grid]
    assert {"normal", "far from zero", "whole", "rounded", "spiked", "gaps"} <= set(gridded)
