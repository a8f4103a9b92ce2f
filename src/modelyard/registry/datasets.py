"""Dataset versions in the metadata database, and where the chunks of their content lie."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, func, insert, select
from sqlalchemy.exc import IntegrityError

from modelyard.datasets.checkout import read_tree
from modelyard.datasets.facts import Facts, Profile, decode_facts, encode_facts
from modelyard.datasets.packs import Place, packs_of
from modelyard.datasets.store import ChunkStore
from modelyard.datasets.tree import Tree
from modelyard.domain.names import check_name
from modelyard.domain.removal import Removal
from modelyard.errors import DatasetNotFound, VersionNotFound, VersionRemoved
from modelyard.home import Home
from modelyard.registry import ledger, removals
from modelyard.registry.database import Database
from modelyard.registry.dataset_version import DatasetVersion, Draft, dataset_ref
from modelyard.registry.tables import chunks, dataset_sources, dataset_versions, datasets

__all__ = ["DatabaseIndex", "DatasetVersion", "Datasets", "Draft"]

_AT_ONCE = 500


class DatabaseIndex:
    """The places of chunks, in a table."""

    def __init__(self, database: Database, since: int | None = None) -> None:
        """`since` is what the counter of collections was before anything was found to be stored; see `ledger`."""
        self._database = database
        self.since = since

    def find(self, digests: Collection[bytes]) -> Mapping[bytes, Place]:
        """The places of those of these chunks that are stored."""
        found: dict[bytes, Place] = {}
        asked = select(chunks.c.digest, chunks.c.pack, chunks.c.offset, chunks.c.size)
        with self._database.read() as connection:
            if self.since is None:
                self.since = ledger.count(connection, "collected")
            for part in _parts(list(digests)):
                rows = connection.execute(asked.where(chunks.c.digest.in_(part)))
                found |= {digest: Place(pack, offset, size) for digest, pack, offset, size in rows}
        return found

    def add(self, places: Mapping[bytes, Place]) -> None:
        """Make the chunks of a pack known; what is known stays where it is.

        Raises:
            ContentCollected: the pack was taken for a leftover and is gone.
        """
        rows = [
            {"digest": digest, "pack": place.pack, "offset": place.offset, "size": place.size}
            for digest, place in places.items()
        ]
        with self._database.write() as connection:
            ledger.require_kept(connection, {place.pack for place in places.values()})
            # Both databases know the clause, each by its own dialect; that of the other is slow to import.
            dialect = import_module(f"sqlalchemy.dialects.{connection.dialect.name}")
            connection.execute(dialect.insert(chunks).on_conflict_do_nothing(), rows)

    def replace(self, places: Mapping[bytes, Place]) -> None:
        """Make the chunks of a pack known there, wherever they were.

        Raises:
            ContentCollected: the pack was taken for a leftover and is gone.
        """
        rows = [{"digest": digest, **place._asdict()} for digest, place in places.items()]
        with self._database.write() as connection:
            ledger.require_kept(connection, {place.pack for place in places.values()})
            made = import_module(f"sqlalchemy.dialects.{connection.dialect.name}").insert(chunks)
            new = {name: made.excluded[name] for name in Place._fields}
            connection.execute(made.on_conflict_do_update(index_elements=["digest"], set_=new), rows)


class Datasets:
    """Datasets and their versions in one home. Safe to use from several threads and processes."""

    def __init__(self, home: Home, database: Database, since: int | None = None) -> None:
        """See `DatabaseIndex` for `since`."""
        self._database = database
        self._index = DatabaseIndex(database, since)
        self.store = ChunkStore(packs_of(home), self._index)

    def close(self) -> None:
        """Let go of open files."""
        self.store.packs.close()

    def register(
        self, name: str, draft: Draft, *, number: int | None = None, at: datetime | None = None
    ) -> tuple[DatasetVersion, bool]:
        """Make a stored snapshot the next version of the dataset `name`, and say whether it is new.

        The same content again gives the version that there is. One that was made elsewhere, `at` some time, gets the
        `number` that it has there, if that is free.

        Raises:
            InvalidRequest: the name cannot be one.
            ContentCollected: what was found to be stored was collected meanwhile; nothing is registered.
        """
        check_name(name, "dataset")
        digest = draft.tree.digest
        with self._database.write() as connection:
            _lock_dataset(connection, name)
            same = (dataset_versions.c.dataset == name) & (dataset_versions.c.digest == digest)
            row = connection.execute(select(dataset_versions).where(same)).one_or_none()
            is_new = row is None
            if row is None:
                here, column = dataset_versions.c.dataset == name, dataset_versions.c.number
                number = removals.next_number(connection, "data", name, column, here, number)
                values = {"dataset": name, "number": number, "digest": digest, **_values(draft, at)}
                ledger.register(connection, draft.content(), self._index.since)
                connection.execute(insert(dataset_versions).values(values))
                if draft.made_from:
                    links = [_source(name, number, source) for source in draft.made_from]
                    connection.execute(insert(dataset_sources), links)
                row = connection.execute(select(dataset_versions).where(same)).one()
        return _version(row), is_new

    def version(self, ref: str) -> DatasetVersion:
        """The version that ``flights@2`` names, or the newest for ``flights``.

        Raises:
            DatasetNotFound, VersionNotFound: there is none; the message lists what there is.
            InvalidRequest: a text that is no reference to a dataset version.
        """
        return _version(self._row(ref))

    def profile(self, ref: str) -> Profile:
        """The counts that describe the columns of a version's tables; raises as `version` does."""
        found: Profile = msgspec.msgpack.decode(self._row(ref).profile)
        return found

    def tree(self, ref: str) -> Tree:
        """The files of a version; raises as `version` does.

        Raises:
            DataDamaged: the list of files is not the one that was recorded.
        """
        return read_tree(*self.list_of(ref), self.store)

    def list_of(self, ref: str) -> tuple[str, tuple[bytes, ...]]:
        """The digest of a version and the chunks that its list of files is in; raises as `version` does."""
        row = self._row(ref)
        return row.digest, msgspec.msgpack.decode(row.tree, type=tuple[bytes, ...])

    def having(self, name: str, digest: str) -> DatasetVersion | None:
        """The version of the dataset `name` that has this digest, if there is one."""
        same = (dataset_versions.c.dataset == name) & (dataset_versions.c.digest == digest)
        with self._database.read() as connection:
            row = connection.execute(select(dataset_versions).where(same)).one_or_none()
        return None if row is None else _version(row)

    def before(self, name: str) -> tuple[Facts, Profile] | None:
        """What the newest version of the dataset says of its content; None where there is no version."""
        wanted = select(dataset_versions).where(dataset_versions.c.dataset == name)
        with self._database.read() as connection:
            row = connection.execute(wanted.order_by(dataset_versions.c.number.desc()).limit(1)).one_or_none()
        return None if row is None else (decode_facts(row.facts), msgspec.msgpack.decode(row.profile))

    def versions(self, name: str) -> tuple[DatasetVersion, ...]:
        """All versions of the dataset, oldest first.

        Raises:
            DatasetNotFound: there is no such dataset.
        """
        with self._database.read() as connection:
            _require(connection, name)
            wanted = select(dataset_versions).where(dataset_versions.c.dataset == name)
            return tuple(_version(row) for row in connection.execute(wanted.order_by(dataset_versions.c.number)))

    def removed(self, name: str) -> tuple[Removal, ...]:
        """Versions of the dataset that there were, in the order in which they were removed.

        Raises:
            DatasetNotFound: there is no such dataset.
        """
        with self._database.read() as connection:
            _require(connection, name)
            return removals.all_of(connection, "data", name)

    def newest(self) -> tuple[DatasetVersion, ...]:
        """The newest version of every dataset, by name."""
        last = select(dataset_versions.c.dataset, func.max(dataset_versions.c.number).label("number"))
        of_each = last.group_by(dataset_versions.c.dataset).subquery()
        here = (dataset_versions.c.dataset == of_each.c.dataset) & (dataset_versions.c.number == of_each.c.number)
        with self._database.read() as connection:
            rows = connection.execute(select(dataset_versions).join(of_each, here).order_by(dataset_versions.c.dataset))
            return tuple(_version(row) for row in rows)

    def lend(self, ref: str, to: Datasets) -> DatasetVersion:
        """Make a version known in another home under its own number, with all its content; raises as `version` does.

        Packs in a folder are linked rather than copied.
        """
        row = self._row(ref)
        tree_chunks = msgspec.msgpack.decode(row.tree, type=tuple[bytes, ...])
        tree = read_tree(row.digest, tree_chunks, self.store)
        content = tree.chunks().union(tree_chunks)
        self.store.lend(content, to.store)
        to.adopt(row._asdict(), content)
        return _version(row)

    def adopt(self, values: Mapping[str, Any], content: Collection[bytes]) -> None:
        """Register a version as it is registered elsewhere, number and all, once its `content` is here.

        Raises:
            ContentCollected: some of these chunks are not here any more.
        """
        here = (dataset_versions.c.dataset == values["dataset"]) & (dataset_versions.c.number == values["number"])
        with self._database.write() as connection:
            _lock_dataset(connection, values["dataset"])
            if connection.execute(select(dataset_versions.c.number).where(here)).one_or_none() is None:
                ledger.register(connection, content)
                connection.execute(insert(dataset_versions).values(dict(values)))

    def _row(self, ref: str) -> Row[Any]:
        name, number = dataset_ref(ref)
        with self._database.read() as connection:
            _require(connection, name)
            wanted = select(dataset_versions).where(dataset_versions.c.dataset == name)
            ordered = wanted.order_by(dataset_versions.c.number.desc())
            asked = ordered if number is None else ordered.where(dataset_versions.c.number == number)
            row = connection.execute(asked.limit(1)).one_or_none()
            if row is None:
                newest = [found.number for found in connection.execute(ordered.limit(3))]
                gone = None if number is None else removals.of_version(connection, "data", name, number)
                if gone is not None and number is not None:
                    raise VersionRemoved(name, number, str(gone), newest)
                raise VersionNotFound(name, number or "newest", newest)
            return row


