"""One honest look at two tables, ``my.compare``: what moved, how sure that is, and whether it matters.

::

    import modelyard as my

    found = my.compare(march, april)        # two DataFrames; prints as a table
    found.moved                             # the columns that moved
    found.html("april.html")                # with plots
    my.compare("flights-delay@3", april)    # against the reference profile of a version
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from modelyard.domain.names import Named
from modelyard.errors import InvalidRequest, NotFound
from modelyard.home import Home
from modelyard.monitoring import comparison
from modelyard.monitoring.comparison import Comparison
from modelyard.monitoring.facets import Margins
from modelyard.monitoring.reference import Reference

__all__ = ["Comparison", "compare"]


def compare(
    reference: Any,
    current: Any,
    *,
    level: float = 0.01,
    distance: float = 0.05,
    share: float = 0.02,
    table: str = "",
    home: str | Path | Home | None = None,
) -> Comparison:
    """Compare a table with a reference, column by column.

    Args:
        reference: A pandas or Polars DataFrame, an Arrow table, a mapping of names to values, a CSV or Parquet file, a
            version of data (``data:flights@2``), or a model version (``flights-delay@3``: its reference profile).
        current: Any of these but a model version.
        level: If both were drawn from the same source, any column at all is called moved with this probability at most.
        distance: Distributions that differ by less than this do not matter: the largest difference of cumulative
            distributions of numbers, or the part of values that would have to change places.
        share: The same for the share of what is missing, new, or outside of the range.
        table: Which table of a version of data, where it has several.
        home: Where the registry is; see `Home.locate`.

    Raises:
        InvalidRequest: one of them is no table, or cannot be what was asked.
        NotFound: there is no such file or version.
    """
    place = Home.locate(home)
    margins = Margins(distance, share)
    names = (_name(reference, "reference"), _name(current, "current"))
    made = reference if isinstance(reference, Reference) else _reference(reference, table, place)
    with TemporaryDirectory(prefix="modelyard-") as folder:
        rows = _read(current, table, place, Path(folder))
        return comparison.compare(made, rows, names=names, level=level, margins=margins)


def _name(data: Any, otherwise: str) -> str:
    return str(data) if isinstance(data, str | Path) else otherwise


def _reference(data: Any, table: str, home: Home) -> Reference:
    if isinstance(data, str) and not Path(data).exists():
        named = _named(data)
        if named.kind == "data":
            from modelyard import data as datasets

            version = datasets.show(named.which, home=home)
            facts = _only(version.facts.tables, table, data)
            return Reference(datasets.profile(version.ref, home=home)[facts.name], facts.rows)
        if named.kind == "model":
            from modelyard.finding import find_profile

            return Reference.of_profile(find_profile(named.which, home))
    with TemporaryDirectory(prefix="modelyard-") as folder:
        return Reference.of_table(_read(data, table, home, Path(folder)))


def _read(data: Any, table: str, home: Home, scratch: Path) -> Any:
    """What was given as something that has columns; files are read into memory."""
    if not isinstance(data, str | Path):
        return data
    if Path(data).is_file():
        return _file(Path(data), scratch)
    named = _named(str(data))
    if named.kind != "data":
        raise InvalidRequest(
            f"{str(data)!r} is no file and no version of data, which is written data:NAME@V; of a model version "
            f"only the reference profile is there, so it can only be the reference"
        )
    return _dataset(named.which, table, home, scratch)


def _named(text: str) -> Named:
    if text.endswith((".csv", ".parquet", ".gz", ".pq", ".tsv")) or "/" in text:
        raise NotFound(f"there is no file {text}")
    return Named.parse(text)


def _file(file: Path, scratch: Path, types: Mapping[str, str] | None = None, form: str | None = None) -> Any:
    from modelyard.datasets.formats import format_of

    form = form or format_of(file.name)
    if form is None:
        raise InvalidRequest(f"{file} is no table; give a CSV or Parquet file")
    return _loaded(form, [str(file)], scratch, types)


def _loaded(form: str, paths: list[str], scratch: Path, types: Mapping[str, str] | None) -> Any:
    from modelyard.datasets.tables import database, load

    with database(scratch) as connection:
        load(connection, "t", form, paths, types)
        return connection.sql("SELECT * FROM t").to_arrow_table()


def _dataset(ref: str, table: str, home: Home, scratch: Path) -> Any:
    from modelyard.datasets.checkout import write_files
    from modelyard.datasets.tree import below
    from modelyard.registry.quick_datasets import QuickDatasets

    datasets = QuickDatasets(home.create())
    try:
        version = datasets.version(ref)
        facts = _only(version.facts.tables, table, ref)
        wanted = set(facts.files)
        entries = [entry for entry in datasets.tree(version.ref).entries if entry.path in wanted]
        write_files(entries, str(scratch / "files"), datasets.store)
    finally:
        datasets.close()
    types = {column.name: column.type for column in facts.columns}
    return _loaded(facts.format, [below(str(scratch / "files"), path) for path in facts.files], scratch, types)


def _only(tables: Any, wanted: str, ref: str) -> Any:
    """The table of that name, or the only one."""
    found = [each for each in tables if each.name == wanted] if wanted else list(tables)
    if len(found) != 1:
        there = ", ".join(each.name for each in tables) or "none"
        raise InvalidRequest(f"say which table of {ref} is meant; there are: {there}")
    return found[0]
