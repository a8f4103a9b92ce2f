"""Alerts and their delivery as Prometheus metrics, read from the metadata database whenever somebody asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from sqlalchemy import Connection, func, select

from modelyard.monitoring.alerts.deliveries import Standing, standings
from modelyard.registry.alert_tables import alert_silences, alerts
from modelyard.registry.database import Database

_COUNTS = {
    "sent": ("modelyard_alert_messages_sent", "Messages that a receiver took."),
    "failed": ("modelyard_alert_attempts_failed", "Attempts after which a receiver had not taken a message."),
    "dropped": ("modelyard_alert_messages_dropped", "Messages that were given up: too old, or too many waited."),
}


def families(database: Database, now: datetime | None = None) -> Iterator[Metric]:
    """All metrics of alerts. Counts are of rows that are never removed, so that they do not go back."""
    now = now or datetime.now(UTC)
    with database.read() as connection:
        yield from _of_alerts(connection)
        held = select(func.count()).select_from(alert_silences).where(alert_silences.c.ends > now)
        held = held.where(alert_silences.c.starts <= now)
        counted = connection.execute(held).scalar_one()
    yield from _of_receivers(standings(database), now)
    yield GaugeMetricFamily("modelyard_alert_silences", "Silences that hold now.", value=counted)


def _of_alerts(connection: Connection) -> Iterator[Metric]:
    of = (alerts.c.deployment, alerts.c.kind, alerts.c.version, alerts.c.state)
    rows = connection.execute(select(*of, func.count().label("many")).group_by(*of)).all()
    now = GaugeMetricFamily("modelyard_alerts", "Alerts that go on.", labels=["deployment", "version", "kind", "state"])
    ever: Counter[tuple[str, str]] = Counter()
    for row in rows:
        ever[row.deployment, row.kind] += row.many
        if row.state != "resolved":
            now.add_metric([row.deployment, row.version, row.kind, row.state], row.many)
    opened = CounterMetricFamily("modelyard_alerts_opened", "Alerts that began.", labels=["deployment", "kind"])
    for labels, many in ever.items():
        opened.add_metric(labels, many)
    yield from (now, opened)


def _of_receivers(found: Sequence[Standing], now: datetime) -> Iterator[Metric]:
    for what, (name, said) in _COUNTS.items():
        family = CounterMetricFamily(name, said, labels=["receiver"])
        for each in found:
            family.add_metric([each.receiver.name], getattr(each, what))
        yield family
    many = GaugeMetricFamily("modelyard_alert_messages_waiting", "Messages that wait.", labels=["receiver"])
    age = GaugeMetricFamily(
        "modelyard_alert_message_oldest_seconds", "How long the oldest message has waited.", labels=["receiver"]
    )
    for each in found:
        many.add_metric([each.receiver.name], each.waiting)
        waited = (now - each.oldest).total_seconds() if each.oldest else 0.0
        age.add_metric([each.receiver.name], max(waited, 0.0))
    yield from (many, age)
