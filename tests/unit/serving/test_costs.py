"""What a version costs is learnt from what it took."""

from __future__ import annotations

import random
import timeit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.serving.costs import MEMORY, CostModel

BATCHES = st.lists(st.tuples(st.integers(1, 100_000), st.floats(0, 1000)), max_size=200)
SECONDS = st.floats(0, 10)


def learnt(one: float, more: float, sizes: list[int], model: CostModel, noise: float = 0.0) -> CostModel:
    dice = random.Random(7)
    for rows in sizes:
        model.observe(rows, (one + rows * more) * (1 + noise * dice.uniform(-1, 1)))
    return model


@given(SECONDS, SECONDS, BATCHES)
def test_neither_number_is_ever_negative_or_no_number(
    one: float, more: float, batches: list[tuple[int, float]]
) -> None:
    model = CostModel(one, more)
    for rows, seconds in batches:
        model.observe(rows, seconds)
        assert 0 <= model.one < float("inf")
        assert 0 <= model.more < float("inf")
    assert model.seconds(2) >= model.seconds(1) >= 0


@given(SECONDS, SECONDS)
def test_what_it_was_told_first_is_forgotten(one: float, more: float) -> None:
    model = CostModel(one, more)
    for _ in range(2 * MEMORY):
        model.observe(1, 0.0)
    assert model.one + model.more <= (one + more) * 0.5 + 1e-12


@given(st.floats(1e-5, 1e-2), st.floats(0, 1e-4), st.lists(st.integers(1, 500), min_size=2, max_size=20, unique=True))
def test_it_finds_the_line_that_batches_lie_on(one: float, more: float, sizes: list[int]) -> None:
    model = learnt(one, more, sizes * 200, CostModel(one * 3, more / 3))
    for rows in sizes:
        assert model.seconds(rows) == pytest.approx(one + rows * more, rel=0.05)


def test_noise_is_averaged_out() -> None:
    dice = random.Random(3)
    model = learnt(1e-3, 1e-5, [dice.randint(1, 200) for _ in range(2000)], CostModel(0.01, 0.0), noise=0.5)
    assert model.seconds(1) == pytest.approx(1e-3, rel=0.4)
    assert model.seconds(200) == pytest.approx(3e-3, rel=0.25)


def test_one_pause_of_the_machine_hardly_counts() -> None:
    model = learnt(1e-3, 1e-5, [1, 50] * 100, CostModel(1e-3, 1e-5))
    model.observe(1, 30.0)
    assert model.seconds(1) < 2e-3


def test_a_lasting_change_is_followed() -> None:
    model = learnt(1e-3, 1e-5, [1, 50] * 100, CostModel(1e-3, 1e-5))
    learnt(0.1, 1e-3, [1, 50] * MEMORY, model)
    assert model.seconds(1) == pytest.approx(0.1, rel=0.3)
    learnt(1e-3, 1e-5, [1, 50] * 4 * MEMORY, model)
    assert model.seconds(1) == pytest.approx(1e-3, rel=0.3)


def test_batches_of_one_size_leave_the_slope_alone() -> None:
    model = learnt(2e-3, 1e-4, [1] * 1000, CostModel(1e-3, 1e-4))
    assert model.seconds(1) == pytest.approx(2.1e-3)
    assert model.more == pytest.approx(1e-4)


def test_two_sizes_close_together_do_not_tilt_it() -> None:
    model = learnt(1e-3, 0.0, [1, 2] * 1000, CostModel(1e-3, 0.0), noise=0.3)
    assert model.seconds(1000) < 0.2


def test_a_version_of_which_nothing_is_known_is_learnt_too() -> None:
    model = learnt(1e-3, 1e-4, [1, 10, 100] * 50, CostModel(0.0, 0.0))
    assert model.seconds(100) == pytest.approx(11e-3, rel=0.1)


def test_a_call_costs_about_a_microsecond() -> None:
    model = CostModel(1e-3, 1e-5)
    assert min(timeit.repeat(lambda: model.observe(3, 1e-3), number=10_000, repeat=5)) / 10_000 < 20e-6
    assert min(timeit.repeat(lambda: model.seconds(3), number=10_000, repeat=5)) / 10_000 < 10e-6
