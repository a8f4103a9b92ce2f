"""Watches of rows and labels: asked whenever labels have come or windows have closed, with all rows of the lookback."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from modelyard.errors import NotFound
from modelyard.monitoring.looking import Looked, Tell, kept, resumed
from modelyard.monitoring.performance.reading import view_of
from modelyard.monitoring.settings import Settings
from modelyard.monitoring.store import Gathered
from modelyard.monitoring.versions import Known
from modelyard.monitoring.watching import Facts, Finding, LabelledWatch
from modelyard.records.query import RecordDatabase
from modelyard.records.sqltext import literal, quoted

_ADDED = "event_time"


def rows_between(database: RecordDatabase, deployment: str, version: int, since: datetime, until: datetime) -> Any:
    """Answered rows of a version with all columns of the flat view, as a `pyarrow.Table`, oldest first.

    Raises:
        NotFound: nothing of that deployment is recorded.
    """
    view, columns = view_of(database, deployment)
    moment = 'coalesce("event_time", "time")' if _ADDED in columns else '"time"'
    shown = "*" if _ADDED in columns else f'*, "time" AS {_ADDED}'
    # Names are quoted, values made here.
    return database.query(
        f"SELECT {shown} FROM {quoted(view)} WHERE outcome = 'ok' AND version = {version:d} "  # noqa: S608
        f"AND {moment} >= {_sql(since)} AND {moment} < {_sql(until)} ORDER BY {moment}, prediction_id"
    )


def labels_mark(records: Path) -> tuple[tuple[str, int], ...]:
    """Changes whenever a label is added: names and sizes of the files of the label log."""
    found = []
    for path in (records / "labels").glob("*.log"):
        with suppress(FileNotFoundError):  # shipped meanwhile
            found.append((path.name, path.stat().st_size))
    return tuple(sorted(found))


class LabelledLooks:
    """Asks the watches of labelled rows of one deployment."""

    def __init__(self, deployment: str, watches: Sequence[LabelledWatch], settings: Settings, tell: Tell) -> None:
        self._deployment, self._watches, self._settings, self._tell = deployment, watches, settings, tell

    def look(
        self,
        database: RecordDatabase,
        versions: Mapping[str, tuple[int, Known]],
        gathered: Mapping[tuple[str, str], Gathered],
        reached: int,
    ) -> Iterator[tuple[Looked, dict[tuple[str, str], Gathered]]]:
        """What the watches say of each version now, and what they have gathered."""
        ended = datetime.fromtimestamp(reached, UTC)
        began = ended - timedelta(seconds=min(self._settings.lookback, reached))
        for digest, (number, known) in versions.items():
            try:
                table = rows_between(database, self._deployment, number, began, ended)
            except NotFound:
                continue
            if not table.num_rows:
                continue
            yield self._of_version(digest, known, table, gathered, (began, ended), reached)

    def _of_version(
        self,
        digest: str,
        known: Known,
        table: Any,
        gathered: Mapping[tuple[str, str], Gathered],
        stretch: tuple[datetime, datetime],
        reached: int,
    ) -> tuple[Looked, dict[tuple[str, str], Gathered]]:
        states: dict[tuple[str, str], Gathered] = {}
        judged: list[str] = []
        findings: list[Finding] = []
        for watch in self._watches:
            if watch.name in self._settings.off:
                continue
            settings = self._settings.with_share(watch.share or 1.0)
            facts = Facts(
                deployment=self._deployment,
                version=known.ref,
                began=stretch[0],
                ended=stretch[1],
                now=stretch[1],
                reference=known.counted.reference,
                settings=settings,
                made=known.made,
                outputs=known.outputs,
                task=known.task,
                classes=known.classes,
            )
            try:
                state = resumed(gathered.get((digest, watch.name)), watch, self._settings)
                if state is None:
                    state = watch.start(facts.reference, settings)
                state, found = watch.look(state, table, facts)
            except Exception as error:  # noqa: BLE001 - one watch that fails must not silence the others
                self._tell(f"{self._deployment}: the watch {watch.name} failed: {error!r}")
                continue
            states[digest, watch.name] = Gathered(reached, kept(state, self._settings))
            judged.append(watch.name)
            findings += found
        last = stretch[1] - timedelta(seconds=self._settings.window)
        return Looked(known.ref, last, tuple(judged), tuple(findings)), states


def _sql(moment: datetime) -> str:
    return f"TIMESTAMP {literal(moment.astimezone(UTC).replace(tzinfo=None).isoformat(sep=' '))}"
