"""The registry: what versions there are, which of them are proven, and which names point at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeAlias

import msgspec
from sqlalchemy import Connection, Row, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from modelyard.bundle.layout import Bundle
from modelyard.domain.manifest import RuntimeName
from modelyard.domain.names import Ref, check_name
from modelyard.domain.parity import ParityReport
from modelyard.domain.removal import Removal
from modelyard.errors import (
    AliasNotFound,
    ContentCollected,
    InvalidRequest,
    ModelNotFound,
    VersionNotFound,
    VersionRemoved,
)
from modelyard.home import Home
from modelyard.registry import removals
from modelyard.registry.again import again
from modelyard.registry.database import Database
from modelyard.registry.store import BundleStore, store_of
from modelyard.registry.tables import SHORT, alias_changes, aliases, models, reports, tags, versions


@dataclass(frozen=True, slots=True)
class Version:
    """One registered version of a model.

    `path` is the folder of this machine that its bundle is in, once `Registry.bundle` or `Registry.folder` brought it.
    """

    model: str
    number: int
    digest: str
    created_at: datetime
    runtime: RuntimeName
    tags: Mapping[str, str]
    path: Path

    @property
    def ref(self) -> str:
        """How it is written: ``flights-delay@3``."""
        return f"{self.model}@{self.number}"


@dataclass(frozen=True, slots=True)
class Model:
    """A name, how many versions it has, the newest of them, and what its aliases point at."""

    name: str
    created_at: datetime
    versions: int
    newest: int
    aliases: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AliasChange:
    """An alias was pointed at `version`, or taken away (None). `previous` is what it pointed at before."""

    alias: str
    version: int | None
    previous: int | None
    by: str
    why: str
    at: datetime


@dataclass(frozen=True, slots=True)
class StoredReport:
    """A parity report and when it was stored."""

    at: datetime
    report: ParityReport


_REPORTS = msgspec.msgpack.Decoder(ParityReport)

Which: TypeAlias = Version | Ref | str
"""Every way of saying which version: one in hand, a parsed reference, or ``name[@version|@alias]``."""


class Registry:
    """Models, versions, aliases and reports of one home. Safe to use from several threads and processes."""

    def __init__(self, home: Home, database: Database, store: BundleStore) -> None:
        self.home = home
        self.database = database
        self._store = store

    @property
    def store(self) -> BundleStore:
        """Where the bundles are."""
        return self._store

    @classmethod
    def open(cls, home: Home | str | Path | None = None) -> Self:
        """The registry of `home` (see `Home.locate`), made if it is not there yet.

        Raises:
            Failed: the database cannot be used.
            Rejected: it was written by a newer release.
        """
        place = Home.locate(home).create()
        return cls(place, Database(place.database), store_of(place))

    def close(self) -> None:
        """Close the database. Using the registry after that opens it again."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # versions ---------------------------------------------------------------------------------------------------------

    def register(self, bundle: Bundle, *, number: int | None = None, at: datetime | None = None) -> Version:
        """Make `bundle` the next version of the model it names; the same bundle again gives the same version back.

        One that was registered elsewhere, `at` some time, gets the `number` that it has there, if that is free.

        The files are stored and checked first, then one transaction makes the version known: a process killed at any
        moment leaves either the whole version or none. Concurrent calls get different numbers.

        Raises:
            BundleRefused: a file changed since `bundle` was opened.
        """
        check_name(bundle.manifest.name)
        return again(lambda: self._register(bundle, number, at))

    def _register(self, bundle: Bundle, number: int | None, at: datetime | None) -> Version:
        name = bundle.manifest.name
        self._store.put(bundle)
        with self.database.write() as connection:
            _lock_model(connection, name)
            same = (versions.c.model == name) & (versions.c.digest == bundle.digest)
            row = connection.execute(select(versions).where(same)).one_or_none()
            if row is None:
                if not self._store.has(bundle):
                    raise ContentCollected(f"the bundle {bundle.digest} was collected before it was registered")
                here = versions.c.model == name
                number = removals.next_number(connection, "model", name, versions.c.number, here, number)
                connection.execute(insert(versions).values(number=number, **_facts(bundle, at)))
                if packed := _packed_tags(bundle, number):
                    connection.execute(insert(tags), packed)
                row = connection.execute(select(versions).where(same)).one()
        return self._version(row)

    def version(self, which: Which) -> Version:
        """The version that `which` names: by number, by alias, or the newest.

        Raises:
            ModelNotFound, VersionNotFound, AliasNotFound: there is none; the message lists what there is.
            VersionRemoved: there was; the message says who removed it, when and why.
            InvalidRequest: a text that is no reference.
        """
        if isinstance(which, Version):
            return which
        ref = Ref.parse(which) if isinstance(which, str) else which
        with self.database.read() as connection:
            _require_model(connection, ref.model)
            return self._version(_find(connection, ref))

    def versions(self, model: str) -> tuple[Version, ...]:
        """All versions of `model`, oldest first.

        Raises:
            ModelNotFound: there is no such model.
        """
        with self.database.read() as connection:
            _require_model(connection, model)
            found = select(versions).where(versions.c.model == model).order_by(versions.c.number)
            return tuple(self._version(row) for row in connection.execute(found))

    def removed(self, model: str) -> tuple[Removal, ...]:
        """Versions of `model` that there were, in the order in which they were removed.

        Raises:
            ModelNotFound: there is no such model.
        """
        with self.database.read() as connection:
            _require_model(connection, model)
            return removals.all_of(connection, "model", model)

    def models(self) -> tuple[Model, ...]:
        """All models, by name."""
        counted = (
            select(models, func.count().label("versions"), func.max(versions.c.number).label("newest"))
            .join(versions, versions.c.model == models.c.name)
            .group_by(models.c.name, models.c.created_at)
            .order_by(models.c.name)
        )
        pointing: dict[str, dict[str, int]] = {}
        with self.database.read() as connection:
            for row in connection.execute(select(aliases).order_by(aliases.c.alias)):
                pointing.setdefault(row.model, {})[row.alias] = row.number
            rows = connection.execute(counted).all()
        return tuple(
            Model(row.name, row.created_at, row.versions, row.newest, pointing.get(row.name, {})) for row in rows
        )

    def bundle(self, which: Which) -> Bundle:
        """The bundle of a version, every byte checked against the digest it was registered with.

        Raises:
            BundleRefused: the files are not those that were registered.
        """
        return self._store.open(self.version(which).digest)

    def holds(self, digest: str) -> bool:
        """Whether some version here has the bundle of that digest."""
        with self.database.read() as connection:
            return connection.execute(select(versions.c.number).where(versions.c.digest == digest)).first() is not None

    def folder(self, digest: str) -> Path:
        """Where the files of the bundle of that digest lie on this machine, brought here if need be.

        Raises:
            BundleRefused: they are gone from where they had to be brought from.
            Unavailable: that place does not answer.
        """
        return self._store.fetch(digest)

    # aliases ----------------------------------------------------------------------------------------------------------

    def set_alias(self, model: str, alias: str, version: int, by: str = "", why: str = "") -> AliasChange:
        """Point `alias` of `model` at `version`, and remember who did it and why.

        Raises:
            ModelNotFound, VersionNotFound: there is no such version.
            InvalidRequest: the alias is malformed, or would be read as a version number.
        """
        Ref.parse(f"{model}@{version}")
        if Ref.parse(f"{model}@{check_name(alias, 'alias')}").alias is None:
            raise InvalidRequest(f"{alias!r} cannot be an alias: it would be read as a version number")
        with self.database.write() as connection:
            _require_model(connection, model)
            _find(connection, Ref(model, version=version))
            return _point(connection, model, AliasChange(alias, version, None, by, why, _now()))

    def remove_alias(self, model: str, alias: str, by: str = "", why: str = "") -> AliasChange:
        """Take `alias` away from `model`; its history is kept.

        Raises:
            ModelNotFound, AliasNotFound: there is no such alias.
        """
        with self.database.write() as connection:
            _require_model(connection, model)
            _find(connection, Ref(model, alias=alias))
            return _point(connection, model, AliasChange(alias, None, None, by, why, _now()))

    def aliases(self, model: str) -> dict[str, int]:
        """Alias to version number.

        Raises:
            ModelNotFound: there is no such model.
        """
        with self.database.read() as connection:
            _require_model(connection, model)
            return _aliases(connection, model)

    def alias_history(self, model: str) -> tuple[AliasChange, ...]:
        """Every change of an alias of `model`, oldest first.

        Raises:
            ModelNotFound: there is no such model.
        """
        with self.database.read() as connection:
            _require_model(connection, model)
            found = select(alias_changes).where(alias_changes.c.model == model).order_by(alias_changes.c.id)
            return tuple(
                AliasChange(row.alias, row.number, row.previous, row.by, row.why, row.at)
                for row in connection.execute(found)
            )

    # reports ----------------------------------------------------------------------------------------------------------

    def add_report(self, which: Which, report: ParityReport) -> StoredReport:
        """Keep `report` with the version, whatever it says."""
        version, stored = self.version(which), StoredReport(_now(), report)
        with self.database.write() as connection:
            connection.execute(
                insert(reports).values(
                    model=version.model,
                    number=version.number,
                    digest=report.digest,
                    passed=report.passed,
                    what_if=bool(report.overrides),
                    at=stored.at,
                    document=msgspec.msgpack.encode(report),  # unlike JSON it keeps infinities
                )
            )
        return stored

    def stored_reports(self, which: Which) -> tuple[StoredReport, ...]:
        """All reports on a version with the time each was stored, oldest first."""
        version = self.version(which)
        with self.database.read() as connection:
            found = select(reports).where(_is_on(version)).order_by(reports.c.id)
            return tuple(_stored(row) for row in connection.execute(found))

    def reports(self, which: Which) -> tuple[ParityReport, ...]:
        """All reports on a version, oldest first."""
        return tuple(stored.report for stored in self.stored_reports(which))

    def proof(self, which: Which) -> ParityReport | None:
        """The newest report on exactly this bundle, what-if runs aside, if it passed; else None.

        The newest decides: a version that passed once and then failed is not proven.
        """
        version = self.version(which)
        decisive = select(reports).where(_is_on(version), ~reports.c.what_if).order_by(reports.c.id.desc()).limit(1)
        with self.database.read() as connection:
            row = connection.execute(decisive).one_or_none()
        if row is None or row.digest != version.digest:
            return None
        report = _stored(row).report
        return report if report.proves else None

    def _version(self, row: Row[Any]) -> Version:
        folder = self._store.locate(row.digest)
        return Version(row.model, row.number, row.digest, row.created_at, row.runtime, row.tags, folder)


