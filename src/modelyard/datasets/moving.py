"""Which columns are distributed otherwise than they were, by how much, and how much would be chance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb

from modelyard.datasets.describing import as_number, is_named
from modelyard.datasets.differing import Bin, ColumnMove
from modelyard.datasets.rowdiff import Shared
from modelyard.datasets.tables import one_row, quoted

LEAST = 0.01
"""A smaller distance is not called a move, however certain it is."""

FALSE_ALARMS = 0.01
"""The chance that any column of a table is called moved where both versions come from one source."""

_BARS = 16
_VALUES_SHOWN = 12
_MOST_DISTINCT = 10_000

LOOKED_AT = 1_000_000
"""About so many rows of a long table are looked at."""


def moves(
    connection: duckdb.DuckDBPyConnection,
    shared: Sequence[Shared],
    profile: Mapping[str, Any],
    key: Sequence[Shared] = (),
) -> tuple[ColumnMove, ...]:
    """Compare the distributions of these columns in the tables ``a`` and ``b``; the furthest first.

    Numbers are counted between the quantiles that `profile` has of ``a``. Columns that are neither numbers nor a
    limited set of values are left out. Of long tables with a key so many rows as are enough are looked at: on both
    sides those of the same keys.
    """
    sides = _looked_at(connection, shared, key)
    numbers = [column for column in shared if as_number(column.name, column.before)]
    numbers = [column for column in numbers if as_number(column.name, column.after)]
    named = [column for column in shared if is_named(column.before) and is_named(column.after)]
    tested = 2 * max(len(numbers) + len(named), 1)  # each column's distribution, and what is missing in it
    found = [*_numbers(connection, sides, numbers, profile, tested)] if numbers else []
    found += [move for column in named if (move := _values(connection, sides, column, tested)) is not None]
    return tuple(sorted(found, key=lambda move: (not move.moved, -move.distance, move.column)))


def _looked_at(
    connection: duckdb.DuckDBPyConnection, shared: Sequence[Shared], key: Sequence[Shared]
) -> tuple[str, str]:
    """What to read of each side: all rows, or those with every so many hashes of a key."""
    (rows,) = one_row(connection, "SELECT greatest((SELECT count(*) FROM a), (SELECT count(*) FROM b))")
    step = -(-rows // LOOKED_AT)
    if step <= 1 or not key or not shared:
        return "a", "b"
    for side in ("a", "b"):
        hashed = f"hash({', '.join(part.on(side) for part in key)})"
        columns = ", ".join(f"{side}.{quoted(column.name)}" for column in shared)
        picked = f"SELECT {columns} FROM {side} WHERE {hashed} % {step} = 0"  # noqa: S608
        connection.execute(f"CREATE TEMP TABLE some_of_{side} AS {picked}")
    return "some_of_a", "some_of_b"


def chance_of_numbers(before: int, after: int, tested: int) -> float:
    """How far two samples of one source lie apart at most, but for one table with so many tests in a hundred.

    The inequality of Dvoretzky, Kiefer and Wolfowitz for two samples (Wei and Dudley 2012), shared out over the tests.

    >>> round(chance_of_numbers(10_000, 10_000, 1), 4)
    0.023
    """
    if not before or not after:
        return 1.0
    return min(1.0, math.sqrt((1 / before + 1 / after) * math.log(2 * tested / FALSE_ALARMS) / 2))


def chance_of_values(shares: Sequence[float], before: int, after: int, tested: int) -> float:
    """The same for the total variation between two samples of values with these shares.

    Its expectation is at most half the sum of the standard deviations of the shares' differences; a single row moves it
    by one part in its table, so by McDiarmid's inequality it is seldom much more.

    >>> round(chance_of_values([0.5, 0.5], 10_000, 10_000, 1), 4)
    0.0285
    """
    if not before or not after:
        return 1.0
    spread = 1 / before + 1 / after
    expected = sum(math.sqrt(share * (1 - share) * spread) for share in shares) / 2
    return min(1.0, expected + math.sqrt(spread * math.log(tested / FALSE_ALARMS) / 2))


def largest_gap(before: Sequence[int], after: Sequence[int]) -> float:
    """The largest difference of the cumulated shares of two counts.

    >>> largest_gap([1, 1, 0], [0, 1, 1])
    0.5
    """
    total_a, total_b = sum(before), sum(after)
    if not total_a or not total_b:
        return 0.0 if total_a == total_b else 1.0
    gap = running_a = running_b = 0.0
    for a, b in zip(before, after, strict=True):
        running_a, running_b = running_a + a / total_a, running_b + b / total_b
        gap = max(gap, abs(running_a - running_b))
    return gap


def _numbers(
    connection: duckdb.DuckDBPyConnection,
    sides: tuple[str, str],
    columns: Sequence[Shared],
    profile: Mapping[str, Any],
    tested: int,
) -> list[ColumnMove]:
    edges = [_edges(connection, column, profile.get(column.name, {})) for column in columns]
    before = [as_number(column.name, column.before) for column in columns]
    after = [as_number(column.name, column.after) for column in columns]
    rows = _counted(connection, sides[0], before, edges), _counted(connection, sides[1], after, edges)
    return [
        _number_move(column.name, edges[at], rows[0][0], rows[0][1][at], rows[1][0], rows[1][1][at], tested)
        for at, column in enumerate(columns)
    ]


def _edges(connection: duckdb.DuckDBPyConnection, column: Shared, described: Mapping[str, Any]) -> list[float]:
    """Upper ends of bins: the quantiles and the heavy values of the profile; asked for where there is none."""
    known = [*described.get("edges", ()), *(value for value, _ in described.get("atoms", ()))]
    if not known:
        number = as_number(column.name, column.before)
        shares = ", ".join(str(part / 64) for part in range(1, 65))
        (quantiles,) = one_row(connection, f"SELECT approx_quantile({number}, [{shares}]) FROM a")  # noqa: S608
        known = [value for value in quantiles or () if value is not None]
    return sorted({float(value) for value in known if math.isfinite(value)})


def _counted(
    connection: duckdb.DuckDBPyConnection, source: str, numbers: Sequence[str | None], edges: Sequence[Sequence[float]]
) -> tuple[int, list[tuple[list[int], float | None]]]:
    """Rows, and of each column the counts of its bins (the last one is for what is larger) and the mean; one scan."""
    asked = []
    for number, ends in zip(numbers, edges, strict=True):
        listed = ", ".join(map(repr, ends))
        asked += [f"histogram({number}, [{listed}]::DOUBLE[])", f"avg({number}) FILTER (isfinite({number}))"]
    row = one_row(connection, f"SELECT count(*), {', '.join(asked)} FROM {source}")  # noqa: S608
    found: list[tuple[list[int], float | None]] = []
    for at, ends in enumerate(edges):
        counts, mean = row[1 + 2 * at] or {}, row[2 + 2 * at]
        larger = sum(counts.values()) - sum(counts.get(end, 0) for end in ends)
        found.append(([*(counts.get(end, 0) for end in ends), larger], mean))
    return row[0], found


def _number_move(
    name: str,
    edges: Sequence[float],
    rows_a: int,
    a: tuple[list[int], float | None],
    rows_b: int,
    b: tuple[list[int], float | None],
    tested: int,
) -> ColumnMove:
    there = sum(a[0]), sum(b[0])
    distance, by_chance = largest_gap(a[0], b[0]), chance_of_numbers(*there, tested)
    missing = _share(rows_a - there[0], rows_a), _share(rows_b - there[1], rows_b)
    return ColumnMove(
        column=name,
        kind="numbers",
        distance=distance,
        by_chance=by_chance,
        moved=_is_move(distance, by_chance) or _is_gap(missing, rows_a, rows_b, tested),
        missing_before=missing[0],
        missing_after=missing[1],
        mean_before=a[1],
        mean_after=b[1],
        bins=_bars(edges, a[0], b[0]),
    )


def _is_move(distance: float, by_chance: float) -> bool:
    return distance >= LEAST and distance > by_chance


def _is_gap(missing: tuple[float, float], before: int, after: int, tested: int) -> bool:
    """Whether a value is missing is a distribution of two values."""
    return _is_move(abs(missing[0] - missing[1]), chance_of_numbers(before, after, tested))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _bars(edges: Sequence[float], a: Sequence[int], b: Sequence[int]) -> tuple[Bin, ...]:
    """At most `_BARS` bins, for people to look at."""
    step = -(-len(a) // _BARS)
    bins = []
    for start in range(0, len(a), step):
        end = min(start + step, len(a)) - 1
        low = edges[start - 1] if start else None
        high = edges[end] if end < len(edges) else None
        if high is None and not a[-1] and not b[-1] and end > start:
            high = edges[-1]
        shares = _share(sum(a[start : end + 1]), sum(a)), _share(sum(b[start : end + 1]), sum(b))
        if any(shares) or high is not None:
            bins.append(Bin(_label(low, high), *shares))
    return tuple(bins)


def _label(low: float | None, high: float | None) -> str:
    if low is None:
        return "any" if high is None else f"to {high:g}"
    return f"over {low:g}" if high is None else f"{low:g} to {high:g}"


def _values(
    connection: duckdb.DuckDBPyConnection, sources: tuple[str, str], column: Shared, tested: int
) -> ColumnMove | None:
    name = quoted(column.name)
    sides = [f"SELECT CAST({name} AS VARCHAR) v, count(*) n FROM {side} GROUP BY ALL" for side in sources]  # noqa: S608
    rows = connection.execute(
        f"SELECT coalesce(a.v, b.v) v, coalesce(a.n, 0), coalesce(b.n, 0) FROM ({sides[0]}) a "  # noqa: S608
        f"FULL JOIN ({sides[1]}) b ON a.v IS NOT DISTINCT FROM b.v ORDER BY 2 + 3 DESC, v LIMIT {_MOST_DISTINCT + 1}"
    ).fetchall()
    if len(rows) > _MOST_DISTINCT:
        return None  # names of single things: that they are others says nothing
    gone = next(((a, b) for value, a, b in rows if value is None), (0, 0))
    there = [(value, a, b) for value, a, b in rows if value is not None]
    total = sum(a for _, a, _ in there), sum(b for _, _, b in there)
    shares = [(value, _share(a, total[0]), _share(b, total[1])) for value, a, b in there]
    distance = sum(abs(a - b) for _, a, b in shares) / 2 if all(total) else float(any(total))
    pooled = [_share(a + b, sum(total)) for _, a, b in there]
    by_chance = chance_of_values(pooled, *total, tested)
    of_a, of_b = total[0] + gone[0], total[1] + gone[1]
    missing = _share(gone[0], of_a), _share(gone[1], of_b)
    shown = sorted(shares, key=lambda each: (-max(each[1], each[2]), each[0]))[:_VALUES_SHOWN]
    return ColumnMove(
        column=column.name,
        kind="values",
        distance=distance,
        by_chance=by_chance,
        moved=_is_move(distance, by_chance) or _is_gap(missing, of_a, of_b, tested),
        missing_before=missing[0],
        missing_after=missing[1],
        bins=tuple(Bin(value, a, b) for value, a, b in shown),
    )
