"""Predictions from a running server, from a terminal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard.cli.output import Json, emit, out, reported_errors

if TYPE_CHECKING:
    import pyarrow as pa

    from modelyard.client import Client

app = typer.Typer()

SHOWN_ROWS = 50
PREDICTION_ID = "prediction_id"


@app.command()
def predict(
    what: Annotated[
        str, typer.Argument(metavar="DEPLOYMENT|NAME@V", help="A deployment, or a version that is deployed.")
    ],
    source: Annotated[Path, typer.Option("--input", metavar="FILE", help="CSV (.csv, .csv.gz) or Parquet to read.")],
    target: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="CSV or Parquet to write; the terminal otherwise.")
    ] = None,
    url: Annotated[
        str | None, typer.Option("--url", help="The server; that of `modelyard up` on this home otherwise.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Ask a running server for predictions on the rows of a file. Each is recorded and can be labelled by its id.

    Columns are matched by name; others are ignored. An empty cell or null is a missing value.

    Example: modelyard predict flights-delay --input today.csv
    """
    with reported_errors(as_json):
        from modelyard.client import Client

        with Client(server_address(url)) as client:
            deployment, version = _named(client, what)
            if target is not None:
                _to_file(client, deployment, version, source, target, as_json)
            else:
                _to_terminal(client, deployment, version, source, as_json)


def server_address(url: str | None) -> str:
    """The server that was named, or the one of this home.

    Raises:
        ServiceUnreachable: none was named, and none runs.
    """
    if url is not None:
        return url
    from modelyard.control.up import await_running
    from modelyard.errors import ServiceUnreachable
    from modelyard.home import Home

    there = await_running(Home.locate())
    if there is None:
        raise ServiceUnreachable("no server runs on this home: start `modelyard up`, or name one with --url")
    return there.data.url


def _named(client: Client, what: str) -> tuple[str, int | None]:
    """The deployment to call and the version to insist on."""
    if "@" not in what:
        return what, None
    from modelyard.domain.names import Ref
    from modelyard.errors import InvalidRequest, VersionNotReady

    ref = Ref.parse(what)
    if ref.version is None:
        raise InvalidRequest(
            f"{what!r}: a server knows versions by number; write {ref.model}@3, or a deployment's name"
        )
    deployments = client.status()["deployments"]
    for one in deployments:
        if (one["model"], one["version"]) == (ref.model, ref.version):
            return one["name"], ref.version
    known = ", ".join(f"{one['name']} ({one['model']}@{one['version']})" for one in deployments) or "nothing"
    raise VersionNotReady(f"{what} does not answer at {client.url}; deployed there: {known}. Try `modelyard score`")


def _asked(client: Client, deployment: str, version: int | None, source: Path, take: Callable[[pa.Table], None]) -> int:
    """Ask for every row of the file and hand over tables of answers with prediction ids; the number of rows."""
    import pyarrow as pa

    from modelyard.bundle.tabular import from_arrow
    from modelyard.client import ROWS_A_REQUEST
    from modelyard.errors import InvalidInput
    from modelyard.scoring.sources import columns_in, opened
    from modelyard.scoring.targets import answer_table

    schema, rows = client.schema(deployment, version=version), 0
    with opened(source, ROWS_A_REQUEST) as table:
        columns = columns_in(schema, table.names)
        for piece in table.pieces():
            try:
                frame = from_arrow(table.typed(piece, columns), schema, ignore_extra=True)
                answers = client.answers(deployment, frame, version=version)
            except InvalidInput as error:
                raise InvalidInput(f"rows from {rows} on: {error}" if rows else str(error)) from error
            found = answer_table(answers, schema.outputs)
            take(found.add_column(0, PREDICTION_ID, pa.array(client.last_prediction_ids, pa.string())))
            rows += frame.rows
    return rows


def _to_file(client: Client, deployment: str, version: int | None, source: Path, target: Path, as_json: bool) -> None:
    from modelyard.scoring.targets import writing

    with writing(target) as writer:
        rows = _asked(client, deployment, version, source, writer.add)
    document = {"deployment": deployment, "input": source, "output": target, "rows": rows}
    emit(document, as_json, lambda: out.print(f"{rows:,} rows answered by {deployment}: {target}", markup=False))


def _to_terminal(client: Client, deployment: str, version: int | None, source: Path, as_json: bool) -> None:
    rows: list[dict[str, Any]] = []
    _asked(client, deployment, version, source, lambda table: rows.extend(table.to_pylist()))
    emit({"deployment": deployment, "rows": rows}, as_json, lambda: _print(rows))


def _print(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in rows[0] if rows else ():
        table.add_column(name, no_wrap=True)
    for row in rows[:SHOWN_ROWS]:
        table.add_row(*(f"{value:.6g}" if isinstance(value, float) else str(value) for value in row.values()))
    out.print(table)
    if len(rows) > SHOWN_ROWS:
        out.print(f"... and {len(rows) - SHOWN_ROWS:,} rows more; --output FILE writes all")
