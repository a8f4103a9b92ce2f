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
    from rich.table import Table

    from modelyard.demo.story import Summary
    from modelyard.demo.updates import Retraining, RolledOut, Updates

app = typer.Typer()

_PARTS = 6


@app.command()
def demo(
    leave: Annotated[bool, typer.Option("--exit", help="Stop by itself when the story is told.")] = False,
    weeks: Annotated[int, typer.Option("--weeks", min=1, max=44, help="Weeks of flights to send, from 1 March.")] = 44,
    flights: Annotated[int | None, typer.Option("--flights", min=1, help="Send at most so many flights.")] = None,
    port: Annotated[int, typer.Option("--port", help="Where predictions are answered; 0: any free port.")] = 0,
    home: Annotated[Path, typer.Option("--home", help="A folder of the demo's own; emptied first.")] = Path(
        ".modelyard/demo"
    ),
    as_json: Json = False,
) -> None:
    """Train, pack, verify, reproduce and deploy a model on real flights, stream a year to it, watch it drift, renew it.

    It is trained again in July, spoiled in August, and trained on too little in November; with fewer than 37 weeks that
    is left out.

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
        "  modelyard monitor show flights-delay     modelyard monitor alerts     modelyard monitor show flights-twin\n"
        "  modelyard status        modelyard show flights-delay@1        modelyard records query 'FROM joined LIMIT 5'"
        "\n  modelyard retrain list  modelyard rollout show flights-delay  modelyard rollout decisions flights-delay"
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
    out.print()
    _print_watched(summary)
    if summary.updates is not None:
        _print_updates(summary.updates)
    for name, text in _facts(summary).items():
        out.print(f"[bold]{name:15}[/]{text}")


def _print_watched(summary: Summary) -> None:
    """What monitoring found: alerts, what moved, week by week; and what it said of the twin."""
    watched, twin = summary.watched, summary.twin
    out.print(f"[bold]{watched.deployment}[/] by the monitor: {watched.windows} days")
    for alert in watched.alerts:
        until = f", over by {alert.until}" if alert.until else ", goes on"
        loss = f"; {alert.loss}" if alert.loss else ""
        out.print(f"[yellow]alert[/] since {alert.since}{until}{loss}", soft_wrap=True)
        for part in alert.parts[:_PARTS]:
            out.print(f"   {part}", markup=False, soft_wrap=True)
        if len(alert.parts) > _PARTS:
            out.print(f"   and {len(alert.parts) - _PARTS} more")
    out.print()
    out.print(_columns(summary))
    out.print(_weeks(summary))
    out.print(_expected(summary))
    told = f"{len(twin.alerts)} alerts" if twin.alerts else "no alert"
    out.print(f"[bold]{twin.deployment}[/], drawn from the months of training: {told} in {twin.windows} days\n")


def _print_updates(updates: Updates) -> None:
    """How each update went: what was trained, how both did, what became of it and why."""
    _print_retraining("July", updates.retrained)
    _print_rollout(updates.rolled_out)
    out.print("[bold]August[/]: a version that took the flights on time for the late ones")
    _print_rollout(updates.harmful)
    _print_retraining("November", updates.short)
    _print_rollout(updates.short_rolled_out)


def _print_retraining(month: str, told: Retraining) -> None:
    out.print(f"[bold]{month}[/]: trained again, {told.why}", soft_wrap=True)
    both = ", ".join(
        f"{name} {_number(new)} ({_number(old)} by {told.champion})" for name, (old, new) in told.metrics.items()
    )
    out.print(f"   {told.challenger} was trained on {told.trained_on}", markup=False, soft_wrap=True)
    out.print(f"   on {told.judged_on:,} flights new to both: {both}", markup=False, soft_wrap=True)
    out.print(f"   {told.state}: {told.reason}\n", markup=False, soft_wrap=True)


def _print_rollout(told: RolledOut | None) -> None:
    from rich.table import Table

    if told is None:
        return
    when = (
        f"{told.first_day} to {told.last_day}, {told.flights:,} flights in {told.seconds:.0f} s, {told.failed} failed"
    )
    out.print(f"   {told.candidate} is {told.state} ({when})", markup=False, soft_wrap=True)
    for line in told.steps:
        out.print(f"   {line}", markup=False, soft_wrap=True)
    before, after = (f"@{ref.rpartition('@')[2]}" for ref in (told.before, told.candidate))
    table = Table("metric", "compared", before, after, "difference, at all times 95 %", "verdict")
    for each in told.metrics:
        low, high = each.difference
        told_range = f"{_points(low)} to {_points(high)}"
        table.add_row(
            each.metric, f"{each.rows:,}", _share(each.baseline), _share(each.candidate), told_range, each.verdict
        )
    out.print(table)
    out.print()


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _points(value: float | None) -> str:
    return "?" if value is None else f"{value:+.2%}"


def _columns(summary: Summary) -> Table:
    from rich.table import Table

    table = Table("what moved", "distance", "over the year", "how", title_justify="left")
    for column in summary.watched.columns:
        table.add_row(column.column, f"{column.distance:.1%}", column.over_time, column.said)
    return table


def _weeks(summary: Summary) -> Table:
    from rich.table import Table

    table = Table("week of", "flights", "labelled", "AUC by labels", "Brier")
    for week in summary.watched.weeks:
        brier = "" if week.brier is None else f"{week.brier:.3f}"
        table.add_row(week.began, str(week.rows), f"{week.labelled:.0%}", _sure(week.auc, week.auc_interval), brier)
    return table


def _expected(summary: Summary) -> Table:
    from rich.table import Table

    table = Table("days from", "by", "AUC expected before labels came", "trust", "turned out", "")
    for each in summary.watched.expected:
        turned = "" if each.turned_out is None else f"{each.turned_out:.3f}"
        held = ""
        if each.interval and each.turned_out is not None:
            held = "held" if each.interval[0] <= each.turned_out <= each.interval[1] else "[red]missed[/]"
        by = each.version.rpartition("@")[1] + each.version.rpartition("@")[2]
        table.add_row(each.began, by, _sure(each.value, each.interval) or each.reason, each.trust, turned, held)
    return table


def _sure(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")


def _facts(summary: Summary) -> dict[str, str]:
    failed = f"{summary.failed} failed" + (f" (first: {summary.first_error})" if summary.first_error else "")
    short = f"{summary.digest[:19]}…"
    p50, p99 = summary.latency_p50_ms, summary.latency_p99_ms
    metrics = "  ".join(f"{name} {value:.3f}" for name, value in summary.metrics.items())
    return {
        "data": f"{summary.dataset}, read by run {summary.run}: {metrics}",
        "version": f"{summary.version}  {short}  runtime {summary.runtime}, trained on {summary.trained_on} flights",
        "reproduction": f"{summary.reproduction}: trained again from the record, in its own environment",
        "requests": f"{summary.requests}, {failed}; {summary.flights_a_second:.0f} flights a second",
        "latency": f"median {p50:.2f} ms, 99 % within {p99:.2f} ms, seen by the client",
        "records": f"{summary.records}, with {summary.labels} labels",
        **summary.addresses,
        "time": f"{summary.seconds:.0f} s",
    }
