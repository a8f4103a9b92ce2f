"""What was sent, to whom, and how receivers do: for people to look at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from modelyard.monitoring.alerts import receivers
from modelyard.monitoring.alerts.receivers import Receiver
from modelyard.registry.alert_tables import alert_counts, alert_messages
from modelyard.registry.database import Database


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message: ``sent``, ``waiting``, ``superseded`` by a later one before it was sent, or ``dropped``."""

    receiver: str
    what: str
    state: str
    attempts: int
    made: datetime
    changed: datetime
    error: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How a receiver does: messages sent, attempts that failed, messages given up, what waits, since when, why."""

    receiver: Receiver
    sent: int
    failed: int
    dropped: int
    waiting: int
    oldest: datetime | None
    error: str


def deliveries(database: Database, alert: int) -> list[Delivery]:
    """What was sent of an alert, or is to be, oldest first."""
    with database.read() as connection:
        found = select(alert_messages).where(alert_messages.c.alert == alert).order_by(alert_messages.c.id)
        return [
            Delivery(row.receiver, row.what, row.state, row.attempts, row.made, row.changed, row.error)
            for row in connection.execute(found)
        ]


def standings(database: Database) -> list[Standing]:
    """All receivers and how they do."""
    columns = alert_messages.c
    waits = select(
        columns.receiver,
        func.count().label("many"),
        func.min(columns.made).label("oldest"),
        func.max(columns.error).label("error"),
    )
    counted = select(alert_counts.c.receiver, alert_counts.c.what, alert_counts.c.count.label("many"))
    with database.read() as connection:
        there = receivers.known(connection)
        counts = {(row.receiver, row.what): row.many for row in connection.execute(counted)}
        waits = waits.where(columns.state == "waiting").group_by(columns.receiver)
        waiting = {row.receiver: row for row in connection.execute(waits)}
    found = []
    for receiver in there:
        row = waiting.get(receiver.name)
        sent, failed, dropped = (counts.get((receiver.name, what), 0) for what in ("sent", "failed", "dropped"))
        rest = (row.many, row.oldest, row.error) if row else (0, None, "")
        found.append(Standing(receiver, sent, failed, dropped, *rest))
    return found
