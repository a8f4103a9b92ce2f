"""A deployment's estimates: as the monitor kept them, or computed from its records."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pyarrow.compute as pc

from modelyard.bundle.layout import open_bundle
from modelyard.errors import NotFound
from modelyard.home import Home
from modelyard.monitoring.estimate.walking import State, Walk, walk
from modelyard.monitoring.estimate.watch import Estimates
from modelyard.monitoring.labelled import rows_between
from modelyard.monitoring.looking import resumed
from modelyard.monitoring.performance.judged import judge
from modelyard.monitoring.performance.reading import task_of, view_of
from modelyard.monitoring.performance.task import Task
from modelyard.monitoring.settings import Settings
from modelyard.monitoring.store import MonitorStore
from modelyard.records.query import RecordDatabase
from modelyard.records.sqltext import literal
from modelyard.registry import Registry

_ANSWERS = ("predict", "decision_function", "transform", "output_")
_CALLS = {"prediction_id", "request_id", "row", "model", "version", "digest", "time", "event_time", "latency_ms"}
_CALLS |= {"status", "outcome", "error", "label", "label_number", "labelled_at", "known_at"}
_FIRST, _LAST = datetime(1970, 1, 2, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


class Found(msgspec.Struct, frozen=True):
    """The estimates of one version in a deployment, and in words where they are from."""

    deployment: str
    version: str
    state: State
    source: str


def estimates(
    home: Home, deployment: str, version: int | None = None, *, records: Path | None = None, again: bool = False
) -> Found:
    """The estimates of a version, or of the one that answered last; `again`: computed even if the monitor kept some.

    Raises:
        NotFound: nothing of that deployment or version is recorded.
        InvalidRequest: its answers cannot be held against labels.
    """
    with RecordDatabase(records or home.records) as database:
        ref, digest = _version(database, deployment, version)
        with Registry.open(home) as registry:
            store = MonitorStore(registry.database)
            settings = store.settings(deployment)
            kept = None if again else _kept(store, deployment, digest, settings)
            inputs = _inputs(registry, digest)
        if kept is not None:
            return Found(deployment, ref, kept, "as the monitor made them when windows had closed")
        task = task_of(database, deployment, home, settings.positive)
        number = int(ref.rpartition("@")[2])
        table = rows_between(database, deployment, number, _FIRST, _LAST)
        columns = inputs or _guessed(list(view_of(database, deployment)[1]), task)
    now = pc.max(table["event_time"]).as_py() if table.num_rows else _FIRST
    now = now if now.tzinfo else now.replace(tzinfo=UTC)
    there = tuple(name for name in columns if name in table.column_names)
    rows = Walk(judge(table, task), table, there, int((now + timedelta(seconds=1)).timestamp()))
    return Found(deployment, ref, walk(State(), rows), "computed now, each window from what was known at its end")


def _kept(store: MonitorStore, deployment: str, digest: str, settings: Settings) -> State | None:
    watch = Estimates()
    state = resumed(store.states(deployment).get((digest, watch.name)), watch, settings)
    return state if isinstance(state, State) and state.record else None


def _version(database: RecordDatabase, deployment: str, version: int | None) -> tuple[str, str]:
    """As in ``flights-delay@3``, and the digest of its bundle."""
    view_of(database, deployment)
    only = "" if version is None else f" AND version = {version:d}"
    found = database.query(
        "SELECT model, version, digest FROM predictions WHERE outcome = 'ok' AND deployment = "  # noqa: S608
        f"{literal(deployment)}{only} ORDER BY time DESC LIMIT 1"
    )
    if not found.num_rows:
        which = "version" if version is None else f"version {version}"
        raise NotFound(f"no {which} answered in {deployment!r}; `modelyard records query` shows what did")
    row = found.to_pylist()[0]
    return f"{row['model']}@{row['version']}", str(row["digest"] or "")


def _inputs(registry: Registry, digest: str) -> tuple[str, ...]:
    if not digest or not registry.holds(digest):
        return ()
    schema = open_bundle(registry.folder(digest)).manifest.schema
    return tuple(column.name for column in schema.columns if not column.shape)


def _guessed(columns: list[str], task: Task) -> tuple[str, ...]:
    """Columns of a flat view that look like inputs, of a version that is not registered here."""
    others = {*_CALLS, *task.columns}
    return tuple(name for name in columns if name not in others and not name.startswith(_ANSWERS))
