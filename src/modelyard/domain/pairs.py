"""Which columns go together: coarse joint counts of some pairs of columns, to be added as whole numbers.

Each column has a few *levels*: numbers lie between three cuts of about equal share, texts are one of the commonest or
any other, and what is missing has a level of its own. A pair has a small table of how often two levels meet. Not all
pairs are counted, but those that depend most on each other, and some of the columns that answers depend on most.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelyard.domain.frame import Array, Vector

Levels = NDArray[np.uint8]

MISSING = 0
"""The level of what is missing; others are counted from 1."""

WIDTH = 6
"""A pair has a table of so many levels by so many."""

MOST = 24
"""So many pairs are counted at most,"""

_DEPENDENT = 16
"""of which so many for their dependence."""

_OF_ONE = 4
_CANDIDATES = 192
"""Pairs are chosen among so many columns at most, those that answers depend on most."""

_SAMPLED = 20_000
_NAMED = 4
_LEAST_SHARE = 0.02
_WANTED = (0.25, 0.5, 0.75)
_LEAST_DEPENDENCE = 0.02


def levels_of(column: Mapping[str, Any]) -> dict[str, Any] | None:
    """The levels of a column of a reference profile. None where it has none: it does not differ, or holds moments.

    Moments in time only ever go on, so that they are never twice the same.

    >>> levels_of({"type": "values", "n": 10, "missing": 0, "values": [["a", 6], ["b", 4]]})
    {'values': ['a', 'b']}
    """
    if column["type"] == "numbers" and "unit" not in column:
        return _number_levels(column)
    if column["type"] == "values":
        return _value_levels(column["values"], column["n"] - column["missing"])
    return None


def _number_levels(column: Mapping[str, Any]) -> dict[str, Any] | None:
    """Cuts where about a quarter, a half, three quarters of the numbers lie below, between values that are frequent."""
    held = dict(zip(column["edges"], column["counts"], strict=False))  # a bin holds its lower edge
    for atom, count in column["atoms"]:
        held[atom] = held.get(atom, 0) + count
    return number_levels(np.array(sorted(held)), np.array([held[at] for at in sorted(held)]))


def number_levels(values: Array, counts: Array | None = None) -> dict[str, Any] | None:
    """The levels of numbers (NaN: missing): the cuts between them. None where they do not differ.

    >>> number_levels(np.arange(8.0))
    {'cuts': [2.0, 4.0, 6.0]}
    """
    distinct = values
    if counts is None:
        distinct, counts = np.unique(values[~np.isnan(values)], return_counts=True)
    if len(distinct) < 2 or not counts.sum():
        return None
    below = np.cumsum(counts)[:-1] / counts.sum()  # which part lies below each of the others
    nearest = {int(np.argmin(np.abs(below - wanted))) for wanted in _WANTED}
    kept = [at for at in sorted(nearest) if _LEAST_SHARE <= below[at] <= 1 - _LEAST_SHARE]
    return {"cuts": [float(distinct[at + 1]) for at in kept]} if kept else None


def _value_levels(commonest: Sequence[Sequence[Any]], present: int) -> dict[str, Any] | None:
    kept = [value for value, count in commonest[:_NAMED] if count >= _LEAST_SHARE * present]
    left = present - sum(count for _, count in commonest[: len(kept)])
    if len(kept) + (left >= _LEAST_SHARE * present) < 2:
        return None
    return {"values": kept}


def of_numbers(levels: Mapping[str, Any], values: Array) -> Levels:
    """The level of each number.

    >>> of_numbers({"cuts": [2.0, 5.0]}, np.array([1.0, 2.0, 9.0, np.nan])).tolist()
    [1, 2, 3, 0]
    """
    found: Levels = (~np.isnan(values)).view(np.uint8)
    for cut in levels["cuts"]:
        found = found + (values >= cut).view(np.uint8)
    return found


def of_values(levels: Mapping[str, Any], values: Sequence[Any]) -> Levels:
    """The level of each value; None is missing.

    >>> of_values({"values": ["a", "b"]}, ["b", "x", None]).tolist()
    [3, 1, 0]
    """
    level = {value: at for at, value in enumerate(levels["values"], 2)}
    level[None] = MISSING
    return np.frombuffer(bytes(map(level.get, values, repeat(1))), dtype=np.uint8)


def of_vector(levels: Mapping[str, Any], vector: Vector) -> Levels:
    """The levels of a plain column of a frame."""
    gone = vector.is_missing()
    if "cuts" in levels:
        return of_numbers(levels, np.where(gone, np.nan, vector.values.astype(np.float64)))
    found = of_values(levels, vector.values.tolist())
    return np.where(gone, np.uint8(MISSING), found)


def counted(one: Levels, other: Levels) -> NDArray[np.int64]:
    """How often levels meet: a table, row after row."""
    return np.bincount(one * np.uint8(WIDTH) + other, minlength=WIDTH * WIDTH).astype(np.int64, copy=False)


def some(rows: int) -> slice:
    """An even part of the rows, enough to choose pairs by."""
    return slice(None, None, -(-rows // _SAMPLED) or 1)


def chosen(levels: Mapping[str, Levels], influence: Mapping[str, float]) -> list[tuple[str, str]]:
    """The pairs to be counted, the most dependent first.

    Every column's strongest partner comes first, then what else depends most (`dependence`), then pairs of the columns
    with the largest `influence`.

    >>> one = np.tile(np.array([1, 2], np.uint8), 500)
    >>> chosen({"a": one, "b": np.repeat(np.array([1, 2], np.uint8), 500), "c": one}, {})[0]
    ('a', 'c')
    """
    names = sorted(levels, key=lambda name: -influence.get(name, 0.0))[:_CANDIDATES]
    if len(names) < 2:
        return []
    strength = _strengths([levels[name] for name in names])
    places = list(combinations(range(len(names)), 2))
    dependent = sorted((pair for pair in places if strength[pair] > 0), key=lambda pair: -strength[pair])
    matter = [influence.get(name, 0.0) for name in names]
    influential = sorted(places, key=lambda pair: -matter[pair[0]] * matter[pair[1]])
    picked: dict[tuple[int, int], None] = {}
    for pair in dependent:  # a partner for each column
        if len(picked) < _DEPENDENT and not all(_uses(picked, at) for at in pair):
            picked[pair] = None
    for most, order in ((_DEPENDENT, dependent), (MOST, influential)):
        for pair in order:
            if len(picked) < most and all(_uses(picked, at) < _OF_ONE + (most == MOST) * 2 for at in pair):
                picked[pair] = None
    places_of = list(levels)
    return [_in_order((names[one], names[other]), places_of) for one, other in picked]


def _in_order(pair: tuple[str, str], order: Sequence[str]) -> tuple[str, str]:
    one, other = sorted(pair, key=order.index)
    return one, other


def _uses(picked: Mapping[tuple[int, int], None], column: int) -> int:
    return sum(column in pair for pair in picked)


def dependence(table: Array) -> float:
    """Which part of rows would have to be paired otherwise for two columns not to depend on each other.

    Half the sum of the differences of shares (total variation); rows without what is missing.

    >>> dependence(np.array([[50, 0], [0, 50]]))
    0.5
    """
    whole = table.sum()
    if not whole:
        return 0.0
    alone = table.sum(axis=1, keepdims=True) * (table.sum(axis=0, keepdims=True) / whole)
    return float(np.abs(table - alone).sum() / 2 / whole)


def _strengths(levels: Sequence[Levels]) -> Array:
    """The dependence of each pair; 0 where chance would explain it.

    The likelihood ratio statistic is held against chi-squared by Laurent and Massart's bound (2000, lemma 1).
    """
    marks = np.concatenate([level[:, None] == np.arange(WIDTH) for level in levels], axis=1).astype(np.float32)
    met = (marks.T @ marks).astype(np.float64)
    columns = len(levels)
    found = np.zeros((columns, columns))
    rare = np.log(max(columns * (columns - 1) / 2, 1)) + 5.0
    for one, other in combinations(range(columns), 2):
        table = met[one * WIDTH + 1 : (one + 1) * WIDTH, other * WIDTH + 1 : (other + 1) * WIDTH]
        table = table[table.any(axis=1)][:, table.any(axis=0)]
        free = (table.shape[0] - 1) * (table.shape[1] - 1)
        if free <= 0 or _information(table) <= free + 2 * np.sqrt(free * rare) + 2 * rare:
            continue
        size = dependence(table)
        found[one, other] = size if size >= _LEAST_DEPENDENCE else 0.0
    return found


def _information(table: Array) -> float:
    """Twice the information that one column has about the other, in all rows together (the G statistic)."""
    alone = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / table.sum()
    there = table > 0
    return float(2 * (table[there] * np.log(table[there] / alone[there])).sum())


def influence_on(score: Levels, levels: Mapping[str, Levels]) -> dict[str, float]:
    """How much each column depends on the levels of a score."""
    tables = {name: counted(level, score).reshape(WIDTH, WIDTH)[1:, 1:] for name, level in levels.items()}
    return {name: dependence(table) for name, table in tables.items()}


def described(
    how: Mapping[str, Mapping[str, Any]], level: Mapping[str, Levels], influence: Mapping[str, float]
) -> dict[str, Any] | None:
    """The part of a reference profile that is about pairs; None where there are none.

    Args:
        how: What makes the levels of each column, as `number_levels` and `value_levels` tell it.
        level: The levels of all rows.
        influence: How much each column matters to answers, where it is known.
    """
    rows = len(next(iter(level.values()), ()))
    pairs = chosen({name: each[some(rows)] for name, each in level.items()}, influence)
    if not pairs:
        return None
    used = {name for pair in pairs for name in pair}
    return {
        "levels": {name: dict(how[name]) for name in level if name in used},
        "tables": [{"columns": list(pair), "counts": _cells(level, pair)} for pair in pairs],
    }


def _cells(level: Mapping[str, Levels], pair: tuple[str, str]) -> list[int]:
    cells: list[int] = counted(level[pair[0]], level[pair[1]]).tolist()
    return cells


def pairs_of(described: Mapping[str, Any] | None) -> Iterator[tuple[tuple[str, str], Array]]:
    """The pairs of a reference profile and their tables."""
    for table in (described or {}).get("tables", ()):
        one, other = table["columns"]
        yield (one, other), np.array(table["counts"], dtype=np.int64).reshape(WIDTH, WIDTH)
