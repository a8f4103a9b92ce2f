"""What triggers are decided on, gathered from registry and records."""

from __future__ import annotations

from datetime import UTC, datetime

from modelyard.control import deployments, rollouts
from modelyard.errors import DeploymentNotFound, NotFound
from modelyard.home import Home
from modelyard.monitoring.alerts import Alerts
from modelyard.monitoring.alerts.alert import Alert
from modelyard.project import Project, read
from modelyard.registry import Registry
from modelyard.retraining.plan import Plan, plan_of
from modelyard.retraining.triggers import Facts, OpenAlert
from modelyard.retraining.turns import Turns
from modelyard.retraining.watched import Watch

_BEFORE = 200


def plan_for(watch: Watch) -> Plan:
    """The plan of a watched deployment as its project's file says it now.

    Raises:
        InvalidRequest: the file cannot be followed.
        NotFound: it is gone.
    """
    project: Project | None = read(watch.project)
    if project is None:
        raise NotFound(f"{watch.project} has no modelyard.toml any more, so {watch.deployment!r} is not trained again")
    return plan_of(project)


def gather(registry: Registry, watch: Watch, labelled: int | None) -> Facts:
    """The facts of this moment.

    Raises:
        DeploymentNotFound: there is no such deployment now.
    """
    there = {each.deployment: each for each in deployments.in_force(registry)}
    decision = there.get(watch.deployment)
    if decision is None or decision.model is None:
        raise DeploymentNotFound(watch.deployment, sorted(there))
    champion = f"{decision.model}@{decision.version}"
    return Facts(
        now=datetime.now(UTC),
        since=watch.since,
        champion=champion,
        is_rolling=any(each.deployment == watch.deployment for each in rollouts.open_rollouts(registry)),
        alerts=[_open(alert) for alert in Alerts(registry.database).listed(watch.deployment)],
        before=Turns(registry.database).listed(watch.deployment, _BEFORE),
        labelled=labelled,
        labelled_then=watch.labelled,
    )


def count_labels(home: Home, deployment: str) -> int:
    """How many labelled rows a deployment has; 0 where nothing of it is recorded."""
    from modelyard.records.query import RecordDatabase
    from modelyard.retraining.rows import count

    with RecordDatabase(home.records) as database:
        return count(database, deployment)


def _open(alert: Alert) -> OpenAlert:
    names = {alert.cause, *(part.watch for part in alert.parts), *(part.kind.value for part in alert.parts)}
    return OpenAlert(alert.id, alert.version, alert.title, frozenset(names))
