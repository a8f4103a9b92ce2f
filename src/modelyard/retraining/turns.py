"""Retrainings in the metadata database: one at a time for each model, whichever process or machine begins it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, insert, select, update
from sqlalchemy.exc import IntegrityError

from modelyard.domain.run import Process
from modelyard.errors import Conflict, ModelyardError, NotFound
from modelyard.registry.database import Database
from modelyard.registry.retrain_tables import retrainings
from modelyard.retraining.report import Report
from modelyard.runs import machine

BEAT = 15.0
"""Seconds between two signs of life."""

SILENT = timedelta(seconds=180)
"""A retraining on another machine that has given no sign for so long is lost."""

_REPORTS = msgspec.json.Decoder(Report)


class Turns:
    """The retrainings of one registry. Safe to use from several threads and processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, report: Report) -> Report:
        """Make a retraining known, with its number.

        Raises:
            Conflict: the model is being trained again already.
        """
        process = machine.process()
        with self._database.write() as connection:
            _settle(connection)
            going_on = connection.execute(select(retrainings).where(retrainings.c.live == report.model)).one_or_none()
            if going_on is not None:
                raise _taken(report.model, _REPORTS.decode(going_on.document))
            values = {
                "deployment": report.deployment,
                "live": report.model,
                "state": report.state,
                "began": report.began,
                "beat": _now(),
                "process": msgspec.to_builtins(process),
                "document": b"",
            }
            try:
                made = connection.execute(insert(retrainings).values(**values).returning(retrainings.c.id))
            except IntegrityError as error:  # another machine began at the same moment
                raise Conflict(f"{report.model} is being trained again already") from error
            begun = msgspec.structs.replace(report, id=made.scalar_one())
            _save(connection, begun)
        return begun

    def save(self, report: Report) -> None:
        """Keep how far it has come, or how it ended.

        Raises:
            Conflict: somebody took it for lost meanwhile.
        """
        with self._database.write() as connection:
            mine = (retrainings.c.id == report.id) & retrainings.c.live.is_not(None)
            if connection.execute(select(retrainings.c.id).where(mine)).first() is None:
                raise Conflict(f"retraining {report.id} was taken for lost, since it gave no sign of life")
            _save(connection, report)

    @contextmanager
    def alive(self, number: int) -> Iterator[None]:
        """Give signs of life of a retraining as long as this lasts."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(BEAT):
                with suppress(ModelyardError), self._database.write() as connection:
                    mine = retrainings.c.id == number
                    connection.execute(update(retrainings).where(mine).values(beat=_now()))

        thread = threading.Thread(target=beat, daemon=True, name="signs of life")
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def get(self, number: int | None = None, deployment: str = "") -> Report:
        """The retraining of that number, or the newest one of the deployment, or of all.

        Raises:
            NotFound: there is none.
        """
        found = select(retrainings.c.document).order_by(retrainings.c.id.desc()).limit(1)
        if number is not None:
            found = found.where(retrainings.c.id == number)
        if deployment:
            found = found.where(retrainings.c.deployment == deployment)
        document = self._settled(found)
        if not document:
            of = f" of {deployment!r}" if deployment else ""
            what = "no retraining" if number is None else f"no retraining {number}"
            raise NotFound(
                f"there is {what}{of}; `modelyard retrain list` shows all, `modelyard retrain NAME` begins one"
            )
        return document[0]

    def listed(self, deployment: str = "", most: int = 50) -> list[Report]:
        """Retrainings, the newest first."""
        found = select(retrainings.c.document).order_by(retrainings.c.id.desc()).limit(most)
        return self._settled(found.where(retrainings.c.deployment == deployment) if deployment else found)

    def _settled(self, found: Any) -> list[Report]:
        with self._database.read() as connection:
            is_stale = any(_is_lost(row) for row in connection.execute(_GOING_ON))
        if is_stale:
            with self._database.write() as connection:
                _settle(connection)
        with self._database.read() as connection:
            return [_REPORTS.decode(document) for document in connection.execute(found).scalars()]


_GOING_ON = select(retrainings).where(retrainings.c.live.is_not(None))


def _settle(connection: Connection) -> None:
    """Close those whose process is gone."""
    for row in connection.execute(_GOING_ON).all():
        if _is_lost(row):
            report = _REPORTS.decode(row.document)
            reason = f"the process that was at it died while it was {report.stage or 'beginning'}; nothing was changed"
            _save(connection, msgspec.structs.replace(report, state="lost", reason=reason, ended=row.beat))


def _is_lost(row: Row[Any]) -> bool:
    process = msgspec.convert(row.process, Process)
    return machine.is_gone(process) or _now() - row.beat > SILENT


def _save(connection: Connection, report: Report) -> None:
    values: dict[str, Any] = {"state": report.state, "document": msgspec.json.encode(report), "beat": _now()}
    if report.state != "running":
        values["live"] = None
    connection.execute(update(retrainings).where(retrainings.c.id == report.id).values(**values))


def _taken(model: str, report: Report) -> Conflict:
    return Conflict(
        f"{model} is being trained again already, since {report.began:%H:%M:%S} UTC (retraining {report.id}, "
        f"{report.stage}); `modelyard retrain show {report.id}` tells how far it is"
    )


def _now() -> datetime:
    return datetime.now(UTC)
