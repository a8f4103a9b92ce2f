"""The metadata database: opening it, bringing it up to date, and transactions on it."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, text

from modelyard.errors import Rejected
from modelyard.registry.engines import Address, engine_of, reported
from modelyard.registry.migrating import Upgrade, look, migrate, revision, too_new, upgrade_server
from modelyard.registry.newest import NEWEST


class Database:
    """A database that is as new as this release. Safe to use from several threads and processes.

    A SQLite file is made and brought up to date when it is opened. A server is shared, so that there this is done on
    command only: ``modelyard db upgrade``.
    """

    def __init__(self, place: Path | str) -> None:
        """Open the SQLite file at a path, or the database that a URL names.

        Raises:
            Failed: it is not such a database, or refuses.
            Unavailable: it cannot be reached.
            Rejected: it was written by a newer release; or it is shared and was not brought up to this one yet.
            InvalidRequest: the URL is of neither SQLite nor PostgreSQL, or the driver is not installed.
        """
        self.address = Address.of(place)
        self._engine = engine_of(self.address)
        self._writer = self._engine.execution_options(alone=True)
        self._reader = self._engine
        self._is_shared = self.address.file is None
        if self._is_shared:
            self._reader = self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        try:
            with reported(self.address):
                self._bring_up_to_date()
        except BaseException:
            self.close()
            raise

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database and changes nothing."""
        with reported(self.address), self._reader.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is alone in writing, and is either kept whole or, on any error, not at all."""
        with reported(self.address), self._writer.begin() as connection:
            if self._is_shared:  # somebody may have upgraded it since it was opened
                self._require_newest(connection.execute(text("select version_num from alembic_version")).scalar())
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _bring_up_to_date(self) -> None:
        file = self.address.file
        with self._engine.connect() as connection:
            found = revision(connection)
        if file is None:
            return self._require_newest(found)
        if found == NEWEST:
            return None
        with _alone(file.with_name(file.name + ".lock")):
            self._use_write_ahead_log()
            with self._writer.begin() as connection:
                found = revision(connection)
                if found != NEWEST:
                    migrate(connection, found, self.address)
        return None

    def _require_newest(self, found: str | None) -> None:
        if found == NEWEST:
            return
        if found is not None and found > NEWEST:
            raise too_new(self.address, found)
        state = "holds no registry yet" if found is None else f"is at revision {found}; this program needs {NEWEST}"
        raise Rejected(f"the database {self.address} {state}: run `modelyard db upgrade`")

    def _use_write_ahead_log(self) -> None:
        """Readers and the one writer do not wait for each other. The file remembers it."""
        raw = self._engine.raw_connection()
        try:
            raw.cursor().execute("PRAGMA journal_mode=WAL").fetchone()
        finally:
            raw.close()


def upgrade(place: Path | str) -> Upgrade:
    """Bring a database to the form that this release needs; an empty one is set up.

    Raises:
        Rejected: it was written by a newer release.
        Unavailable, Failed: it cannot be reached, is in use for too long, or refuses.
    """
    address = Address.of(place)
    if address.file is None:
        return upgrade_server(address)
    before = look(place).revision
    Database(place).close()
    return Upgrade(str(address), before, NEWEST)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold a lock that the system takes back when this process ends, however it ends."""
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
