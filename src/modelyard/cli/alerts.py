"""Alerts in a terminal: see them, say that one looks after them, silence them, and where they are sent."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard.cli.output import Json, emit, out, reported_errors

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from datetime import timedelta

    from modelyard.monitoring.alerts.alert import Alert, Silence
    from modelyard.registry import Registry

alerts_app = typer.Typer()
"""Commands of ``modelyard monitor``."""

Number = Annotated[int, typer.Argument(metavar="NUMBER", help="As `modelyard monitor alerts` shows it.")]
Why = Annotated[str, typer.Option("--why", help="What is known of it; kept with the alert.")]

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def _open() -> AbstractContextManager[Registry]:
    from modelyard.registry import Registry

    return Registry.open()


@alerts_app.command("alerts")
def list_alerts(
    deployment: Annotated[str, typer.Argument(help="Only of this deployment.")] = "",
    all_states: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
    most: Annotated[int, typer.Option("--most", min=1, help="So many at most, the newest first.")] = 50,
    as_json: Json = False,
) -> None:
    """Alerts that go on, the newest first.

    Example: modelyard monitor alerts flights-delay --all
    """
    from modelyard.monitoring.alerts import Alerts
    from modelyard.monitoring.alerts.content import document

    with reported_errors(as_json), _open() as registry:
        found = Alerts(registry.database).listed(deployment, all_states=all_states, most=most)
        emit({"alerts": [document(alert) for alert in found]}, as_json, lambda: _print_alerts(found, all_states))


@alerts_app.command("alert")
def show_alert(number: Number, as_json: Json = False) -> None:
    """One alert in full: what moved, since when, what happened to it, and whom it was sent to.

    Example: modelyard monitor alert 12
    """
    from modelyard.monitoring.alerts import Alerts
    from modelyard.monitoring.alerts.content import document
    from modelyard.monitoring.alerts.deliveries import deliveries

    with reported_errors(as_json), _open() as registry:
        alerts = Alerts(registry.database)
        alert, history, sent = alerts.get(number), alerts.history(number), deliveries(registry.database, number)
        told = {"alert": document(alert), "history": history, "deliveries": sent}
        emit(told, as_json, lambda: _print_alert(alert, history, sent))


@alerts_app.command()
def ack(number: Number, why: Why = "", as_json: Json = False) -> None:
    """Say that you look after an alert: nothing is sent of it any more, but its end. What else moves is another alert.

    Example: modelyard monitor ack 12 --why "the new sensor; a repaired version comes on Friday"
    """
    from modelyard.cli.registry import user
    from modelyard.monitoring.alerts import Alerts
    from modelyard.monitoring.alerts.content import document

    with reported_errors(as_json), _open() as registry:
        alert = Alerts(registry.database).acknowledge(number, user(), why)
        emit({"alert": document(alert)}, as_json, lambda: out.print(f"acknowledged: {alert.title}", markup=False))


@alerts_app.command()
def resolve(number: Number, why: Why = "", as_json: Json = False) -> None:
    """Say that an alert is over. If a later window shows it again, it comes again.

    Example: modelyard monitor resolve 12 --why "the feed was repaired"
    """
    from modelyard.cli.registry import user
    from modelyard.monitoring.alerts import Alerts
    from modelyard.monitoring.alerts.content import document

    with reported_errors(as_json), _open() as registry:
        alert = Alerts(registry.database).resolve(number, user(), why)
        emit({"alert": document(alert)}, as_json, lambda: out.print(f"resolved: {alert.title}", markup=False))


@alerts_app.command()
def silence(
    deployment: Annotated[str, typer.Argument(help="The deployment; with * many: 'flights-*'.")],
    duration: Annotated[str, typer.Option("--for", metavar="TIME", help="How long: 30m, 2h, 3d, 1w.")],
    why: Why = "",
    watch: Annotated[str, typer.Option("--watch", help="Only this kind (drift) or watch (drift.score).")] = "",
    subject: Annotated[str, typer.Option("--subject", help="Only this column, output or metric; may hold *.")] = "",
    version: Annotated[str, typer.Option("--version", metavar="NAME@V", help="Only this version.")] = "",
    as_json: Json = False,
) -> None:
    """Send nothing of a deployment's alerts for a time. They are still kept; what still fires afterwards is sent then.

    Example: modelyard monitor silence flights-delay --for 2h --watch traffic --why "the feed is moved"
    """
    from datetime import UTC, datetime

    from modelyard.cli.registry import user
    from modelyard.monitoring.alerts import Alerts
    from modelyard.monitoring.alerts.alert import Silence

    with reported_errors(as_json), _open() as registry:
        now = datetime.now(UTC)
        asked = Silence(
            deployment=deployment,
            version=version,
            watch=watch,
            subject=subject,
            starts=now,
            ends=now + parsed_duration(duration),
            by=user(),
            why=why,
        )
        kept = Alerts(registry.database).silence(asked)
        emit({"silence": kept}, as_json, lambda: out.print(_silence_line(kept), markup=False))


@alerts_app.command()
def silences(as_json: Json = False) -> None:
    """Silences that have not ended.

    Example: modelyard monitor silences
    """
    from modelyard.monitoring.alerts import Alerts

    with reported_errors(as_json), _open() as registry:
        held = Alerts(registry.database).silences()

        def show() -> None:
            for each in held:
                out.print(_silence_line(each), markup=False)
            if not held:
                out.print("nothing is silenced")

        emit({"silences": held}, as_json, show)


@alerts_app.command()
def unsilence(number: Annotated[int, typer.Argument(metavar="NUMBER")], as_json: Json = False) -> None:
    """End a silence.

    Example: modelyard monitor unsilence 3
    """
    from modelyard.monitoring.alerts import Alerts

    with reported_errors(as_json), _open() as registry:
        ended = Alerts(registry.database).unsilence(number)
        emit({"silence": ended}, as_json, lambda: out.print(f"silence {number} has ended"))


@alerts_app.command()
def deliver(
    follow: Annotated[bool, typer.Option("--follow", help="Go on until Ctrl-C.")] = False, as_json: Json = False
) -> None:
    """Send what receivers are owed, as `modelyard up` does by itself. Exit status 1 if a receiver did not take all.

    Example: modelyard monitor deliver
    """
    from modelyard.monitoring.alerts.courier import Courier
    from modelyard.monitoring.alerts.deliveries import standings

    with reported_errors(as_json), _open() as registry:
        courier = Courier(registry.database)
        if follow:
            _follow(courier)
        else:
            courier.tend()
            courier.once()
        found = standings(registry.database)
        waiting = {each.receiver.name: each.waiting for each in found if each.waiting}

        def show() -> None:
            for each in found:
                if each.waiting:
                    out.print(f"{each.receiver.name}: {each.waiting} wait: {each.error}", markup=False)
            if not waiting:
                out.print("nothing waits")

        emit({"waiting": waiting}, as_json, show)
    if waiting:
        raise typer.Exit(1)


def _follow(courier: Any) -> None:
    import signal

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    courier.start()
    stop.wait()
    courier.stop()


def parsed_duration(text: str) -> timedelta:
    """A time such as 30m, 2h, 3d, 1w.

    >>> parsed_duration("90m"), parsed_duration("1.5d")
    (datetime.timedelta(seconds=5400), datetime.timedelta(days=1, seconds=43200))

    Raises:
        InvalidRequest: it is not written so.
    """
    from datetime import timedelta

    from modelyard.errors import InvalidRequest

    number, unit = text[:-1], text[-1:]
    try:
        amount = float(number)
        if unit in _UNITS and 0 < amount < 100_000:
            return timedelta(**{_UNITS[unit]: amount})
    except ValueError:
        pass
    raise InvalidRequest(f"{text!r} is not a time: write it as 30m, 2h, 3d or 1w")


def _print_alerts(found: list[Alert], all_states: bool) -> None:
    from modelyard.monitoring.alerts.content import clean, moment

    for alert in found:
        color = {"firing": "bold red", "acknowledged": "yellow"}.get(alert.state.value, "green")
        said = alert.acknowledged
        by = f" by {said.by}: {said.why}" if said and alert.state.value == "acknowledged" else ""
        out.print(f"{alert.id:>5} ", end="", markup=False)
        out.print(alert.state.value, style=color, end="")
        out.print(clean(f"{by}  since {moment(alert.since)}  {alert.version}"), markup=False)
        out.print(clean(f"      {alert.title}"), markup=False)
    if not found:
        out.print("no alert was ever raised" if all_states else "no alert goes on")


def _print_alert(alert: Alert, history: list[Any], sent: list[Any]) -> None:
    from modelyard.monitoring.alerts.alert import What
    from modelyard.monitoring.alerts.content import clean, moment, text
    from modelyard.monitoring.alerts.outbox import Message

    message = Message(key="", what=What.FIRING, alert=alert, made=alert.opened)
    out.print(text(message), markup=False)
    for event in history:
        out.print(clean(f"{moment(event.at)}  {event.what}  {event.by}  {event.why}".rstrip()), markup=False)
    for each in sent:
        tried = f" after {each.attempts} attempts" if each.attempts > 1 else ""
        error = f": {each.error}" if each.error else ""
        told = f"{moment(each.changed)}  {each.what} to {each.receiver}: {each.state}{tried}{error}"
        out.print(clean(told), markup=False)


def _silence_line(silence: Silence) -> str:
    from modelyard.monitoring.alerts.content import clean, moment

    of = [word for word in (silence.deployment, silence.version, silence.watch, silence.subject) if word]
    why = f" ({silence.why})" if silence.why else ""
    return clean(f"{silence.id}: {', '.join(of)} until {moment(silence.ends)}, by {silence.by or 'unknown'}{why}")
