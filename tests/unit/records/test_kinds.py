"""Kinds of values, seen column by column, are those that each value has by itself."""

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from modelyard.records.kinds import Observed, merged_kinds

NUMBERS = st.one_of(st.integers(-(2**65), 2**65), st.floats(), st.sampled_from([1e308, -1e308, 2**63, -(2**63)]))
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=2), st.lists(st.integers(), max_size=2))
NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.one_of(LEAVES, st.dictionaries(NAMES, st.one_of(LEAVES, st.dictionaries(NAMES, LEAVES, max_size=1))))
OBJECTS = st.one_of(st.none(), st.dictionaries(NAMES, VALUES, max_size=3))
ROWS = st.lists(st.fixed_dictionaries({}, optional={"inputs": OBJECTS, "outputs": OBJECTS}), max_size=12)


def kind(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if -(2**63) <= value < 2**63 else "large"
    return {float: "float", str: "text"}.get(type(value), "json")


def one_by_one(rows: list[dict[str, Any]]) -> dict[str, dict[str, set[str]]]:
    seen: dict[str, dict[str, set[str]]] = {"inputs": {}, "outputs": {}}
    for row in rows:
        for side, found in seen.items():
            for name, value in (row.get(side) or {}).items():
                if side == "outputs" and isinstance(value, dict) and value:
                    for inner, part in value.items():
                        found.setdefault(f"{name}\0{inner}", set()).add(kind(part))
                else:
                    found.setdefault(name, set()).add(kind(value))
    return seen


@given(st.lists(ROWS, max_size=3))
def test_columns_at_once_have_the_kinds_of_their_values(calls: list[list[dict[str, Any]]]) -> None:
    seen = Observed()
    for rows in calls:
        seen.add(rows)
    assert merged_kinds([("d", seen.told())])["d"] == one_by_one([row for rows in calls for row in rows])


def test_many_rows_are_not_kept() -> None:
    seen = Observed()
    for _ in range(3):
        seen.add([{"inputs": {"x": 1}}] * 512)
        assert not seen._rows
    assert seen.told() == '{"inputs":{"x":["int"]},"outputs":{}}'
