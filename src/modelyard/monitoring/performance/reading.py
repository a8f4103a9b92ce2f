"""A deployment's rows from the records, as far as its performance needs them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from modelyard.bundle.layout import open_bundle
from modelyard.errors import NotFound
from modelyard.home import Home
from modelyard.monitoring.performance.history import History, history
from modelyard.monitoring.performance.metrics import chosen
from modelyard.monitoring.performance.task import LABEL, Task
from modelyard.monitoring.performance.worst import Found, worst
from modelyard.records.query import OWN_TABLES, RecordDatabase
from modelyard.records.sqltext import literal, quoted
from modelyard.registry import Registry

__all__ = ["Stretch", "performance", "rows_of", "task_of", "view_of", "worst_slices"]

_BEFORE = ("prediction_id", "request_id", "row", "model", "version", "time", "event_time", "status", "outcome", "error")
_ALWAYS = ("prediction_id", "event_time", "time", "version", LABEL, "labelled_at")


class Stretch(msgspec.Struct, frozen=True):
    """Which answers are meant: those of one version, of an event time from `since` to before `until`.

    Moments that name no zone are in UTC.
    """

    version: int | None = None
    since: datetime | None = None
    until: datetime | None = None


EVERYTHING = Stretch()


def performance(
    database: RecordDatabase,
    deployment: str,
    home: Home,
    *,
    stretch: Stretch = EVERYTHING,
    positive: str = "",
    column: str = "",
    metrics: Sequence[str] = (),
    **asked: Any,
) -> History:
    """The performance of a deployment by window; `asked` is what `history` takes besides.

    Raises:
        NotFound: nothing of that deployment is recorded.
        InvalidRequest: its answers cannot be held against labels, or there is no such metric or column.
    """
    task = task_of(database, deployment, home, positive)
    chosen(task, metrics)
    table = rows_of(database, deployment, task, besides=[column] if column else [], stretch=stretch)
    return history(table, task, column=column, metrics=metrics, **asked)


def worst_slices(
    database: RecordDatabase,
    deployment: str,
    home: Home,
    *,
    stretch: Stretch = EVERYTHING,
    positive: str = "",
    **asked: Any,
) -> Found:
    """The slices of a deployment's inputs in which it does worst; `asked` is what `worst` takes besides.

    Raises:
        NotFound: nothing of that deployment is recorded.
        InvalidRequest: its answers cannot be held against labels, or slices cannot be ranked by that metric.
    """
    task = task_of(database, deployment, home, positive)
    inputs = _inputs(list(view_of(database, deployment)[1]), task)
    return worst(rows_of(database, deployment, task, besides=inputs, stretch=stretch), task, inputs, **asked)


def _inputs(columns: Sequence[str], task: Task) -> list[str]:
    """In a flat view inputs stand behind what all deployments have, and before the answers."""
    first = max((columns.index(name) for name in _BEFORE if name in columns), default=-1) + 1
    answers = [
        columns.index(name)
        for name in (*task.columns, *(f"output_{name}" for name in task.columns))
        if name in columns[first:]
    ]
    return list(columns[first : min(answers, default=len(columns))])


def task_of(database: RecordDatabase, deployment: str, home: Home, positive: str = "") -> Task:
    """What the newest version that answered in `deployment` answers; guessed from columns if it is not registered here.

    Raises:
        NotFound: nothing of that deployment is recorded.
        InvalidRequest: its answers cannot be held against labels.
    """
    columns = view_of(database, deployment)[1]
    newest = database.query(
        f"SELECT arg_max(digest, time) AS digest FROM predictions WHERE deployment = {literal(deployment)} "  # noqa: S608
        "AND digest <> ''"
    )
    digest = newest["digest"][0].as_py() if newest.num_rows else None
    with Registry.open(home) as registry:
        if digest and registry.holds(digest):
            return Task.of(open_bundle(registry.folder(digest)).manifest.schema, positive)
    return Task.guess(columns).about(positive)


def rows_of(
    database: RecordDatabase,
    deployment: str,
    task: Task,
    *,
    besides: Iterable[str] = (),
    stretch: Stretch = EVERYTHING,
) -> Any:
    """The answered rows as a `pyarrow.Table`: what `judge` reads, and the columns named `besides`, where they exist.

    Raises:
        NotFound: nothing of that deployment is recorded.
    """
    view, columns = view_of(database, deployment)
    wanted = dict.fromkeys((*_ALWAYS, *task.columns, *besides))
    # A model may have an input that is called like its answer; the answer's column is then called otherwise.
    chosen = [
        f"{quoted(f'output_{name}')} AS {quoted(name)}"
        if f"output_{name}" in columns and name in task.columns
        else name_
        for name in wanted
        if (name_ := quoted(name)) and name in columns
    ]
    moment = 'coalesce("event_time", "time")' if "event_time" in columns else '"time"'
    kept = ["outcome = 'ok'"]
    kept += [f"version = {stretch.version:d}"] if stretch.version is not None else []
    kept += [f"{moment} >= {_timestamp(stretch.since)}"] if stretch.since else []
    kept += [f"{moment} < {_timestamp(stretch.until)}"] if stretch.until else []
    # All names are quoted, and all values are made here.
    return database.query(f"SELECT {', '.join(chosen)} FROM {quoted(view)} WHERE {' AND '.join(kept)}")  # noqa: S608


def view_of(database: RecordDatabase, deployment: str) -> tuple[str, Mapping[str, str]]:
    """The name of the deployment's flat view, and its columns with their SQL types.

    Raises:
        NotFound: nothing of that deployment is recorded; says which there are.
    """
    views = {table.name: dict(table.columns) for table in database.tables()}
    for name in (f"deployment_{deployment}", deployment):
        if "outcome" in views.get(name, {}) and "request_id" in views[name] and name not in OWN_TABLES:
            return name, views[name]
    raise NotFound(f"nothing is recorded of {deployment!r}; there are: {', '.join(_deployments(views)) or 'none'}")


def _deployments(views: Mapping[str, object]) -> Sequence[str]:
    return [name.removeprefix("deployment_") for name in views if name not in OWN_TABLES]


def _timestamp(moment: datetime) -> str:
    plain = moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    return f"TIMESTAMP {literal(plain.isoformat(sep=' '))}"
