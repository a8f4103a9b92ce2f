"""Which rows the golden set holds: a draw from the sample that covers its extremes, and edges made from the schema."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from modelyard.bundle.probe import UNSEEN_TEXT, can_be_missing, replaced
from modelyard.domain.frame import Frame, Vector, concat_frames
from modelyard.domain.schema import Column, Kind

SAMPLE = "sample"
"""The origin of rows that were drawn; others are ``edge: <column> <what>``."""

_POSITIONS = 16  # so many positions of an array get edges of their own
_EDGES_OF_A_SORT = 64
_RARE_VALUES = 32
_FAR = 10.0  # in spans of what training saw

Edge: TypeAlias = tuple[str, Frame]


def draw(
    sample: Frame, columns: Sequence[Column], rows: int = 256, seed: int = 0, base: Frame | None = None
) -> tuple[Frame, tuple[str, ...]]:
    """At most `rows` rows of the sample, then edge rows, and the origin of each.

    Rows with a column's smallest, largest, first missing and rare values come first; the rest are spread over the
    sample by a fixed mixing of `seed` and row number, so that the same sample gives the same rows everywhere.
    Edges vary one row, `base` (by default the most complete of those drawn).
    """
    picked = sorted(_picked(sample, columns, rows, seed))
    drawn = sample.take(picked)
    base = _most_complete(drawn) if base is None else base
    edges = list(_edges(base, columns))
    frame = concat_frames([drawn, *(edge for _, edge in edges)])
    return frame, (SAMPLE,) * drawn.rows + tuple(f"edge: {name}" for name, _ in edges)


def _picked(sample: Frame, columns: Sequence[Column], rows: int, seed: int) -> list[int]:
    if sample.rows <= rows:
        return list(range(sample.rows))
    telling = _in_turn([_telling_rows(sample[column.name]) for column in columns])
    chosen = list(dict.fromkeys(telling))[: rows // 2]
    there = set(chosen)
    spread = (row for row in np.argsort(_mixed(sample.rows, seed), kind="stable").tolist() if row not in there)
    return chosen + [next(spread) for _ in range(rows - len(chosen))]


def mixed_rows(count: int, most: int, seed: int = 0) -> list[int]:
    """At most `most` of the row numbers below `count`, spread over all of them, in order; always the same.

    >>> mixed_rows(3, 10), len(mixed_rows(1000, 10))
    ([0, 1, 2], 10)
    """
    if count <= most:
        return list(range(count))
    return sorted(np.argsort(_mixed(count, seed), kind="stable")[:most].tolist())


def _mixed(count: int, seed: int) -> NDArray[np.uint64]:
    """One well-mixed number for each row (splitmix64), the same with every release of every library."""
    with np.errstate(over="ignore"):
        state = np.arange(count, dtype=np.uint64) + np.uint64(seed) * np.uint64(0x632BE59BD9B4E019)
        state = state * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(state ^ (state >> np.uint64(31)))


def _in_turn(lists: Sequence[Sequence[int]]) -> Iterator[int]:
    """The first of each list, then the second of each ..."""
    for depth in range(max((len(rows) for rows in lists), default=0)):
        yield from (rows[depth] for rows in lists if depth < len(rows))


def _telling_rows(vector: Vector) -> list[int]:
    """Rows of the smallest, the largest, the first missing and the rarest values of a column."""
    gone = vector.is_missing()
    if vector.values.ndim > 1:
        return _telling_positions(vector.values.reshape(len(vector.values), -1), gone.reshape(len(gone), -1))
    present = np.flatnonzero(~gone)
    found = [int(np.flatnonzero(gone)[0])] if gone.any() else []
    if not len(present):
        return found
    values = vector.values[present]
    if values.dtype.kind in "Ob":
        return [*found, *_rarest(values.tolist(), present)]
    return [int(present[values.argmin()]), int(present[values.argmax()]), *found]


def _telling_positions(values: NDArray[Any], gone: NDArray[np.bool_]) -> list[int]:
    if values.dtype.kind not in "fiu":
        return []
    found = []
    for position in range(values.shape[1]):
        if gone[:, position].any():
            found.append(int(gone[:, position].argmax()))
        if not gone[:, position].all():
            column = np.where(gone[:, position], np.nan, values[:, position])
            found += [int(np.nanargmin(column)), int(np.nanargmax(column))]
    return found


def _rarest(values: Sequence[Any], rows: NDArray[np.intp]) -> list[int]:
    """The first row of each value, rarest value first, as far as there are few; ties in order of appearance."""
    first: dict[Any, int] = {}
    count: dict[Any, int] = {}
    for value, row in zip(values, rows.tolist(), strict=True):
        first.setdefault(value, row)
        count[value] = count.get(value, 0) + 1
    return [first[value] for value in sorted(first, key=lambda value: (count[value], first[value]))[:_RARE_VALUES]]


def _most_complete(drawn: Frame) -> Frame:
    holes = np.zeros(drawn.rows, dtype=np.int64)
    for vector in drawn.columns.values():
        holes += vector.is_missing().reshape(drawn.rows, -1).sum(axis=1)
    return drawn.row(int(holes.argmin()))


def _edges(base: Frame, columns: Sequence[Column]) -> Iterator[Edge]:
    for sort, values_of in _SORTS.items():
        varied = ((column, values_of(column)) for column in columns)
        for column, values in _evenly([(column, values) for column, values in varied if values]):
            yield from _variations(base, column, sort, values)
    yield from _everywhere(base, columns)


def _evenly(items: Sequence[Any]) -> Sequence[Any]:
    """All of them, or so many spread over a wide table."""
    if len(items) <= _EDGES_OF_A_SORT:
        return items
    return [items[at * len(items) // _EDGES_OF_A_SORT] for at in range(_EDGES_OF_A_SORT)]


def _variations(base: Frame, column: Column, sort: str, values: Sequence[Any]) -> Iterator[Edge]:
    vector = base[column.name]
    size = vector.values.size
    positions = _evenly_positions(size) if vector.values.ndim > 1 else [0]
    for position in positions:
        where = column.name if vector.values.ndim == 1 else f"{column.name}[{position}]"
        for value in values:
            said = sort if value is None or value in ("", UNSEEN_TEXT) else f"{sort} {value}"
            yield f"{where} {said}", _with(base, column.name, replaced(vector, position, value))


def _evenly_positions(size: int) -> list[int]:
    return list(range(size)) if size <= _POSITIONS else [at * size // _POSITIONS for at in range(_POSITIONS)]


def _with(base: Frame, name: str, vector: Vector) -> Frame:
    return Frame({**base.columns, name: vector}, 1)


def _missing(column: Column) -> list[Any]:
    return [None] if can_be_missing(column) else []


def _unseen(column: Column) -> list[Any]:
    return [UNSEEN_TEXT] if column.kind is Kind.STRING else []


def _empty(column: Column) -> list[Any]:
    return [""] if column.kind is Kind.STRING else []


def _far(column: Column) -> list[Any]:
    """Well outside of what training saw, on both sides."""
    low, high = column.seen.minimum, column.seen.maximum
    if isinstance(low, str) or isinstance(high, str):
        return [np.datetime64("1700-01-01", "ns"), np.datetime64("2250-01-01", "ns")]
    if low is None or high is None or not _is_number(column):
        return []
    reach = _FAR * (high - low + 1.0)
    return [_fitting(low - reach, column.kind), _fitting(high + reach, column.kind)]


def _utmost(column: Column) -> list[Any]:
    """The largest numbers that the kind has."""
    if column.kind.is_float:
        top = float(np.finfo(column.kind.numpy).max)
        return [-top, top]
    if column.kind.is_integer:
        limits = np.iinfo(column.kind.numpy)
        return [int(limits.min), int(limits.max)]
    return []


def _bound(column: Column) -> list[Any]:
    """The largest numbers that are taken, where that is less."""
    if not _is_number(column):
        return []
    return [
        _fitting(value, column.kind) for value in (column.accepts.minimum, column.accepts.maximum) if value is not None
    ]


def _infinite(column: Column) -> list[Any]:
    return [-math.inf, math.inf] if column.kind.is_float else []


def _truth(column: Column) -> list[Any]:
    return [False, True] if column.kind is Kind.BOOL else []


def _is_number(column: Column) -> bool:
    return column.kind.is_integer or column.kind.is_float


def _fitting(value: float, kind: Kind) -> Any:
    if kind.is_float:
        limit = float(np.finfo(kind.numpy).max)
        return min(max(value, -limit), limit)
    limits = np.iinfo(kind.numpy)
    return min(max(int(value), int(limits.min)), int(limits.max))


_SORTS: dict[str, Callable[[Column], list[Any]]] = {
    "missing": _missing,
    "unseen": _unseen,
    "empty": _empty,
    "truth": _truth,
    "far out": _far,
    "bound": _bound,
    "utmost": _utmost,
    "infinite": _infinite,
}


def _everywhere(base: Frame, columns: Sequence[Column]) -> Iterator[Edge]:
    """Rows in which all columns are at an edge at once."""
    yield (
        "everything missing",
        _all(base, [column for column in columns if can_be_missing(column)], lambda column: None),
    )
    nullable = [column for column in columns if column.nullable]
    if 0 < len(nullable) < sum(map(can_be_missing, columns)):
        yield "everything missing that may be", _all(base, nullable, lambda column: None)
    numbers = [column for column in columns if _is_number(column) and _far(column)]
    if len(numbers) > 1:
        yield "every number far below", _all(base, numbers, lambda column: _far(column)[0])
        yield "every number far above", _all(base, numbers, lambda column: _far(column)[1])
    texts = [column for column in columns if column.kind is Kind.STRING]
    if len(texts) > 1:
        yield "every text unseen", _all(base, texts, lambda column: UNSEEN_TEXT)


def _all(base: Frame, columns: Sequence[Column], value: Callable[[Column], Any]) -> Frame:
    changed = dict(base.columns)
    for column in columns:
        vector = changed[column.name]
        for position in range(vector.values.size):
            vector = replaced(vector, position, value(column))
        changed[column.name] = vector
    return Frame(changed, 1)
