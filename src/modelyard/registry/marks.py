"""Tags and notes that people put on versions, on versions of data and on runs, with who and when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, delete, insert, select

from modelyard.domain.names import Kind, Named
from modelyard.errors import InvalidRequest, Rejected
from modelyard.registry.database import Database
from modelyard.registry.tables import SHORT, notes, tags

LONGEST_KEY = 128


@dataclass(frozen=True, slots=True)
class Subject:
    """What is marked. A run's `name` is its id, and its `number` 0."""

    kind: Kind
    name: str
    number: int = 0

    @property
    def ref(self) -> str:
        """How it is written: ``flights-delay@3``, ``data:flights@1``, ``run:20260412-081503-9f2c11``."""
        return str(Named(self.kind, self.name if self.kind == "run" else f"{self.name}@{self.number}"))


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag. Of one that came with a bundle (`packed`), `by` is empty and `at` the time of registering."""

    key: str
    value: str
    by: str
    at: datetime
    packed: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """A text that somebody wrote."""

    text: str
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Marks:
    """All tags of a thing, by key, those that came with a bundle first; and its notes, oldest first."""

    tags: tuple[Tag, ...] = ()
    notes: tuple[Note, ...] = ()

    @property
    def in_force(self) -> Mapping[str, str]:
        """Value by key; a later tag stands before one that came with the bundle."""
        return {tag.key: tag.value for tag in self.tags}


def marks_of(database: Database, subject: Subject) -> Marks:
    """Tags and notes of a thing; none where there is no such thing."""
    with database.read() as connection:
        said = connection.execute(select(tags).where(_is(tags, subject)).order_by(tags.c.packed.desc(), tags.c.key))
        written = connection.execute(select(notes).where(_is(notes, subject)).order_by(notes.c.id))
        return Marks(
            tuple(Tag(row.key, row.value, row.by, row.at, row.packed) for row in said),
            tuple(Note(row.text, row.by, row.at) for row in written),
        )


def tag(database: Database, subject: Subject, given: Mapping[str, str], by: str = "") -> Marks:
    """Put tags on a thing, in place of later ones of the same keys; those that came with a bundle stay as packed.

    Raises:
        InvalidRequest: a key is empty or longer than 128 letters.
    """
    for key in given:
        if not key or len(key) > LONGEST_KEY:
            raise InvalidRequest(f"{key!r} cannot be the key of a tag: it has 1 to {LONGEST_KEY} letters")
    with database.write() as connection:
        for key, value in given.items():
            connection.execute(delete(tags).where(_is(tags, subject), tags.c.key == key, ~tags.c.packed))
            row = {"key": key, "value": value, "short": value[:SHORT], "packed": False, "by": by, "at": _now()}
            connection.execute(insert(tags).values(**_columns(subject), **row))
    return marks_of(database, subject)


def untag(database: Database, subject: Subject, keys: list[str]) -> Marks:
    """Take tags away.

    Raises:
        Rejected: there is no such tag, or it came with the bundle.
    """
    with database.write() as connection:
        for key in keys:
            mine = delete(tags).where(_is(tags, subject), tags.c.key == key, ~tags.c.packed)
            if not connection.execute(mine).rowcount:
                raise Rejected(_no_tag(connection, subject, key))
    return marks_of(database, subject)


def note(database: Database, subject: Subject, text: str, by: str = "") -> Marks:
    """Write a note on a thing. Notes are added, never changed.

    Raises:
        InvalidRequest: the text is empty.
    """
    if not text.strip():
        raise InvalidRequest("a note says something")
    with database.write() as connection:
        connection.execute(insert(notes).values(**_columns(subject), text=text.strip(), by=by, at=_now()))
    return marks_of(database, subject)


def _no_tag(connection: Connection, subject: Subject, key: str) -> str:
    found = connection.execute(select(tags.c.key, tags.c.packed).where(_is(tags, subject))).all()
    if any(row.key == key for row in found):
        return f"the tag {key!r} of {subject.ref} came with its bundle and stays; another value can be put over it"
    known = ", ".join(sorted(row.key for row in found if not row.packed)) or "none"
    return f"{subject.ref} has no tag {key!r} that could be taken away; there are: {known}"


def _is(table: Table, subject: Subject) -> ColumnElement[bool]:
    return (table.c.kind == subject.kind) & (table.c.name == subject.name) & (table.c.number == subject.number)


def _columns(subject: Subject) -> dict[str, Any]:
    return {"kind": subject.kind, "name": subject.name, "number": subject.number}


def _now() -> datetime:
    return datetime.now(UTC)
