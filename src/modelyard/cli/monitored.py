"""``modelyard monitor set|show|check|report|run``: a deployment that is watched."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard.cli.output import Json, emit, err, out, reported_errors
from modelyard.errors import InvalidRequest

if TYPE_CHECKING:
    from modelyard.monitoring.overview import Overview

app = typer.Typer()

Deployment = Annotated[str, typer.Argument(help="Its name.")]
Hours = Annotated[float, typer.Option("--hours", min=0.01, help="So many hours of event time back.")]
OfVersion = Annotated[str, typer.Option("--version", help="NAME@V; the one that answered last otherwise.")]


class FailOn(StrEnum):
    """What makes a check end with status 1."""

    ALERT = "alert"
    DRIFT = "drift"


@app.command("set")
def set_(
    deployment: Deployment,
    said: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings to change.")] = None,
    by: Annotated[str, typer.Option("--by", help="Who changes them.")] = "",
    as_json: Json = False,
) -> None:
    """Change settings of a deployment's monitoring, or show all. Nothing has to be set.

    Example: modelyard monitor set flights-delay false_alarms="1 per month" slices=carrier,origin metric=auc
    """
    import msgspec

    from modelyard.monitoring.store import MonitorStore
    from modelyard.registry import Registry

    with reported_errors(as_json):
        changes = dict(_pair(each) for each in said or ())
        with Registry.open() as registry:
            store = MonitorStore(registry.database)
            found = store.change_settings(deployment, changes, by) if changes else store.settings(deployment)
    document = {name: value for name, value in msgspec.to_builtins(found).items() if name != "share"}
    emit(document, as_json, lambda: _print_settings(document))


@app.command()
def show(deployment: Deployment, hours: Hours = 168.0, version: OfVersion = "", as_json: Json = False) -> None:
    """Show a deployment at a glance: alerts, traffic, every column beside the reference, performance with labels.

    Example: modelyard monitor show flights-delay

    Example: modelyard monitor show flights-delay --hours 24 --version flights-delay@3
    """
    with reported_errors(as_json):
        found = _overview(deployment, hours, version)
        from modelyard.monitoring.showing import text

        emit(found.document(), as_json, lambda: out.print(text(found), markup=False, no_wrap=True))
        if not as_json:
            for part in _parts(found):
                out.print(f"\n{part}", markup=False, no_wrap=True)


@app.command()
def check(
    deployment: Deployment,
    fail_on: Annotated[
        FailOn, typer.Option("--fail-on", help="alert: an alert goes on; drift: a column moved in these hours.")
    ] = FailOn.ALERT,
    hours: Hours = 168.0,
    version: OfVersion = "",
    look: Annotated[
        bool, typer.Option("--look", help="Look at what has come first, as the monitor of `modelyard up` does.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check a deployment, for pipelines: status 1 if an alert goes on (or, with --fail-on drift, a column moved).

    Example: modelyard monitor check flights-delay --fail-on alert
    """
    with reported_errors(as_json):
        if look:
            _look()
        found = _overview(deployment, hours, version)
    drifted = found.compared.moved if found.compared is not None else ()
    bad = found.alarming if fail_on is FailOn.ALERT else bool(drifted)
    document = {"deployment": deployment, "ok": not bad, "fail_on": fail_on.value, "moved": list(drifted)}
    document |= {name: found.document()[name] for name in ("alerts", "waiting")}
    emit(document, as_json, lambda: _print_check(found, bad))
    if bad:
        raise typer.Exit(1)


@app.command()
def report(
    deployment: Deployment,
    html: Annotated[Path, typer.Option("--html", metavar="FILE", help="Where to write the page.")],
    hours: Hours = 168.0,
    version: OfVersion = "",
    as_json: Json = False,
) -> None:
    """Write a page with plots that needs nothing beside itself: alerts, traffic, performance, every column.

    Example: modelyard monitor report flights-delay --html flights.html --hours 720
    """
    with reported_errors(as_json):
        found = _overview(deployment, hours, version)
        from modelyard.errors import Failed
        from modelyard.monitoring.showing import page

        try:
            html.write_text(page(found, _sections(found)), encoding="utf-8")
        except OSError as error:
            raise Failed(f"the report cannot be written to {html}: {error}") from error
        emit({"file": str(html)}, as_json, lambda: out.print(f"written to {html}", markup=False))


