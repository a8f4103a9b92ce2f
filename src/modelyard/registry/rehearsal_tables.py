"""The table of rehearsals in the metadata database."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, LargeBinary, String, Table

from modelyard.registry.tables import UtcTime, metadata

rehearsals = Table(
    "rehearsals",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("deployment", String(128), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Index("ix_rehearsals_deployment", "deployment", "id"),
)
"""What each rehearsal of the way back came to (`modelyard.control.rehearsing.Rehearsal`)."""
