"""The whole story on the flights data."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from modelyard.cli.output import Json, emit, out, reported_errors

if TYPE_CHECKING:
    from modelyard.demo.story import Summary

app = typer.Typer()


@app.command()
def demo(
    leave: Annotated[bool, typer.Option("--exit", help="Stop by itself when the story is told.")] = False,
    weeks: Annotated[int, typer.Option("--weeks", min=1, max=43, help="Weeks of flights to send, from 1 March.")] = 4,
    flights: Annotated[int | None, typer.Option("--flights", min=1, help="Send at most so many flights.")] = None,
    port: Annotated[int, typer.Option("--port", help="Where predictions are answered; 0: any free port.")] = 0,
    home: Annotated[Path, typer.Option("--home", help="A folder of the demo's own; emptied first.")] = Path(
        ".modelyard/demo"
    ),
    as_json: Json = False,
) -> None:
    """Train, pack, verify, reproduce, serve and deploy a model on real flights, then send it requests and labels.

    Example: modelyard demo --exit
    """
    with reported_errors(as_json):
        from modelyard.demo.story import fresh_home, tell
        from modelyard.home import Home

        # Standard output is for the machine when it asked for JSON.
        console = Console(file=sys.stderr if as_json else sys.stdout, highlight=False)
        for shared in ("MODELYARD_DATABASE_URL", "MODELYARD_OBJECTS_URL"):
            os.environ.pop(shared, None)  # the story is told in a home of its own, never in a team's registry

        def done(summary: Summary) -> None:
            emit(summary, as_json, lambda: _print(summary))
            if not leave:
                _wait(console, home)

        tell(Home(fresh_home(home.absolute())), weeks, flights, port, console, done)


def _wait(console: Console, home: Path) -> None:
    console.print(f"\nStill up; Ctrl-C stops it. In another terminal: export MODELYARD_HOME={home}")
    console.print(
        "  modelyard status        modelyard show flights-delay@1        modelyard records query 'FROM joined LIMIT 5'"
    )
    sys.stdout.flush()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        signal.pause()
    except KeyboardInterrupt:
        console.print("stopping")


def _print(summary: Summary) -> None:
    from rich.table import Table

    parity = Table("parity stage", "answers", "largest difference", "flips", "result", title_justify="left")
    for stage in summary.parity.stages:
        result = "[green]same[/]" if stage.passed else f"[red]{stage.reason}[/]"
        parity.add_row(stage.stage, str(stage.rows), f"{stage.largest_abs:.1e}", str(stage.flips), result)
    out.print()
    for line in summary.lineage:
        out.print(line, markup=False, soft_wrap=True)
    out.print()
    out.print(parity)
    for name, text in _facts(summary).items():
        out.print(f"[bold]{name:15}[/]{text}")


def _facts(summary: Summary) -> dict[str, str]:
    failed = f"{summary.failed} failed" + (f" (first: {summary.first_error})" if summary.first_error else "")
    short = f"{summary.digest[:19]}…"
    p50, p99 = summary.latency_p50_ms, summary.latency_p99_ms
    metrics = "  ".join(f"{name} {value:.3f}" for name, value in summary.metrics.items())
    return {
        "data": f"{summary.dataset}, read by run {summary.run}: {metrics}",
        "version": f"{summary.version}  {short}  runtime {summary.runtime}, trained on {summary.trained_on} flights",
        "reproduction": f"{summary.reproduction}: trained again from the record, in its own environment",
        "requests": f"{summary.requests}, {failed}; {summary.requests_per_second:.0f} a second, one after the other",
        "latency": f"median {p50:.2f} ms, 99 % within {p99:.2f} ms, seen by the client",
        "records": f"{summary.records}, with {summary.labels} labels",
        "AUC by week": "  ".join(f"{week}: {auc:.3f}" for week, auc in summary.auc_by_week.items()),
        **summary.addresses,
        "time": f"{summary.seconds:.0f} s",
    }
