"""Alerts, what happened to them, and the messages that are owed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

MOMENT = sa.DateTime(timezone=True)
NAME, WHO = sa.String(128), sa.String(256)


def upgrade() -> None:
    """Make the tables of alerts."""
    _alerts()
    _silences()
    _receivers()


def _alerts() -> None:
    op.create_table(
        "alerts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("deployment", NAME, nullable=False),
        sa.Column("version", sa.String(160), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("opened", MOMENT, nullable=False),
        sa.Column("last", MOMENT, nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_alerts"),
    )
    op.create_index("ix_alerts_of", "alerts", ["deployment", "state", "last"])
    op.create_index("ix_alerts_state", "alerts", ["state"])
    op.create_table(
        "alert_events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("alert", sa.Integer(), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("what", sa.String(16), nullable=False),
        sa.Column("by", WHO, nullable=False),
        sa.Column("why", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_alert_events"),
        sa.ForeignKeyConstraint(["alert"], ["alerts.id"], name="fk_alert_events_alert"),
    )
    op.create_index("ix_alert_events_alert", "alert_events", ["alert", "id"])


def _silences() -> None:
    op.create_table(
        "alert_silences",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("deployment", NAME, nullable=False),
        sa.Column("version", sa.String(160), nullable=False),
        sa.Column("watch", NAME, nullable=False),
        sa.Column("subject", sa.String(256), nullable=False),
        sa.Column("starts", MOMENT, nullable=False),
        sa.Column("ends", MOMENT, nullable=False),
        sa.Column("by", WHO, nullable=False),
        sa.Column("why", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_alert_silences"),
    )
    op.create_index("ix_alert_silences_ends", "alert_silences", ["ends"])


def _receivers() -> None:
    op.create_table(
        "alert_receivers",
        sa.Column("name", NAME, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("by", WHO, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_alert_receivers"),
    )
    op.create_table(
        "alert_counts",
        sa.Column("receiver", NAME, nullable=False),
        sa.Column("what", sa.String(16), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("receiver", "what", name="pk_alert_counts"),
    )
    op.create_table(
        "alert_messages",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(160), nullable=False),
        sa.Column("alert", sa.Integer(), nullable=False),
        sa.Column("receiver", NAME, nullable=False),
        sa.Column("what", sa.String(16), nullable=False),
        sa.Column("made", MOMENT, nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due", MOMENT, nullable=False),
        sa.Column("changed", MOMENT, nullable=False),
        sa.Column("error", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_alert_messages"),
        sa.UniqueConstraint("key", name="uq_alert_messages_key"),
    )
    op.create_index("ix_alert_messages_waiting", "alert_messages", ["state", "receiver", "id"])
    op.create_index("ix_alert_messages_alert", "alert_messages", ["alert", "receiver"])
