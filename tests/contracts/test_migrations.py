"""From every earlier form of the metadata database to the newest, with rows in it, on both kinds."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import JSON, Connection, DateTime, LargeBinary, MetaData, Numeric, String, Table, insert, select, types
from sqlalchemy.dialects.postgresql import BYTEA

from modelyard.errors import Rejected
from modelyard.registry import (  # their tables are among the metadata
    alert_tables,  # noqa: F401
    migrating,
    monitor_tables,  # noqa: F401
    newest,
    rehearsal_tables,  # noqa: F401
    retrain_tables,  # noqa: F401
    rollout_tables,  # noqa: F401
)
from modelyard.registry.database import NEWEST, Database, upgrade
from modelyard.registry.engines import Address, engine_of
from modelyard.registry.tables import metadata
from team_servers import Team

EARLIER = sorted(file.name[:4] for file in newest.STEPS.glob("[0-9]*.py"))[:-1]
MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where an empty database is, or can be made."""
    if request.param == "sqlite":
        return tmp_path / "registry.db"
    servers: Team = request.getfixturevalue("servers")
    return servers.postgresql.new()


def brought_to(place: Path | str, revision: str) -> None:
    address = Address.of(place)
    engine = engine_of(address)
    with engine.execution_options(alone=True).begin() as connection:
        migrating.migrate(connection, migrating.revision(connection), address, revision)
    engine.dispose()


def value_of(column: Any) -> Any:
    """One value for each type, the same wherever it is referred to."""
    if isinstance(column.type, JSON):
        return {"kind": "files", "words": ["one", "two"]}
    if isinstance(column.type, LargeBinary | BYTEA):
        return msgspec.msgpack.encode({"some": "bytes"})
    if isinstance(column.type, DateTime):
        return MOMENT
    if isinstance(column.type, types.Boolean):
        return True
    if isinstance(column.type, Numeric | types.Float | types.Integer):
        return 1
    assert isinstance(column.type, String), column
    return "word"


def filled(place: Path | str) -> dict[str, dict[str, Any]]:
    """A row in every table that there is."""
    rows: dict[str, dict[str, Any]] = {}
    engine = engine_of(Address.of(place))
    with engine.begin() as connection:
        for table in tables_in(connection):
            rows[table.name] = {column.name: value_of(column) for column in table.columns}
            connection.execute(insert(table).values(rows[table.name]))
    engine.dispose()
    return rows


def tables_in(connection: Connection) -> Iterator[Table]:
    """In the order in which they refer to each other."""
    there = MetaData()
    there.reflect(connection)
    yield from (table for table in there.sorted_tables if table.name != "alembic_version")


def differences(database: Database) -> list[Any]:
    """Where the tables are not those that the code uses. On PostgreSQL all texts are of one type."""

    def is_other_type(_: Any, column: Any, __: Any, found: Any, said: Any) -> bool | None:
        if isinstance(found, String) and isinstance(said, String):
            return getattr(found, "collation", None) != "C" if database.address.file is None else None
        return None

    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": is_other_type})
        assert context.get_current_revision() == NEWEST
        return compare_metadata(context, metadata)


@pytest.mark.parametrize("revision", EARLIER)
def test_rows_of_every_earlier_form_are_there_afterwards(place: Path | str, revision: str) -> None:
    brought_to(place, revision)
    rows = filled(place)
    assert rows
    assert upgrade(place) == migrating.Upgrade(str(Address.of(place)), revision, NEWEST)
    database = Database(place)
    assert differences(database) == []
    with database.read() as connection:
        for table in tables_in(connection):
            kept = [column for column in table.columns if column.name in rows.get(table.name, {})]
            if kept:
                there = [
                    {name: utc(value) for name, value in row._mapping.items()}
                    for row in connection.execute(select(*kept))
                ]
                assert {column.name: value_of(column) for column in kept} in there
    database.close()


def utc(value: Any) -> Any:
    """SQLite forgets the zone."""
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value


def test_the_newest_form_is_that_which_the_code_uses(place: Path | str) -> None:
    assert migrating.look(place).state.startswith("holds no registry yet")
    assert upgrade(place).before is None
    assert upgrade(place).before == NEWEST
    database = Database(place)
    assert differences(database) == []
    database.close()
    facts = migrating.look(place)
    assert (facts.state, facts.revision, facts.rows["models"]) == ("up to date", NEWEST, 0)
    assert facts.bytes > 0


def test_upgrades_at_once_all_succeed(place: Path | str) -> None:
    brought_to(place, EARLIER[0])
    rows = filled(place)
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: upgrade(place), range(4)))
    assert {each.after for each in done} == {NEWEST}
    assert migrating.look(place).rows.items() >= dict.fromkeys(rows, 1).items()


def test_a_database_of_a_newer_release_is_left_alone(place: Path | str) -> None:
    upgrade(place)
    known = Database(place)
    marked(place, "9999")
    with pytest.raises(Rejected, match="written by a newer Modelyard"):
        Database(place)
    with pytest.raises(Rejected, match="upgrade Modelyard, or use another"):
        upgrade(place)
    assert migrating.look(place).state == "written by a newer Modelyard: upgrade this one"
    if known.address.file is None:
        with pytest.raises(Rejected, match="newer"), known.write():
            pass
    known.close()


def test_a_shared_database_is_brought_up_to_date_on_command_only(servers: Team) -> None:
    url = servers.postgresql.new()
    with pytest.raises(Rejected, match="holds no registry yet: run `modelyard db upgrade`"):
        Database(url)
    brought_to(url, EARLIER[-1])
    with pytest.raises(Rejected, match=rf"revision {EARLIER[-1]}; this program needs {NEWEST}: run `modelyard db"):
        Database(url)
    upgrade(url)
    Database(url).close()


def marked(place: Path | str, revision: str) -> None:
    engine = engine_of(Address.of(place))
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")
    engine.dispose()
