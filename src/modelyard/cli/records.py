"""Records, labels and replay."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard.cli import shipping
from modelyard.cli.output import Json, emit, err, out, reported_errors

if TYPE_CHECKING:
    from modelyard.bundle.layout import Bundle
    from modelyard.home import Home
    from modelyard.records.query import TableInfo
    from modelyard.records.replay import Found, Replay

app = typer.Typer()
labels_app = typer.Typer(help="Add the truth for past predictions.", no_args_is_help=True)
records_app = typer.Typer(
    help="Predictions joined with labels: query them with SQL, ship, compact, keep.", no_args_is_help=True
)
app.add_typer(labels_app, name="labels")
app.add_typer(records_app, name="records")
records_app.add_typer(shipping.app)

SHOWN_ROWS = 100
"""Rows of a text table, unless more are asked for."""
_SHOWN_IDS = 10
_CELL = 60

Records = Annotated[
    Path | None, typer.Option("--records", metavar="DIR", help="The records folder, if it is not the home's.")
]


class Format(StrEnum):
    """How a result is printed."""

    TABLE = "table"
    CSV = "csv"


class ReadAs(StrEnum):
    """How a typed value is meant."""

    AUTO = "auto"
    TEXT = "text"


@labels_app.callback()
def _labels() -> None:
    """Add the truth for past predictions."""


@labels_app.command("add")
def add(
    prediction_id: Annotated[str | None, typer.Option("--id", help="The prediction it is for.")] = None,
    value: Annotated[str | None, typer.Option("--value", help="What really happened.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="CSV or Parquet with the columns prediction_id and value.")
    ] = None,
    deployment: Annotated[str, typer.Option("--deployment", help="With --key: whose predictions are meant.")] = "",
    key: Annotated[
        list[str] | None,
        typer.Option("--key", metavar="NAME[=VALUE]", help="Name rows by this column; several together are one key."),
    ] = None,
    known_at: Annotated[
        str | None, typer.Option("--known-at", help="When it became known; with --file: the column that says so.")
    ] = None,
    value_column: Annotated[
        str, typer.Option("--value-column", help="With --file: the column of the labels.")
    ] = "value",
    id_column: Annotated[
        str, typer.Option("--id-column", help="With --file: the column of prediction ids.")
    ] = "prediction_id",
    read_as: Annotated[
        ReadAs, typer.Option("--as", help="text: take what looks like a number, true or false as text.")
    ] = ReadAs.AUTO,
    source: Annotated[str, typer.Option("--source", help="Who says so; kept with the label.")] = "",
    records: Records = None,
    as_json: Json = False,
) -> None:
    """Add one label, or a file of them. A later label for the same prediction corrects it; both are kept.

    A prediction is named by its id, or by key columns: columns of its inputs, or keys that were sent with it. Labels
    may come before the prediction. Those for unknown ids and keys are kept apart and reported.

    Example: modelyard labels add --id 5f0c21 --value late

    Example: modelyard labels add --deployment flights --key flight=1545 --key day=2013-03-01 --value 1

    Example: modelyard labels add --file labels.csv

    Example: modelyard labels add --file truth.parquet --deployment sales --key order,line --value-column paid
    """
    names = _key_names(key or [], of_file=file is not None)
    _check_usage(prediction_id, value, file, deployment, names)
    with reported_errors(as_json):
        if file is not None:
            from modelyard.records.labels import FileForm, read_file

            form = FileForm(value_column, id_column, deployment, tuple(names), known_at, read_as.value)
            table = read_file(file, form)
        else:
            table = _one_label(prediction_id or "", value or "", deployment, names, known_at, read_as)
        unknown = _keep(records or _home().records, table, source or (f"file {file.name}" if file else "command line"))
        document = {"added": table.num_rows, "unknown": unknown}
        emit(document, as_json, lambda: _print_added(table.num_rows, unknown))


def _key_names(given: list[str], *, of_file: bool) -> dict[str, str]:
    """Key columns with their values, which are empty for a file: its columns are named alone, also by commas."""
    if of_file:
        return {name: "" for text in given for name in text.split(",") if name}
    pairs = [text.partition("=") for text in given]
    for name, equals, value in pairs:
        if not (name and equals and value):
            raise typer.BadParameter(f"expected NAME=VALUE, got {name + equals!r}", param_hint="--key")
    return {name: value for name, _, value in pairs}


def _check_usage(
    prediction_id: str | None, value: str | None, file: Path | None, deployment: str, names: dict[str, str]
) -> None:
    if bool(names) != bool(deployment):
        raise typer.BadParameter("--key and --deployment go together")
    if file is not None:
        fits = prediction_id is None and value is None
    else:
        fits = value is not None and (prediction_id is None if names else bool(prediction_id))
    if not fits:
        raise typer.BadParameter("give --id and --value, or --deployment, --key and --value, or --file")


def _one_label(
    prediction_id: str, value: str, deployment: str, key: dict[str, str], known_at: str | None, read_as: ReadAs
) -> Any:
    from modelyard.domain.known import known_ns
    from modelyard.domain.records import Label, key_of
    from modelyard.records.batches import table_of
    from modelyard.records.labels import parse_value

    label = Label(
        prediction_id=prediction_id,
        value=parse_value(value, read_as.value),
        received_ns=0,  # said once for the whole table, when it is kept
        deployment=deployment,
        key=key_of(key) if key else "",
        known_ns=0 if known_at is None else known_ns(known_at),
    )
    return table_of([label])


@records_app.callback()
def _records() -> None:
    """Query predictions joined with labels, with SQL."""


@records_app.command("query")
def query(
    sql: Annotated[str, typer.Argument(help="One SELECT; - reads it from standard input.")],
    form: Annotated[Format, typer.Option("--format", help="How to print the result.")] = Format.TABLE,
    rows: Annotated[int, typer.Option("--rows", min=1, help="Print at most this many rows of a table.")] = SHOWN_ROWS,
    records: Records = None,
    as_json: Json = False,
) -> None:
    """Run one SELECT over predictions, labels, joined, and a flat view for each deployment. Times are UTC.

    Example: modelyard records query "SELECT version, count(*) FROM predictions GROUP BY ALL"

    Example: modelyard records query 'SELECT * FROM "flights-delay" WHERE label IS NOT NULL' --format csv
    """
    from modelyard.records.query import RecordDatabase

    with reported_errors(as_json), RecordDatabase(records or _home().records) as database:
        _warn(database.damage)
        result = database.query(sys.stdin.read() if sql == "-" else sql)
        if form is Format.CSV and not as_json:
            _write_csv(result)
        elif as_json:
            emit(_unique_names(result).to_pylist(), True, lambda: None)
        else:
            _print_table(result.column_names, result.slice(0, rows), result.num_rows)


@records_app.command("tables")
def tables(records: Records = None, as_json: Json = False) -> None:
    """The tables and columns that a query can name.

    Example: modelyard records tables
    """
    from modelyard.records.query import RecordDatabase

    with reported_errors(as_json), RecordDatabase(records or _home().records) as database:
        _warn(database.damage)
        found = database.tables()
        document = [
            {"table": table.name, "columns": [{"name": name, "type": kind} for name, kind in table.columns]}
            for table in found
        ]
        emit(document, as_json, lambda: _print_tables(found))


@app.command()
def replay(
    prediction_id: Annotated[str, typer.Argument(help="Of one row, or of a whole call.")],
    bundle: Annotated[
        Path | None, typer.Option("--bundle", metavar="DIR", help="The version's bundle, if it is not registered here.")
    ] = None,
    records: Records = None,
    as_json: Json = False,
) -> None:
    """Compute one past prediction again, by the same version on the same input, and compare.

    Exit code 0: the same, or within the version's tolerance. 1: different.

    Example: modelyard replay 5f0c21
    """
    from modelyard.records.replay import find

    with reported_errors(as_json):
        home = _home()
        found = find(records or home.records, prediction_id)
        result = _replayed(found, home, bundle)
        emit(_replay_document(found, result), as_json, lambda: _print_replay(found, result))
    if result.verdict == "different":
        raise typer.Exit(1)


def _home() -> Home:
    from modelyard.home import Home

    return Home.locate()


def _keep(directory: Path, labels: Any, source: str) -> list[str]:
    """Append a table of labels and say for which of their ids and keys no prediction is recorded."""
    from modelyard.records.log import LabelLog
    from modelyard.records.query import RecordDatabase

    log = LabelLog(directory)
    try:
        log.append_table(labels, time.time_ns(), source)
    finally:
        log.close()
    with RecordDatabase(directory) as database:
        _warn(database.damage)
        return database.unknown(labels)


def _replayed(found: Found, home: Home, bundle: Path | None) -> Replay:
    from modelyard.bundle.runtimes import open_runtime
    from modelyard.records.replay import replay, require_version

    require_version(found.record)
    opened = _bundle_of(found, home, bundle)
    runtime = open_runtime(opened, home=home)
    try:
        return replay(found, opened.manifest, runtime)
    finally:
        runtime.close()


def _bundle_of(found: Found, home: Home, given: Path | None) -> Bundle:
    from modelyard.bundle.layout import open_bundle
    from modelyard.errors import NotFound
    from modelyard.registry import Registry

    record = found.record
    if given is not None:
        return open_bundle(given, expect_digest=record.digest)
    with Registry.open(home) as registry:
        folder = registry.folder(record.digest)
    if not folder.is_dir():
        raise NotFound(
            f"{record.model}@{record.version}, which gave this answer, is not in the registry of {home.path} "
            f"(its digest is {record.digest}); name the folder of its bundle with --bundle"
        )
    return open_bundle(folder, expect_digest=record.digest)


def _warn(damage: Iterable[object]) -> None:
    for one in damage:
        err.print(f"warning: {one}", markup=False, style="yellow")


def _print_added(added: int, unknown: list[str]) -> None:
    out.print(f"{added} label{'' if added == 1 else 's'} added")
    if unknown:
        shown = ", ".join(unknown[:_SHOWN_IDS]) + (", ..." if len(unknown) > _SHOWN_IDS else "")
        err.print(
            f"{len(unknown)} of them for ids or keys under which no prediction is recorded (yet): {shown}\n"
            "They are kept, are listed in the table labels_unknown, and count as soon as the prediction is there.",
            markup=False,
        )


def _write_csv(result: Any) -> None:
    """Rows as CSV: what is missing is an empty cell, an empty text is quoted; nothing else is quoted without need."""
    table = _unique_names(result)
    sys.stdout.write(",".join(map(_csv_cell, table.column_names)) + "\n")
    for batch in table.to_batches():
        columns = [map(_csv_cell, column.to_pylist()) for column in batch.columns]
        sys.stdout.writelines(",".join(cells) + "\n" for cells in zip(*columns, strict=True))


def _csv_cell(value: Any) -> str:
    text = _cell(value)
    if value == "" or any(mark in text for mark in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text


def _unique_names(result: Any) -> Any:
    """The result with a number behind names that occur twice (``SELECT a.*, b.*``), as a document needs."""
    names: list[str] = []
    for name in result.column_names:
        number, unused = 2, name
        while unused in names:
            unused, number = f"{name}_{number}", number + 1
        names.append(unused)
    return result.rename_columns(names)


def _cell(value: Any) -> str:
    import msgspec

    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | dict):
        return msgspec.json.encode(value).decode()
    return str(value)


def _print_table(names: Sequence[str], shown: Any, total: int) -> None:
    cells = [[_short(_cell(value)) for value in column.to_pylist()] for column in shown.columns]
    widths = [max(len(name), *map(len, column), 0) for name, column in zip(names, cells, strict=True)]
    numeric = [_is_numeric(part.type) for part in shown.schema]
    _print_line(names, widths, numeric)
    _print_line(["-" * width for width in widths], widths, numeric)
    for line in zip(*cells, strict=True):
        _print_line(line, widths, numeric)
    if shown.num_rows < total:
        err.print(f"{shown.num_rows} of {total} rows; more with --rows, all with --format csv or --json")


def _print_line(cells: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> None:
    padded = [
        cell.rjust(width) if right else cell.ljust(width)
        for cell, width, right in zip(cells, widths, numeric, strict=True)
    ]
    out.print("  ".join(padded).rstrip(), markup=False)


def _is_numeric(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _short(text: str) -> str:
    text = text.replace("\n", "\\n")
    return text if len(text) <= _CELL else text[: _CELL - 1] + "…"


def _print_tables(found: list[TableInfo]) -> None:
    for table in found:
        out.print(table.name, markup=False, style="bold")
        for name, kind in table.columns:
            out.print(f"  {name}  {kind}", markup=False)


def _replay_document(found: Found, result: Replay) -> dict[str, Any]:
    record = found.record
    return {
        "prediction_id": record.prediction_id,
        "deployment": record.deployment,
        "model": record.model,
        "version": record.version,
        "digest": record.digest,
        "received_ns": record.received_ns,
        "status": record.status,
        "other_records_of_that_id": found.others,
        "result": result,
    }


def _print_replay(found: Found, result: Replay) -> None:
    from datetime import UTC, datetime

    record = found.record
    when = datetime.fromtimestamp(record.received_ns / 1e9, UTC)
    out.print(
        f"{record.prediction_id}: {record.model}@{record.version} for {record.deployment}, "
        f"{when:%Y-%m-%d %H:%M:%S} UTC, status {record.status}, {record.latency_ns / 1e6:.2f} ms\n{record.digest}",
        markup=False,
    )
    if found.others:
        out.print(f"{found.others} other record(s) have the same id, older ones or a shadow's")
    for row in result.rows:
        out.print(f"\n{row.prediction_id}", markup=False, style="bold")
        _print_sides(row.recorded, row.recomputed)
    if result.recorded_error is not None or result.recomputed_error is not None:
        out.print(f"\nrecorded:   {result.recorded_error or 'an answer'}", markup=False)
        out.print(f"recomputed: {result.recomputed_error or 'an answer'}", markup=False)
    colour = "red" if result.verdict == "different" else "green"
    largest = f" (largest difference {result.largest_abs:g})" if result.largest_abs else ""
    reason = f": {result.reason}" if result.reason else ""
    out.print(f"\n{result.verdict}{largest}{reason}", markup=False, style=colour)


def _print_sides(recorded: dict[str, Any], recomputed: dict[str, Any]) -> None:
    lines = [("", "recorded", "recomputed")]
    lines += [(name, repr(value), repr(recomputed.get(name))) for name, value in recorded.items()]
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    for line in lines:
        mark = "" if line[1] == line[2] or line is lines[0] else "  <- differs"
        out.print("  " + "  ".join(map(str.ljust, line, widths)).rstrip() + mark, markup=False)
