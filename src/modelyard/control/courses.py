"""Keeps where rollouts with a policy stand, and what was decided on what, in the metadata database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, insert, select, update

from modelyard.errors import Conflict
from modelyard.registry.rollout_tables import rollout_courses, rollout_decisions
from modelyard.rollout.course import Course
from modelyard.rollout.decision import Decision, Snapshot, decide

_encode = msgspec.json.Encoder().encode


class _Document(msgspec.Struct, frozen=True):
    snapshot: Snapshot
    decision: Decision
    told: Any = None


@dataclass(frozen=True, slots=True)
class Stored:
    """A decision as it was made, with the snapshot that it rested on; `told` is what was shown of the metrics then."""

    id: int
    at: datetime
    snapshot: Snapshot
    decision: Decision
    told: Any

    def replayed(self) -> Decision:
        """What is decided today on the same snapshot."""
        return decide(self.snapshot)


@dataclass(frozen=True, slots=True)
class Standing:
    """A course as it is stored; `revision` grows with every change of it."""

    course: Course
    revision: int


def add(connection: Connection, rollout: int, course: Course) -> None:
    """Keep the course of a rollout that begins."""
    connection.execute(insert(rollout_courses).values(rollout=rollout, revision=0, **_facts(course)))


def read(connection: Connection, rollout: int) -> Standing | None:
    """The course of a rollout; None for one that goes by hand."""
    row = connection.execute(select(rollout_courses).where(rollout_courses.c.rollout == rollout)).one_or_none()
    return None if row is None else Standing(msgspec.json.decode(row.document, type=Course), row.revision)


def revisions(connection: Connection, rollouts: Sequence[int]) -> dict[int, int]:
    """The newest revision of each course, by rollout."""
    if not rollouts:
        return {}
    asked = select(rollout_courses.c.rollout, rollout_courses.c.revision)
    rows = connection.execute(asked.where(rollout_courses.c.rollout.in_(rollouts))).all()
    return {row.rollout: row.revision for row in rows}


def write(connection: Connection, rollout: int, course: Course, revision: int) -> Standing:
    """Keep a course in place of the one of that `revision`.

    Raises:
        Conflict: somebody else changed it meanwhile.
    """
    mine = (rollout_courses.c.rollout == rollout) & (rollout_courses.c.revision == revision)
    changed = connection.execute(update(rollout_courses).where(mine).values(revision=revision + 1, **_facts(course)))
    if changed.rowcount != 1:
        raise Conflict(f"the course of rollout {rollout} was changed by somebody else")
    return Standing(course, revision + 1)


def note(connection: Connection, rollout: int, at: datetime, snapshot: Snapshot, decision: Decision, told: Any) -> None:
    """Keep a decision and all that it rested on."""
    document = _encode(_Document(snapshot, decision, told))
    values = {"rollout": rollout, "at": at, "action": decision.action, "document": document}
    connection.execute(insert(rollout_decisions).values(**values))


def decisions(connection: Connection, rollout: int, most: int | None = None) -> tuple[Stored, ...]:
    """What was decided about a rollout, oldest first: all, or so many of the newest."""
    table = rollout_decisions.c
    asked = select(rollout_decisions).where(table.rollout == rollout).order_by(table.id.desc()).limit(most)
    return tuple(map(_stored, connection.execute(asked)))[::-1]


def _stored(row: Row[Any]) -> Stored:
    found = msgspec.json.decode(row.document, type=_Document)
    return Stored(row.id, row.at, found.snapshot, found.decision, found.told)


def _facts(course: Course) -> dict[str, Any]:
    return {"step": course.step, "entered": course.entered, "at": course.looked, "document": _encode(course)}
