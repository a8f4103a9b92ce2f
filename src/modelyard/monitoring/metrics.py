"""What the monitor knows as Prometheus metrics, read from the metadata database whenever somebody asks."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import msgspec
from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy import Connection, func, select

from modelyard.monitoring.findings import Finding
from modelyard.registry.database import Database
from modelyard.registry.monitor_tables import monitor_findings, monitor_states, monitor_windows

_FINDINGS = msgspec.msgpack.Decoder(Finding)
_MOST = 1000
"""So many findings at most are told of a deployment: series are not free."""

_OF = ("deployment", "version", "watch", "subject", "slice")


def families(database: Database) -> Iterator[Metric]:
    """How far windows were looked at, what is in them, and how much evidence and effect the last ones had."""
    with database.read() as connection:
        reached = _reached(connection)
        yield from _windows(connection, reached)
        yield from _findings(connection)


def _reached(connection: Connection) -> dict[str, int]:
    table = monitor_states.c
    asked = select(table.deployment, table.reached).where((table.digest == "") & (table.watch == ""))
    return {row.deployment: row.reached for row in connection.execute(asked)}


def _windows(connection: Connection, reached: dict[str, int]) -> Iterator[Metric]:
    until = GaugeMetricFamily(
        "modelyard_monitor_reached_timestamp_seconds",
        "Up to which moment of event time windows were looked at.",
        labels=["deployment"],
    )
    rows = GaugeMetricFamily(
        "modelyard_monitor_window_rows", "Answered rows of the last window.", labels=["deployment"]
    )
    for deployment, moment in reached.items():
        until.add_metric([deployment], moment)
        table = monitor_windows.c
        here = (table.deployment == deployment) & (table.began < moment)
        newest = connection.execute(select(func.max(table.began)).where(here)).scalar()
        counted = select(func.sum(table.rows)).where((table.deployment == deployment) & (table.began == newest))
        rows.add_metric([deployment], float(connection.execute(counted).scalar() or 0))
    yield from (until, rows)


def _findings(connection: Connection) -> Iterator[Metric]:
    """Of every watch and subject what was said last; what alarmed long ago has given way to alerts."""
    evidence = GaugeMetricFamily(
        "modelyard_monitor_evidence_ratio", "Evidence beside what an alarm needs, when last told.", labels=_OF
    )
    effect = GaugeMetricFamily(
        "modelyard_monitor_effect_ratio", "Effect beside what would be harmless, when last told.", labels=_OF
    )
    table = monitor_findings.c
    told: set[tuple[str, ...]] = set()
    newest = connection.execute(select(table.document).order_by(table.began.desc(), table.id.desc()).limit(_MOST))
    for raw in newest.scalars():
        found = _FINDINGS.decode(zlib.decompress(raw))
        labels = (found.deployment, found.version, found.watch, found.subject, found.slice)
        if labels not in told:
            told.add(labels)
            evidence.add_metric(labels, found.evidence / found.needed if found.needed > 0 else float("inf"))
            effect.add_metric(labels, found.effect / found.margin if found.margin > 0 else found.effect)
    yield from (evidence, effect)
