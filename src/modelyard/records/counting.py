"""How many predictions there are, by deployment and version."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Count:
    """The rows that a version predicted in a deployment, with the times of the first and the last (UTC, no zone)."""

    deployment: str
    model: str
    version: int
    rows: int
    first: datetime
    last: datetime


def counts(directory: Path, models: Collection[str]) -> tuple[Count, ...]:
    """The predictions of versions of these models. Four columns are read; nothing where there are no records."""
    from modelyard.records import segments
    from modelyard.records.delta import TablesRoot
    from modelyard.records.log import PREDICTIONS

    if not models or not (segments.segments(directory / PREDICTIONS) or TablesRoot.of(directory).open(PREDICTIONS)):
        return ()
    from modelyard.records.query import RecordDatabase
    from modelyard.records.sqltext import literal

    names = ", ".join(literal(name) for name in sorted(models))
    asked = (
        "SELECT deployment, model, version, count(*), min(time), max(time) FROM predictions "  # noqa: S608 - quoted
        f"WHERE model IN ({names}) AND version > 0 GROUP BY ALL ORDER BY ALL"
    )
    with RecordDatabase(directory) as database:
        columns = [column.to_pylist() for column in database.query(asked).columns]
    return tuple(Count(*row) for row in zip(*columns, strict=True))
