"""Connections to the two databases that metadata can be in, and what their errors mean."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DataError, InterfaceError, OperationalError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from modelyard.errors import Failed, InvalidRequest, Unavailable

BUSY_SECONDS = 30.0
"""So long a transaction waits for another to end."""

_IDLE_SECONDS = 60
"""A transaction in which nothing happens for so long, as when its machine is gone, is ended by the server."""

_CONNECT_SECONDS = 10
_WRITERS = 0x6D6F64656C  # "model": the advisory lock that whoever writes holds
_DRIVERS = {"sqlite": "sqlite+pysqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
_AGAIN = ("40001", "40P01", "55P03", "57P01", "57P02", "57P03", "53300", "25P03", "08")
"""SQL states (or their beginnings) after which the same call may work: it was in others' way, or the server left."""

_NEVER = (
    "authentication failed",
    "no password supplied",
    "does not exist",
    "no pg_hba.conf entry",
    "permission denied",
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a database is. Its text shows neither password nor options."""

    url: URL

    @classmethod
    def of(cls, place: Path | str) -> Address:
        """The address of a SQLite file or of a URL.

        Raises:
            InvalidRequest: it is no URL of SQLite or PostgreSQL. It is not repeated: there may be a password in it.

        >>> str(Address.of("postgresql://ann:secret@db.example.org/yard?sslmode=require"))
        'postgresql://ann@db.example.org/yard'
        """
        if isinstance(place, Path):
            return cls(URL.create(_DRIVERS["sqlite"], database=str(place)))
        try:
            url = make_url(place)
        except (ArgumentError, ValueError):
            raise InvalidRequest(
                "MODELYARD_DATABASE_URL cannot be read; it is written such as postgresql://user:password@host:5432/database"
            ) from None
        driver = _DRIVERS.get(url.drivername, url.drivername)
        if driver not in _DRIVERS.values():
            raise InvalidRequest(
                f"MODELYARD_DATABASE_URL is of the kind {url.drivername!r}; metadata is kept in sqlite:// or postgresql://"
            )
        if driver == _DRIVERS["sqlite"] and url.database in (None, "", ":memory:"):
            raise InvalidRequest("MODELYARD_DATABASE_URL names no file; write sqlite:////path/to/registry.db")
        return cls(url.set(drivername=driver))

    @property
    def file(self) -> Path | None:
        """The file, where it is SQLite; None where it is a server."""
        return Path(self.url.database or "") if self.url.get_backend_name() == "sqlite" else None

    def __str__(self) -> str:
        if self.file is not None:
            return str(self.file)
        plain = self.url.set(drivername="postgresql", query={})
        return URL.create(
            plain.drivername, plain.username, None, plain.host, plain.port, plain.database
        ).render_as_string()


def engine_of(address: Address) -> Engine:
    """What opens connections there. A transaction with the execution option ``alone`` is the only one that writes.

    Raises:
        InvalidRequest: the driver is not installed.
    """
    return _sqlite(address.url) if address.file is not None else _postgresql(address.url)


def _sqlite(url: URL) -> Engine:
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _connected(raw: sqlite3.Connection, _record: object) -> None:
        raw.isolation_level = None  # the driver would begin transactions late and commit before some statements
        raw.execute("PRAGMA foreign_keys=ON")
        raw.execute("PRAGMA synchronous=FULL")

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        kind = "IMMEDIATE" if connection.get_execution_options().get("alone") else "DEFERRED"
        connection.exec_driver_sql(f"BEGIN {kind}")

    return engine


def _postgresql(url: URL) -> Engine:
    """Readers see one state of the database, and writers come one after the other, as with SQLite.

    So what is written in a transaction can rest on all that was read in it, and there are no deadlocks and nothing that
    had to be repeated.

    Whoever writes takes an advisory lock first, in a statement of its own: what comes after it sees all that those
    before have written, since each statement of a transaction that is READ COMMITTED looks anew.
    """
    try:
        engine = create_engine(
            url,
            pool_pre_ping=True,  # what a restarted server or a firewall has closed is noticed before it is used
            pool_recycle=1800,
            # Prepared statements would be looked for in other sessions behind a pooler such as PgBouncer.
            connect_args={
                "connect_timeout": _CONNECT_SECONDS,
                "prepare_threshold": None,
                "application_name": "modelyard",
            }
            | _given_by(url),
        )
    except ModuleNotFoundError as error:
        raise InvalidRequest(
            f"PostgreSQL needs the package {error.name!r}: pip install 'modelyard[postgresql]'"
        ) from None
    first = f"SELECT set_config('lock_timeout', '{BUSY_SECONDS:.0f}s', true)"
    first += f", set_config('idle_in_transaction_session_timeout', '{_IDLE_SECONDS}s', true)"

    @event.listens_for(engine, "connect")
    def _connected(raw: Any, _record: object) -> None:
        _take_any_text(raw)

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        if connection.get_execution_options().get("alone"):
            connection.exec_driver_sql(f"{first}, pg_advisory_xact_lock({_WRITERS})")

    return engine


def _given_by(url: URL) -> dict[str, Any]:
    """Settings of the URL win over ours."""
    return {name: value for name, value in url.query.items() if name in ("connect_timeout", "application_name")}


def _take_any_text(raw: Any) -> None:
    """Text of people's programs may hold what PostgreSQL cannot keep: a zero character, a byte that is no UTF-8."""
    from psycopg.types.string import StrDumper

    class AnyText(StrDumper):
        def dump(self, obj: str) -> Any:
            if "\0" in obj or not _is_unicode(obj):
                obj = obj.replace("\0", "\N{SYMBOL FOR NULL}").encode(errors="backslashreplace").decode()
            return super().dump(obj)

    raw.adapters.register_dumper(str, AnyText)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def reported(address: Address) -> Iterator[None]:
    """Errors of the database as ours, in one line, without what is secret in its address."""
    try:
        yield
    except PoolTimeout as error:
        raise Unavailable(f"the database {address} has no connection free for this process") from error
    except (DatabaseError, InterfaceError) as error:
        if address.file is not None:
            raise _of_sqlite(error, address.file) from error
        raise _of_postgresql(error, address) from None
    except StatementError as error:
        raise Failed(f"the database {address} cannot take this: {_said(error, address)}") from None


def _of_sqlite(error: Exception, file: Path) -> Exception:
    said = str(getattr(error, "orig", error))
    if isinstance(error, OperationalError) and "locked" in said:
        return Unavailable(f"{file.name} is locked by another process for over {BUSY_SECONDS:.0f} s")
    if isinstance(error, OperationalError):
        return Failed(f"the database {file} cannot be used: {said}")
    if "not a database" in said:
        return Failed(f"{file} is not a Modelyard database: {said}")
    return error


def _of_postgresql(error: DatabaseError | InterfaceError, address: Address) -> Exception:
    said, state = _said(error, address), getattr(error.orig, "sqlstate", None) or ""
    if state == "55P03":
        return Unavailable(f"the database {address} is locked by another process for over {BUSY_SECONDS:.0f} s")
    if state.startswith(_AGAIN):
        return Unavailable(
            f"the database {address} could not finish this, and nothing of it is kept; try again: {said}"
        )
    if state == "42501" or any(sign in said for sign in _NEVER):
        return Failed(f"the database {address} refuses: {said}")
    if not state and isinstance(error, OperationalError | InterfaceError):
        return Unavailable(f"the database {address} cannot be reached, or the connection to it was lost: {said}")
    if isinstance(error, OperationalError | DataError):
        return Failed(f"the database {address} cannot be used, or not for this: {said}")
    return error


def _said(error: StatementError, address: Address) -> str:
    """The first line of what the driver says, with the password starred out."""
    lines = [line.strip() for line in str(error.orig or error).splitlines() if line.strip()]
    said = "; ".join(lines[:2]) if lines else type(error).__name__
    secret = address.url.password
    return said.replace(str(secret), "***") if secret else said
