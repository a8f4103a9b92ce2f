"""From one form of the metadata database to the next."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, inspect, select, table, text

from modelyard.errors import Rejected
from modelyard.registry.engines import Address, engine_of, reported
from modelyard.registry.newest import NEWEST


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What bringing a database up to date did: from revision `before`, None where nothing was there, to `after`."""

    database: str
    before: str | None
    after: str


@dataclass(frozen=True, slots=True)
class Facts:
    """A database as it is found. `rows` is how many there are in each table, `bytes` what it takes on disk."""

    database: str
    server: str
    revision: str | None
    newest: str
    bytes: int
    rows: Mapping[str, int]

    @property
    def state(self) -> str:
        """What is to be done, if anything."""
        if self.revision == self.newest:
            return "up to date"
        if self.revision is None:
            return "holds no registry yet: run `modelyard db upgrade`"
        if self.revision > self.newest:
            return "written by a newer Modelyard: upgrade this one"
        return "older than this program: run `modelyard db upgrade`"


def upgrade_server(address: Address, to: str = NEWEST) -> Upgrade:
    """Bring a shared database to revision `to`, in one transaction that is alone in writing; others wait.

    Raises:
        Rejected: it was written by a newer release.
        Unavailable, Failed: it cannot be reached, is in use for too long, or refuses.
    """
    engine = engine_of(address)
    try:
        with reported(address), engine.execution_options(alone=True).begin() as connection:
            found = revision(connection)
            if found != to:
                migrate(connection, found, address, to)
    finally:
        engine.dispose()
    return Upgrade(str(address), found, to)


def look(place: Path | str) -> Facts:
    """What is there, of whatever revision. Nothing is changed, and nothing is made.

    Raises:
        Unavailable, Failed: it cannot be reached, or refuses.
    """
    address = Address.of(place)
    if address.file is not None and not address.file.exists():
        return Facts(str(address), f"SQLite {sqlite3.sqlite_version}", None, NEWEST, 0, {})
    engine = engine_of(address)
    try:
        with reported(address), engine.connect() as connection:
            names = sorted(inspect(connection).get_table_names())
            rows = {name: _count(connection, name) for name in names if name != "alembic_version"}
            server = f"{'SQLite' if address.file else 'PostgreSQL'} {_version(connection)}"
            return Facts(str(address), server, revision(connection), NEWEST, _size(connection), rows)
    finally:
        engine.dispose()


def _count(connection: Connection, name: str) -> int:
    counted: int = connection.execute(select(func.count()).select_from(table(name))).scalar_one()
    return counted


def _size(connection: Connection) -> int:
    said = "pg_database_size(current_database())"
    if connection.dialect.name == "sqlite":
        said = "page_count * page_size from pragma_page_count, pragma_page_size"
    size: int = connection.execute(text(f"select {said}")).scalar_one()
    return size


def _version(connection: Connection) -> str:
    return ".".join(map(str, connection.dialect.server_version_info or ()))


def revision(connection: Connection) -> str | None:
    """Which form a database has; None where there is no registry in it."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("select version_num from alembic_version")).scalar()
    return found


def too_new(address: Address, found: str) -> Rejected:
    """What a program says that is older than the database."""
    shown = address.file.name if address.file is not None else f"the database {address}"
    other = "another MODELYARD_HOME" if address.file is not None else "another MODELYARD_DATABASE_URL"
    return Rejected(
        f"{shown} was written by a newer Modelyard (revision {found}; this one knows up to {NEWEST}): "
        f"upgrade Modelyard, or use {other}"
    )


def migrate(connection: Connection, found: str | None, address: Address, to: str = NEWEST) -> None:
    """Bring the database behind `connection`, at revision `found`, to a later one, in the open transaction.

    Raises:
        Rejected: it is of a newer release.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise too_new(address, found)
    config.attributes["connection"] = connection
    with _text_by_bytes(connection):
        command.upgrade(config, to)


@contextmanager
def _text_by_bytes(connection: Connection) -> Iterator[None]:
    """Make texts on PostgreSQL what they are in SQLite: of any length, and compared and ordered by their bytes.

    In the order of a language, beginnings of names could not be found by an index, and lists of names would be in
    another order on every server. Columns of two orders cannot even be compared, so it is done here, for all steps.
    """
    if connection.dialect.name != "postgresql":
        yield
        return
    from sqlalchemy.dialects.postgresql.base import PGTypeCompiler

    class TextByBytes(PGTypeCompiler):
        def visit_VARCHAR(self, type_: Any, **_: Any) -> str:  # noqa: N802
            return 'TEXT COLLATE "C"'

        def visit_TEXT(self, type_: Any, **_: Any) -> str:  # noqa: N802
            return 'TEXT COLLATE "C"'

    usual = connection.dialect.type_compiler_instance
    connection.dialect.type_compiler_instance = TextByBytes(connection.dialect)
    try:
        yield
    finally:
        connection.dialect.type_compiler_instance = usual
