"""Rows told apart by time or by a column's values, so that each group can be measured by itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from modelyard.domain.frame import Array
from modelyard.errors import InvalidRequest

NAMED = 20
"""So many values of a column have a group of their own at most; the others are one group."""

PARTS = 4
"""Numbers with more values than that are told apart by quartiles."""

MISSING = "missing"
OTHER = "other"


class By(StrEnum):
    """How long a window is. Weeks begin on Monday; all are of UTC, by event time."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    WHOLE = "whole"


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """For each row the position of its group in `names`; below zero: in none."""

    codes: NDArray[np.int64]
    names: tuple[str, ...]

    def held(self) -> Groups:
        """Without the groups at the end that no row is in."""
        last = int(self.codes.max(initial=-1))
        return Groups(self.codes, self.names[: last + 1])

    def members(self) -> Iterator[tuple[int, Array]]:
        """The rows of each group that has any, in the order of groups; rows keep theirs."""
        order = np.argsort(self.codes, kind="stable")
        ordered = self.codes[order]
        starts = np.flatnonzero(np.diff(ordered, prepend=ordered[:1] - 1))
        for start, end in pairwise([*starts, len(order)]):
            if ordered[start] >= 0:
                yield int(ordered[start]), order[start:end]


def window_of(moments: NDArray[np.datetime64], by: By) -> NDArray[np.datetime64]:
    """When the window of each moment began.

    >>> window_of(np.array(["2013-03-06T15:10"], "datetime64[us]"), By.WEEK).astype("datetime64[D]").item().isoformat()
    '2013-03-04'
    """
    if by is By.WHOLE:
        there = moments[~np.isnat(moments)]
        return np.full(len(moments), there.min() if len(there) else np.datetime64("NaT", "us"))
    if by is By.WEEK:
        days = moments.astype("datetime64[D]")
        # 1970 began on a Thursday.
        back = (days.astype(np.int64) + 3) % 7
        return (days - back).astype("datetime64[us]")
    unit = {By.HOUR: "h", By.DAY: "D", By.MONTH: "M"}[by]
    return moments.astype(f"datetime64[{unit}]").astype("datetime64[us]")


def ends_of(began: NDArray[np.datetime64], by: By) -> NDArray[np.datetime64]:
    """When windows that began then end."""
    if by is By.MONTH:
        return (began.astype("datetime64[M]") + 1).astype("datetime64[us]")
    hours = {By.HOUR: 1, By.DAY: 24, By.WEEK: 168}.get(by, 0)
    return began + np.timedelta64(hours, "h")


def by_time(moments: NDArray[np.datetime64], by: By) -> tuple[Groups, NDArray[np.datetime64]]:
    """Groups by window, and when each window began."""
    began, codes = np.unique(window_of(moments, by), return_inverse=True)
    return Groups(codes.astype(np.int64), tuple(moment(each).isoformat() for each in began)), began


def moment(value: np.datetime64) -> datetime:
    """As Python has it, in UTC.

    >>> moment(np.datetime64("2013-03-01")).isoformat()
    '2013-03-01T00:00:00+00:00'
    """
    found: datetime = value.astype("datetime64[us]").item()
    return found.replace(tzinfo=UTC)


def by_column(table: pa.Table, name: str) -> Groups:
    """Groups by a column's values: each of the commonest, or ranges between quartiles for numbers of many values.

    >>> by_column(pa.table({"carrier": ["EV", "UA", "EV", None]}), "carrier").names
    ('EV', 'UA', 'missing')

    Raises:
        InvalidRequest: there is no such column.
    """
    if name not in table.column_names:
        raise InvalidRequest(f"there is no column {name!r}; there are {', '.join(table.column_names)}")
    column = table[name]
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        numbers = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        if _many(numbers):
            return by_range(numbers)
    return _by_value(column)


def _many(numbers: Array) -> bool:
    """Whether there are more different numbers than could be named; the beginning is looked at first."""
    some = numbers[:10_000]
    return any(len(np.unique(each[np.isfinite(each)])) > NAMED for each in (some, numbers))


def by_range(numbers: Array, parts: int = PARTS) -> Groups:
    """Ranges that hold about as many numbers each; what is missing or infinite is a group by itself.

    >>> by_range(np.arange(100.0)).names
    ('up to 24', 'above 24 up to 49', 'above 49 up to 74', 'above 74')
    """
    there = np.isfinite(numbers)
    between = np.linspace(0, 1, parts + 1)[1:-1] if there.any() else np.zeros(0)
    edges = np.unique(np.quantile(numbers[there], between, method="inverted_cdf")) if there.any() else between
    codes = np.where(there, np.searchsorted(edges, numbers, "left"), len(edges) + 1)
    said = [f"{edge:.6g}" for edge in edges]
    names = [f"above {low} up to {high}" for low, high in pairwise(said)]
    if said:
        names = [f"up to {said[0]}", *names, f"above {said[-1]}"]
    return Groups(codes.astype(np.int64), (*(names or ["all"]), MISSING)).held()


def _by_value(column: pa.ChunkedArray) -> Groups:
    found = column.combine_chunks()
    if isinstance(found, pa.ChunkedArray):
        found = pa.concat_arrays(found.chunks) if found.num_chunks else pa.array([], found.type)
    encoded = found if pa.types.is_dictionary(found.type) else pc.dictionary_encode(found)
    positions = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    values: list[Any] = encoded.dictionary.to_pylist()
    counts = np.bincount(positions + 1, minlength=len(values) + 1)[1:]
    named = sorted(np.argsort(-counts, kind="stable")[:NAMED].tolist(), key=lambda at: _sorting(values[at]))
    rest = [OTHER] if len(values) > len(named) else []
    codes = np.full(len(values) + 1, len(named), dtype=np.int64)
    codes[named] = np.arange(len(named))
    codes[-1] = len(named) + len(rest)
    names = (*(_said(values[at]) for at in named), *rest, MISSING)
    return Groups(codes[positions], names).held()


def _said(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _sorting(value: Any) -> tuple[bool, Any]:
    return (False, float(value)) if isinstance(value, (bool, int, float)) else (True, str(value))
