"""The tables of alerts: what is known of them, what happened to them, and what receivers are to be told."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, ForeignKeyConstraint, Index, Integer, LargeBinary, String, Table

from modelyard.registry.tables import UtcTime, metadata

alerts = Table(
    "alerts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("deployment", String(128), nullable=False),
    Column("version", String(160), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("opened", UtcTime, nullable=False),
    Column("last", UtcTime, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Index("ix_alerts_of", "deployment", "state", "last"),
    Index("ix_alerts_state", "state"),
)
"""`last` is the last window in which it was found, `document` the whole alert."""

alert_events = Table(
    "alert_events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("alert", Integer, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("what", String(16), nullable=False),
    Column("by", String(256), nullable=False),
    Column("why", String, nullable=False),
    ForeignKeyConstraint(["alert"], ["alerts.id"]),
    Index("ix_alert_events_alert", "alert", "id"),
)

alert_silences = Table(
    "alert_silences",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("deployment", String(128), nullable=False),
    Column("version", String(160), nullable=False),
    Column("watch", String(128), nullable=False),
    Column("subject", String(256), nullable=False),
    Column("starts", UtcTime, nullable=False),
    Column("ends", UtcTime, nullable=False, index=True),
    Column("by", String(256), nullable=False),
    Column("why", String, nullable=False),
)

alert_receivers = Table(
    "alert_receivers",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("settings", JSON, nullable=False),
    Column("by", String(256), nullable=False),
    Column("at", UtcTime, nullable=False),
)
"""Where alerts are sent. `settings` say where secrets are found, and hold none."""

alert_counts = Table(
    "alert_counts",
    metadata,
    Column("receiver", String(128), primary_key=True),
    Column("what", String(16), primary_key=True),
    Column("count", BigInteger, nullable=False),
)
"""How many messages each receiver took (``sent``), how many attempts failed, how many were given up: never less."""

alert_messages = Table(
    "alert_messages",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", String(160), nullable=False, unique=True),
    Column("alert", Integer, nullable=False),
    Column("receiver", String(128), nullable=False),
    Column("what", String(16), nullable=False),
    Column("made", UtcTime, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due", UtcTime, nullable=False),
    Column("changed", UtcTime, nullable=False),
    Column("error", String, nullable=False),
    Index("ix_alert_messages_waiting", "state", "receiver", "id"),
    Index("ix_alert_messages_alert", "alert", "receiver"),
)
"""The outbox: written in the transaction that changes the alert. `alert` is 0 for a test of the receiver."""
