"""Describing a snapshot: the tables in it with columns, types, row counts and profile, and its images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from modelyard.datasets.facts import Facts, Field, Images, Profile, TableFacts
from modelyard.datasets.formats import image_kind
from modelyard.datasets.tables import Group, database, groups, load, one_row, quoted
from modelyard.datasets.tree import Entry, Tree
from modelyard.domain.profile import NAMED_VALUES, numbers_described, values_described
from modelyard.errors import InvalidRequest

LOOKED_AT = 1_000_000
"""The numbers of so many rows at most, spread evenly, are put into the bins of a profile."""

_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL")
_MOMENTS = ("DATE", "TIMESTAMP")
_NAMED = ("VARCHAR", "BOOLEAN", "ENUM")


@dataclass(frozen=True, slots=True)
class Described:
    """Facts and profile of one version."""

    facts: Facts
    profile: Profile


def describe(
    tree: Tree, places: Mapping[bytes, str], scratch: Path, key: Sequence[str] = (), before: Described | None = None
) -> Described:
    """Describe the files of `tree`, which lie at `places`.

    A table that is as it was `before` is not read again, and one of the same name keeps its key.

    Raises:
        InvalidRequest: no table has the columns of `key`.
    """
    tables: list[TableFacts] = []
    profile: Profile = {}
    notes: list[str] = []
    keys = {} if before is None else {table.name: table.key for table in before.facts.tables}
    known = {} if before is None else {table.content: table for table in before.facts.tables}
    for group in groups(tree.entries, places):
        old = known.get(group.content)
        try:
            if before is not None and old is not None and old.name == group.name:
                facts, columns = old, before.profile.get(old.name, {})
            else:
                facts, columns = _table(group, places, scratch)
        except InvalidRequest as error:
            notes.append(f"{group.name} is no table: {error}")
            continue
        tables.append(_keyed(facts, key or keys.get(facts.name, ())))
        profile[facts.name] = columns
    if key and not any(table.key for table in tables):
        there = "; ".join(f"{table.name}: {', '.join(each.name for each in table.columns)}" for table in tables)
        raise InvalidRequest(f"no table has the columns {', '.join(key)}; there are {there or 'no tables'}")
    return Described(Facts(tuple(tables), _images(tree.entries, places), tuple(notes)), profile)


def _keyed(facts: TableFacts, key: Sequence[str]) -> TableFacts:
    names = {column.name for column in facts.columns}
    fits = bool(key) and names.issuperset(key)
    return TableFacts(**{**_asdict(facts), "key": tuple(key) if fits else ()})


def _asdict(facts: TableFacts) -> dict[str, Any]:
    return {name: getattr(facts, name) for name in facts.__struct_fields__}


def _table(group: Group, places: Mapping[bytes, str], scratch: Path) -> tuple[TableFacts, dict[str, Any]]:
    paths = [places[entry.path] for entry in group.entries]
    with database(scratch) as connection:
        columns = load(connection, "t", group.format, paths)
        try:
            rows, missing = _counts(connection, columns)
            described = {
                name: _column(connection, name, kind, rows, gone)
                for (name, kind), gone in zip(columns, missing, strict=True)
            }
        except duckdb.Error as error:
            raise InvalidRequest(f"it cannot be read as {group.format}: {str(error).splitlines()[0]}") from error
    fields = tuple(Field(name, kind, gone) for (name, kind), gone in zip(columns, missing, strict=True))
    names = tuple(entry.path for entry in group.entries)
    return TableFacts(group.name, group.format, names, rows, fields, group.content), described


def _counts(connection: duckdb.DuckDBPyConnection, columns: Sequence[tuple[str, str]]) -> tuple[int, list[int]]:
    """Rows, and in how many of them each column is missing."""
    there = ", ".join(f"count({present(name, kind)})" for name, kind in columns)
    row = one_row(connection, f"SELECT count(*), {there} FROM t")  # noqa: S608
    return row[0], [row[0] - count for count in row[1:]]


def present(name: str, kind: str) -> str:
    """SQL for a column in which NaN is missing too."""
    return f"nullif({quoted(name)}, 'nan')" if kind in ("FLOAT", "DOUBLE") else quoted(name)


def as_number(name: str, kind: str) -> str | None:
    """SQL for a column as numbers (moments as seconds since 1970); None where it has no numbers.

    >>> as_number("n", "INTEGER"), as_number("n", "VARCHAR")
    ('CAST("n" AS DOUBLE)', None)
    """
    plain = kind.removeprefix("U")
    if plain.startswith(_MOMENTS):
        zoned = "TZ" in plain or "TIME ZONE" in plain
        return f"epoch(CAST({quoted(name)} AS {'TIMESTAMPTZ' if zoned else 'TIMESTAMP'}))"
    return f"CAST({present(name, kind)} AS DOUBLE)" if plain.startswith(_NUMBERS) and "[" not in kind else None


def is_named(kind: str) -> bool:
    """Whether values of that SQL type are counted by name."""
    return kind.startswith(_NAMED) and "[" not in kind


def _column(connection: duckdb.DuckDBPyConnection, name: str, kind: str, rows: int, missing: int) -> dict[str, Any]:
    number = as_number(name, kind)
    if number is not None:
        unit = {"unit": "seconds since 1970"} if kind.startswith(_MOMENTS) else {}
        values, step = _numbers(connection, number, rows)
        looked_at = {"every": step} if step > 1 else {}
        gone = missing if step == 1 else int(np.isnan(values).sum())
        return {**unit, **looked_at, **numbers_described(values[~np.isnan(values)], gone)}
    if is_named(kind):
        return _values(connection, name, kind, rows, missing)
    return {"type": "other", "n": rows, "missing": missing}


def _numbers(connection: duckdb.DuckDBPyConnection, sql: str, rows: int) -> tuple[Any, int]:
    """The column with NaN for missing: all of it, or every so many rows of a long one."""
    step = -(-rows // LOOKED_AT) or 1
    taken, offset = [], 0
    batches: Any = connection.sql(f"SELECT {sql} AS v FROM t").to_arrow_reader(250_000)  # noqa: S608
    for batch in batches:
        values = batch.column(0).to_numpy(zero_copy_only=False)
        taken.append(values[offset::step].astype(np.float64))
        offset = (offset - len(values)) % step
    return (np.concatenate(taken) if taken else np.empty(0)), step


def _values(connection: duckdb.DuckDBPyConnection, name: str, kind: str, rows: int, missing: int) -> dict[str, Any]:
    column = quoted(name)
    commonest = connection.execute(
        f"SELECT {column} v, count(*) n FROM t WHERE v IS NOT NULL GROUP BY ALL ORDER BY n DESC, v LIMIT {NAMED_VALUES}"  # noqa: S608
    ).fetchall()
    if len(commonest) < NAMED_VALUES:
        distinct = len(commonest)
    else:
        (distinct,) = one_row(connection, f"SELECT count(DISTINCT {column}) FROM t")  # noqa: S608
    free = kind.startswith("VARCHAR")
    return values_described(
        [(value, count) for value, count in commonest], rows - missing, missing, distinct, free=free
    )


def _images(entries: Sequence[Entry], places: Mapping[bytes, str]) -> Images | None:
    """Sizes are read from the heads of the files."""
    kinds: dict[str, int] = {}
    sizes: list[tuple[int, int]] = []
    for entry in entries:
        kind = image_kind(entry.name)
        if kind is not None:
            kinds[kind] = kinds.get(kind, 0) + 1
            sizes.append(_size_of(places[entry.path]))
    if not kinds:
        return None
    known = [size for size in sizes if min(size) > 0]
    widths, heights = [size[0] for size in known], [size[1] for size in known]
    return Images(kinds, _span(widths), _span(heights), len(sizes) - len(known))


def _size_of(path: str) -> tuple[int, int]:
    import imagesize

    try:
        width, height = imagesize.get(path)
    except (OSError, ValueError):
        return (-1, -1)
    return (int(width), int(height))


def _span(values: Sequence[int]) -> tuple[int, int] | None:
    return (min(values), max(values)) if values else None


def by_name(facts: Facts) -> Mapping[str, TableFacts]:
    """Tables by their names."""
    return {table.name: table for table in facts.tables}
