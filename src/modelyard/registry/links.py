"""What is joined to what in the metadata database, asked in both directions; every question is answered by an index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

import msgspec
from sqlalchemy import ColumnElement, Connection, Select, Table, func, select

from modelyard.domain.run import CodeState, DataUse, Metric, Outcome
from modelyard.domain.timeline import Change
from modelyard.registry.database import Database
from modelyard.registry.keys import among
from modelyard.registry.tables import (
    alias_changes,
    aliases,
    dataset_sources,
    dataset_versions,
    deployment_changes,
    deployments,
    run_data,
    run_models,
    run_snapshots,
    run_versions,
    runs,
    versions,
)

Key: TypeAlias = tuple[str, int]
"""Name and number: of a version of a model, or of a dataset."""


class RunHead(msgspec.Struct, frozen=True):
    """As much of a run as is told where many are; the rest of its record is not read."""

    id: str
    name: str
    started_at: datetime
    by: str
    code: CodeState
    data: DataUse
    outcome: Outcome
    seconds: float | None = None
    metrics: dict[str, Metric] = {}


@dataclass(frozen=True, slots=True)
class Some:
    """The first of many: ids of runs or keys of versions of data, and how many there are in all."""

    found: tuple[Any, ...]
    total: int


@dataclass(frozen=True, slots=True)
class DataHead:
    """As much of a dataset version as is told where many are."""

    key: Key
    created_at: datetime
    by: str
    note: str
    files: int
    bytes: int
    origin: dict[str, Any]


@dataclass(frozen=True, slots=True)
class VersionHead:
    """A version, the aliases that point at it, and those that once did."""

    key: Key
    digest: str
    created_at: datetime
    runtime: str
    aliases: tuple[str, ...]
    were: tuple[str, ...]


_HEAD = msgspec.msgpack.Decoder(RunHead)


class Links:
    """The links of one registry. Safe to use from several threads and processes, but for those of one moment."""

    def __init__(self, database: Database, connection: Connection | None = None) -> None:
        self._database, self._connection = database, connection

    @contextmanager
    def at_one_moment(self) -> Iterator[Links]:
        """The links as they are now, for as many questions as there are: in one transaction, which costs one way."""
        with self._database.read() as connection:
            yield Links(self._database, connection)

    # things -----------------------------------------------------------------------------------------------------------

    def runs(self, ids: Iterable[str]) -> dict[str, RunHead]:
        """Runs by id; those that are not there are left out."""
        rows = self._rows(select(runs.c.document).where(runs.c.id.in_(_unique(ids))))
        heads = [_HEAD.decode(row.document) for row in rows]
        return {head.id: head for head in heads}

    def versions(self, keys: Iterable[Key]) -> dict[Key, VersionHead]:
        """Versions of models by name and number, with their aliases."""
        wanted = _unique(keys)
        shown = (versions.c.model, versions.c.number, versions.c.digest, versions.c.created_at, versions.c.runtime)
        rows = self._rows(select(*shown).where(_among(versions, "model", wanted)).order_by(*shown[:2]))
        pointing = self._names(aliases, wanted)
        pointed = self._names(alias_changes, wanted)
        return {
            (row.model, row.number): VersionHead(
                (row.model, row.number),
                row.digest,
                row.created_at,
                row.runtime,
                tuple(sorted(pointing.get((row.model, row.number), ()))),
                tuple(
                    sorted(pointed.get((row.model, row.number), set()) - pointing.get((row.model, row.number), set()))
                ),
            )
            for row in rows
        }

    def data(self, keys: Iterable[Key]) -> dict[Key, DataHead]:
        """Versions of data by name and number."""
        table = dataset_versions.c
        shown = (table.dataset, table.number, table.created_at, table.by, table.note, table.files, table.bytes)
        asked = select(*shown, table.origin).where(_among(dataset_versions, "dataset", _unique(keys)))
        return {(row[0], row[1]): DataHead((row[0], row[1]), *row[2:]) for row in self._rows(asked)}

    def deployment_names(self) -> tuple[str, ...]:
        """Deployments that there are now."""
        return tuple(row.name for row in self._rows(select(deployments.c.name).order_by(deployments.c.name)))

    def deployment_changes(self, name: str) -> tuple[Change, ...]:
        """What was decided about a deployment, oldest first; nothing where there never was one."""
        table = deployment_changes.c
        rows = self._rows(select(deployment_changes).where(table.name == name).order_by(table.generation))
        return tuple(Change(row.at, _ref(row.model, row.number), row.by, row.unproven or "") for row in rows)

    def alias_changes(self, model: str, alias: str) -> tuple[Change, ...]:
        """What an alias was pointed at, oldest first; nothing where there never was one."""
        table = alias_changes.c
        mine = (table.model == model) & (table.alias == alias)
        rows = self._rows(select(alias_changes).where(mine).order_by(table.id))
        return tuple(Change(row.at, _ref(model, row.number), row.by, row.why) for row in rows)

    # up ---------------------------------------------------------------------------------------------------------------

    def that_made(self, keys: Iterable[Key]) -> tuple[tuple[Key, str], ...]:
        """Versions of models, each with a run within which it was packed."""
        return self._pairs(run_versions, "model", keys)

    def that_took(self, keys: Iterable[Key]) -> tuple[tuple[Key, str], ...]:
        """Versions of data, each with a run within which it was taken."""
        return self._pairs(run_snapshots, "dataset", keys)

    def sources(self, keys: Iterable[Key]) -> tuple[tuple[Key, Key], ...]:
        """Versions of data, each with one that it was made from."""
        asked = select(dataset_sources).where(_among(dataset_sources, "dataset", _unique(keys)))
        return tuple(((row.dataset, row.number), (row.source, row.source_number)) for row in self._rows(asked))

    def read_by(self, ids: Iterable[str]) -> tuple[tuple[str, Key, bool], ...]:
        """Runs, each with a version of data, and whether that was seen to be read or only declared."""
        asked = select(run_data).where(run_data.c.run.in_(_unique(ids)))
        return tuple((row.run, (row.dataset, row.number), row.was_read) for row in self._rows(asked))

    def loaded_by(self, ids: Iterable[str]) -> tuple[tuple[str, Key], ...]:
        """Runs, each with a version of a model that it loaded."""
        return self._of_runs(run_models, "model", ids)

    # down -------------------------------------------------------------------------------------------------------------

    def made_by(self, ids: Iterable[str]) -> tuple[tuple[str, Key], ...]:
        """Runs, each with a version that was packed within it."""
        return self._of_runs(run_versions, "model", ids)

    def taken_by(self, ids: Iterable[str]) -> tuple[tuple[str, Key], ...]:
        """Runs, each with a version of data that was taken within it."""
        return self._of_runs(run_snapshots, "dataset", ids)

    def that_read(self, key: Key, limit: int) -> Some:
        """Runs that read (or declared) a version of data: first those that made what is deployed, then the newest."""
        here = (run_data.c.dataset == key[0]) & (run_data.c.number == key[1])
        live = (
            select(run_data.c.run)
            .join(run_versions, run_versions.c.run == run_data.c.run)
            .join(
                deployments,
                (deployments.c.model == run_versions.c.model) & (deployments.c.number == run_versions.c.number),
            )
            .where(here)
            .distinct()
            .limit(limit)
        )
        return self._some(run_data, run_data.c.run, here, limit, live)

    def that_loaded(self, key: Key, limit: int) -> Some:
        """Runs that loaded a version of a model, newest first."""
        here = (run_models.c.model == key[0]) & (run_models.c.number == key[1])
        return self._some(run_models, run_models.c.run, here, limit)

    def that_ran(self, commit: str, limit: int) -> Some:
        """Runs whose code was at a commit, newest first."""
        return self._some(runs, runs.c.id, runs.c.commit == commit, limit)

    def made_of(self, key: Key, limit: int) -> Some:
        """Versions of data that were made from one."""
        table = dataset_sources.c
        here = (table.source == key[0]) & (table.source_number == key[1])
        total = self._rows(select(func.count()).select_from(dataset_sources).where(here))[0][0]
        rows = self._rows(select(table.dataset, table.number).where(here).order_by(table.dataset).limit(limit))
        return Some(tuple((row[0], row[1]) for row in rows), total)

    def deployed(self, keys: Iterable[Key]) -> tuple[tuple[Key, str], ...]:
        """Versions, each with a deployment that it was at some time behind."""
        table = deployment_changes.c
        asked = select(table.model, table.number, table.name).distinct()
        rows = self._rows(asked.where(_among(deployment_changes, "model", _unique(keys))).order_by(table.name))
        return tuple(((row.model, row.number), row.name) for row in rows)

    # helpers ----------------------------------------------------------------------------------------------------------

    def _rows(self, asked: Select[Any]) -> Sequence[Any]:
        if self._connection is not None:
            return self._connection.execute(asked).all()
        with self._database.read() as connection:
            return connection.execute(asked).all()

    def _names(self, table: Table, keys: Sequence[Key]) -> dict[Key, set[str]]:
        found: dict[Key, set[str]] = {}
        asked = select(table.c.model, table.c.number, table.c.alias).where(_among(table, "model", keys)).distinct()
        for row in self._rows(asked):
            found.setdefault((row.model, row.number), set()).add(row.alias)
        return found

    def _pairs(self, table: Table, name: str, keys: Iterable[Key]) -> tuple[tuple[Key, str], ...]:
        asked = select(table.c[name], table.c.number, table.c.run).where(_among(table, name, _unique(keys)))
        return tuple(((row[0], row[1]), row[2]) for row in self._rows(asked.order_by(table.c.run)))

    def _of_runs(self, table: Table, name: str, ids: Iterable[str]) -> tuple[tuple[str, Key], ...]:
        asked = select(table.c.run, table.c[name], table.c.number).where(table.c.run.in_(_unique(ids)))
        return tuple((row[0], (row[1], row[2])) for row in self._rows(asked.order_by(*asked.selected_columns)))

    def _some(
        self, table: Table, id_: Any, here: ColumnElement[bool], limit: int, first: Select[Any] | None = None
    ) -> Some:
        """Ids begin with the time, so that their order is that of time."""
        found = [] if first is None else [row[0] for row in self._rows(first)]
        rows = self._rows(select(id_).where(here).order_by(id_.desc()).limit(limit))
        total = len(rows)
        if total == limit:
            total = self._rows(select(func.count()).select_from(table).where(here))[0][0]
        return Some(tuple(dict.fromkeys([*found, *(row[0] for row in rows)]))[:limit], total)


def _among(table: Table, name: str, keys: Sequence[Key]) -> ColumnElement[bool]:
    return among(table.c[name], table.c.number, keys)


def _unique(items: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(items))


def _ref(model: str | None, number: int | None) -> str | None:
    return None if model is None or number is None else f"{model}@{number}"
