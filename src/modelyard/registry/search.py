"""Finding versions among many: by what the runs that made them measured and read, by tags, aliases and time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Connection, Select, and_, exists, func, or_, select

from modelyard.domain.names import Ref
from modelyard.errors import InvalidRequest
from modelyard.registry.database import Database
from modelyard.registry.keys import among
from modelyard.registry.runs import Condition
from modelyard.registry.tables import (
    SHORT,
    aliases,
    models,
    reports,
    run_data,
    run_values,
    run_versions,
    tags,
    versions,
)

FEW = 5_000
"""A condition that fewer versions fulfil is begun with; else versions are looked at, newest first."""


@dataclass(frozen=True, slots=True)
class Sought:
    """Which versions to list: those that fulfil all that is given. A moment is aware."""

    model: str | None = None
    where: tuple[Condition, ...] = ()
    tags: Mapping[str, str] | None = None
    data: str | None = None
    run: str | None = None
    alias: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Line:
    """A version as a list tells it. `values` are those of the metrics and parameters that were asked for."""

    model: str
    number: int
    digest: str
    created_at: datetime
    runtime: str
    proven: bool
    aliases: tuple[str, ...]
    tags: Mapping[str, str]
    values: Mapping[str, str]

    @property
    def ref(self) -> str:
        """How it is written: ``flights-delay@3``."""
        return f"{self.model}@{self.number}"


@dataclass(frozen=True, slots=True)
class Page:
    """Versions, newest first, and whether there are more than were asked for."""

    lines: tuple[Line, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class ModelLine:
    """A model as a list tells it."""

    name: str
    created_at: datetime
    versions: int
    newest: int
    aliases: Mapping[str, int]


Key: TypeAlias = tuple[str, int]
_OWN = (versions.c.model, versions.c.number)


def search(database: Database, sought: Sought) -> Page:
    """The newest versions that fulfil everything.

    Raises:
        InvalidRequest: data is not given as NAME or NAME@NUMBER.
    """
    filters = list(_filters(sought))
    with database.read() as connection:
        found = _chosen(connection, filters)
        for own in _of_version(sought):
            found = found.where(own)
        ordered = found.order_by(versions.c.created_at.desc(), versions.c.model, versions.c.number.desc())
        if sought.model is not None and not filters:
            ordered = found.order_by(versions.c.number.desc())
        rows = connection.execute(ordered.limit(sought.limit + 1)).all()
        shown = rows[: sought.limit]
        return Page(tuple(_lines(connection, shown, [one.name for one in sought.where])), len(rows) > sought.limit)


def list_models(database: Database, limit: int = 50, after: str = "") -> tuple[tuple[ModelLine, ...], bool]:
    """Models by name, from the one after `after` on, and whether there are more; none that has no version."""
    has_version = exists().where(versions.c.model == models.c.name)
    named = select(models).where(models.c.name > after, has_version).order_by(models.c.name).limit(limit + 1)
    with database.read() as connection:
        rows = connection.execute(named).all()
        names = [row.name for row in rows[:limit]]
        counted = select(versions.c.model, func.count(), func.max(versions.c.number)).group_by(versions.c.model)
        counts = {row[0]: row for row in connection.execute(counted.where(versions.c.model.in_(names)))}
        pointing: dict[str, dict[str, int]] = {}
        asked = select(aliases).where(aliases.c.model.in_(names)).order_by(aliases.c.alias)
        for row in connection.execute(asked):
            pointing.setdefault(row.model, {})[row.alias] = row.number
    lines = [
        ModelLine(row.name, row.created_at, counts[row.name][1], counts[row.name][2], pointing.get(row.name, {}))
        for row in rows[:limit]
    ]
    return tuple(lines), len(rows) > limit


@dataclass(frozen=True, slots=True)
class _Filter:
    """One thing asked for, in two forms: all keys that fulfil it, and whether the version at hand does."""

    keys: Callable[[], Select[Any]]
    holds: ColumnElement[bool]


def _chosen(connection: Connection, filters: Sequence[_Filter]) -> Select[Any]:
    """Versions that pass all filters, begun with the one that the fewest pass if these are few."""
    counts = [_counted(connection, each) for each in filters]
    if not counts or min(counts) > FEW:
        found = select(versions)
        for each in filters:
            found = found.where(each.holds)
        return found
    first = filters[counts.index(min(counts))]
    few = first.keys().distinct().subquery()
    found = select(versions).join(few, and_(_OWN[0] == few.c.model, _OWN[1] == few.c.number))
    for each in filters:
        if each is not first:
            found = found.where(each.holds)
    return found


def _counted(connection: Connection, each: _Filter) -> int:
    """How many pass, as far as that is few: no more are looked at."""
    some = each.keys().limit(FEW + 1).subquery()
    count: int = connection.execute(select(func.count()).select_from(some)).scalar_one()
    return count


def _filters(sought: Sought) -> Iterator[_Filter]:
    for condition in sought.where:
        yield _by_run(run_values, condition.holds())
    for name, text in (sought.tags or {}).items():
        yield _by_tag(name, text)
    if sought.data is not None:
        ref = Ref.parse(sought.data)
        if ref.alias is not None:
            raise InvalidRequest(f"{sought.data!r}: write NAME or NAME@NUMBER of a dataset")
        wanted = run_data.c.dataset == ref.model
        yield _by_run(run_data, wanted if ref.version is None else wanted & (run_data.c.number == ref.version))
    if sought.run is not None:
        yield _by_run(None, run_versions.c.run == sought.run)
    if sought.alias is not None:
        yield _of_table(aliases, aliases.c.alias == sought.alias)


def _by_run(table: Any, wanted: ColumnElement[bool]) -> _Filter:
    """What is known of a run that made the version."""
    mine = (run_versions.c.model == _OWN[0]) & (run_versions.c.number == _OWN[1])
    if table is None:
        return _of_table(run_versions, wanted)

    def keys() -> Select[Any]:
        made = run_versions.c.run == table.c.run
        return select(run_versions.c.model, run_versions.c.number).join(table, made).where(wanted)

    return _Filter(keys, exists().where(mine, table.c.run == run_versions.c.run, wanted))


def _of_table(table: Any, wanted: ColumnElement[bool]) -> _Filter:
    mine = (table.c.model == _OWN[0]) & (table.c.number == _OWN[1])
    return _Filter(lambda: select(table.c.model, table.c.number).where(wanted), exists().where(mine, wanted))


def _by_tag(name: str, text: str) -> _Filter:
    """A tag of the version, of which a later one stands before one that was packed; or of a run that made it."""
    later = tags.alias("later")
    over = exists().where(
        later.c.kind == "model",
        later.c.name == tags.c.name,
        later.c.number == tags.c.number,
        later.c.key == tags.c.key,
        ~later.c.packed,
    )
    is_it = and_(tags.c.kind == "model", tags.c.key == name, tags.c.short == text[:SHORT], tags.c.value == text)
    own = and_(is_it, or_(~tags.c.packed, ~over))
    of_run = and_(
        run_values.c.kind == "tag",
        run_values.c.name == name,
        run_values.c.short == text[:SHORT],
        run_values.c.text == text,
    )
    by_run = _by_run(run_values, of_run)
    mine = (tags.c.name == _OWN[0]) & (tags.c.number == _OWN[1])

    def keys() -> Select[Any]:
        tagged = select(tags.c.name.label("model"), tags.c.number.label("number")).where(own)
        both = tagged.union_all(by_run.keys()).subquery()
        return select(both.c.model, both.c.number)

    return _Filter(keys, or_(exists().where(mine, own), by_run.holds))


def _of_version(sought: Sought) -> Iterator[ColumnElement[bool]]:
    if sought.model is not None:
        yield versions.c.model == sought.model
    if sought.since is not None:
        yield versions.c.created_at >= sought.since
    if sought.until is not None:
        yield versions.c.created_at < sought.until


def _lines(connection: Connection, rows: Sequence[Any], names: Sequence[str]) -> Iterator[Line]:
    """With all that a list tells, each asked for once for all lines."""
    keys = [(row.model, row.number) for row in rows]
    pointing: dict[Key, list[str]] = {}
    asked = select(aliases).where(among(aliases.c.model, aliases.c.number, keys)).order_by(aliases.c.alias)
    for row in connection.execute(asked):
        pointing.setdefault((row.model, row.number), []).append(row.alias)
    proven = _proven(connection, rows, keys)
    tagged = _tags(connection, keys)
    values = _values(connection, keys, names) if names else {}
    for row, key in zip(rows, keys, strict=True):
        told = (tuple(pointing.get(key, ())), tagged.get(key, {}), values.get(key, {}))
        yield Line(row.model, row.number, row.digest, row.created_at, row.runtime, key in proven, *told)


def _proven(connection: Connection, rows: Sequence[Any], keys: Sequence[Key]) -> set[Key]:
    """As `Registry.proof` decides: by the newest report that is no what-if, on exactly this bundle."""
    table = reports.c
    told = select(table.model, table.number, table.passed, table.digest)
    asked = told.where(among(table.model, table.number, keys), ~table.what_if).order_by(table.id)
    newest = {(row.model, row.number): row for row in connection.execute(asked)}
    digests = {(row.model, row.number): row.digest for row in rows}
    return {key for key, row in newest.items() if row.passed and row.digest == digests[key]}


def _tags(connection: Connection, keys: Sequence[Key]) -> dict[Key, dict[str, str]]:
    found: dict[Key, dict[str, str]] = {}
    asked = select(tags).where(tags.c.kind == "model", among(tags.c.name, tags.c.number, keys))
    for row in connection.execute(asked.order_by(tags.c.packed.desc(), tags.c.key)):
        found.setdefault((row.name, row.number), {})[row.key] = row.value
    return found


def _values(connection: Connection, keys: Sequence[Key], names: Sequence[str]) -> dict[Key, dict[str, str]]:
    """Of several runs that made a version, the newest."""
    found: dict[Key, dict[str, str]] = {}
    of = among(run_versions.c.model, run_versions.c.number, keys)
    asked = (
        select(run_versions.c.model, run_versions.c.number, run_values.c.name, run_values.c.text)
        .join(run_values, run_values.c.run == run_versions.c.run)
        .where(of, run_values.c.kind.in_(("metric", "param")), run_values.c.name.in_(names))
        .order_by(run_versions.c.run)
    )
    for row in connection.execute(asked):
        found.setdefault((row.model, row.number), {})[row.name] = row.text
    return found
