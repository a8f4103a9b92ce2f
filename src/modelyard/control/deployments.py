"""Deployments: which version each should answer with, who decided it, and on what proof."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from modelyard.domain.desired import Deployment, DesiredState
from modelyard.domain.names import check_name
from modelyard.errors import DeploymentNotFound, PolicyDenied
from modelyard.registry import Registry, Version
from modelyard.registry.registry import Which
from modelyard.registry.tables import deployment_changes, deployments, versions


@dataclass(frozen=True, slots=True)
class Decision:
    """One change of one deployment: to `version` of `model`, or taken away (both None).

    `unproven` is the reason given for deploying without a passing parity report; `generation` numbers all changes.
    """

    generation: int
    deployment: str
    model: str | None
    version: int | None
    unproven: str | None
    by: str
    at: datetime


def admit(version: Version, proven: bool, override_reason: str | None) -> str | None:
    """Decide whether `version` may be deployed; returns the reason to record when it goes without proof.

    A proven version needs no reason, and one given for it is not recorded.

    Raises:
        PolicyDenied: it is not proven and no reason is given.
    """
    if proven:
        return None
    if override_reason is None or not override_reason.strip():
        raise PolicyDenied(
            f"{version.ref} has no passing parity report, so nothing shows that it gives the answers of training: "
            f"run `modelyard verify {version.ref}`, or deploy it with --unproven REASON, which is recorded"
        )
    return override_reason.strip()


def deploy(registry: Registry, which: Which, to: str, override_reason: str | None = None, by: str = "") -> Decision:
    """Ask for `which` behind the deployment `to`, in place of what is there.

    Asking again for what is already asked for is a decision too: it makes the data plane try again what failed.

    Raises:
        PolicyDenied: the version has no passing parity report and `override_reason` is not given.
        ModelNotFound, VersionNotFound, AliasNotFound: no such version.
        BundleRefused: its files are not those that were registered.
    """
    check_name(to, "deployment")
    version = registry.version(which)
    registry.bundle(version)
    unproven = admit(version, registry.proof(version) is not None, override_reason)
    with registry.database.write() as connection:
        present = _present(connection, to)
        made = _record(connection, to, version, unproven, by)
        facts = {"number": version.number, "unproven": unproven, "by": by, "at": _now(), "generation": made}
        if present is None:
            connection.execute(insert(deployments).values(name=to, model=version.model, **facts))
        else:
            here = deployments.c.name == to
            connection.execute(update(deployments).where(here).values(model=version.model, **facts))
        return _decision(connection, made)


def undeploy(registry: Registry, name: str, by: str = "") -> Decision:
    """Take the deployment away; its history stays.

    Raises:
        DeploymentNotFound: there is none of that name.
    """
    with registry.database.write() as connection:
        if _present(connection, name) is None:
            raise DeploymentNotFound(name, _names(connection))
        connection.execute(delete(deployments).where(deployments.c.name == name))
        return _decision(connection, _record(connection, name, None, None, by))


def in_force(registry: Registry) -> tuple[Decision, ...]:
    """The decision behind each present deployment, by name."""
    with registry.database.read() as connection:
        rows = connection.execute(select(deployments).order_by(deployments.c.name)).all()
        return tuple(_decision(connection, row.generation) for row in rows)


def history(registry: Registry, name: str) -> tuple[Decision, ...]:
    """Every decision about the deployment `name`, oldest first, also after it was taken away.

    Raises:
        DeploymentNotFound: there never was one of that name.
    """
    changed = select(deployment_changes).where(deployment_changes.c.name == name)
    with registry.database.read() as connection:
        rows = connection.execute(changed.order_by(deployment_changes.c.generation)).all()
        if not rows:
            raise DeploymentNotFound(name, _names(connection))
    return tuple(_as_decision(row) for row in rows)


def generation(registry: Registry) -> int:
    """The number of the newest decision; 0 before the first."""
    with registry.database.read() as connection:
        return _generation(connection)


def desired_state(registry: Registry) -> DesiredState:
    """What the data plane is asked to serve, as of the newest decision."""
    joined = (deployments.c.model == versions.c.model) & (deployments.c.number == versions.c.number)
    asked = select(deployments, versions.c.digest).join(versions, joined).order_by(deployments.c.name)
    with registry.database.read() as connection:
        newest = _generation(connection)
        rows = connection.execute(asked).all()
    return DesiredState(newest, tuple(_asked(registry, row) for row in rows))


def _generation(connection: Connection) -> int:
    newest: int = connection.execute(select(func.coalesce(func.max(deployment_changes.c.generation), 0))).scalar_one()
    return newest


def _asked(registry: Registry, row: Row[Any]) -> Deployment:
    bundle = str(registry.folder(row.digest))
    return Deployment(row.name, row.model, row.number, row.digest, bundle, row.unproven)


def _present(connection: Connection, name: str) -> Row[Any] | None:
    return connection.execute(select(deployments).where(deployments.c.name == name)).one_or_none()


def _names(connection: Connection) -> list[str]:
    return list(connection.execute(select(deployments.c.name).order_by(deployments.c.name)).scalars())


def _record(connection: Connection, name: str, version: Version | None, unproven: str | None, by: str) -> int:
    following = _generation(connection) + 1
    model, number = (None, None) if version is None else _key(version)
    connection.execute(
        insert(deployment_changes).values(
            generation=following, name=name, model=model, number=number, unproven=unproven, by=by, at=_now()
        )
    )
    return following


def _key(version: Version) -> tuple[str, int]:
    return version.model, version.number


def _decision(connection: Connection, number: int) -> Decision:
    row = connection.execute(select(deployment_changes).where(deployment_changes.c.generation == number)).one()
    return _as_decision(row)


def _as_decision(row: Row[Any]) -> Decision:
    return Decision(row.generation, row.name, row.model, row.number, row.unproven, row.by, row.at)


def _now() -> datetime:
    return datetime.now(UTC)
