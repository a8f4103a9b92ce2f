from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import insert, select

from modelyard.errors import Failed, Rejected
from modelyard.registry.database import NEWEST, Database
from modelyard.registry.tables import metadata, models


def test_the_migrations_lead_to_the_tables_that_the_code_uses(tmp_path: Path) -> None:
    database = Database(tmp_path / "registry.db")
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert context.get_current_revision() == NEWEST
        assert compare_metadata(context, metadata) == []
    database.close()


def test_it_writes_ahead_so_that_readers_do_not_wait(tmp_path: Path) -> None:
    database = Database(tmp_path / "registry.db")
    with database.write() as writing:
        writing.execute(insert(models).values(name="toy", created_at=datetime.now(UTC)))
        with database.read() as reading:
            assert reading.execute(select(models)).all() == []
    with database.read() as reading:
        assert [row.name for row in reading.execute(select(models))] == ["toy"]
    database.close()


def test_an_error_inside_a_transaction_takes_all_of_it_back(tmp_path: Path) -> None:
    database = Database(tmp_path / "registry.db")

    def interrupted() -> None:
        with database.write() as connection:
            connection.execute(insert(models).values(name="toy", created_at=datetime.now(UTC)))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    with database.read() as connection:
        assert connection.execute(select(models)).all() == []
    database.close()


def test_threads_that_open_a_new_database_at_once_all_succeed(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(Database, [tmp_path / "registry.db"] * 4))
    for database in opened:
        with database.read() as connection:
            assert connection.execute(select(models)).all() == []
        database.close()


def test_a_database_of_a_newer_release_is_left_alone(tmp_path: Path) -> None:
    Database(tmp_path / "registry.db").close()
    raw = sqlite3.connect(tmp_path / "registry.db")
    raw.execute("update alembic_version set version_num = '9999'")
    raw.commit()
    raw.close()
    with pytest.raises(Rejected, match="newer Modelyard"):
        Database(tmp_path / "registry.db")


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "registry.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(Failed, match=r"registry\.db is not a Modelyard database"):
        Database(tmp_path / "registry.db")


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="cannot be used"):
        Database(tmp_path / "nowhere" / "registry.db")
