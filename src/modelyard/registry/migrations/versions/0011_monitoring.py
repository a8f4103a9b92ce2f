"""Settings of monitoring, closed windows, what watches have gathered, and what they said."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Make the tables of monitoring."""
    op.create_table(
        "monitor_settings",
        sa.Column("deployment", sa.String(128), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("by", sa.String(256), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("deployment", name="pk_monitor_settings"),
    )
    op.create_table(
        "monitor_windows",
        sa.Column("deployment", sa.String(128), nullable=False),
        sa.Column("digest", sa.String(80), nullable=False),
        sa.Column("began", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("calls", sa.LargeBinary(), nullable=False),
        sa.Column("profile", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("deployment", "digest", "began", name="pk_monitor_windows"),
    )
    op.create_index("ix_monitor_windows_began", "monitor_windows", ["deployment", "began"])
    op.create_table(
        "monitor_states",
        sa.Column("deployment", sa.String(128), nullable=False),
        sa.Column("digest", sa.String(80), nullable=False),
        sa.Column("watch", sa.String(128), nullable=False),
        sa.Column("reached", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("deployment", "digest", "watch", name="pk_monitor_states"),
    )
    op.create_table(
        "monitor_findings",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("deployment", sa.String(128), nullable=False),
        sa.Column("watch", sa.String(128), nullable=False),
        sa.Column("began", sa.BigInteger(), nullable=False),
        sa.Column("alarm", sa.Boolean(), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_monitor_findings"),
    )
    op.create_index("ix_monitor_findings_began", "monitor_findings", ["deployment", "began"])
