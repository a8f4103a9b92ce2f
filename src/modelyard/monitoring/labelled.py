"""Watches of rows and labels: asked whenever labels have come or windows have closed, with all rows of the lookback.

Event time may come far in little time, when a year is streamed in a minute or a monitor was away for long. Watches are
then asked step by step, each time with what was known at the end of the step, so that they say what they would have
said had they been asked all along.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from modelyard.errors import NotFound
from modelyard.monitoring.looking import Looked, Tell, kept, resumed
from modelyard.monitoring.performance.reading import view_of
from modelyard.monitoring.performance.task import LABEL
from modelyard.monitoring.settings import Settings
from modelyard.monitoring.store import Gathered
from modelyard.monitoring.versions import Known
from modelyard.monitoring.watching import Facts, Finding, LabelledWatch
from modelyard.records.query import RecordDatabase
from modelyard.records.sqltext import literal, quoted

_ADDED = "event_time"

_STEPS_OF_LOOKBACK = 2
"""So many steps make up a lookback: each reads its rows, and those of a lookback before it."""


def rows_between(
    database: RecordDatabase,
    deployment: str,
    version: int,
    since: datetime,
    until: datetime,
    unknown: tuple[datetime, datetime] | None = None,
) -> Any:
    """Answered rows of a version with all columns of the flat view, as a `pyarrow.Table`, oldest first.

    Labels that became known after the first moment of `unknown`, up to the second, are left out.

    Raises:
        NotFound: nothing of that deployment is recorded.
    """
    view, columns = view_of(database, deployment)
    moment = _moment_of(columns)
    shown = "*" if _ADDED in columns else f'*, "time" AS {_ADDED}'
    if unknown is not None and {LABEL, "labelled_at"}.issubset(columns):
        late = f"labelled_at > {_sql(unknown[0])} AND labelled_at <= {_sql(unknown[1])}"
        shown = shown.replace("*", f"* REPLACE (CASE WHEN {late} THEN NULL ELSE {LABEL} END AS {LABEL})", 1)
    # Names are quoted, values made here.
    return database.query(
        f"SELECT {shown} FROM {quoted(view)} WHERE outcome = 'ok' AND version = {version:d} "  # noqa: S608
        f"AND {moment} >= {_sql(since)} AND {moment} < {_sql(until)} ORDER BY {moment}, prediction_id"
    )


def first_moment(database: RecordDatabase, deployment: str, version: int, until: datetime) -> int | None:
    """When the rows of a version begin that end by `until` (seconds since 1970); None without any.

    Raises:
        NotFound: nothing of that deployment is recorded.
    """
    view, columns = view_of(database, deployment)
    moment = _moment_of(columns)
    found = database.query(
        f"SELECT min({moment}) AS began FROM {quoted(view)} WHERE outcome = 'ok' "  # noqa: S608 - as above
        f"AND version = {version:d} AND {moment} < {_sql(until)}"
    )["began"][0].as_py()
    return None if found is None else int(found.replace(tzinfo=UTC).timestamp())


def _moment_of(columns: Mapping[str, str]) -> str:
    return 'coalesce("event_time", "time")' if _ADDED in columns else '"time"'


def labels_mark(records: Path) -> tuple[tuple[str, int], ...]:
    """Changes whenever a label is added: names and sizes of the files of the label log."""
    found = []
    for path in (records / "labels").glob("*.log"):
        with suppress(FileNotFoundError):  # shipped meanwhile
            found.append((path.name, path.stat().st_size))
    return tuple(sorted(found))


@dataclass(frozen=True, slots=True)
class Stretch:
    """Rows that watches are asked with: of an event time from `began` to before `ended` (seconds since 1970)."""

    began: int
    ended: int


def stretches(since: int, until: int, lookback: float) -> list[Stretch]:
    """The steps from where watches have looked up to `since` to where event time has come, `until`.

    Without anything new there is one too: labels have come.

    >>> [(each.began, each.ended) for each in stretches(1000, 1010, 100.0)]
    [(900, 1010)]
    >>> [(each.began, each.ended) for each in stretches(1000, 1120, 100.0)]
    [(900, 1050), (950, 1100), (1000, 1120)]
    """
    length = max(1, int(lookback) // _STEPS_OF_LOOKBACK)
    ends = [*range(since + length, until, length), until]
    return [
        Stretch(max(0, start - int(lookback)), end)
        for start, end in zip([min(since, until), *ends], ends, strict=False)
    ]


class LabelledLooks:
    """Asks the watches of labelled rows of one deployment."""

    def __init__(self, deployment: str, watches: Sequence[LabelledWatch], settings: Settings, tell: Tell) -> None:
        self._deployment, self._settings, self._tell = deployment, settings, tell
        self._watches = [watch for watch in watches if watch.name not in settings.off]

    def look(
        self,
        database: RecordDatabase,
        digest: str,
        version: tuple[int, Known],
        gathered: Mapping[tuple[str, str], Gathered],
        reached: int,
    ) -> Iterator[tuple[Looked, dict[tuple[str, str], Gathered]]]:
        """What the watches say of a version, step by step up to now, and what they have gathered after each."""
        number, known = version
        there = {name: found for (of, name), found in gathered.items() if of == digest}
        since = self._since(database, number, there, reached)
        if since is None:
            return
        for stretch in stretches(since, reached, self._settings.lookback):
            began, ended = _moment(stretch.began), _moment(stretch.ended)
            # A later step tells of these. What is said to have become known later than now was brought in afterwards.
            unknown = None if stretch.ended >= reached else (ended, _moment(reached))
            table = rows_between(database, self._deployment, number, began, ended, unknown)
            if not table.num_rows:
                there = {name: Gathered(stretch.ended, found.state) for name, found in there.items()}
                continue
            look, states = self._of_version(digest, known, table, there, (began, ended))
            there |= {name: found for (_, name), found in states.items()}
            yield look, states

    def _since(self, database: RecordDatabase, number: int, there: Mapping[str, Gathered], reached: int) -> int | None:
        """Up to where all watches have looked; before the first look, where the version's rows begin."""
        if self._watches and all(watch.name in there for watch in self._watches):
            return min(there[watch.name].reached for watch in self._watches)
        try:
            return first_moment(database, self._deployment, number, _moment(reached))
        except NotFound:
            return None

    def _of_version(
        self,
        digest: str,
        known: Known,
        table: Any,
        gathered: Mapping[str, Gathered],
        stretch: tuple[datetime, datetime],
    ) -> tuple[Looked, dict[tuple[str, str], Gathered]]:
        states: dict[tuple[str, str], Gathered] = {}
        findings: list[Finding] = []
        judged: list[str] = []
        for watch in self._watches:
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
                holdout=known.holdout,
            )
            try:
                before = resumed(gathered.get(watch.name), watch, self._settings)
                if before is None:
                    before = watch.start(facts.reference, settings)
                state, found = watch.look(before, table, facts)
                judged += watch.judged(before, state)
            except Exception as error:  # noqa: BLE001 - one watch that fails must not silence the others
                self._tell(f"{self._deployment}: the watch {watch.name} failed: {error!r}")
                continue
            states[digest, watch.name] = Gathered(int(stretch[1].timestamp()), kept(state, self._settings))
            findings += found
        last = stretch[1] - timedelta(seconds=self._settings.window)
        return Looked(known.ref, last, tuple(judged), tuple(findings)), states


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _sql(moment: datetime) -> str:
    return f"TIMESTAMP {literal(moment.astimezone(UTC).replace(tzinfo=None).isoformat(sep=' '))}"
