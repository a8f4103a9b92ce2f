"""Versions of data."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard.cli.output import Json, emit, err, out, reported_errors

if TYPE_CHECKING:
    from modelyard.data import DatasetVersion, Snapshot
    from modelyard.datasets.checking import Damage
    from modelyard.datasets.differing import DataDiff
    from modelyard.datasets.facts import Profile, TableFacts
    from modelyard.datasets.snapshot import Tell
    from modelyard.domain.removal import Removal
    from modelyard.registry.marks import Marks

_COMMONEST = 4

app = typer.Typer()
data_app = typer.Typer(help="Versions of data: snapshot, checkout, list, show, verify, diff.", no_args_is_help=True)
app.add_typer(data_app, name="data")

Ref = Annotated[str, typer.Argument(metavar="NAME[@V]", help="NAME@2, or NAME for the newest version.")]


@data_app.callback()
def _data() -> None:
    """Versions of data: snapshot, checkout, list, show, verify, diff."""


@data_app.command()
def snapshot(
    name: Annotated[str, typer.Option("--name", help="The dataset; its next version is made.")],
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[PATH]...", help="Folders, files or quoted glob patterns.")
    ] = None,
    sql: Annotated[str | None, typer.Option("--sql", help="Keep the rows of this SELECT instead of files.")] = None,
    url: Annotated[str | None, typer.Option("--url", help="The database of --sql, as SQLAlchemy writes it.")] = None,
    url_from: Annotated[
        str | None, typer.Option("--url-from", metavar="NAME", help="The environment variable that holds the URL.")
    ] = None,
    delta: Annotated[bool, typer.Option("--delta", help="PATH is a Delta table: keep its newest version.")] = False,
    delta_version: Annotated[
        int | None, typer.Option("--delta-version", metavar="N", help="PATH is a Delta table: keep its version N.")
    ] = None,
    note: Annotated[str, typer.Option("--note", help="A line to keep with the version.")] = "",
    key: Annotated[str, typer.Option("--key", metavar="A,B", help="Columns that tell the rows of a table apart.")] = "",
    made_from: Annotated[
        list[str] | None, typer.Option("--from", metavar="NAME@V", help="A version of data that this was made from.")
    ] = None,
    profile: Annotated[bool, typer.Option(help="Read tables and images too: columns, row counts, profiles.")] = True,
    as_json: Json = False,
) -> None:
    """Keep files as the next version of a dataset. Unchanged files are not read again, known content is not stored.

    Example: modelyard data snapshot flights/ --name flights

    Example: modelyard data snapshot 'raw/**/*.csv' --name flights --note "as delivered in March"

    Example: modelyard data snapshot --sql "SELECT * FROM flights ORDER BY id" --url-from FLIGHTS_DB --name flights

    Example: modelyard data snapshot tables/flights --delta-version 7 --name flights

    Example: modelyard data snapshot clean/ --name clean-flights --from flights@2
    """
    from modelyard import data

    is_delta = delta or delta_version is not None
    if (sql is None) == (not paths) or (is_delta and len(paths or ()) != 1):
        raise typer.BadParameter("give PATH, or --sql with --url or --url-from; --delta takes one PATH")
    options: Any = {"note": note, "key": _columns(key), "made_from": made_from or (), "profile": profile}
    with reported_errors(as_json), _progress("snapshot") as tell:
        if sql is not None:
            made = data.snapshot_query(sql, _url(url, url_from), name, **options, tell=tell)
        elif is_delta:
            made = data.snapshot_delta((paths or [""])[0], name, version=delta_version, **options, tell=tell)
        else:
            made = data.snapshot(paths or [], name, **options, tell=tell)
        document = {
            **_facts(made.version),
            "new": made.is_new,
            "unchanged_files": made.unchanged,
            "read_bytes": made.read_bytes,
            "stored_bytes": made.stored_bytes,
        }
        emit(document, as_json, lambda: out.print(_made(made), markup=False))


@data_app.command()
def checkout(
    ref: Ref,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    as_json: Json = False,
) -> None:
    """Write the files of a version into a folder: the exact bytes, each checked on its way. They are copies.

    Example: modelyard data checkout flights@2 work/flights
    """
    from modelyard import data

    with reported_errors(as_json), _progress("checkout") as tell:
        version = data.checkout(ref, directory, tell=tell)
        document = {"ref": version.ref, "digest": version.digest, "directory": str(directory)}
        said = f"{version.ref} is in {directory} ({_amount(version)})"
        emit(document, as_json, lambda: out.print(said, markup=False))


@data_app.command("list")
def list_(
    name: Annotated[str | None, typer.Argument(help="Only this dataset, version by version.")] = None,
    as_json: Json = False,
) -> None:
    """Datasets and their versions.

    Example: modelyard data list flights
    """
    from modelyard import data

    with reported_errors(as_json):
        found = data.newest() if name is None else data.versions(name)
        gone = () if name is None else data.removed(name)
        document = {"versions": [_facts(each) for each in found], **({} if name is None else {"removed": gone})}
        emit(document, as_json, lambda: _print_versions(found, gone))


@data_app.command()
def show(ref: Ref, as_json: Json = False) -> None:
    """One version in full: its tables with columns, types and profiles, its images, and where it came from.

    Example: modelyard data show flights@2
    """
    from modelyard import data
    from modelyard.cli.marking import marks_at

    with reported_errors(as_json):
        version = data.show(ref)
        profile, marks = data.profile(version.ref), marks_at("data", version.dataset, version.number)
        document = {**_facts(version), "profile": profile, "tags": marks.in_force, "marks": marks}
        emit(document, as_json, lambda: _print_version(version, profile, marks))


@data_app.command()
def verify(
    ref: Ref,
    repair: Annotated[
        Path | None,
        typer.Option("--repair", metavar="PATH", help="Store again what is damaged, from files there that have it."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Hash everything that is stored of a version again, and name the files that are damaged.

    Example: modelyard data verify flights@2

    Example: modelyard data verify flights@2 --repair flights/
    """
    from modelyard import data

    with reported_errors(as_json), _progress("verify") as tell:
        version = data.show(ref)
        repaired = None if repair is None else data.repair(version.ref, repair, tell=tell)
        damaged = data.verify(version.ref, tell=tell)
        document = {"ref": version.ref, "digest": version.digest, "intact": not damaged, "damaged": damaged}
        document |= {} if repaired is None else {"repaired_chunks": repaired}
        emit(document, as_json, lambda: _print_damage(version, damaged, repaired))
    if damaged:
        raise typer.Exit(1)


