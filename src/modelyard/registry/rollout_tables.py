"""The tables of rollouts that go on by themselves, in the metadata database."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKeyConstraint, Index, Integer, LargeBinary, String, Table

from modelyard.registry.tables import UtcTime, metadata

rollout_courses = Table(
    "rollout_courses",
    metadata,
    Column("rollout", Integer, primary_key=True, autoincrement=False),
    Column("step", Integer, nullable=False),
    Column("entered", Integer, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("document", LargeBinary, nullable=False),
    ForeignKeyConstraint(["rollout"], ["rollouts.id"]),
)
"""Where a rollout with a policy stands: `step`, which began with the decision `entered`. The document holds the rest
(`modelyard.control.courses.Course`). Whoever changes the row counts `revision` up."""

rollout_decisions = Table(
    "rollout_decisions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("rollout", Integer, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("action", String(16), nullable=False),
    Column("document", LargeBinary, nullable=False),
    ForeignKeyConstraint(["rollout"], ["rollouts.id"]),
    Index("ix_rollout_decisions_rollout", "rollout", "id"),
)
"""What was decided, with the whole snapshot that it rested on (`modelyard.control.courses.Stored`)."""
