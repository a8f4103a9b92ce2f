"""Files that are tables, as SQL sees them: which files make a table, its columns, and a database to ask."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import duckdb
from blake3 import blake3

from modelyard.datasets.formats import FORMATS, format_of
from modelyard.datasets.tree import Entry
from modelyard.errors import InvalidRequest

MISSING = ("", "NA", "NaN", "nan", "NULL", "null")
"""What a cell of a CSV file that is missing holds."""

_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "allow_persistent_secrets": "false",
    "python_enable_replacements": "false",
    "memory_limit": "2GB",
}


@dataclass(frozen=True, slots=True)
class Group:
    """Files that may make a table together."""

    name: str
    format: str
    entries: tuple[Entry, ...]

    @property
    def content(self) -> bytes:
        """A digest over the names and digests of the files."""
        whole = blake3(self.format.encode())
        for entry in self.entries:
            whole.update(len(entry.path).to_bytes(8, "little") + entry.path + entry.content.digest)
        return whole.digest()


def groups(entries: Sequence[Entry], places: Mapping[bytes, str]) -> Iterator[Group]:
    """Tables among these files, which lie at `places`.

    Files of one folder, one format and the same columns are one table; partition folders (``year=2013``) do not
    separate them. Left out are files whose names are no proper text, hidden ones, and a table's log (``_delta_log``).
    """
    for (parent, form), together in _by_folder(entries).items():
        alike: dict[tuple[str, ...] | Entry, list[Entry]] = defaultdict(list)
        for entry in together:
            alike[_columns_of(places[entry.path], form) if len(together) > 1 else entry].append(entry)
        for same in alike.values():
            if len(same) == 1 or (len(alike) > 1 and len(same) == len(together)):
                yield Group(_stem(same[0].name), form, tuple(same))
            elif len(alike) == 1:
                yield Group(parent, form, tuple(same))
            else:
                yield Group(f"{_stem(same[0].name)} and {len(same) - 1} more", form, tuple(same))


def _by_folder(entries: Sequence[Entry]) -> dict[tuple[str, str], list[Entry]]:
    found: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        parts = PurePosixPath(entry.name).parts
        form = format_of(entry.name)
        hidden = any(part.startswith(("_", ".")) for part in parts)
        if form is None or hidden or not entry.name.isprintable() or not entry.content.size:
            continue
        parent = PurePosixPath(*[part for part in parts[:-1] if "=" not in part])
        found[(str(parent), form)].append(entry)
    return found


def _stem(name: str) -> str:
    """The path without its ending.

    >>> _stem("2013/march.csv.gz")
    '2013/march'
    """
    ending = max((end for end in FORMATS if name.lower().endswith(end)), key=len, default="")
    return name[: len(name) - len(ending)]


def _columns_of(path: str, form: str) -> tuple[str, ...]:
    """The columns of one file; empty when it cannot be read, which is told later."""
    if form == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return tuple(pq.read_schema(path).names)
        except (pa.ArrowException, OSError):
            return ()
    try:
        with duckdb.connect(config=_SETTINGS) as connection:
            (described,) = one_row(
                connection,
                f"SELECT Columns FROM sniff_csv({quoted_text(_literally(path))}, sample_size = 1000)",  # noqa: S608
            )
    except duckdb.Error:
        return ()
    return tuple(column["name"] for column in described)


@contextmanager
def database(scratch: Path, memory: str = "2GB") -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty database that spills into a folder below `scratch` where memory does not do."""
    with (
        tempfile.TemporaryDirectory(dir=scratch, prefix="sql-") as folder,
        duckdb.connect(config=_SETTINGS | {"temp_directory": folder, "memory_limit": memory}) as connection,
    ):
        connection.execute("SET enable_progress_bar = false; SET TimeZone = 'UTC'")
        yield connection


def relation(form: str, paths: Sequence[str], types: Mapping[str, str] | None = None) -> str:
    """The SQL that reads these files as one table.

    Types of a CSV file's columns are found by looking at every row, unless `types` says them.
    """
    files = ", ".join(quoted_text(_literally(path)) for path in paths)
    if form == "parquet":
        return f"read_parquet([{files}], union_by_name = true)"
    missing = ", ".join(quoted_text(text) for text in MISSING)
    if types:
        known = ", ".join(f"{quoted_text(name)}: {quoted_text(kind)}" for name, kind in types.items())
        return f"read_csv([{files}], union_by_name = true, nullstr = [{missing}], types = {{{known}}})"
    return f"read_csv([{files}], union_by_name = true, nullstr = [{missing}], sample_size = -1)"


def _literally(path: str) -> str:
    """The path with what would be wildcards made plain.

    >>> _literally("a[1].csv")
    'a[[]1].csv'
    """
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in path)


def load(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    form: str,
    paths: Sequence[str],
    types: Mapping[str, str] | None = None,
) -> list[tuple[str, str]]:
    """Make the files known as the table `name` in `connection`; gives its columns ``(name, SQL type)``.

    Parquet is read where it lies whenever it is asked, CSV is read once.

    Raises:
        InvalidRequest: they are not what their names say.
    """
    what = "VIEW" if form == "parquet" else "TABLE"
    try:
        connection.execute(f"CREATE {what} {quoted(name)} AS SELECT * FROM {relation(form, paths, types)}")  # noqa: S608
        described = connection.execute(f"DESCRIBE {quoted(name)}").fetchall()
    except duckdb.Error as error:
        raise InvalidRequest(f"it cannot be read as {form}: {_first_line(error)}") from error
    return [(column[0], column[1]) for column in described]


def one_row(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[Any, ...]:
    """The row of a query that has one, such as an aggregate."""
    (row,) = connection.execute(sql).fetchall()
    found: tuple[Any, ...] = row
    return found


def quoted(name: str) -> str:
    """A name in SQL.

    >>> quoted('a"b')
    '"a""b"'
    """
    return '"' + name.replace('"', '""') + '"'


def quoted_text(text: str) -> str:
    """A text in SQL."""
    return "'" + text.replace("'", "''") + "'"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