@app.command()
def run(
    once: Annotated[bool, typer.Option("--once", help="Look once, at all that has come, and stop.")] = False,
    every: Annotated[float, typer.Option("--every", min=0.1, help="Seconds between two looks.")] = 2.0,
    as_json: Json = False,
) -> None:
    """Look at what has been recorded on this home, as the monitor of `modelyard up` does, until Ctrl-C.

    Example: modelyard monitor run --once
    """
    with reported_errors(as_json):
        if once:
            document = _look()
            emit(document, as_json, lambda: _print_look(document))
            return
        import signal
        import threading

        from modelyard.home import Home
        from modelyard.monitoring.following import follow

        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        follow(Home.locate(), stop, lambda line: err.print(line, markup=False), every, deliver=True)


def _pair(said: str) -> tuple[str, str]:
    name, mark, value = said.partition("=")
    if not mark or not name:
        raise InvalidRequest(f"{said!r} is no setting; write KEY=VALUE, as in metric=auc")
    return name.strip(), value.strip()


def _look() -> dict[str, Any]:
    from modelyard.home import Home
    from modelyard.monitoring.alerts.courier import Courier
    from modelyard.monitoring.monitor import Monitor
    from modelyard.registry import Registry

    home = Home.locate().create()
    with Registry.open(home) as registry:
        monitor = Monitor(home, registry, lambda line: err.print(line, markup=False, style="yellow"))
        passed = monitor.look()
        Courier(registry.database).once()
    return {
        "deployments": passed.deployments,
        "windows": passed.windows,
        "findings": passed.findings,
        "alarms": passed.alarms,
    }


def _overview(deployment: str, hours: float, version: str) -> Overview:
    from dataclasses import replace

    from modelyard.monitoring.overview import overview, waiting
    from modelyard.registry import Registry

    with Registry.open() as registry:
        found = overview(registry, deployment, hours=hours, version=version)
        return replace(found, waiting=waiting(registry, deployment))


def _parts(found: Overview) -> list[str]:
    """What labels say, and what is estimated before they come, as text; nothing where there is nothing."""
    from modelyard.monitoring.estimate.text import text as estimated
    from modelyard.monitoring.performance.text import text

    history, estimates = _performance(found), _estimates(found)
    parts = [] if history is None else [f"performance\n{text(history)}"]
    return [*parts, *([] if estimates is None else [f"estimates before labels come\n{estimated(estimates)}"])]


def _sections(found: Overview) -> list[str]:
    from modelyard.monitoring.estimate.text import section as estimated
    from modelyard.monitoring.performance.page import section

    history, estimates = _performance(found), _estimates(found)
    parts = [] if history is None else ["<h2>Performance</h2>", *section(history)]
    return [*parts, *([] if estimates is None else ["<h2>Estimates before labels come</h2>", *estimated(estimates)])]


def _estimates(found: Overview) -> Any:
    """What was estimated of the version, with how often that held; None where nothing could be."""
    from modelyard.errors import ModelyardError
    from modelyard.home import Home
    from modelyard.monitoring.estimate.reading import estimates

    try:
        told = estimates(Home.locate(), found.deployment, int(found.version.rpartition("@")[2]))
    except ModelyardError:
        return None
    return told.state if any(entry.values for entry in told.state.record) else None


def _performance(found: Overview) -> Any:
    """The performance in the time that is shown; None where no label has come, or labels say nothing of it."""
    from modelyard.errors import ModelyardError
    from modelyard.home import Home
    from modelyard.monitoring.performance.groups import By
    from modelyard.monitoring.performance.reading import Stretch, performance
    from modelyard.records.query import RecordDatabase

    home, days = Home.locate(), (found.ended - found.began).days
    number = int(found.version.rpartition("@")[2])
    try:
        with RecordDatabase(home.records) as database:
            history = performance(
                database,
                found.deployment,
                home,
                stretch=Stretch(number, found.began, found.ended),
                positive=found.settings.positive,
                by=By.WEEK if days > 14 else By.DAY if days > 1 else By.HOUR,
            )
    except ModelyardError:
        return None
    return history if any(point.labelled for point in history.whole) else None


def _print_settings(document: dict[str, Any]) -> None:
    width = max(map(len, document))
    for name, value in document.items():
        shown = ",".join(map(str, value)) if isinstance(value, list) else value
        out.print(f"{name:<{width}}  {shown}", markup=False)


def _print_check(found: Overview, bad: bool) -> None:
    from modelyard.monitoring.showing import alert_lines

    for line in alert_lines(found):
        out.print(line, markup=False)
    moved = found.compared.moved if found.compared is not None else ()
    if moved:
        out.print(f"moved in these hours: {', '.join(moved)}", markup=False)
    out.print(f"{found.deployment}: {'not good' if bad else 'good'}", markup=False)


def _print_look(document: dict[str, Any]) -> None:
    names = ", ".join(document["deployments"]) or "no deployment has records"
    out.print(f"{names}: {document['windows']:,} windows looked at, {document['alarms']:,} alarms", markup=False)
