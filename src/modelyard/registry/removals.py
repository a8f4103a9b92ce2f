"""What was removed, by whom and why: kept for good, so that a number means one thing forever."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, func, insert, select

from modelyard.domain.names import Kind
from modelyard.domain.removal import Removal
from modelyard.registry.tables import removals


def record(connection: Connection, removal: Removal) -> None:
    """Write it down, in the transaction that removes."""
    connection.execute(
        insert(removals).values(
            kind=removal.kind,
            name=removal.name,
            number=removal.number,
            digest=removal.digest,
            by=removal.by,
            why=removal.why,
            at=removal.at,
            given_up=list(removal.given_up),
        )
    )


def highest(connection: Connection, kind: Kind, name: str) -> int:
    """The highest number that a removed version had; 0 where none was removed."""
    there = (removals.c.kind == kind) & (removals.c.name == name)
    found: int = connection.execute(select(func.coalesce(func.max(removals.c.number), 0)).where(there)).scalar_one()
    return found


def next_number(connection: Connection, kind: Kind, name: str, number: Any, here: Any, wanted: int | None) -> int:
    """The number of a new version: the one that is wanted, if no version has or had it, else the next.

    Args:
        connection: The transaction that will use it.
        kind: What is numbered.
        name: Of the model or dataset.
        number: The column of numbers of versions.
        here: Which of them are of that name.
        wanted: The number that it should have, or None.
    """
    given: int = max(
        connection.execute(select(func.coalesce(func.max(number), 0)).where(here)).scalar_one(),
        highest(connection, kind, name),
    )
    if wanted is None:
        return given + 1
    is_taken = connection.execute(select(number).where(here, number == wanted)).first() is not None
    was_taken = of_version(connection, kind, name, wanted) is not None
    return given + 1 if is_taken or was_taken else wanted


def of_version(connection: Connection, kind: Kind, name: str, number: int | None) -> Removal | None:
    """The removal of that version, if it was removed."""
    there = (removals.c.kind == kind) & (removals.c.name == name) & (removals.c.number == number)
    row = connection.execute(select(removals).where(there).order_by(removals.c.id.desc()).limit(1)).one_or_none()
    return None if row is None else _removal(row)


def of_run(connection: Connection, run: str) -> Removal | None:
    """The removal of the run of that id, if it was removed."""
    there = (removals.c.kind == "run") & (removals.c.name == run)
    row = connection.execute(select(removals).where(there).limit(1)).one_or_none()
    return None if row is None else _removal(row)


def all_of(connection: Connection, kind: Kind | None = None, name: str | None = None) -> tuple[Removal, ...]:
    """Everything that was removed, oldest first; of one kind, or name, where that is given."""
    wanted = select(removals).order_by(removals.c.id)
    if kind is not None:
        wanted = wanted.where(removals.c.kind == kind)
    if name is not None:
        wanted = wanted.where(removals.c.name == name)
    return tuple(_removal(row) for row in connection.execute(wanted))


def _removal(row: Row[Any]) -> Removal:
    return Removal(row.kind, row.name, row.number, row.digest, row.by, row.why, row.at, tuple(row.given_up))
