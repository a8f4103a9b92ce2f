"""Verdicts of reproductions, kept with the versions they are about."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
from sqlalchemy import insert, select

from modelyard.domain.reproduction import Reproduction
from modelyard.registry.database import Database
from modelyard.registry.registry import Version
from modelyard.registry.tables import arrivals, reproductions

_DOCUMENTS = msgspec.msgpack.Decoder(Reproduction)


@dataclass(frozen=True, slots=True)
class StoredReproduction:
    """A reproduction and when it was stored."""

    at: datetime
    reproduction: Reproduction


class Reproductions:
    """The reproductions of all versions of one registry. Safe to use from several threads and processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, version: Version, found: Reproduction) -> StoredReproduction:
        """Keep what was found with the version, whatever it says."""
        stored = StoredReproduction(datetime.now(UTC), found)
        with self._database.write() as connection:
            connection.execute(
                insert(reproductions).values(
                    model=version.model,
                    number=version.number,
                    digest=found.digest,
                    verdict=found.verdict,
                    counts=found.counts,
                    at=stored.at,
                    document=msgspec.msgpack.encode(found),  # unlike JSON it keeps infinities
                )
            )
        return stored

    def origin_of(self, run: str) -> str | None:
        """Where the run of that id came from, if it was recorded in another home."""
        here = (arrivals.c.kind == "run") & (arrivals.c.name == run)
        with self._database.read() as connection:
            found: str | None = connection.execute(select(arrivals.c.origin).where(here).limit(1)).scalar()
            return found

    def of(self, version: Version) -> tuple[StoredReproduction, ...]:
        """All reproductions of a version, oldest first."""
        here = (reproductions.c.model == version.model) & (reproductions.c.number == version.number)
        with self._database.read() as connection:
            rows = connection.execute(select(reproductions).where(here).order_by(reproductions.c.id))
            return tuple(StoredReproduction(row.at, _DOCUMENTS.decode(row.document)) for row in rows)
