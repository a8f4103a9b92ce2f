"""Watching data: one honest look at two tables."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from modelyard.cli import estimates, monitored, performance
from modelyard.cli.alerts import alerts_app
from modelyard.cli.output import Json, emit, out, reported_errors
from modelyard.cli.receivers import receivers_app

app = typer.Typer()
monitor_app = typer.Typer(
    help="Watch deployments, and compare tables: what moved, how sure that is, whether it matters.",
    no_args_is_help=True,
)
app.add_typer(monitor_app, name="monitor")
monitor_app.add_typer(monitored.app)
monitor_app.add_typer(performance.app)
monitor_app.add_typer(estimates.app)
monitor_app.add_typer(alerts_app)
monitor_app.add_typer(receivers_app, name="receivers")


class FailOn(StrEnum):
    """What makes a command end with status 1."""

    DRIFT = "drift"


@monitor_app.callback()
def _monitor() -> None:
    """Watch deployments, and compare tables: what moved, how sure that is, whether it matters."""


@monitor_app.command()
def compare(
    reference: Annotated[str, typer.Argument(help="A CSV or Parquet file, data:NAME@V, or a model's NAME@V.")],
    current: Annotated[str, typer.Argument(help="A CSV or Parquet file, or data:NAME@V.")],
    level: Annotated[
        float, typer.Option("--level", help="Probability of calling anything moved if nothing changed.")
    ] = 0.01,
    distance: Annotated[
        float, typer.Option("--distance", help="Differences of distributions below this are harmless.")
    ] = 0.05,
    share: Annotated[
        float, typer.Option("--share", help="The same for shares of what is missing, new, or out of range.")
    ] = 0.02,
    table: Annotated[str, typer.Option("--table", help="Which table of a version of data that has several.")] = "",
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page with plots.")] = None,
    fail_on: Annotated[
        FailOn | None,
        typer.Option(
            "--fail-on",
            help="End with status 1 if a column, or how two go together, moved, or one is gone or not comparable.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare a table with a reference, column by column: moved, moved but harmless, steady, or too little data.

    Example: modelyard monitor compare march.parquet april.parquet

    Example: modelyard monitor compare flights-delay@3 april.csv --html april.html --fail-on drift
    """
    from modelyard.drift import compare as compared

    with reported_errors(as_json):
        found = compared(reference, current, level=level, distance=distance, share=share, table=table)
        if html is not None:
            found.html(html)
        emit(found.to_dict(), as_json, lambda: out.print(repr(found), markup=False, no_wrap=True))
    if fail_on is FailOn.DRIFT and found.drift:
        raise typer.Exit(1)
