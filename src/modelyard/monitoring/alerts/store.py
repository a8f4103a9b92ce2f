"""Alerts in the metadata database. What changes and what is owed for it are written in one transaction."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec.structs import replace
from sqlalchemy import Connection, insert, select, update

from modelyard.errors import AlertNotFound, Conflict, InvalidRequest, NotFound
from modelyard.monitoring.alerts import outbox, receivers, rules
from modelyard.monitoring.alerts.alert import Alert, Look, Policy, Silence, State
from modelyard.monitoring.alerts.costs import known_loss
from modelyard.monitoring.alerts.policies import Policies
from modelyard.registry.alert_tables import alert_events, alert_silences, alerts
from modelyard.registry.database import Database

LONGEST_SILENCE = timedelta(days=366)

_ALERTS = msgspec.msgpack.Decoder(Alert)
_OPEN = (State.FIRING.value, State.ACKNOWLEDGED.value)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to an alert; `by` is empty where Modelyard saw it itself."""

    at: datetime
    what: str
    by: str = ""
    why: str = ""


class Alerts:
    """The alerts of one metadata database. Safe to use from several threads and processes.

    Methods take `now` where it matters; without it, it is the time of this machine.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, looks: Iterable[Look], now: datetime | None = None, policy: Policy | None = None) -> list[Alert]:
        """Take in what watches said of windows, oldest first; returns the alerts that changed or began.

        To be called with every closed window that was looked at, also if nothing was found: quiet windows end alerts. A
        look may be given again, as after a crash: it counts once. Nothing is sent here; messages are kept for the
        courier in the same transaction, so that none is lost and none is sent for what was not kept. Without a `policy`
        it is what is set for each deployment.
        """
        now = now or _now()
        changed: dict[int, Alert] = {}
        with self._database.write() as connection:
            policies = Policies(connection, policy)
            for look in sorted(looks, key=lambda look: look.window):
                of_it = policies.of(look.deployment)
                known = _known(connection, look, of_it)
                for change in rules.after(known, look, of_it, now):
                    alert = _save(connection, _with_loss(connection, change.alert))
                    for what in change.events:
                        said = alert.resolved if what == "resolved" else None
                        _happened(connection, alert, Event(now, what, "", said.why if said else ""))
                    changed[alert.id] = alert
            return _tell(connection, changed.values(), policies, now)

    def tend(self, now: datetime | None = None, policy: Policy | None = None) -> list[Alert]:
        """Owe what time alone makes due: reminders, and what fires when its silence ends. To be called regularly."""
        now = now or _now()
        with self._database.read() as connection:
            if not self._due(connection, Policies(connection, policy), now):
                return []  # most of the time: no need to make others wait
        with self._database.write() as connection:
            policies = Policies(connection, policy)
            return _tell(connection, self._due(connection, policies, now), policies, now)

    def _due(self, connection: Connection, policies: Policies, now: datetime) -> list[Alert]:
        held = _silences(connection, now)
        rows = connection.execute(select(alerts.c.document).where(alerts.c.state == State.FIRING.value)).scalars()
        firing = map(_ALERTS.decode, rows)
        return [alert for alert in firing if rules.owed(alert, held, policies.of(alert.deployment), now)]

    def listed(self, deployment: str = "", *, all_states: bool = False, most: int = 100) -> list[Alert]:
        """Alerts that go on, or all; the newest first."""
        found = select(alerts.c.document).order_by(alerts.c.id.desc()).limit(most)
        if deployment:
            found = found.where(alerts.c.deployment == deployment)
        if not all_states:
            found = found.where(alerts.c.state.in_(_OPEN))
        with self._database.read() as connection:
            return [_ALERTS.decode(document) for document in connection.execute(found).scalars()]

    def get(self, number: int) -> Alert:
        """The alert of that number.

        Raises:
            AlertNotFound: there is none.
        """
        with self._database.read() as connection:
            return _get(connection, number)

    def history(self, number: int) -> list[Event]:
        """What happened to an alert, oldest first."""
        found = select(alert_events).where(alert_events.c.alert == number).order_by(alert_events.c.id)
        with self._database.read() as connection:
            return [Event(row.at, row.what, row.by, row.why) for row in connection.execute(found)]

    def acknowledge(self, number: int, by: str, why: str = "", now: datetime | None = None) -> Alert:
        """Somebody looks after it: nothing is sent of it any more, but its end.

        Raises:
            AlertNotFound: there is none of that number.
            Conflict: it is over.
        """
        now = now or _now()
        with self._database.write() as connection:
            alert = _get(connection, number)
            if not alert.open:
                raise Conflict(f"alert {number} is over already ({alert.resolved.why if alert.resolved else ''})")
            alert = _save(connection, rules.acknowledge(alert, by, why, now))
            _happened(connection, alert, Event(now, "acknowledged", by, why))
            return alert

    def resolve(self, number: int, by: str, why: str = "", now: datetime | None = None) -> Alert:
        """Somebody says that it is over. It comes again if a later window shows it.

        Raises:
            AlertNotFound: there is none of that number.
            Conflict: it is over.
        """
        now = now or _now()
        with self._database.write() as connection:
            alert = _get(connection, number)
            if not alert.open:
                raise Conflict(f"alert {number} is over already ({alert.resolved.why if alert.resolved else ''})")
            alert = _save(connection, rules.resolve(alert, by, why, now))
            _happened(connection, alert, Event(now, "resolved", by, why))
            return _tell(connection, [alert], Policies(connection), now)[0]

    def close(self, deployment: str, why: str, now: datetime | None = None) -> list[Alert]:
        """End all that goes on of a deployment of which nothing will be looked at any more; returns what was ended."""
        asked = select(alerts.c.document).where((alerts.c.deployment == deployment) & alerts.c.state.in_(_OPEN))
        with self._database.read() as connection:
            if connection.execute(asked.limit(1)).first() is None:
                return []  # most of the time: no need to make others wait
        now = now or _now()
        with self._database.write() as connection:
            ended = [
                _save(connection, rules.resolve(_ALERTS.decode(document), "", why, now))
                for document in connection.execute(asked).scalars().all()
            ]
            for alert in ended:
                _happened(connection, alert, Event(now, "resolved", "", why))
            return _tell(connection, ended, Policies(connection), now)

    def silence(self, silence: Silence) -> Silence:
        """Send nothing that the silence covers while it holds.

        Raises:
            InvalidRequest: it ends before it begins, or lasts more than a year.
        """
        if not timedelta(0) < silence.ends - silence.starts <= LONGEST_SILENCE:
            raise InvalidRequest("a silence lasts more than no time and at most a year")
        with self._database.write() as connection:
            values = msgspec.structs.asdict(silence)
            del values["id"]
            made = connection.execute(
                insert(alert_silences).values(**values).returning(alert_silences.c.id)
            ).scalar_one()
        return replace(silence, id=made)

    def unsilence(self, number: int, now: datetime | None = None) -> Silence:
        """End a silence.

        Raises:
            NotFound: there is none of that number that holds.
        """
        now = now or _now()
        with self._database.write() as connection:
            held = {silence.id: silence for silence in _silences(connection, now)}
            if number not in held:
                known = ", ".join(map(str, held)) or "none"
                raise NotFound(f"no silence {number} holds now; there are: {known}")
            connection.execute(update(alert_silences).where(alert_silences.c.id == number).values(ends=now))
        return replace(held[number], ends=now)

    def silences(self, now: datetime | None = None) -> list[Silence]:
        """Silences that have not ended."""
        with self._database.read() as connection:
            return _silences(connection, now or _now())


def _known(connection: Connection, look: Look, policy: Policy) -> list[Alert]:
    """What goes on, and what was over so short a time before the window that it may come again (or was over later)."""
    mine = select(alerts.c.document).where(alerts.c.deployment == look.deployment).order_by(alerts.c.id)
    recent = (alerts.c.state == State.RESOLVED.value) & (alerts.c.last >= look.window - policy.again)
    found = mine.where(alerts.c.state.in_(_OPEN) | recent)
    return [_ALERTS.decode(document) for document in connection.execute(found).scalars()]


def _with_loss(connection: Connection, alert: Alert) -> Alert:
    if alert.id or alert.loss:
        return alert
    return replace(alert, loss=known_loss(connection, alert.deployment, alert.version))


def _save(connection: Connection, alert: Alert) -> Alert:
    row: dict[str, Any] = {
        "deployment": alert.deployment,
        "version": alert.version,
        "kind": alert.kind.value,
        "state": alert.state.value,
        "opened": alert.opened,
        "last": alert.last,
        "document": msgspec.msgpack.encode(alert),
    }
    if not alert.id:
        made = connection.execute(insert(alerts).values(**row).returning(alerts.c.id)).scalar_one()
        alert = replace(alert, id=made)
        row["document"] = msgspec.msgpack.encode(alert)
    connection.execute(update(alerts).where(alerts.c.id == alert.id).values(**row))
    return alert


def _tell(connection: Connection, changed: Iterable[Alert], policies: Policies, now: datetime) -> list[Alert]:
    """Owe receivers what is to be told of these alerts; returns them as they are then."""
    there, held = receivers.known(connection), _silences(connection, now)
    after = []
    for alert in changed:
        what = rules.owed(alert, held, policies.of(alert.deployment), now)
        if what is not None:
            alert = _save(connection, rules.telling(alert, what, now))
            outbox.add(connection, alert, what, [each.name for each in there if each.wants(alert)], now)
        after.append(alert)
    return after


def _get(connection: Connection, number: int) -> Alert:
    found = connection.execute(select(alerts.c.document).where(alerts.c.id == number)).scalar()
    if found is None:
        going_on = select(alerts.c.id).where(alerts.c.state.in_(_OPEN)).order_by(alerts.c.id.desc()).limit(20)
        raise AlertNotFound(number, list(connection.execute(going_on).scalars()))
    return _ALERTS.decode(found)


def _happened(connection: Connection, alert: Alert, event: Event) -> None:
    values = {"at": event.at, "what": event.what, "by": event.by, "why": event.why}
    connection.execute(insert(alert_events).values(alert=alert.id, **values))


def _silences(connection: Connection, now: datetime) -> list[Silence]:
    found = select(alert_silences).where(alert_silences.c.ends > now).order_by(alert_silences.c.id)
    return [Silence(**row) for row in connection.execute(found).mappings()]


def _now() -> datetime:
    return datetime.now(UTC)
