"""Rollouts: which candidate a deployment has, and every change of its share."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

NAME = sa.String(128)


def upgrade() -> None:
    """Make the tables of rollouts."""
    op.create_table(
        "rollouts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("deployment", NAME, nullable=False),
        sa.Column("live", NAME, nullable=True),
        sa.Column("model", NAME, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("before_model", NAME, nullable=False),
        sa.Column("before_number", sa.Integer(), nullable=False),
        sa.Column("strategy", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("share", sa.Float(), nullable=False),
        sa.Column("key", NAME, nullable=False),
        sa.Column("unproven", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_rollouts"),
        sa.UniqueConstraint("live", name="uq_rollouts_live"),
    )
    op.create_index("ix_rollouts_deployment", "rollouts", ["deployment", "id"])
    op.create_index("ix_rollouts_version", "rollouts", ["model", "number"])
    op.create_table(
        "rollout_changes",
        sa.Column("generation", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("rollout", sa.Integer(), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("share", sa.Float(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("by", sa.String(256), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("generation", name="pk_rollout_changes"),
        sa.ForeignKeyConstraint(["rollout"], ["rollouts.id"], name="fk_rollout_changes_rollout"),
    )
    op.create_index("ix_rollout_changes_rollout", "rollout_changes", ["rollout", "generation"])