@data_app.command()
def diff(
    before: Annotated[str, typer.Argument(metavar="NAME@A")],
    after: Annotated[str, typer.Argument(metavar="NAME@B")],
    key: Annotated[str, typer.Option("--key", metavar="A,B", help="Columns that tell the rows of a table apart.")] = "",
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a report with plots.")] = None,
    as_json: Json = False,
) -> None:
    """What differs between two versions: files; columns, types, rows and distributions of tables.

    Example: modelyard data diff flights@1 flights@2 --key flight_id --html changes.html
    """
    from modelyard import data

    with reported_errors(as_json):
        found = data.diff(before, after, key=_columns(key))
        if html is not None:
            _write_report(found, html)
        emit(found, as_json, lambda: _print_diff(found, html))


def _url(url: str | None, variable: str | None) -> str:
    """From the command line, or from the environment, where other users of the machine do not see it."""
    if (url is None) == (variable is None):
        raise typer.BadParameter("give one of --url and --url-from")
    if url is not None:
        return url
    found = os.environ.get(variable or "")
    if not found:
        raise typer.BadParameter(f"the environment variable {variable} is not set")
    return found


def _write_report(found: DataDiff, file: Path) -> None:
    from modelyard.datasets.report import page
    from modelyard.errors import Failed

    try:
        file.write_text(page(found), encoding="utf-8")
    except OSError as error:
        raise Failed(f"{file} cannot be written: {error.strerror}") from error


def _print_diff(found: DataDiff, html: Path | None) -> None:
    from modelyard.cli.differences import print_diff

    print_diff(found)
    if html is not None:
        out.print(f"the report with plots is in {html}", markup=False)


