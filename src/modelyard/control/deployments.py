"""Deployments: which version each should answer with, who decided it, and on what proof."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from modelyard.control.candidates import (
    candidates,
    end_with_deployment,
    newest_generation,
    refuse_while_open,
    split_of,
)
from modelyard.domain.desired import CANDIDATE, Deployment, DesiredState
from modelyard.domain.names import Ref, check_name
from modelyard.errors import DeploymentNotFound, InvalidRequest, PolicyDenied
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
        Conflict: a rollout of it is open.
        InvalidRequest: that cannot be the name of a deployment.
    """
    _check(to)
    version = registry.version(which)
    registry.bundle(version)
    unproven = admit(version, registry.proof(version) is not None, override_reason)
    with registry.database.write() as connection:
        refuse_while_open(connection, to)
        return replace_by(connection, to, Ref(version.model, version=version.number), unproven, by)


def replace_by(connection: Connection, name: str, ref: Ref, unproven: str | None, by: str) -> Decision:
    """Ask for the version `ref` behind the deployment `name`, in a transaction that is open."""
    made = _record(connection, name, ref, unproven, by)
    facts = {
        "model": ref.model,
        "number": ref.version,
        "unproven": unproven,
        "by": by,
        "at": _now(),
        "generation": made,
    }
    if _present(connection, name) is None:
        connection.execute(insert(deployments).values(name=name, **facts))
    else:
        connection.execute(update(deployments).where(deployments.c.name == name).values(**facts))
    return _decision(connection, made)


def present(connection: Connection, name: str) -> Row[Any]:
    """What a deployment answers with.

    Raises:
        DeploymentNotFound: there is none of that name.
    """
    row = _present(connection, name)
    if row is None:
        raise DeploymentNotFound(name, _names(connection))
    return row


def reason_for(connection: Connection, name: str, ref: Ref) -> str | None:
    """Why that version was let through without proof when it was last asked for behind a deployment, if it was."""
    table = deployment_changes.c
    asked = select(table.unproven).where(table.name == name, table.model == ref.model, table.number == ref.version)
    return connection.execute(asked.order_by(table.generation.desc()).limit(1)).scalar_one_or_none()


def undeploy(registry: Registry, name: str, by: str = "") -> Decision:
    """Take the deployment away; its history stays.

    Raises:
        DeploymentNotFound: there is none of that name.
    """
    with registry.database.write() as connection:
        present(connection, name)
        end_with_deployment(connection, name, by)
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
        return newest_generation(connection)


def desired_state(registry: Registry) -> DesiredState:
    """What the data plane is asked to serve, as of the newest decision."""
    joined = (deployments.c.model == versions.c.model) & (deployments.c.number == versions.c.number)
    asked = select(deployments, versions.c.digest).join(versions, joined).order_by(deployments.c.name)
    with registry.database.read() as connection:
        newest = newest_generation(connection)
        rows, others = connection.execute(asked).all(), candidates(connection)
    wanted = [_asked(registry, row, row.name) for row in rows]
    wanted += [_asked(registry, row, row.deployment + CANDIDATE) for row in others]
    return DesiredState(newest, tuple(wanted), tuple(map(split_of, others)))


def _check(name: str) -> None:
    check_name(name, "deployment")
    if name.endswith(CANDIDATE):
        raise InvalidRequest(f"{name!r}: names that end with {CANDIDATE!r} are those of candidates; take another")


def _asked(registry: Registry, row: Row[Any], name: str) -> Deployment:
    bundle = str(registry.folder(row.digest))
    return Deployment(name, row.model, row.number, row.digest, bundle, row.unproven)


def _present(connection: Connection, name: str) -> Row[Any] | None:
    return connection.execute(select(deployments).where(deployments.c.name == name)).one_or_none()


def _names(connection: Connection) -> list[str]:
    return list(connection.execute(select(deployments.c.name).order_by(deployments.c.name)).scalars())


def _record(connection: Connection, name: str, ref: Ref | None, unproven: str | None, by: str) -> int:
    following = newest_generation(connection) + 1
    model, number = (None, None) if ref is None else (ref.model, ref.version)
    connection.execute(
        insert(deployment_changes).values(
            generation=following, name=name, model=model, number=number, unproven=unproven, by=by, at=_now()
        )
    )
    return following


def _decision(connection: Connection, number: int) -> Decision:
    row = connection.execute(select(deployment_changes).where(deployment_changes.c.generation == number)).one()
    return _as_decision(row)


def _as_decision(row: Row[Any]) -> Decision:
    return Decision(row.generation, row.name, row.model, row.number, row.unproven, row.by, row.at)


def _now() -> datetime:
    return datetime.now(UTC)
