"""By what those who register content and those who collect it know of each other."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the counters, and the list of packs that were collected before anybody knew them."""
    counters = op.create_table(
        "ledger",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_ledger"),
    )
    op.bulk_insert(counters, [{"name": "registered", "value": 0}, {"name": "collected", "value": 0}])
    op.create_table(
        "collected_packs",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_collected_packs"),
    )
