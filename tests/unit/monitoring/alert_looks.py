"""Looks at windows of an hour, written short."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from modelyard.monitoring.alerts import Look
from modelyard.monitoring.findings import Finding

FIRST = datetime(2026, 3, 1, tzinfo=UTC)
NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)


def hour(at: float) -> datetime:
    return FIRST + timedelta(hours=at)


def found(
    subject: str = "temp", watch: str = "drift.input", *, beyond: float = 3.0, sure: bool = True, **more: Any
) -> Finding:
    """A finding whose effect is `beyond` times its margin."""
    more = {"said": f"moved {beyond:g} times as far as is harmless", "margin": 0.1, "needed": 100.0, **more}
    evidence = 400.0 if sure else 1.0
    return Finding(deployment="flights", watch=watch, subject=subject, evidence=evidence, effect=0.1 * beyond, **more)


def look(at: float, *findings: Finding, looked: tuple[str, ...] = ("drift", "quality"), version: str = "m@1") -> Look:
    return Look(deployment="flights", version=version, window=hour(at), looked=looked, findings=findings)
