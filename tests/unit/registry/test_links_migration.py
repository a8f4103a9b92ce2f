"""A database that was filled before links went both ways gives the answers of one that was filled after."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from modelyard.registry import database
from modelyard.registry.database import Database
from modelyard.registry.links import Links
from modelyard.registry.runs import Runs
from modelyard.registry.tables import run_values, tags


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A database of revision 0003 with a version and a run."""
    path = tmp_path / "registry.db"
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(database.__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        now = datetime.now(UTC)
        document = msgspec.msgpack.encode({"code": {"commit": "c0ffee"}})
        for table, row in (
            ("models", {"name": "toy", "created_at": now}),
            ("versions", {"model": "toy", "number": 1, "digest": "d", "created_at": now, "runtime": "onnx"}),
            ("runs", {"id": "r1", "name": "toy", "state": "finished", "started_at": now, "document": document}),
            ("run_values", {"run": "r1", "kind": "param", "name": "depth", "text": "6" * 100, "number": 6.0}),
        ):
            reflected = sa.Table(table, sa.MetaData(), autoload_with=connection)
            extra = {"tags": {"season": "winter"}} if table == "versions" else {}
            connection.execute(sa.insert(reflected).values({**row, **extra}))
    engine.dispose()
    return path


def test_what_there_was_is_found_by_the_new_indexes(old: Path) -> None:
    opened = Database(old)
    assert Runs(opened).commits("c0") == ("c0ffee",)
    assert Links(opened).that_ran("c0ffee", 5).found == ("r1",)
    with opened.read() as connection:
        assert connection.execute(sa.select(run_values.c.short)).scalar_one() == "6" * 64
        row = connection.execute(sa.select(tags)).one()
    assert (row.kind, row.name, row.number, row.key, row.value, row.packed) == (
        "model",
        "toy",
        1,
        "season",
        "winter",
        True,
    )
    opened.close()
