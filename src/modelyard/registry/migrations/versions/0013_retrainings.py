"""Retrainings: what was trained anew for a deployment, why, and what became of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

NAME = sa.String(128)


def upgrade() -> None:
    """Make the table of retrainings."""
    op.create_table(
        "retrainings",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("deployment", NAME, nullable=False),
        sa.Column("live", NAME, nullable=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("began", sa.DateTime(timezone=True), nullable=False),
        sa.Column("beat", sa.DateTime(timezone=True), nullable=False),
        sa.Column("process", sa.JSON(), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_retrainings"),
        sa.UniqueConstraint("live", name="uq_retrainings_live"),
    )
    op.create_index("ix_retrainings_deployment", "retrainings", ["deployment", "id"])
