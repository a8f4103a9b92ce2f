"""Profiles of windows: counts equal those by hand, whatever the order, the split, the replicas and retries."""

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.errors import Conflict, DataDamaged, InvalidRequest
from modelyard.monitoring.newcomers import KEPT
from modelyard.monitoring.reference import Reference
from modelyard.monitoring.slots import NumberSlots, ValueSlots
from modelyard.monitoring.windows import Key, Parts, Profile, decode, total

NUMBER = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 2.5, np.nan, np.inf, -np.inf, 1e300, -1e300, 5e-324]),
    st.floats(-60, 60),
)
NUMBERS = st.lists(NUMBER, max_size=80)
TEXTS = st.lists(
    st.one_of(st.none(), st.sampled_from(["a", "b", "rare", "x", "y", "z"]), st.text(max_size=3)), max_size=80
)


def reference() -> Reference:
    rng = np.random.default_rng(7)
    number = np.where(rng.random(500) < 0.3, 0.0, rng.normal(0, 20, 500))
    text = rng.choice(["a", "b", "c"], 500).astype(object)
    text[3], text[70] = "rare", None
    return Reference.of_table(pd.DataFrame({"number": number, "text": text, "few": rng.integers(0, 4, 500)}))


REFERENCE = reference()


def table(numbers: list[float], texts: list[Any]) -> pd.DataFrame:
    rows = min(len(numbers), len(texts))
    data = {"number": np.array(numbers[:rows], dtype=float), "text": np.array(texts[:rows], dtype=object)}
    return pd.DataFrame(data).assign(few=1)


@settings(max_examples=60, deadline=None)
@given(NUMBERS, TEXTS, st.integers(0, 5), st.randoms(use_true_random=False))
def test_any_split_order_replicas_and_retries_give_the_same_bytes(
    numbers: list[float], texts: list[Any], cuts: int, random: Any
) -> None:
    rows = table(numbers, texts)
    at_once = REFERENCE.profile(rows)
    order = list(range(len(rows)))
    random.shuffle(order)
    parts = np.array_split(np.array(order, dtype=int), cuts + 1)
    flushes = [(Key("m@1", "w", f"r{at % 2}", at), REFERENCE.profile(rows.iloc[part])) for at, part in enumerate(parts)]
    arriving = flushes + random.sample(flushes, min(2, len(flushes)))
    random.shuffle(arriving)
    kept = Parts()
    for key, profile in arriving:
        kept.add(key, decode(profile.encode()))
    merged = kept.window("m@1", "w")
    assert merged.encode() == at_once.encode()
    assert merged.publish() == at_once.publish()


@settings(max_examples=60, deadline=None)
@given(NUMBERS)
def test_each_number_is_in_the_slot_that_it_belongs_to(numbers: list[float]) -> None:
    slots = REFERENCE.slots["number"]
    assert isinstance(slots, NumberSlots)
    expected = Counter(by_hand(slots, value) for value in numbers)
    counts = slots.tally(np.array(numbers, dtype=float)).counts
    assert {at: count for at, count in enumerate(counts.tolist()) if count} == expected


def by_hand(slots: NumberSlots, value: float) -> int:
    if np.isnan(value) or np.isinf(value):
        return slots.MISSING if np.isnan(value) else slots.INFINITE
    if value in slots.atoms:
        return slots.above + 1 + slots.atoms.index(value)
    assert slots.end is not None
    if value >= slots.end:
        return slots.above
    return slots.BELOW + sum(start <= value for start in slots.starts)


def test_the_reference_counts_itself_as_its_profile_says() -> None:
    rng = np.random.default_rng(1)
    data = pd.DataFrame(
        {
            "spread": rng.lognormal(0, 2, 3000),
            "spiked": np.where(rng.random(3000) < 0.5, 0.0, rng.normal(size=3000)),
            "whole": rng.integers(0, 24, 3000),
            "tail": np.concatenate([np.full(2900, 3.0), rng.normal(50, 1, 100)]),
            "constant": 5,
            "gone": np.nan,
            "text": rng.choice(list("abcdefgh"), 3000),
            "flag": rng.random(3000) < 0.2,
            "when": pd.to_datetime(rng.integers(0, 10**9, 3000), unit="s"),
            "sort": pd.Categorical(rng.choice(list("xyz"), 3000), categories=list("wxyz")),
            "nullable": pd.array(np.where(rng.random(3000) < 0.1, None, 4), dtype="Int64"),
        }
    )
    made = Reference.of_table(data)
    counted = made.profile(data)
    assert set(counted.columns) == set(data.columns)
    for name, slots in made.slots.items():
        assert counted.columns[name].counts.tolist() == slots.reference.tolist(), name
        assert counted.columns[name].counts.sum() == 3000


