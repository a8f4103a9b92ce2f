"""Removing a version of a model, a version of data or a run: looked at, decided and done in one transaction.

What was stored of it is freed later, by collecting; see `modelyard.collecting.gc`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Connection, Table, delete, func, select
from sqlalchemy.exc import IntegrityError

from modelyard.domain.names import Kind, Named, Ref
from modelyard.domain.removal import Reference, Removal, in_the_way
from modelyard.errors import (
    DatasetNotFound,
    InvalidRequest,
    ModelNotFound,
    RunNotFound,
    RunRemoved,
    StillReferenced,
    VersionNotFound,
    VersionRemoved,
)
from modelyard.registry import removals
from modelyard.registry.database import Database
from modelyard.registry.tables import (
    aliases,
    dataset_sources,
    dataset_versions,
    datasets,
    deployment_changes,
    deployments,
    models,
    notes,
    reports,
    reproductions,
    rollouts,
    run_data,
    run_models,
    run_snapshots,
    run_values,
    run_versions,
    runs,
    tags,
    vaults,
    versions,
)


@dataclass(frozen=True, slots=True)
class Found:
    """A thing that may be removed, and everything that refers to it."""

    kind: Kind
    name: str
    number: int | None
    digest: str
    references: tuple[Reference, ...]


def look(database: Database, named: Named) -> Found:
    """What is known of the thing that `named` names, and what refers to it.

    Raises:
        ModelNotFound, DatasetNotFound, VersionNotFound, RunNotFound: there is none, or it was removed.
        InvalidRequest: it does not say which version by its number.
    """
    with database.read() as connection:
        return _FINDERS[named.kind](connection, named.which)


def remove(database: Database, named: Named, *, why: str, by: str = "", give_up_replay: bool = False) -> Removal:
    """Remove one thing for good. Its number is never given again, and who removed it and why is kept.

    Args:
        database: Where it is known.
        named: Which version or run, by number or id.
        why: The reason.
        by: Who wants it.
        give_up_replay: Remove a version that was deployed once, though predictions recorded then cannot be computed
            again; that this was accepted is kept with the removal.

    Raises:
        StillReferenced: listing what refers to it; nothing was removed.
        InvalidRequest: there is no reason, or the version is not named by its number.
        ModelNotFound, DatasetNotFound, VersionNotFound, RunNotFound: there is none, or it was removed before.
    """
    if not why.strip():
        raise InvalidRequest("say why: the reason is kept in place of what is removed")
    try:
        with database.write() as connection:
            found = _FINDERS[named.kind](connection, named.which)
            blocking = in_the_way(found.references, give_up_replay=give_up_replay)
            if blocking:
                raise StillReferenced(str(named), [str(one) for one in blocking])
            given_up = tuple(str(one.what) for one in found.references)
            removal = Removal(
                found.kind, found.name, found.number, found.digest, by, why.strip(), datetime.now(UTC), given_up
            )
            removals.record(connection, removal)
            _delete(connection, found)
            return removal
    except IntegrityError as error:  # a reference that came into being while this transaction looked
        raise StillReferenced(str(named), ["something that has just come to refer to it; look again"]) from error


def history(database: Database) -> tuple[Removal, ...]:
    """Everything that was ever removed, oldest first."""
    with database.read() as connection:
        return removals.all_of(connection)


def _model(connection: Connection, which: str) -> Found:
    ref = _numbered(which)
    here = (versions.c.model == ref.model) & (versions.c.number == ref.version)
    row = connection.execute(select(versions.c.digest).where(here).with_for_update()).one_or_none()
    if row is None:
        if not _has(connection, models, models.c.name == ref.model):
            raise ModelNotFound(ref.model, _names(connection, models))
        raise _missing(connection, "model", ref, versions.c.number, versions.c.model)
    return Found("model", ref.model, ref.version, row.digest, tuple(_of_version(connection, ref)))


def _of_version(connection: Connection, ref: Ref) -> Iterator[Reference]:
    def asked(column: Any, table: Table) -> list[str]:
        here = (table.c.model == ref.model) & (table.c.number == ref.version)
        return list(connection.execute(select(column).where(here).distinct().order_by(column)).scalars())

    for alias in asked(aliases.c.alias, aliases):
        yield Reference("alias", f"{ref.model}@{alias}")
    present = asked(deployments.c.name, deployments)
    for name in present:
        yield Reference("deployment", name)
    for name in asked(deployment_changes.c.name, deployment_changes):
        if name not in present:
            yield Reference("was deployed", name)
    for name in asked(rollouts.c.live, rollouts):
        if name is not None:
            yield Reference("rollout", name)
    for run in asked(run_models.c.run, run_models):
        yield Reference("loaded by", run)


def _data(connection: Connection, which: str) -> Found:
    ref = _numbered(which)
    here = (dataset_versions.c.dataset == ref.model) & (dataset_versions.c.number == ref.version)
    row = connection.execute(select(dataset_versions.c.digest).where(here).with_for_update()).one_or_none()
    if row is None:
        if not _has(connection, datasets, datasets.c.name == ref.model):
            raise DatasetNotFound(ref.model, _names(connection, datasets))
        raise _missing(connection, "data", ref, dataset_versions.c.number, dataset_versions.c.dataset)
    by = (run_data.c.dataset == ref.model) & (run_data.c.number == ref.version)
    readers = connection.execute(select(run_data.c.run).where(by).order_by(run_data.c.run)).scalars()
    references = [Reference("read by", run) for run in readers]
    of = (dataset_sources.c.source == ref.model) & (dataset_sources.c.source_number == ref.version)
    made = connection.execute(select(dataset_sources).where(of)).all()
    references += [Reference("source of", f"{one.dataset}@{one.number}") for one in made]
    return Found("data", ref.model, ref.version, row.digest, tuple(references))


def _run(connection: Connection, which: str) -> Found:
    row = connection.execute(select(runs).where(runs.c.id == which).with_for_update()).one_or_none()
    if row is None:
        gone = removals.of_run(connection, which)
        if gone is not None:
            raise RunRemoved(which, str(gone))
        newest = select(runs.c.id).order_by(runs.c.started_at.desc()).limit(3)
        raise RunNotFound(which, connection.execute(newest).scalars().all())
    made = connection.execute(select(run_versions).where(run_versions.c.run == which)).all()
    references = [Reference("made", f"{one.model}@{one.number}") for one in made]
    taken = connection.execute(select(run_snapshots).where(run_snapshots.c.run == which)).all()
    references += [Reference("took", f"{one.dataset}@{one.number}") for one in taken]
    if row.state == "running":
        references.append(Reference("under way", which))
    return Found("run", which, None, row.digest or "", tuple(references))


_Finder: TypeAlias = Callable[[Connection, str], Found]
_FINDERS: dict[Kind, _Finder] = {"model": _model, "data": _data, "run": _run}


def _delete(connection: Connection, found: Found) -> None:
    """Remove the row of the thing and what belongs to it."""
    for table in (tags, notes):
        mine = (table.c.kind == found.kind) & (table.c.name == found.name) & (table.c.number == (found.number or 0))
        connection.execute(delete(table).where(mine))
    if found.kind == "model":
        for table in (reports, reproductions, vaults, run_versions, versions):
            connection.execute(delete(table).where(table.c.model == found.name, table.c.number == found.number))
    elif found.kind == "data":
        for table in (run_snapshots, dataset_sources, dataset_versions):
            connection.execute(delete(table).where(table.c.dataset == found.name, table.c.number == found.number))
    else:
        for table in (run_values, run_data, run_models):
            connection.execute(delete(table).where(table.c.run == found.name))
        connection.execute(delete(runs).where(runs.c.id == found.name))


def _numbered(which: str) -> Ref:
    ref = Ref.parse(which)
    if ref.version is None:
        raise InvalidRequest(f"{which!r}: say which version by its number, such as {ref.model}@1")
    return ref


def _missing(connection: Connection, kind: Kind, ref: Ref, number: Any, name: Any) -> VersionNotFound:
    asked = ref.version or 0
    newest = list(
        connection.execute(select(number).where(name == ref.model).order_by(number.desc()).limit(3)).scalars()
    )
    gone = removals.of_version(connection, kind, ref.model, asked)
    if gone is not None:
        return VersionRemoved(ref.model, asked, str(gone), newest)
    return VersionNotFound(ref.model, asked, newest)


def _has(connection: Connection, table: Table, here: ColumnElement[bool]) -> bool:
    count: int = connection.execute(select(func.count()).select_from(table).where(here)).scalar_one()
    return count > 0


def _names(connection: Connection, table: Table) -> list[str]:
    return list(connection.execute(select(table.c.name).order_by(table.c.name)).scalars())
