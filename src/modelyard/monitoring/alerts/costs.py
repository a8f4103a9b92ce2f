"""What is known of a version's performance when an alert about something else begins."""

from __future__ import annotations

import zlib

import msgspec
from sqlalchemy import Connection, or_, select

from modelyard.monitoring.alerts.rules import loss
from modelyard.monitoring.findings import Finding, Kind
from modelyard.registry.monitor_tables import monitor_findings

_FINDINGS = msgspec.msgpack.Decoder(Finding)
_MOST = 50


def known_loss(connection: Connection, deployment: str, version: str) -> str:
    """What labels, or without them the estimate, said last; empty where they said nothing."""
    table = monitor_findings.c
    kinds = or_(*(table.watch.startswith(kind.value) for kind in (Kind.PERFORMANCE, Kind.ESTIMATE)))
    asked = select(table.document).where((table.deployment == deployment) & kinds)
    rows = connection.execute(asked.order_by(table.began.desc(), table.id.desc()).limit(_MOST)).scalars()
    found = [_FINDINGS.decode(zlib.decompress(raw)) for raw in rows]
    newest = max((finding.window for finding in found if finding.version == version and finding.window), default=None)
    return loss([finding for finding in found if finding.version == version and finding.window == newest])
