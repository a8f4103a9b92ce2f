"""Whether a retraining is to begin by itself, and why. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from modelyard.project import seconds
from modelyard.retraining.plan import Plan
from modelyard.retraining.report import Report, Trigger


@dataclass(frozen=True, slots=True)
class OpenAlert:
    """An alert that goes on: `names` are its cause, and watches and kinds of its parts."""

    id: int
    version: str
    title: str
    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a deployment at one moment.

    `since` and `labelled_then` are when it began to be looked after and how many labelled rows it had then; `labelled`
    is how many it has now, None where that was not looked at. `before` are its retrainings, the newest first.
    """

    now: datetime
    since: datetime
    champion: str
    is_rolling: bool = False
    alerts: Sequence[OpenAlert] = ()
    before: Sequence[Report] = ()
    labelled: int | None = None
    labelled_then: int = 0


@dataclass(frozen=True, slots=True)
class Due:
    """A retraining that is to begin now."""

    trigger: Trigger
    why: str
    alerts: tuple[int, ...] = ()


def due(plan: Plan, facts: Facts) -> Due | None:
    """What is to begin; None: nothing.

    While a rollout is open or a retraining runs nothing begins, nor within the plan's pause after one has begun. Alerts
    come first, then labels, then the schedule. An alert begins one retraining, and another if it goes on long after.
    """
    if facts.is_rolling or not _rested(plan, facts):
        return None
    checks = {"alert": _on_alert, "labels": _on_labels, "schedule": _on_schedule}
    found = (check(plan, facts) for name, check in checks.items() if name in plan.on)
    return next((each for each in found if each is not None), None)


def _rested(plan: Plan, facts: Facts) -> bool:
    if not facts.before:
        return True
    last = facts.before[0]
    return last.state != "running" and facts.now - last.began >= timedelta(seconds=seconds(plan.pause))


def _on_alert(plan: Plan, facts: Facts) -> Due | None:
    again = timedelta(seconds=seconds(plan.again))
    answered = {alert for report in facts.before if facts.now - report.began < again for alert in report.alerts}
    mine = [
        alert
        for alert in facts.alerts
        if alert.version == facts.champion and alert.id not in answered and alert.names & set(plan.alerts)
    ]
    if not mine:
        return None
    more = f", and {len(mine) - 1} more" if len(mine) > 1 else ""
    return Due("alert", f"alert {mine[0].id}: {mine[0].title}{more}", tuple(alert.id for alert in mine))


def _on_labels(plan: Plan, facts: Facts) -> Due | None:
    if facts.labelled is None:
        return None
    then = facts.before[0].labelled if facts.before else facts.labelled_then
    new = facts.labelled - min(then, facts.labelled)
    if new < plan.labels:
        return None
    return Due("labels", f"{new:,} new labels, {facts.labelled:,} in all")


def _on_schedule(plan: Plan, facts: Facts) -> Due | None:
    last = max([facts.since, *(report.began for report in facts.before[:1])])
    if facts.now - last < timedelta(seconds=seconds(plan.every)):
        return None
    return Due("schedule", f"every {plan.every}, the last one {last:%Y-%m-%d %H:%M} UTC")
