"""The tables of monitoring in the metadata database."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Index, Integer, LargeBinary, String, Table

from modelyard.registry.tables import UtcTime, metadata

monitor_settings = Table(
    "monitor_settings",
    metadata,
    Column("deployment", String(128), primary_key=True),
    Column("document", JSON, nullable=False),
    Column("by", String(256), nullable=False),
    Column("at", UtcTime, nullable=False),
)

monitor_windows = Table(
    "monitor_windows",
    metadata,
    Column("deployment", String(128), primary_key=True),
    Column("digest", String(80), primary_key=True),
    Column("began", BigInteger, primary_key=True, autoincrement=False),
    Column("seconds", Float, nullable=False),
    Column("model", String(128), nullable=False),
    Column("number", Integer, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("calls", LargeBinary, nullable=False),
    Column("profile", LargeBinary),
    Index("ix_monitor_windows_began", "deployment", "began"),
)
"""Closed windows of live calls; `began` is in seconds since 1970 by event time. The digest is empty for calls that
reached no version."""

monitor_states = Table(
    "monitor_states",
    metadata,
    Column("deployment", String(128), primary_key=True),
    Column("digest", String(80), primary_key=True),
    Column("watch", String(128), primary_key=True),
    Column("reached", BigInteger, nullable=False),
    Column("state", LargeBinary, nullable=False),
)
"""What watches have gathered, and up to which moment of event time (seconds since 1970) they have looked."""

monitor_findings = Table(
    "monitor_findings",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("deployment", String(128), nullable=False),
    Column("watch", String(128), nullable=False),
    Column("began", BigInteger, nullable=False),
    Column("alarm", Boolean, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Index("ix_monitor_findings_began", "deployment", "began"),
)
"""What watches said: all that alarmed, and what was said at the last look."""
