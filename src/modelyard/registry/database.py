"""The metadata database: opening it, bringing it up to date, and transactions on it."""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import DatabaseError, OperationalError

from modelyard.errors import Failed, Rejected, Unavailable

NEWEST = "0004"
"""The last migration this release knows; kept here so that an up-to-date database opens without Alembic."""

BUSY_SECONDS = 30.0


class Database:
    """A database file that is as new as this release. Safe to use from several threads and processes."""

    def __init__(self, path: Path) -> None:
        """Open `path`, or make it.

        Raises:
            Failed: the file is not such a database, or cannot be opened.
            Rejected: it was written by a newer release.
        """
        self.path = path
        self._engine = _sqlite(path)
        self._writer = self._engine.execution_options(begin="IMMEDIATE")
        try:
            with _reported(path):
                self._bring_up_to_date()
        except BaseException:
            self.close()
            raise

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database and changes nothing."""
        with _reported(self.path), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is alone in writing, and is either kept whole or, on any error, not at all."""
        with _reported(self.path), self._writer.begin() as connection:
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _bring_up_to_date(self) -> None:
        with self._engine.connect() as connection:
            found = _revision(connection)
        if found == NEWEST:
            return
        with _alone(self.path.with_name(self.path.name + ".lock")):
            self._use_write_ahead_log()
            with self._writer.begin() as connection:
                found = _revision(connection)
                if found != NEWEST:
                    migrate(connection, found, self.path)

    def _use_write_ahead_log(self) -> None:
        """Readers and the one writer do not wait for each other. The file remembers it."""
        raw = self._engine.raw_connection()
        try:
            raw.cursor().execute("PRAGMA journal_mode=WAL").fetchone()
        finally:
            raw.close()


def migrate(connection: Connection, found: str | None, path: Path) -> None:
    """Bring the database behind `connection`, at revision `found`, to the newest, in the open transaction."""
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise Rejected(
            f"{path.name} was written by a newer Modelyard (revision {found}; this one knows up to {NEWEST}): "
            "upgrade Modelyard, or use another MODELYARD_HOME"
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("select version_num from alembic_version")).scalar()
    return found


def _sqlite(path: Path) -> Engine:
    url = URL.create("sqlite+pysqlite", database=str(path))
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _connected(raw: sqlite3.Connection, _record: object) -> None:
        raw.isolation_level = None  # the driver would begin transactions late and commit before some statements
        raw.execute("PRAGMA foreign_keys=ON")
        raw.execute("PRAGMA synchronous=FULL")

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        kind = connection.get_execution_options().get("begin", "DEFERRED")
        connection.exec_driver_sql(f"BEGIN {kind}")

    return engine


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        if "locked" in str(error.orig):
            raise Unavailable(f"{path.name} is locked by another process for over {BUSY_SECONDS:.0f} s") from error
        raise Failed(f"the database {path} cannot be used: {error.orig}") from error
    except DatabaseError as error:
        if isinstance(error.orig, sqlite3.DatabaseError) and "not a database" in str(error.orig):
            raise Failed(f"{path} is not a Modelyard database: {error.orig}") from error
        raise


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold a lock that the system takes back when this process ends, however it ends."""
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
