"""Which deployments have a candidate beside what they answer with, and the numbers that all decisions share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from modelyard.domain.desired import Split
from modelyard.errors import Conflict
from modelyard.registry.tables import deployment_changes, rollout_changes, rollouts, versions


def newest_generation(connection: Connection) -> int:
    """The number of the newest decision about a deployment or its candidate; 0 before the first."""
    asked = [select(func.coalesce(func.max(table.c.generation), 0)) for table in (deployment_changes, rollout_changes)]
    return max(int(connection.execute(each).scalar_one()) for each in asked)


def candidates(connection: Connection) -> list[Row[Any]]:
    """The open rollouts, each with the digest of its candidate, by deployment."""
    joined = (rollouts.c.model == versions.c.model) & (rollouts.c.number == versions.c.number)
    asked = select(rollouts, versions.c.digest).join(versions, joined).where(rollouts.c.live.is_not(None))
    return list(connection.execute(asked.order_by(rollouts.c.live)).all())


def split_of(row: Row[Any]) -> Split:
    """What the data plane is told of an open rollout."""
    shadow = row.strategy == "shadow" or (row.strategy == "canary" and row.share <= 0.0)
    return Split(row.deployment, row.share, f"{row.deployment}/{row.id}", row.key, shadow)


def refuse_while_open(connection: Connection, deployment: str) -> None:
    """See that no rollout of a deployment is open.

    Raises:
        Conflict: one is.
    """
    row = connection.execute(select(rollouts).where(rollouts.c.live == deployment)).one_or_none()
    if row is not None:
        raise Conflict(
            f"a rollout of {deployment!r} to {row.model}@{row.number} is open: end it by "
            f"`modelyard promote {deployment}` or `modelyard rollback {deployment}` first"
        )


def record_change(connection: Connection, rollout: int, action: str, share: float, reason: str, by: str) -> int:
    """Write a change of a rollout down, under the next number of all decisions, which is given back."""
    following = newest_generation(connection) + 1
    facts = {"rollout": rollout, "action": action, "share": share, "reason": reason, "by": by, "at": datetime.now(UTC)}
    connection.execute(insert(rollout_changes).values(generation=following, **facts))
    return following


def end_with_deployment(connection: Connection, deployment: str, by: str) -> None:
    """Close the rollout of a deployment that is taken away, if one is open."""
    row = connection.execute(select(rollouts).where(rollouts.c.live == deployment)).one_or_none()
    if row is not None:
        values = {"state": "rolled back", "share": 0.0, "live": None}
        connection.execute(update(rollouts).where(rollouts.c.id == row.id).values(**values))
        record_change(connection, row.id, "rollback", 0.0, "the deployment was taken away", by)
