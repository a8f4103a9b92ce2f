"""From one form of the metadata database to the next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, inspect, text

from modelyard.errors import Rejected
from modelyard.registry.engines import Address


def revision(connection: Connection) -> str | None:
    """Which form a database has; None where there is no registry in it."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("select version_num from alembic_version")).scalar()
    return found


def too_new(address: Address, found: str, newest: str) -> Rejected:
    """What a program says that is older than the database."""
    shown = address.file.name if address.file is not None else f"the database {address}"
    other = "another MODELYARD_HOME" if address.file is not None else "another MODELYARD_DATABASE_URL"
    return Rejected(
        f"{shown} was written by a newer Modelyard (revision {found}; this one knows up to {newest}): "
        f"upgrade Modelyard, or use {other}"
    )


def migrate(connection: Connection, found: str | None, address: Address, newest: str, to: str = "head") -> None:
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
        raise too_new(address, found, newest)
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