def _now() -> datetime:
    return datetime.now(UTC)


def _facts(bundle: Bundle, at: datetime | None) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        "model": manifest.name,
        "digest": bundle.digest,
        "created_at": at or _now(),
        "runtime": manifest.runtime,
        "tags": dict(manifest.tags),
    }


def _packed_tags(bundle: Bundle, number: int) -> list[dict[str, Any]]:
    """The bundle's own tags as a search finds them."""
    of = {"kind": "model", "name": bundle.manifest.name, "number": number, "packed": True, "by": "", "at": _now()}
    return [
        {**of, "key": key[:128], "value": value, "short": value[:SHORT]} for key, value in bundle.manifest.tags.items()
    ]


def _lock_model(connection: Connection, name: str) -> None:
    """Make the model's row if need be, and keep others from numbering versions of it until this transaction ends."""
    try:
        with connection.begin_nested():
            connection.execute(insert(models).values(name=name, created_at=_now()))
    except IntegrityError:  # it is there
        connection.execute(select(models.c.name).where(models.c.name == name).with_for_update())


def _require_model(connection: Connection, name: str) -> None:
    if connection.execute(select(models.c.name).where(models.c.name == name)).one_or_none() is None:
        raise ModelNotFound(name, connection.execute(select(models.c.name).order_by(models.c.name)).scalars().all())


