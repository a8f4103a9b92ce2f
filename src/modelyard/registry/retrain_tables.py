"""The table of retrainings in the metadata database."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Index, Integer, LargeBinary, String, Table, UniqueConstraint

from modelyard.registry.tables import UtcTime, metadata

retrainings = Table(
    "retrainings",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("deployment", String(128), nullable=False),
    Column("live", String(128)),
    Column("state", String(16), nullable=False),
    Column("began", UtcTime, nullable=False),
    Column("beat", UtcTime, nullable=False),
    Column("process", JSON, nullable=False),
    Column("document", LargeBinary, nullable=False),
    UniqueConstraint("live", name="uq_retrainings_live"),
    Index("ix_retrainings_deployment", "deployment", "id"),
)
"""`live` is the model while it goes on, so that a model has one at a time; `beat` is when its process was last known to
be there; `document` is the whole report."""
