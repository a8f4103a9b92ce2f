"""Pairs of columns: which are counted, that counts are right whatever a table is made of, and that they add up."""

from itertools import combinations
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.domain.frame import Frame, Vector
from modelyard.domain.pairs import MOST, WIDTH, dependence
from modelyard.domain.profile import build
from modelyard.domain.schema import Column, Kind, Output, Schema
from modelyard.monitoring.reference import Reference
from modelyard.monitoring.windows import decode, total


def table(draw: np.random.Generator, rows: int) -> dict[str, Any]:
    """Carriers fly to some places more than to others; dew point follows temperature; seats follow nothing."""
    carrier = draw.choice(["AA", "B6", "EV"], rows)
    usual = {"AA": "MIA", "B6": "BOS", "EV": "ORD"}
    dest = np.where(
        draw.random(rows) < 0.7, [usual[each] for each in carrier], draw.choice(["MIA", "BOS", "ORD"], rows)
    )
    temp = draw.normal(15, 8, rows)
    return {
        "temp": np.where(draw.random(rows) < 0.05, np.nan, temp),
        "seats": draw.integers(20, 380, rows).astype(float),
        "carrier": carrier.astype(object),
        "dest": dest.astype(object),
        "dewp": temp - draw.gamma(2, 3, rows),
        "flag": draw.random(rows) < 0.3,
    }


REFERENCE = Reference.of_table(table(np.random.default_rng(1), 4000))


def test_what_depends_most_comes_first() -> None:
    assert REFERENCE.pairs is not None
    assert set(REFERENCE.pairs.names[:2]) == {("carrier", "dest"), ("temp", "dewp")}
    assert len(REFERENCE.pairs.names) == len(list(combinations(range(6), 2)))


def test_of_many_columns_a_bounded_number_of_pairs_is_counted_and_each_has_its_strongest_partner() -> None:
    draw = np.random.default_rng(3)
    base = draw.normal(size=(2000, 12))
    columns = {f"a{at}": base[:, at] for at in range(12)}
    columns |= {f"b{at}": base[:, at] + draw.normal(size=2000) for at in range(12)}
    made = Reference.of_table(columns | {f"c{at}": draw.normal(size=2000) for at in range(20)})
    assert made.pairs is not None
    assert len(made.pairs.names) == MOST
    assert {(f"a{at}", f"b{at}") for at in range(12)} <= set(made.pairs.names)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 120), st.integers(1, 6))
def test_counts_are_those_by_hand_and_add_up_to_the_same_bytes_however_rows_are_cut(
    seed: int, rows: int, parts: int
) -> None:
    draw = np.random.default_rng(seed)
    data = pd.DataFrame(table(draw, rows))
    whole = REFERENCE.profile(data)
    order = draw.permutation(rows)
    cut = [decode(REFERENCE.profile(data.iloc[some]).encode()) for some in np.array_split(order, parts)]
    draw.shuffle(cut)  # type: ignore[arg-type]
    assert total(cut).encode() == whole.encode()
    assert REFERENCE.pairs is not None
    for at, names in enumerate(REFERENCE.pairs.names):
        levels = [[by_hand(name, value) for value in data[name]] for name in names]
        expected = np.zeros((WIDTH, WIDTH), dtype=int)
        for pair in zip(*levels, strict=True):
            expected[pair] += 1
        assert (whole.met[at].reshape(WIDTH, WIDTH) == expected).all(), names


def by_hand(name: str, value: Any) -> int:
    assert REFERENCE.pairs is not None
    labels = REFERENCE.pairs.labels(name)
    if value is None or value != value:
        return 0
    if isinstance(value, str | bool | np.bool_):
        return labels.index(str(value)) if str(value) in labels else 1
    cuts = [float(value) >= float(cut) for cut in LEVELS[name]["cuts"]]
    return 1 + sum(cuts)


LEVELS = REFERENCE.pairs._levels if REFERENCE.pairs is not None else {}


def test_any_kind_of_table_gives_the_same_counts() -> None:
    polars = pytest.importorskip("polars")
    data = pd.DataFrame(table(np.random.default_rng(5), 300))
    data.loc[3, "dest"] = None
    frame = Frame({name: Vector(data[name].to_numpy()) for name in data}, len(data))
    sorted_ = data.assign(carrier=pd.Categorical(data["carrier"]), dest=data["dest"].astype("str"))
    arrow = pa.Table.from_pandas(data, preserve_index=False)
    encoded = arrow.set_column(2, "carrier", arrow["carrier"].dictionary_encode())
    expected = {at: counts.tolist() for at, counts in REFERENCE.profile(data).met.items()}
    for other in (frame, sorted_, arrow, encoded, polars.from_pandas(data)):
        assert {at: counts.tolist() for at, counts in REFERENCE.profile(other).met.items()} == expected


def test_a_column_that_is_not_there_takes_its_pairs_along() -> None:
    found = REFERENCE.profile(pd.DataFrame(table(np.random.default_rng(5), 30)).drop(columns="temp"))
    assert REFERENCE.pairs is not None
    assert {"temp"} == {
        name
        for at, names in enumerate(REFERENCE.pairs.names)
        if at not in found.met
        for name in names
        if name == "temp"
    }
    assert all("temp" not in REFERENCE.pairs.names[at] for at in found.met)


SCHEMA = Schema(
    "dataframe",
    tuple(Column(name, Kind.FLOAT64, nullable=False, dtype="float64") for name in ("a", "b", "c", "d")),
    (Output("predict", Kind.FLOAT64, "value", "predict"),),
)


def frame_of(rows: int = 1000) -> Frame:
    draw = np.random.default_rng(4)
    return Frame({column.name: Vector(draw.normal(size=rows)) for column in SCHEMA.columns}, rows)


def test_bundles_of_earlier_releases_have_no_pairs_and_give_the_bytes_that_they_gave() -> None:
    frame = frame_of()
    profile = build(frame, {"predict": frame["a"].values}, SCHEMA)
    del profile["pairs"]
    made = Reference.of_profile(profile)
    assert made.pairs is None
    window = made.profile(frame)
    assert window.met == {}
    assert len(msgspec.msgpack.decode(window.encode())) == 4
    with_pairs = Reference.of_profile(build(frame, {"predict": frame["a"].values}, SCHEMA))
    assert with_pairs.digest != made.digest


def test_pairs_of_what_answers_depend_on_are_counted_first_where_nothing_else_is_known() -> None:
    frame = frame_of()
    answers = {"predict": frame["b"].values + 0.5 * frame["d"].values}
    profile = build(frame, answers, SCHEMA, frame)
    assert profile["pairs"]["tables"][0]["columns"] == ["b", "d"]


def test_dependence_is_the_part_of_rows_that_would_have_to_be_paired_otherwise() -> None:
    assert dependence(np.array([[25, 25], [25, 25]])) == 0.0
    assert dependence(np.array([[40, 10], [10, 40]])) == pytest.approx(0.3)
    assert dependence(np.zeros((2, 2))) == 0.0