@contextmanager
def _progress(what: str) -> Iterator[Tell]:
    """A bar on standard error where that is a terminal; nothing else."""
    from modelyard.datasets.snapshot import silent

    if not sys.stderr.isatty() or not err.is_terminal:
        yield silent
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = [TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda now: bar.update(task, completed=now.bytes, total=now.of_bytes)


def _facts(version: DatasetVersion) -> dict[str, Any]:
    return {
        "ref": version.ref,
        "dataset": version.dataset,
        "number": version.number,
        "digest": version.digest,
        "created_at": version.created_at,
        "by": version.by,
        "note": version.note,
        "files": version.files,
        "bytes": version.bytes,
        "origin": version.origin,
        "tables": [_table(table) for table in version.facts.tables],
        "images": version.facts.images,
        "notes": version.facts.notes,
    }


def _table(table: TableFacts) -> dict[str, Any]:
    columns = [{"name": each.name, "type": each.type, "missing": each.missing} for each in table.columns]
    return {
        "name": table.name,
        "format": table.format,
        "files": len(table.files),
        "rows": table.rows,
        "key": table.key,
        "columns": columns,
    }


def _columns(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _made(made: Snapshot) -> str:
    head = f"{made.ref} {'is made' if made.is_new else 'has this content already'}: {_amount(made.version)}"
    read = f"{made.unchanged} files unchanged, {_size(made.read_bytes)} read, {_size(made.stored_bytes)} stored"
    tables = [
        f"table {table.name}: {table.rows:,} rows, {len(table.columns)} columns" for table in made.version.facts.tables
    ]
    return "\n".join([head, read, *tables, *made.version.facts.notes, made.version.digest])


def _amount(version: DatasetVersion) -> str:
    return f"{version.files:,} {'file' if version.files == 1 else 'files'}, {_size(version.bytes)}"


def _size(count: int) -> str:
    """Bytes in the unit that people read.

    >>> _size(999), _size(2_500_000)
    ('999 B', '2.5 MB')
    """
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"


def _print_versions(found: tuple[DatasetVersion, ...], gone: tuple[Removal, ...]) -> None:
    from modelyard.cli.cards import moment, put, table

    for removal in gone:
        out.print(str(removal), markup=False)
    if not found and not gone:
        out.print("no dataset has a version yet: modelyard data snapshot PATH --name NAME", markup=False)
        return
    rows = [
        [
            each.ref,
            moment(each.created_at),
            f"{each.files:,}",
            _size(each.bytes),
            _rows(each),
            each.digest[:19],
            each.note,
        ]
        for each in found
    ]
    if rows:
        put(table(["version", "made", "files", "size", "rows", "digest", "note"], rows))


def _print_version(version: DatasetVersion, profile: Profile, marks: Marks) -> None:
    from modelyard.cli.cards import moment, put, table
    from modelyard.cli.marking import marked

    origin = ", ".join(f"{name} {value}" for name, value in version.origin.items())
    lines = [version.digest, f"made {moment(version.created_at)} by {version.by or 'somebody'}", f"from {origin}"]
    out.print(f"{version.ref}: {_amount(version)}", markup=False, style="bold")
    for line in [*lines, *([version.note] if version.note else []), *marked(marks), *version.facts.notes]:
        out.print(line, markup=False)
    for each in version.facts.tables:
        key = f", key {', '.join(each.key)}" if each.key else ""
        out.print(f"\ntable {each.name}: {each.rows:,} rows{key}", markup=False, style="bold")
        rows = [
            [column.name, column.type, f"{column.missing:,}", _seen(profile.get(each.name, {}).get(column.name, {}))]
            for column in each.columns
        ]
        put(table(["column", "type", "missing", "values"], rows))
    images = version.facts.images
    if images is not None:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in images.kinds.items())
        sizes = f", {_span(images.width)} x {_span(images.height)} pixels" if images.width and images.height else ""
        out.print(f"\nimages: {kinds}{sizes}, {images.unreadable:,} unreadable", markup=False)


def _span(ends: tuple[int, int]) -> str:
    return f"{ends[0]}" if ends[0] == ends[1] else f"{ends[0]}-{ends[1]}"


def _seen(described: Mapping[str, Any]) -> str:
    """A column in a few words: the range of numbers, the commonest values."""
    if described.get("type") == "values":
        named = ", ".join(f"{value} {count:,}" for value, count in described["values"][:_COMMONEST])
        return f"{described['distinct']:,} distinct{': ' if named else ''}{named}"
    if described.get("min") is None:
        return ""
    low, high = described["min"], described["max"]
    if described.get("unit"):
        return f"{_moment(low)} to {_moment(high)}"
    there = described["n"] - described["missing"] - described["infinite"]
    mean = f", mean {described['sum'] / there:g}" if described["sum"] is not None and there else ""
    return f"{low:g} to {high:g}{mean}"


def _moment(seconds: float) -> str:
    """Seconds since 1970 as a date; as they are where no calendar reaches.

    >>> _moment(0.0), _moment(1e15)
    ('1970-01-01 00:00', '1e+15 s after 1970')
    """
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError, OSError):
        return f"{seconds:g} s after 1970"


def _rows(version: DatasetVersion) -> str:
    return f"{sum(table.rows for table in version.facts.tables):,}" if version.facts.tables else ""


def _print_damage(version: DatasetVersion, damaged: tuple[Damage, ...], repaired: int | None) -> None:
    if repaired:
        out.print(f"{repaired:,} damaged {'chunk is' if repaired == 1 else 'chunks are'} stored again", markup=False)
    if not damaged:
        out.print(f"{version.ref} is intact: {_amount(version)}", markup=False)
    for each in damaged:
        out.print(f"DAMAGED {each.file}: {each.reason}", markup=False)
