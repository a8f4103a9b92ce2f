"""``modelyard records ship``, ``status`` and ``compact``: the tables that records are shipped to."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard.cli.output import Json, emit, err, out, reported_errors

if TYPE_CHECKING:
    from modelyard.home import Home
    from modelyard.records.keeping import Rules
    from modelyard.records.shipping import Shipped
    from modelyard.records.upkeep import Compacted

app = typer.Typer()

TABLES = ("predictions", "labels", "profiles")


@app.command("ship")
def ship(
    follow: Annotated[bool, typer.Option("--follow", help="Go on until stopped, as `modelyard up` does.")] = False,
    as_json: Json = False,
) -> None:
    """Ship what is recorded to the Delta tables, and remove log files that are shipped as a whole.

    Any number of these may run, on any number of machines: each record is in its table once. What cannot be shipped
    stays in the log.

    Example: modelyard records ship

    Example: modelyard records ship --follow
    """
    from modelyard.monitoring import shipments

    with reported_errors(as_json):
        home = _home()
        if follow:
            _follow(home)
            return
        from modelyard.registry import Registry

        with Registry.open(home) as registry:
            shipped = shipments.ship_all(home.records, shipments.shipments(home, registry))
        for damage in shipped.damage:
            err.print(f"warning: {damage}", markup=False, style="yellow")
        emit(_document(shipped), as_json, lambda: _print_shipped(shipped))


@app.command("status")
def status(as_json: Json = False) -> None:
    """What is in the tables, and what of the log waits to be shipped.

    Example: modelyard records status
    """
    with reported_errors(as_json):
        document = _status(_home())
        emit(document, as_json, lambda: _print_status(document))


@app.command("compact")
def compact(as_json: Json = False) -> None:
    """Join the small files of the tables, and remove files that nobody has needed for a day. Others go on meanwhile.

    Example: modelyard records compact
    """
    from modelyard.records.delta import TablesRoot
    from modelyard.records.upkeep import compact

    with reported_errors(as_json):
        done = compact(TablesRoot.of(_home().records), TABLES)
        emit(done, as_json, lambda: _print_compacted(done))


@app.command("keep")
def keep(
    deployment: Annotated[str | None, typer.Argument(help="Whose calls; without it, the rules there are.")] = None,
    share: Annotated[float | None, typer.Option("--share", help="Of the answered calls, from 0 to 1.")] = None,
    body_bytes: Annotated[
        int | None, typer.Option("--body-bytes", help="Calls with longer bodies are kept without them.")
    ] = None,
    days: Annotated[int | None, typer.Option("--days", help="Rows are removed so many days after they came.")] = None,
    as_json: Json = False,
) -> None:
    """Say what of a deployment's calls is kept, from now on: all of them for ever, if nothing is said.

    What is left out is counted: table predictions_dropped of `modelyard records query`. Naming a deployment replaces
    its rule; without options all is kept again. Homes that share tables (MODELYARD_RECORDS_URL) share the rules.

    Example: modelyard records keep flights-delay --days 90 --share 0.1
    """
    from modelyard.records.keeping import Rule, rules, set_rule

    with reported_errors(as_json):
        records = _home().records
        if deployment is not None:
            set_rule(records, deployment, Rule(1.0 if share is None else share, body_bytes, days))
        known = rules(records)
        emit(known, as_json, lambda: _print_rules(known))


def _print_rules(known: Rules) -> None:
    for name, rule in known.items():
        out.print(f"{name}: {rule}", markup=False, highlight=False)
    if not known:
        out.print("everything is kept, for ever")


def _home() -> Home:
    from modelyard.home import Home

    return Home.locate()


def _follow(home: Home) -> None:
    from modelyard.monitoring.shipments import follow

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    err.print(f"shipping the records of {home.records} until stopped", markup=False)
    follow(home, stop, lambda line: err.print(line, markup=False))


def _document(shipped: Shipped) -> dict[str, Any]:
    return {
        "rows": shipped.rows,
        "bytes": shipped.bytes,
        "commits": shipped.commits,
        "removed": shipped.removed,
        "busy": shipped.busy,
        "damaged": [str(one) for one in shipped.damage],
    }


def _print_shipped(shipped: Shipped) -> None:
    out.print(
        f"{shipped.rows} rows shipped from {shipped.bytes / 1e6:.1f} MB of log; {shipped.removed} log files removed"
    )
    if shipped.busy:
        err.print("another shipper was at some of it at the same moment; what it left is shipped next time")


def _status(home: Home) -> dict[str, Any]:
    from modelyard.records import segments
    from modelyard.records.delta import TablesRoot
    from modelyard.records.reading import unshipped_bytes
    from modelyard.records.shipping import DAMAGED, record_shipments
    from modelyard.records.upkeep import states

    root, records = TablesRoot.of(home.records), home.records
    waiting = {
        one.table: {
            "bytes": unshipped_bytes(records, one, root.open(one.table)),
            "log_files": len(segments.segments(records / one.folder)),
            "damaged_log_files": len(list((records / one.folder / DAMAGED).glob("*.log"))),
        }
        for one in record_shipments(records)
    }
    return {"tables": root.shown, "shipped": states(root, TABLES), "waiting": waiting}


def _print_status(document: dict[str, Any]) -> None:
    out.print(f"tables in {document['tables']}", markup=False)
    for one in document["shipped"]:
        line = (
            f"  {one.table}: {one.rows:,} rows in {one.files:,} files, {one.bytes / 1e6:,.1f} MB, version {one.version}"
        )
        out.print(line, markup=False, highlight=False)
    for name, waits in document["waiting"].items():
        broken = f", {waits['damaged_log_files']} damaged" if waits["damaged_log_files"] else ""
        line = f"  {name} not shipped yet: {waits['bytes'] / 1e6:,.1f} MB in {waits['log_files']} log files{broken}"
        out.print(line, markup=False, highlight=False)


def _print_compacted(done: list[Compacted]) -> None:
    for one in done:
        out.print(f"{one.table}: {one.joined} files joined into {one.made}, {one.removed} old ones removed")
    if not done:
        out.print("there are no tables yet")
