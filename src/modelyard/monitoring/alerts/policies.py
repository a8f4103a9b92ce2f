"""When alerts of a deployment are over, the same, and told again: what `modelyard monitor set` says about it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from msgspec.structs import replace
from sqlalchemy import Connection, select

from modelyard.monitoring.alerts.alert import Policy
from modelyard.registry.monitor_tables import monitor_settings


class Policies:
    """The policies of deployments, within one transaction.

    Settings are read as plain data: whoever sends alerts needs nothing of what watches load.
    """

    def __init__(self, connection: Connection, all_of: Policy | None = None) -> None:
        """Look policies up on `connection`, or have `all_of` for every deployment."""
        self._connection, self._all = connection, all_of
        self._known: dict[str, Policy] = {}

    def of(self, deployment: str) -> Policy:
        """The policy of a deployment."""
        if self._all is not None:
            return self._all
        if deployment not in self._known:
            table = monitor_settings.c
            asked = select(table.document).where(table.deployment == deployment)
            self._known[deployment] = told(self._connection.execute(asked).scalar() or {})
        return self._known[deployment]


def told(settings: dict[str, Any]) -> Policy:
    """The policy in settings as they are stored.

    >>> told({"quiet": 5, "again": 60.0}).quiet, told({}) == Policy()
    (5, True)
    """
    policy = Policy()
    if "quiet" in settings:
        policy = replace(policy, quiet=int(settings["quiet"]))
    for name in ("again", "remind"):
        if name in settings:
            policy = replace(policy, **{name: timedelta(seconds=float(settings[name]))})
    return policy
