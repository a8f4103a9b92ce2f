"""Rollouts that go on by themselves: their policy and place, and every decision with what it rested on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Make the tables of driven rollouts."""
    op.create_table(
        "rollout_courses",
        sa.Column("rollout", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("entered", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("rollout", name="pk_rollout_courses"),
        sa.ForeignKeyConstraint(["rollout"], ["rollouts.id"], name="fk_rollout_courses_rollout"),
    )
    op.create_table(
        "rollout_decisions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("rollout", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_rollout_decisions"),
        sa.ForeignKeyConstraint(["rollout"], ["rollouts.id"], name="fk_rollout_decisions_rollout"),
    )
    op.create_index("ix_rollout_decisions_rollout", "rollout_decisions", ["rollout", "id"])
