"""What an opened metadata database is compared with, readable without loading SQLAlchemy."""

from __future__ import annotations

from pathlib import Path

STEPS = Path(__file__).parent / "migrations" / "versions"

NEWEST = max(file.name[:4] for file in STEPS.glob("[0-9]*.py"))
"""The last migration this release knows; told by the files' names, so that one that is up to date needs no Alembic."""