def _values(draft: Draft, at: datetime | None) -> dict[str, Any]:
    return {
        "created_at": at or datetime.now(UTC),
        "by": draft.by,
        "note": draft.note,
        "files": len(draft.tree.entries),
        "bytes": draft.tree.bytes,
        "origin": dict(draft.origin),
        "facts": encode_facts(draft.facts),
        "profile": msgspec.msgpack.encode(draft.profile),
        "tree": msgspec.msgpack.encode(draft.tree_chunks),
    }


def _version(row: Row[Any]) -> DatasetVersion:
    return DatasetVersion(
        dataset=row.dataset,
        number=row.number,
        digest=row.digest,
        created_at=row.created_at,
        by=row.by,
        note=row.note,
        files=row.files,
        bytes=row.bytes,
        origin=row.origin,
        facts=decode_facts(row.facts),
    )


def _source(name: str, number: int, source: DatasetVersion) -> dict[str, Any]:
    return {"dataset": name, "number": number, "source": source.dataset, "source_number": source.number}


def _lock_dataset(connection: Connection, name: str) -> None:
    """Make the dataset's row if need be, and keep others from numbering versions of it until this transaction ends."""
    try:
        with connection.begin_nested():
            connection.execute(insert(datasets).values(name=name, created_at=datetime.now(UTC)))
    except IntegrityError:  # it is there
        connection.execute(select(datasets.c.name).where(datasets.c.name == name).with_for_update())


def _require(connection: Connection, name: str) -> None:
    if connection.execute(select(datasets.c.name).where(datasets.c.name == name)).one_or_none() is None:
        known = connection.execute(select(datasets.c.name).order_by(datasets.c.name)).scalars().all()
        raise DatasetNotFound(name, known)


def _parts(digests: list[bytes]) -> list[list[bytes]]:
    return [digests[start : start + _AT_ONCE] for start in range(0, len(digests), _AT_ONCE)]
