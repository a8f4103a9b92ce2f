"""Retrainings that are known to the registry, on SQLite and on PostgreSQL: one at a time for each model."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import update

from modelyard.errors import Conflict, NotFound
from modelyard.registry.database import Database
from modelyard.registry.retrain_tables import retrainings
from modelyard.retraining.report import Report
from modelyard.retraining.turns import SILENT, Turns
from modelyard.runs import machine

NEW = Report(deployment="live", model="line", champion="line@1", began=datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    place: Path | str = tmp_path / "registry.db"
    if request.param == "postgresql":
        place = request.getfixturevalue("servers").database()
    opened = Database(place)
    yield opened
    opened.close()


def test_a_model_has_one_at_a_time_and_others_do_not_wait(database: Database) -> None:
    turns = Turns(database)
    first = turns.begin(NEW)
    with pytest.raises(Conflict, match=f"retraining {first.id}"):
        turns.begin(msgspec.structs.replace(NEW, deployment="elsewhere"))
    other = turns.begin(msgspec.structs.replace(NEW, model="curve"))
    turns.save(msgspec.structs.replace(first, state="declined", reason="no better"))
    again = turns.begin(NEW)

    assert [each.id for each in turns.listed("live")] == [again.id, other.id, first.id]
    assert turns.get(first.id).reason == "no better"
    assert turns.get(deployment="live").id == again.id
    with pytest.raises(NotFound):
        turns.get(99)


def test_one_whose_process_is_gone_or_silent_is_lost_and_makes_room(database: Database) -> None:
    turns = Turns(database)
    first = turns.begin(msgspec.structs.replace(NEW, stage="training"))
    with database.write() as connection:
        gone = {**msgspec.to_builtins(machine.process()), "started": 1}
        connection.execute(update(retrainings).values(process=gone))
    assert turns.get(first.id).state == "lost"
    assert "died while it was training" in turns.get(first.id).reason
    with pytest.raises(Conflict, match="taken for lost"):
        turns.save(first)

    second = turns.begin(NEW)
    with database.write() as connection:
        elsewhere = {**msgspec.to_builtins(machine.process()), "host": "another"}
        connection.execute(
            update(retrainings)
            .where(retrainings.c.id == second.id)
            .values(process=elsewhere, beat=datetime.now(UTC) - SILENT + timedelta(seconds=60))
        )
    assert turns.get(second.id).state == "running"
    with database.write() as connection:
        connection.execute(update(retrainings).values(beat=datetime.now(UTC) - SILENT - timedelta(seconds=1)))
    assert turns.begin(NEW).id > second.id
    assert turns.get(second.id).state == "lost"
