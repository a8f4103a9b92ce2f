"""Effect sizes against scipy and formulas by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import ks_2samp

from modelyard.monitoring.effects import effect, grouped, jensen_shannon, ks, psi, total_variation
from modelyard.monitoring.reference import Reference
from modelyard.monitoring.slots import NumberSlots

RNG = np.random.default_rng(5)


def of_kind(kind: str, rows: int, shift: float) -> np.ndarray:
    if kind == "normal":
        return RNG.normal(shift, 1, rows)
    if kind == "heavy":
        return RNG.pareto(1, rows) * (1 + shift)
    if kind == "spiked":
        return np.where(RNG.random(rows) < 0.4 + shift / 4, 0.0, RNG.normal(shift, 1, rows))
    if kind == "whole":
        return RNG.poisson(5 + shift, rows).astype(float)
    return np.where(RNG.random(rows) < 0.9, RNG.integers(0, 5, rows), RNG.normal(2 + shift, 3, rows))


@pytest.mark.parametrize("kind", ["normal", "heavy", "spiked", "whole", "mixed"])
@pytest.mark.parametrize("shift", [0.0, 0.2, 1.5])
def test_ks_lies_within_its_bounds(kind: str, shift: float) -> None:
    before, after = of_kind(kind, 4000, 0.0), of_kind(kind, 1500, shift)
    made = Reference.of_table({"x": before})
    slots = made.slots["x"]
    assert isinstance(slots, NumberSlots)
    found = ks(slots, slots.reference, made.profile({"x": after}).columns["x"].counts)
    exact = ks_2samp(before, after).statistic
    assert found.least - 1e-12 <= exact <= found.most + 1e-12
    assert found.most - found.least <= 0.04


def test_ks_is_exact_where_all_values_are_atoms() -> None:
    before, after = RNG.integers(0, 12, 3000), RNG.integers(0, 9, 800)
    made = Reference.of_table({"x": before})
    slots = made.slots["x"]
    assert isinstance(slots, NumberSlots)
    found = ks(slots, slots.reference, made.profile({"x": after}).columns["x"].counts)
    assert found.least == pytest.approx(ks_2samp(before, after).statistic)
    assert found.most == pytest.approx(found.least)


def test_a_value_between_all_that_were_seen_is_not_overlooked() -> None:
    made = Reference.of_table({"x": np.repeat([0.0, 10.0], 500)})
    found = effect(
        made.slots["x"], made.slots["x"].reference, made.profile({"x": np.full(100, 5.0)}).columns["x"].counts
    )
    assert found.ks is not None
    assert found.ks.most >= 0.5
    assert found.psi > 1


def test_jensen_shannon_is_scipys() -> None:
    for _ in range(20):
        p, q = RNG.integers(0, 20, 12), RNG.integers(0, 20, 12)
        assert jensen_shannon(p, q) == pytest.approx(jensenshannon(p, q, base=2))


def test_psi_and_total_variation_by_hand() -> None:
    p, q = np.array([300, 500, 200]), np.array([400, 400, 200])
    a, b = (p + 0.5) / 1001.5, (q + 0.5) / 1001.5
    assert psi(p, q) == pytest.approx(sum((y - x) * np.log(y / x) for x, y in zip(a, b, strict=True)))
    assert total_variation(p, q) == pytest.approx(0.1)


def test_what_is_missing_is_told_apart_from_what_moved() -> None:
    values = RNG.normal(size=4000)
    made = Reference.of_table({"x": values})
    half = pd.DataFrame({"x": np.where(np.arange(4000) % 2, values, np.nan)})
    found = effect(made.slots["x"], made.slots["x"].reference, made.profile(half).columns["x"].counts)
    assert found.missing_change == pytest.approx(0.5)
    assert found.distance < 0.03


def test_groups_share_the_reference_evenly() -> None:
    made = Reference.of_table({"x": RNG.normal(size=5000), "t": RNG.choice(list("abc"), 5000)})
    for slots in made.slots.values():
        groups = grouped(slots, slots.reference)
        assert sorted(slot for group in groups for slot in group) == list(range(slots.size))
    shares = [
        made.slots["x"].reference[list(group)].sum() / 5000
        for group in grouped(made.slots["x"], made.slots["x"].reference)
    ]
    assert 8 <= sum(share > 0.05 for share in shares) <= 11


@pytest.mark.parametrize("sort", ["x", "t"])
def test_nothing_compared_is_no_distance(sort: str) -> None:
    made = Reference.of_table({"x": RNG.normal(size=50), "t": RNG.choice(list("abc"), 50)})
    slots = made.slots[sort]
    found = effect(slots, slots.reference, np.zeros(slots.size, dtype=np.int64))
    assert (found.distance, found.jensen_shannon, found.missing_change) == (0.0, 0.0, 0.0)
