"""Messages that are owed to receivers, kept until a receiver has taken them."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, select, update

from modelyard.monitoring.alerts.alert import Alert, What
from modelyard.registry.alert_tables import alert_counts, alert_messages, alerts
from modelyard.registry.database import Database

LEASE = timedelta(seconds=60)
"""So long a message is held by the process that brings it. One that is killed meanwhile leaves it to the next."""

LONGEST_PAUSE = timedelta(minutes=5)
EXPIRES = timedelta(days=3)
"""What a receiver has not taken by then is given up."""

MOST_WAITING = 1000
"""For each receiver. Of one alert only the last message waits, so that these are so many different alerts."""

KEPT = timedelta(days=30)
"""So long one can see what was sent."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What a receiver is to be told: the whole alert as it was then. `key` is the same however often it is sent."""

    key: str
    what: What
    alert: Alert
    made: datetime


@dataclass(frozen=True, slots=True)
class Owed:
    """A message that this process holds, for one receiver, after so many attempts."""

    id: int
    receiver: str
    attempts: int
    message: Message


_ALERTS = msgspec.msgpack.Decoder(Alert)
_MESSAGES = msgspec.msgpack.Decoder(Message)


def add(connection: Connection, alert: Alert, what: What, receivers: Collection[str], now: datetime) -> None:
    """Owe each of the receivers a message, within the transaction that changes the alert.

    What of the same alert still waits is not sent any more: the new message says everything.
    """
    for receiver in receivers:
        mine = (alert_messages.c.receiver == receiver) & (alert_messages.c.state == "waiting")
        earlier = update(alert_messages).where(mine, alert_messages.c.alert == alert.id)
        connection.execute(earlier.values(state="superseded", changed=now))
        key = f"msg_{secrets.token_hex(12)}"
        message = Message(key=key, what=what, alert=alert, made=now)
        connection.execute(
            insert(alert_messages).values(
                key=key,
                alert=alert.id,
                receiver=receiver,
                what=what.value,
                made=now,
                document=msgspec.msgpack.encode(message),
                state="waiting",
                attempts=0,
                due=now,
                changed=now,
                error="",
            )
        )
        _bound(connection, receiver, now)


def _bound(connection: Connection, receiver: str, now: datetime) -> None:
    """Give up the oldest messages of a receiver that has not taken any for so long that very many wait."""
    mine = (alert_messages.c.receiver == receiver) & (alert_messages.c.state == "waiting")
    waiting: int = connection.execute(select(func.count()).select_from(alert_messages).where(mine)).scalar_one()
    if waiting <= MOST_WAITING:
        return
    oldest = select(alert_messages.c.id).where(mine).order_by(alert_messages.c.id).limit(waiting - MOST_WAITING)
    ids = list(connection.execute(oldest).scalars())
    gone = update(alert_messages).where(alert_messages.c.id.in_(ids))
    connection.execute(gone.values(state="dropped", changed=now, error="too many wait for this receiver"))
    count(connection, receiver, "dropped", len(ids))


def count(connection: Connection, receiver: str, what: str, more: int = 1) -> None:
    """Count messages of a receiver."""
    mine = (alert_counts.c.receiver == receiver) & (alert_counts.c.what == what)
    added = update(alert_counts).where(mine).values(count=alert_counts.c.count + more)
    if not connection.execute(added).rowcount:
        connection.execute(insert(alert_counts).values(receiver=receiver, what=what, count=more))


class Outbox:
    """Takes messages out, one at a time for each receiver. Safe to use from several processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def receivers(self, now: datetime) -> list[str]:
        """Those for which a message is due."""
        due = select(alert_messages.c.receiver).where(_due(now)).distinct().order_by(alert_messages.c.receiver)
        with self._database.read() as connection:
            return list(connection.execute(due).scalars())

    def take(self, receiver: str, now: datetime) -> Owed | None:
        """Hold the oldest message that is due for a receiver; None where there is none."""
        mine = select(alert_messages).where(_due(now), alert_messages.c.receiver == receiver)
        with self._database.write() as connection:
            while (row := connection.execute(mine.order_by(alert_messages.c.id).limit(1)).one_or_none()) is not None:
                held = update(alert_messages).where(alert_messages.c.id == row.id)
                try:
                    message = _newest(connection, row)
                except msgspec.MsgspecError:  # of another release; the others must not wait for it
                    connection.execute(held.values(state="dropped", changed=now, error="it cannot be read"))
                    count(connection, receiver, "dropped")
                    continue
                connection.execute(held.values(due=now + LEASE, attempts=row.attempts + 1, changed=now))
                return Owed(row.id, receiver, row.attempts + 1, message)
        return None

    def sent(self, owed: Owed, now: datetime) -> None:
        """The receiver has taken it."""
        with self._database.write() as connection:
            # Also where it was superseded meanwhile: it was sent all the same.
            mine = update(alert_messages).where(alert_messages.c.id == owed.id)
            connection.execute(mine.values(state="sent", changed=now, error=""))
            count(connection, owed.receiver, "sent")

    def failed(self, owed: Owed, error: str, pause: timedelta, now: datetime) -> None:
        """The receiver has not taken it, or it is not known whether it has: again after `pause`, or never."""
        expired = now - owed.message.made >= EXPIRES
        with self._database.write() as connection:
            mine = (alert_messages.c.id == owed.id) & (alert_messages.c.state == "waiting")
            state = "dropped" if expired else "waiting"
            later = min(pause, LONGEST_PAUSE)
            values = {"state": state, "changed": now, "error": error, "due": now + later}
            connection.execute(update(alert_messages).where(mine).values(**values))
            count(connection, owed.receiver, "failed")
            if expired:
                count(connection, owed.receiver, "dropped")

    def forget(self, now: datetime) -> None:
        """Remove what was sent, or given up, long ago."""
        old = (alert_messages.c.state != "waiting") & (alert_messages.c.changed < now - KEPT)
        with self._database.write() as connection:
            connection.execute(delete(alert_messages).where(old))


def _newest(connection: Connection, row: Row[Any]) -> Message:
    """A message with what is known of its alert by now, such as what it costs."""
    message = _MESSAGES.decode(row.document)
    newest = connection.execute(select(alerts.c.document).where(alerts.c.id == row.alert)).scalar()
    return message if newest is None else msgspec.structs.replace(message, alert=_ALERTS.decode(newest))


def _due(now: datetime) -> ColumnElement[bool]:
    """Waiting, and due; a moment further ahead than any pause is left from a clock that jumped."""
    columns = alert_messages.c
    return (columns.state == "waiting") & ((columns.due <= now) | (columns.due > now + max(LEASE, LONGEST_PAUSE)))
