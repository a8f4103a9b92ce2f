"""Alerts: what the watches of a deployment found, kept as something that begins, is acknowledged, is told, and ends.

`rules` decides, as a pure function of what is known and one more look; `store` keeps it in the metadata database, with
the messages that are owed in the same transaction; `courier` brings those to receivers and tries again.
"""

from modelyard.monitoring.alerts.alert import Alert, Look, Policy, State
from modelyard.monitoring.alerts.store import Alerts

__all__ = ["Alert", "Alerts", "Look", "Policy", "State"]
