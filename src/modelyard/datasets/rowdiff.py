"""Rows that differ between two tables, found by key in one join; without a key, as whole rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from modelyard.datasets.describing import as_number
from modelyard.datasets.differing import Example, RowDiff
from modelyard.datasets.tables import one_row, quoted
from modelyard.errors import InvalidRequest

EXAMPLES = 10
"""So many rows that differ are shown of each sort at most."""

_MASK_BITS = 60
_PLAIN = ("VARCHAR", "BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "FLOAT", "DOUBLE")


@dataclass(frozen=True, slots=True)
class Shared:
    """A column that both tables have, and its SQL type in each."""

    name: str
    before: str
    after: str

    def on(self, side: str) -> str:
        """The column as it can be compared: as it is; as a number where the sort of number changed; else as text."""
        column = f"{side}.{quoted(self.name)}"
        if self.before == self.after:
            return column
        if as_number(self.name, self.before) and as_number(self.name, self.after) and not self._are_moments:
            return f"CAST({column} AS DOUBLE)"
        return f"CAST({column} AS VARCHAR)"

    @property
    def compared_as(self) -> str:
        """The SQL type of `on`."""
        return self.before if self.before == self.after else self.on("a").rpartition(" AS ")[2].rstrip(")")

    @property
    def differs(self) -> str:
        """SQL that is true where the values of a and b are not the same. Missing is the same as missing, NaN as NaN."""
        return f"{self.on('a')} IS DISTINCT FROM {self.on('b')}"

    @property
    def _are_moments(self) -> bool:
        return self.before.startswith(("DATE", "TIMESTAMP")) or self.after.startswith(("DATE", "TIMESTAMP"))


def compare_rows(connection: duckdb.DuckDBPyConnection, shared: Sequence[Shared], key: Sequence[str]) -> RowDiff:
    """Compare the tables ``a`` (before) and ``b`` (after) of `connection`, in the columns that both have.

    Raises:
        InvalidRequest: a column of `key` is not in both.
    """
    names = [column.name for column in shared]
    lacking = [name for name in key if name not in names]
    if lacking:
        raise InvalidRequest(f"there is no column {lacking[0]!r} in both tables; both have {', '.join(names)}")
    if not key:
        return _whole_rows(connection, shared, "")
    keys = [column for column in shared if column.name in key]
    values = [column for column in shared if column.name not in key]
    found = None
    if _are_unique(connection, keys):
        _join(connection, keys, values)
        found = _by_key(connection, tuple(key), keys, values)
    if found is None:
        return _whole_rows(connection, shared, f"{', '.join(key)} does not tell rows apart, so whole rows are compared")
    return found


def _are_unique(connection: duckdb.DuckDBPyConnection, keys: Sequence[Shared]) -> bool:
    """Whether the keys of ``a`` are; then no row of ``b`` meets more than one, and the join is no larger than both."""
    listed = ", ".join(key.on("a") for key in keys)
    (distinct,) = one_row(connection, f"SELECT count(*) FROM (SELECT DISTINCT {listed} FROM a)")  # noqa: S608
    return bool(distinct == _rows(connection, "a"))


def _join(connection: duckdb.DuckDBPyConnection, keys: Sequence[Shared], values: Sequence[Shared]) -> None:
    """A table ``d``, one narrow row a key: whether it is in a and b, and a bit for each column that differs."""
    picked = ", ".join(f"coalesce({key.on('a')}, {key.on('b')}) AS k{at}" for at, key in enumerate(keys))
    masks = ", ".join(f"{_mask(part)} AS m{at}" for at, part in enumerate(_masked(values)))
    on = " AND ".join(f"{key.on('a')} IS NOT DISTINCT FROM {key.on('b')}" for key in keys)
    connection.execute(
        f"CREATE TEMP TABLE d AS SELECT {picked}, a.here IS NOT NULL AS in_a, b.here IS NOT NULL AS in_b, {masks} "  # noqa: S608
        f"FROM (SELECT *, true AS here FROM a) a FULL JOIN (SELECT *, true AS here FROM b) b ON {on}"
    )


def _masked(values: Sequence[Shared]) -> list[Sequence[Shared]]:
    return [values[start : start + _MASK_BITS] for start in range(0, max(len(values), 1), _MASK_BITS)]


def _mask(part: Sequence[Shared]) -> str:
    bits = [f"(CASE WHEN {column.differs} THEN {1 << at} ELSE 0 END)::BIGINT" for at, column in enumerate(part)]
    return f"CASE WHEN in_a AND in_b THEN {' | '.join(bits) or '0'} ELSE 0 END"


def _by_key(
    connection: duckdb.DuckDBPyConnection, key: tuple[str, ...], keys: Sequence[Shared], values: Sequence[Shared]
) -> RowDiff | None:
    """Counts from ``d``; None where some key occurs more than once, so that rows met several others."""
    parts = _masked(values)
    changed = " OR ".join(f"m{at} <> 0" for at in range(len(parts)))
    by_column = ", ".join(
        f"count(*) FILTER (m{at} & {1 << bit} <> 0)" for at, part in enumerate(parts) for bit in range(len(part))
    )
    row = one_row(
        connection,
        f"SELECT count(*) FILTER (NOT in_a), count(*) FILTER (NOT in_b), count(*) FILTER (in_a AND in_b), "  # noqa: S608
        f"count(*) FILTER ({changed}){', ' + by_column if by_column else ''} FROM d",
    )
    added, removed, both, altered = row[:4]
    if both + removed != _rows(connection, "a") or both + added != _rows(connection, "b"):
        return None
    counts = {column.name: count for column, count in zip(values, row[4:], strict=True) if count}
    examples = (
        *_alone(connection, keys, "added", "NOT in_a"),
        *_alone(connection, keys, "removed", "NOT in_b"),
        *(_altered(connection, keys, values, changed) if altered else ()),
    )
    return RowDiff(key, added, removed, altered, both - altered, counts, examples)


def _alone(connection: duckdb.DuckDBPyConnection, keys: Sequence[Shared], change: Any, where: str) -> list[Example]:
    listed = ", ".join(f"k{at}" for at in range(len(keys)))
    few = f"SELECT {listed} FROM d WHERE {where} ORDER BY ALL LIMIT {EXAMPLES}"  # noqa: S608
    sql = f"SELECT {_fetched_keys(keys)} FROM ({few})"  # noqa: S608
    return [Example(change, _key(keys, row)) for row in connection.execute(sql).fetchall()]


def _altered(
    connection: duckdb.DuckDBPyConnection, keys: Sequence[Shared], values: Sequence[Shared], changed: str
) -> list[Example]:
    listed = ", ".join(f"k{at}" for at in range(len(keys)))
    few = f"SELECT {listed} FROM d WHERE {changed} ORDER BY ALL LIMIT {EXAMPLES}"  # noqa: S608
    meets = [
        " AND ".join(f"{key.on(side)} IS NOT DISTINCT FROM few.k{at}" for at, key in enumerate(keys)) for side in "ab"
    ]
    picked = ", ".join(_fetched(column.on(side), column) for column in values for side in "ab")
    rows = connection.execute(
        f"SELECT {_fetched_keys(keys)}, {picked} FROM ({few}) few "  # noqa: S608
        f"JOIN a ON {meets[0]} JOIN b ON {meets[1]} ORDER BY ALL"
    ).fetchall()
    return [Example("changed", _key(keys, row), _different(values, row[len(keys) :])) for row in rows]


def _fetched_keys(keys: Sequence[Shared]) -> str:
    return ", ".join(_fetched(f"k{at}", key) for at, key in enumerate(keys))


def _fetched(sql: str, column: Shared) -> str:
    """As a number, a truth value or a text; everything else is for reading only."""
    kind = column.compared_as
    return sql if kind.removeprefix("U") in _PLAIN else f"CAST({sql} AS VARCHAR)"


def _different(values: Sequence[Shared], cells: Sequence[Any]) -> tuple[tuple[str, Any, Any], ...]:
    pairs = zip(cells[::2], cells[1::2], strict=True)
    return tuple(
        (column.name, plain(before), plain(after))
        for column, (before, after) in zip(values, pairs, strict=True)
        if before != after and not (before != before and after != after)  # NaN
    )


def _key(keys: Sequence[Shared], row: Sequence[Any]) -> dict[str, Any]:
    return {key.name: plain(value) for key, value in zip(keys, row, strict=False)}


def plain(value: Any) -> Any:
    """A value as JSON can carry it.

    >>> plain(1.5), plain(b"a")
    (1.5, "b'a'")
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)
    return str(value)


def _whole_rows(connection: duckdb.DuckDBPyConnection, shared: Sequence[Shared], note: str) -> RowDiff:
    """As often as the same row is in one table more than in the other. Rows are told apart by a hash of 64 bits."""
    if not shared:
        return RowDiff((), _rows(connection, "b"), _rows(connection, "a"), 0, 0, note="no column is in both")
    sides = [f"SELECT hash({', '.join(each.on(side) for each in shared)}) h, {sign} s FROM {side}"  # noqa: S608
             for side, sign in (("a", -1), ("b", 1))]  # fmt: skip
    row = one_row(
        connection,
        "SELECT coalesce(sum(greatest(n, 0)), 0)::BIGINT, coalesce(sum(greatest(-n, 0)), 0)::BIGINT "  # noqa: S608
        f"FROM (SELECT sum(s) n FROM ({sides[0]} UNION ALL {sides[1]}) GROUP BY h)",
    )
    return RowDiff((), row[0], row[1], 0, _rows(connection, "a") - row[1], note=note)


def _rows(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    count: int = one_row(connection, f"SELECT count(*) FROM {table}")[0]  # noqa: S608
    return count
