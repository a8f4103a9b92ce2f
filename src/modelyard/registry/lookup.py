"""Versions of data looked up straight in an SQLite file.

Loading SQLAlchemy takes longer than all else that a snapshot of unchanged files or a list has to do. What only reads,
and is asked that often, is asked here in plain SQL; whatever cannot be answered here is left to `Datasets`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import msgspec

from modelyard.datasets.facts import decode_facts
from modelyard.datasets.packs import Place
from modelyard.errors import Failed
from modelyard.registry.dataset_version import DatasetVersion, dataset_ref
from modelyard.registry.newest import NEWEST

_COLUMNS = 'dataset, number, digest, created_at, "by", note, files, bytes, origin, facts'
_AT_ONCE = 500
_BUSY_SECONDS = 30.0


class Lookup:
    """Reads of one up-to-date database file. Safe to use from several threads."""

    def __init__(self, file: Path, connection: sqlite3.Connection) -> None:
        self._file, self._connection = file, connection
        self.collected: int = connection.execute("SELECT value FROM ledger WHERE name = 'collected'").fetchone()[0]
        """The counter of collections, as it was before anything was found to be stored; see `registry.ledger`."""

    @classmethod
    def open(cls, file: Path) -> Self | None:
        """Of that file; None where it is not there, not of this release, or cannot be read."""
        if not file.is_file():
            return None
        connection = None
        with suppress(sqlite3.Error):
            uri = f"{file.absolute().as_uri()}?mode=rw"
            connection = sqlite3.connect(
                uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            if connection.execute("SELECT version_num FROM alembic_version").fetchone() == (NEWEST,):
                return cls(file, connection)
        if connection is not None:
            connection.close()
        return None

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def places(self, digests: Collection[bytes]) -> Mapping[bytes, Place]:
        """The places of those of these chunks that are stored."""
        wanted, found = list(digests), {}
        for start in range(0, len(wanted), _AT_ONCE):
            part = wanted[start : start + _AT_ONCE]
            marks = ",".join("?" * len(part))
            rows = self._rows(
                f'SELECT digest, pack, "offset", size FROM chunks WHERE digest IN ({marks})',  # noqa: S608
                part,
            )
            for digest, pack, offset, size in rows:
                found[digest] = Place(pack, offset, size)
        return found

    def having(self, name: str, digest: str) -> DatasetVersion | None:
        """The version of the dataset `name` that has this digest."""
        return self._one("dataset = ? AND digest = ?", (name, digest))

    def version(self, ref: str) -> DatasetVersion | None:
        """The version that ``flights@2`` names, or the newest for ``flights``.

        Raises:
            InvalidRequest: a text that is no reference to a dataset version.
        """
        where, values = _where(ref)
        return self._one(where, values)

    def list_of(self, ref: str) -> tuple[str, tuple[bytes, ...]] | None:
        """The digest of a version and the chunks that its list of files is in; raises as `version` does."""
        where, values = _where(ref)
        rows = self._rows(
            f"SELECT digest, tree FROM dataset_versions WHERE {where} ORDER BY number DESC LIMIT 1",  # noqa: S608
            values,
        )
        return (rows[0][0], msgspec.msgpack.decode(rows[0][1], type=tuple[bytes, ...])) if rows else None

    def versions(self, name: str) -> tuple[DatasetVersion, ...]:
        """All versions of the dataset, oldest first; none where there is no such dataset."""
        rows = self._rows(
            f"SELECT {_COLUMNS} FROM dataset_versions WHERE dataset = ? ORDER BY number",  # noqa: S608
            (name,),
        )
        return tuple(map(_version, rows))

    def is_complete(self, name: str) -> bool:
        """Whether there is such a dataset and no version of it was ever removed."""
        gone = "SELECT 1 FROM removals WHERE kind = 'data' AND removals.name = datasets.name"
        return bool(self._rows(f"SELECT 1 FROM datasets WHERE name = ? AND NOT EXISTS ({gone})", (name,)))  # noqa: S608

    def newest(self) -> tuple[DatasetVersion, ...]:
        """The newest version of every dataset, by name."""
        last = "SELECT dataset, max(number) FROM dataset_versions GROUP BY dataset"
        rows = self._rows(
            f"SELECT {_COLUMNS} FROM dataset_versions WHERE (dataset, number) IN ({last}) ORDER BY dataset"  # noqa: S608
        )
        return tuple(map(_version, rows))

    def _one(self, where: str, values: tuple[Any, ...]) -> DatasetVersion | None:
        rows = self._rows(
            f"SELECT {_COLUMNS} FROM dataset_versions WHERE {where} ORDER BY number DESC LIMIT 1",  # noqa: S608
            values,
        )
        return _version(rows[0]) if rows else None

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise Failed(f"the database {self._file} cannot be used: {error}") from error


def _where(ref: str) -> tuple[str, tuple[Any, ...]]:
    name, number = dataset_ref(ref)
    return ("dataset = ?", (name,)) if number is None else ("dataset = ? AND number = ?", (name, number))


def _version(row: tuple[Any, ...]) -> DatasetVersion:
    dataset, number, digest, made, by, note, files, size, origin, facts = row
    moment = datetime.fromisoformat(made).replace(tzinfo=UTC)
    return DatasetVersion(
        dataset, number, digest, moment, by, note, files, size, json.loads(origin), decode_facts(facts)
    )
