"""Runs in the metadata database: what they were, and what they read and made."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Select, exists, func, insert, select, update

from modelyard.domain.names import Ref
from modelyard.domain.run import Run, State
from modelyard.errors import InvalidRequest, RunNotFound, RunRemoved
from modelyard.registry import ledger, removals
from modelyard.registry.database import Database
from modelyard.registry.tables import (
    SHORT,
    dataset_versions,
    run_data,
    run_models,
    run_snapshots,
    run_values,
    run_versions,
    runs,
    tags,
    versions,
)

_CONDITION = re.compile(r"\s*([^<>=!\s]+)\s*(<=|>=|!=|=|<|>)\s*(.*?)\s*")
_COMPARED = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "!=": operator.ne,
}
FEW = 5_000
"""A condition that fewer runs fulfil is begun with."""

_RUN = msgspec.msgpack.Decoder(Run)


@dataclass(frozen=True, slots=True)
class Condition:
    """What a run's metric (its last value) or parameter is asked to be."""

    name: str
    operator: str
    value: str

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read ``auc>0.8`` or ``depth=6``.

        Raises:
            InvalidRequest: it is not of that form, or compares something other than a number by size.

        >>> Condition.parse("auc >= 0.8")
        Condition(name='auc', operator='>=', value='0.8')
        """
        found = _CONDITION.fullmatch(text)
        if found is None:
            raise InvalidRequest(f"{text!r} is no condition; write NAME>0.8 or NAME=VALUE (also <, <=, >=, !=)")
        made = cls(*found.groups())
        if made.number is None and made.operator not in ("=", "!="):
            raise InvalidRequest(f"{text!r}: only numbers are compared with {made.operator}")
        return made

    @property
    def number(self) -> float | None:
        """The value as a number, if it is one."""
        return _number(self.value)

    def holds(self) -> ColumnElement[bool]:
        """In SQL: whether a row of `run_values` fulfils it."""
        compare, number = _COMPARED[self.operator], self.number
        met: ColumnElement[bool]
        met = compare(run_values.c.text, self.value) if number is None else compare(run_values.c.number, number)
        named = run_values.c.name == self.name
        return named & run_values.c.kind.in_(("metric", "param")) & met


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which runs to list: those that fulfil all that is given. `tags` maps names to values."""

    name: str | None = None
    state: State | None = None
    where: tuple[Condition, ...] = ()
    tags: Mapping[str, str] | None = None
    data: str | None = None
    version: str | None = None
    limit: int = 50