def _find(connection: Connection, ref: Ref) -> Row[Any]:
    number = ref.version
    if ref.alias is not None:
        known = _aliases(connection, ref.model)
        if ref.alias not in known:
            raise AliasNotFound(ref.model, ref.alias, sorted(known))
        number = known[ref.alias]
    of_model = select(versions).where(versions.c.model == ref.model).order_by(versions.c.number.desc())
    wanted = of_model if number is None else of_model.where(versions.c.number == number)
    row = connection.execute(wanted.limit(1)).one_or_none()
    if row is None:
        gone = None if number is None else removals.of_version(connection, "model", ref.model, number)
        if gone is not None and number is not None:
            raise VersionRemoved(ref.model, number, str(gone), _newest(connection, ref.model))
        raise VersionNotFound(ref.model, "newest" if number is None else number, _newest(connection, ref.model))
    return row


def _newest(connection: Connection, model: str, limit: int = 3) -> Sequence[int]:
    numbers = select(versions.c.number).where(versions.c.model == model).order_by(versions.c.number.desc())
    return connection.execute(numbers.limit(limit)).scalars().all()


def _aliases(connection: Connection, model: str) -> dict[str, int]:
    found = select(aliases).where(aliases.c.model == model).order_by(aliases.c.alias)
    return {row.alias: row.number for row in connection.execute(found)}


def _point(connection: Connection, model: str, change: AliasChange) -> AliasChange:
    """Carry out `change` and write it into the history."""
    here = (aliases.c.model == model) & (aliases.c.alias == change.alias)
    previous = _aliases(connection, model).get(change.alias)
    if change.version is None:
        connection.execute(delete(aliases).where(here))
    elif previous is None:
        connection.execute(insert(aliases).values(model=model, alias=change.alias, number=change.version))
    else:
        connection.execute(update(aliases).where(here).values(number=change.version))
    done = AliasChange(change.alias, change.version, previous, change.by, change.why, change.at)
    connection.execute(
        insert(alias_changes).values(
            model=model,
            alias=done.alias,
            number=done.version,
            previous=done.previous,
            by=done.by,
            why=done.why,
            at=done.at,
        )
    )
    return done


def _is_on(version: Version) -> Any:
    return (reports.c.model == version.model) & (reports.c.number == version.number)


def _stored(row: Row[Any]) -> StoredReport:
    return StoredReport(row.at, _REPORTS.decode(row.document))