def test_texts_are_named_rare_or_new() -> None:
    texts = ["a"] * 40 + ["b"] * 9 + ["once", "twice", "twice"]
    made = Reference.of_table({"text": texts})
    slots = made.slots["text"]
    assert isinstance(slots, ValueSlots)
    assert slots.names == ("a", "b")
    found = made.profile({"text": ["a", "once", None, "never", "b", *["often"] * 5]}).columns["text"]
    assert found.counts.tolist() == [1, 1, 6, 1, 1]
    assert found.newcomers is not None
    assert found.newcomers.named() == (("often", 5),)


def test_what_occurs_fewer_than_five_times_is_not_in_a_published_window() -> None:
    made = Reference.of_table({"text": ["a"] * 9})
    parts = [made.profile({"text": ["private", "common", "common"]}) for _ in range(4)]
    merged = total(parts)
    assert b"private" in merged.encode()
    published = merged.publish()
    assert b"private" not in published
    assert b"common" in published
    again = decode(published)
    assert again.columns["text"].counts.tolist() == merged.columns["text"].counts.tolist()


def test_a_flood_of_different_newcomers_takes_bounded_room() -> None:
    made = Reference.of_table({"text": ["a"] * 9})
    texts = [f"id-{at}" for at in range(40_000)]
    whole = made.profile({"text": texts})
    split = total([made.profile({"text": texts[at::7]}) for at in range(7)])
    assert split.encode() == whole.encode()
    newcomers = whole.columns["text"].newcomers
    assert newcomers is not None
    assert len(newcomers.kept) == KEPT
    assert abs(newcomers.distinct - 40_000) < 6_000
    assert len(whole.publish()) < 1_000


def test_a_window_of_twenty_columns_is_small() -> None:
    rng = np.random.default_rng(3)
    names = np.array([f"a rather long name {at}" for at in range(300)], dtype=object)
    columns = {f"n{at}": rng.lognormal(0, 2, 30_000) for at in range(10)}
    columns |= {f"s{at}": rng.choice(names, 30_000) for at in range(10)}
    made = Reference.of_table(pd.DataFrame(columns))
    strange = {name: values[::-1] + "?" if name[0] == "s" else values for name, values in columns.items()}
    for window in (columns, strange):
        assert len(made.profile(pd.DataFrame(window)).publish()) < 30_000


def test_profiles_of_other_references_are_refused() -> None:
    other = Reference.of_table({"text": ["a"]})
    with pytest.raises(InvalidRequest, match="different references"):
        total([REFERENCE.profile(table([], [])), other.profile({"text": ["a"]})])
    with pytest.raises(InvalidRequest, match="no profile"):
        total([])


def test_two_parts_under_one_key_are_reported() -> None:
    parts = Parts()
    one, other = (REFERENCE.profile(table([number], ["a"])) for number in (1.0, 2.0))
    key = Key("m@1", "2013-03-01T00:00Z", "r1", 4)
    assert parts.add(key, one)
    assert not parts.add(key, one)
    with pytest.raises(Conflict, match="r1"):
        parts.add(key, other)


def test_damage_is_reported() -> None:
    for raw in (b"", b"\x93", REFERENCE.profile(table([1.0], ["a"])).encode()[:-3]):
        with pytest.raises(DataDamaged):
            decode(raw)


def test_an_empty_profile_adds_nothing() -> None:
    one = REFERENCE.profile(table([1.0, np.nan], ["a", None]))
    empty = Profile(REFERENCE.digest, 0, {})
    assert (one + empty).encode() == one.encode() == (empty + one).encode()