class Runs:
    """The runs of one registry. Safe to use from several threads and processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, run: Run) -> None:
        """Make a run known that is under way."""
        with self._database.write() as connection:
            connection.execute(insert(runs).values(id=run.id, **_columns(run)))

    def finish(self, run: Run, digest: str, tree: Sequence[bytes], content: Collection[bytes] = ()) -> bool:
        """Keep what became of a run, once; False where that was kept before.

        Args:
            run: The record.
            digest: Of the list of its files.
            tree: The chunks that the list is in.
            content: The chunks that the files are in.

        Raises:
            ContentCollected: some of these chunks were collected meanwhile; nothing is kept.
        """
        with self._database.write() as connection:
            mine = (runs.c.id == run.id) & (runs.c.digest.is_(None))
            values = {**_columns(run), "digest": digest, "tree": msgspec.msgpack.encode(tuple(tree))}
            if not connection.execute(update(runs).where(mine).values(values)).rowcount:
                return False
            ledger.register(connection, {*tree, *content})
            _link(connection, run)
            return True

    def adopt(self, run: Run, digest: str, tree: Sequence[bytes], content: Collection[bytes]) -> bool:
        """Keep a run that was recorded elsewhere; False where it is kept already.

        Without files, as of a run that was lost, `digest` is empty.

        Raises:
            ContentCollected: some of the chunks are not here (any more); nothing is kept.
        """
        files = {"digest": digest, "tree": msgspec.msgpack.encode(tuple(tree))} if digest else {}
        with self._database.write() as connection:
            if connection.execute(select(runs.c.id).where(runs.c.id == run.id)).first() is not None:
                return False
            ledger.register(connection, {*tree, *content})
            connection.execute(insert(runs).values(id=run.id, **_columns(run), **files))
            _link(connection, run)
            return True

    def add_versions(self, run: Run, refs: Sequence[str]) -> None:
        """Note that a run whose end is known made versions that came to be known later."""
        with self._database.write() as connection:
            more = replace(run, versions=(*run.versions, *refs))
            connection.execute(update(runs).where(runs.c.id == run.id).values(_columns(more)))
            known = {(row.model, row.number) for row in connection.execute(_links_of(run.id))}
            rows = [
                row for row in _models(connection, run, more.versions) if (row["model"], row["number"]) not in known
            ]
            if rows:
                connection.execute(insert(run_versions), rows)

    def give_up(self, run: Run) -> bool:
        """Keep what is known of a run whose files are gone; False where its end is known."""
        with self._database.write() as connection:
            mine = (runs.c.id == run.id) & (runs.c.state == "running")
            return connection.execute(update(runs).where(mine).values(_columns(run))).rowcount > 0

    def run(self, which: str) -> Run:
        """The run of that id, or of the only id that begins so; for a name, the newest run of it.

        Raises:
            RunNotFound: there is none, or several ids begin so.
        """
        return _RUN.decode(self._row(which).document)

    def files(self, which: str) -> tuple[str, tuple[bytes, ...]] | None:
        """Digest of the list of a run's files, and the chunks it is in; None where none are kept, as while it runs.

        Raises as `run` does.
        """
        row = self._row(which)
        return None if row.tree is None else (row.digest, msgspec.msgpack.decode(row.tree, type=tuple[bytes, ...]))

    def list(self, wanted: Wanted = Wanted()) -> tuple[Run, ...]:
        """Runs, newest first."""
        found = _chosen(wanted).order_by(runs.c.started_at.desc(), runs.c.id.desc()).limit(wanted.limit)
        with self._database.read() as connection:
            for condition in wanted.where:
                mine = select(run_values.c.run).where(condition.holds())
                counted = select(func.count()).select_from(mine.limit(FEW + 1).subquery())
                if connection.execute(counted).scalar_one() <= FEW:  # begun with these, not with the newest of all runs
                    found = found.where(runs.c.id.in_(mine))
            return tuple(_RUN.decode(row.document) for row in connection.execute(found))

    def under_way(self) -> tuple[Run, ...]:
        """Runs of which no end is known."""
        with self._database.read() as connection:
            found = connection.execute(select(runs.c.document).where(runs.c.state == "running"))
            return tuple(_RUN.decode(row.document) for row in found)

    def commits(self, beginning: str) -> tuple[str, ...]:
        """Commits of runs that begin so, three at most."""
        with self._database.read() as connection:
            table = runs.c.commit
            found = (
                select(table).where(table.startswith(beginning, autoescape=True)).distinct().order_by(table).limit(3)
            )
            return tuple(connection.execute(found).scalars()) if beginning else ()

    def that_made(self, model: str, number: int) -> tuple[Run, ...]:
        """The runs within which a version was packed, oldest first."""
        made = (run_versions.c.model == model) & (run_versions.c.number == number)
        found = select(runs.c.document).join(run_versions, run_versions.c.run == runs.c.id).where(made)
        with self._database.read() as connection:
            return tuple(_RUN.decode(row.document) for row in connection.execute(found.order_by(runs.c.started_at)))

    def _row(self, which: str) -> Row[Any]:
        newest_first = select(runs).order_by(runs.c.started_at.desc(), runs.c.id.desc())
        with self._database.read() as connection:
            for is_it in (runs.c.id == which, runs.c.name == which):
                row = connection.execute(newest_first.where(is_it).limit(1)).one_or_none()
                if row is not None:
                    return row
            beginning = newest_first.where(runs.c.id.startswith(which, autoescape=True)).limit(3)
            rows = connection.execute(beginning).all() if which else []
            if len(rows) == 1 or (rows and any(row.id == which for row in rows)):
                return next((row for row in rows if row.id == which), rows[0])
            gone = removals.of_run(connection, which)
            if gone is not None:
                raise RunRemoved(which, str(gone))
            known = [row.id for row in rows] or [row.id for row in connection.execute(newest_first.limit(3))]
        raise RunNotFound(which, known, several=len(rows) > 1)


def _link(connection: Connection, run: Run) -> None:
    """Make what a run was, read and made known to searches."""
    for table, rows in (
        (run_values, list(_values(run))),
        (run_data, list(_data(connection, run))),
        (run_versions, list(_models(connection, run, run.versions))),
        (run_models, list(_models(connection, run, run.loaded))),
        (run_snapshots, list(_taken(connection, run))),
    ):
        if rows:
            connection.execute(insert(table), rows)


def _columns(run: Run) -> dict[str, Any]:
    return {
        "name": run.name,
        "state": run.outcome.state,
        "started_at": run.started_at,
        "document": msgspec.msgpack.encode(run),
        "commit": run.code.commit,
    }


def _values(run: Run) -> Iterator[dict[str, Any]]:
    for name, value in run.params.items():
        yield _value(run, "param", name, str(value), _number(value))
    for name, metric in run.metrics.items():
        yield _value(run, "metric", name, repr(metric.last), _number(metric.last))
    for name, text in run.tags.items():
        yield _value(run, "tag", name, text, None)


def _value(run: Run, kind: str, name: str, text: str, number: float | None) -> dict[str, Any]:
    return {"run": run.id, "kind": kind, "name": name, "text": text, "short": text[:SHORT], "number": number}


def _number(value: Any) -> float | None:
    """As a number that a database can compare.

    >>> _number("0.5"), _number(True), _number("six"), _number(float("nan"))
    (0.5, 1.0, None, None)
    """
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _data(connection: Connection, run: Run) -> Iterator[dict[str, Any]]:
    known = (dataset_versions.c.dataset, dataset_versions.c.number)
    for text in dict.fromkeys((*run.data.versions, *run.data.declared)):
        ref = Ref.parse(text)
        row = {"run": run.id, "dataset": ref.model, "number": ref.version, "was_read": text in run.data.versions}
        if connection.execute(select(*known).where(known[0] == ref.model, known[1] == ref.version)).first():
            yield row


def _links_of(run_id: str) -> Select[Any]:
    return select(run_versions.c.model, run_versions.c.number).where(run_versions.c.run == run_id)


def _models(connection: Connection, run: Run, refs: Sequence[str]) -> Iterator[dict[str, Any]]:
    known = (versions.c.model, versions.c.number)
    for text in dict.fromkeys(refs):
        ref = Ref.parse(text)
        if connection.execute(select(*known).where(known[0] == ref.model, known[1] == ref.version)).first():
            yield {"run": run.id, "model": ref.model, "number": ref.version}


def _taken(connection: Connection, run: Run) -> Iterator[dict[str, Any]]:
    known = (dataset_versions.c.dataset, dataset_versions.c.number)
    for text in dict.fromkeys(run.snapshots):
        ref = Ref.parse(text)
        if connection.execute(select(*known).where(known[0] == ref.model, known[1] == ref.version)).first():
            yield {"run": run.id, "dataset": ref.model, "number": ref.version}


def _chosen(wanted: Wanted) -> Select[Any]:
    found = select(runs.c.document)
    if wanted.name is not None:
        found = found.where(runs.c.name == wanted.name)
    if wanted.state is not None:
        found = found.where(runs.c.state == wanted.state)
    for condition in wanted.where:
        found = found.where(exists().where(run_values.c.run == runs.c.id, condition.holds()))
    for name, text in (wanted.tags or {}).items():
        found = found.where(_is_tagged(name, text))
    if wanted.data is not None:
        found = found.where(
            exists().where(run_data.c.run == runs.c.id, *_is(wanted.data, run_data.c.dataset, run_data))
        )
    if wanted.version is not None:
        of = _is(wanted.version, run_versions.c.model, run_versions)
        found = found.where(exists().where(run_versions.c.run == runs.c.id, *of))
    return found


def _is_tagged(name: str, text: str) -> ColumnElement[bool]:
    """By the run itself, or later by somebody."""
    is_it = (run_values.c.kind == "tag") & (run_values.c.name == name) & (run_values.c.text == text)
    later = (tags.c.kind == "run") & (tags.c.key == name) & (tags.c.value == text)
    return exists().where(run_values.c.run == runs.c.id, is_it) | exists().where(tags.c.name == runs.c.id, later)


def _is(text: str, name: Any, table: Any) -> list[ColumnElement[bool]]:
    ref = Ref.parse(text)
    if ref.alias is not None:
        raise InvalidRequest(f"{text!r}: write NAME or NAME@NUMBER to search for runs")
    return [name == ref.model, *([table.c.number == ref.version] if ref.version is not None else [])]
