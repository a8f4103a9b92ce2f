"""Performance window by window, with what labels that come late do to it.

A window whose labels are still coming is not like one that has all of its own: those that come first may be the good
ones. Windows are therefore compared at the same *age*, the time since they ended. The age from which a window counts as
complete is one by which nearly all labels that ever come have come. A younger window is called *young*, and beside its
value stands what older windows had shown at that age. A window that had labels come, or corrected, after that age has
*changed*: what it showed first is kept beside what it shows now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import msgspec
import numpy as np
import pyarrow as pa

from modelyard.domain.frame import Array
from modelyard.monitoring.performance.groups import By, Groups, by_column, by_time, ends_of, moment
from modelyard.monitoring.performance.intervals import LEVEL, Measure
from modelyard.monitoring.performance.judged import Judged, judge, strangers
from modelyard.monitoring.performance.metrics import chosen, measured
from modelyard.monitoring.performance.task import Task

USUAL = 0.95
"""So many of the labels that come have come at the age from which a window is complete."""

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86_400.0
_AGES = (0.0, _MINUTE, 15 * _MINUTE, *(each * _HOUR for each in (1, 3, 6, 12)))
_AGES += tuple(each * _DAY for each in (1, 2, 3, 7, 14, 30, 60, 90, 180, 365))


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One window, or one slice of it. `measures` are of all labels known now."""

    began: datetime
    slice: str = ""
    rows: int
    labelled: int
    measures: Mapping[str, Measure]
    young: bool = False
    """Whether its labels are still coming."""
    alike: Mapping[str, Measure] = {}
    """Of a young window: what older ones had shown at its age, all together."""
    later: int = 0
    """Labels that came, or were corrected, after the window had counted as complete."""
    first: Mapping[str, Measure] = {}
    """Where some came later: what it showed before."""

    @property
    def coverage(self) -> float:
        """The share of its rows whose label is known."""
        return self.labelled / self.rows if self.rows else 0.0

    @property
    def changed(self) -> bool:
        """Whether what it shows is not what it showed first."""
        return bool(self.later)


class History(msgspec.Struct, frozen=True, kw_only=True):
    """All windows of a stretch of time, oldest first; the slices of each, and all of them together at the end."""

    by: By
    column: str = ""
    """The column whose values are the slices; empty: none are told apart."""
    metrics: tuple[str, ...]
    level: float
    age: float
    """Seconds after its end from which a window counts as complete."""
    now: datetime | None
    """How far event time has come."""
    points: tuple[Point, ...]
    whole: tuple[Point, ...]
    strange: Mapping[str, int] = {}
    """Labels that are no class of the model, with how often they came; they count as not known."""

    @property
    def slices(self) -> tuple[str, ...]:
        """The slices that there are."""
        return tuple(dict.fromkeys(point.slice for point in self.whole))

    def of(self, name: str) -> tuple[Point, ...]:
        """The windows of one slice."""
        return tuple(point for point in self.points if point.slice == name)


def history(
    table: pa.Table,
    task: Task,
    *,
    by: By = By.WEEK,
    column: str = "",
    metrics: Iterable[str] = (),
    level: float = LEVEL,
    age: float | None = None,
    now: datetime | None = None,
) -> History:
    """The performance of the rows of a deployment's flat view (see `judge`), by window and by a column's values.

    `age` is the time after which a window counts as complete; the usual one of the labels at hand if None. `now` is how
    far event time has come; the latest moment of the table if None.

    Raises:
        InvalidRequest: there is no such column, or a metric does not fit the task.
    """
    judged = judge(table, task)
    names = tuple(metric.name for metric in chosen(task, metrics))
    slices = by_column(table, column) if column else Groups(np.zeros(len(judged), dtype=np.int64), ("",))
    age = usual_age(judged) if age is None else age
    until = _latest(judged) if now is None else np.datetime64(now.replace(tzinfo=None), "us")
    points = _Points(judged, names, level, age, until)
    windows, began = by_time(judged.moments, by)
    return History(
        by=by,
        column=column,
        metrics=names,
        level=level,
        age=age,
        now=None if np.isnat(until) else moment(until),
        points=tuple(points.of(windows, began, slices, by)),
        whole=tuple(points.together(slices)),
        strange=strangers(table, task),
    )


def usual_age(judged: Judged, share: float = USUAL) -> float:
    """Seconds after an event by which `share` of the labels that have come had come, rounded up to something handy."""
    ages = judged.age[judged.labelled]
    if not len(ages):
        return 0.0
    reached = float(np.quantile(ages.astype(np.int64) / 1e6, share, method="inverted_cdf"))
    return next((each for each in _AGES if each >= reached), reached)


def _latest(judged: Judged) -> np.datetime64:
    moments = [each[~np.isnat(each)] for each in (judged.moments, judged.known_at)]
    latest = [each.max() for each in moments if len(each)]
    return max(latest, default=np.datetime64("NaT", "us"))


class _Points:
    """Makes points of one table."""

    def __init__(self, judged: Judged, names: Sequence[str], level: float, age: float, now: np.datetime64) -> None:
        self._judged, self._names, self._level, self._now = judged, names, level, now
        self._age = np.timedelta64(round(age * 1e6), "us")
        self._labelled = judged.labelled

    def of(self, windows: Groups, began: Array, slices: Groups, by: By) -> list[Point]:
        """Of every slice of every window."""
        ends = ends_of(began, by) if by is not By.WHOLE else np.full(len(began), _latest(self._judged))
        width = len(slices.names)
        both = np.where(slices.codes >= 0, windows.codes * width + slices.codes, -1)
        complete = self._now >= ends[windows.codes] + self._age if len(began) else np.zeros(0, dtype=bool)
        since_end = self._judged.known_at - ends[windows.codes] if len(began) else self._judged.known_at
        found = []
        for code, rows in Groups(both, ()).members():
            at, part = divmod(code, width)
            point = self._point(rows, moment(began[at]), slices.names[part])
            old = complete & (slices.codes == part) if not complete[rows[0]] else None
            if old is None:
                found.append(self._with_later(point, rows, since_end))
            else:
                found.append(self._young(point, self._now - ends[at], old, since_end))
        return found

    def together(self, slices: Groups) -> list[Point]:
        """Of every slice over all windows."""
        began = self._judged.moments
        return [
            self._point(rows, moment(began[rows].min()), slices.names[code])
            for code, rows in slices.members()
            if not np.isnat(began[rows]).any()
        ]

    def _point(self, rows: Array, began: datetime, name: str) -> Point:
        known = rows[self._labelled[rows]]
        return Point(began=began, slice=name, rows=len(rows), labelled=len(known), measures=self._measures(known))

    def _with_later(self, point: Point, rows: Array, since_end: Array) -> Point:
        known = rows[self._labelled[rows]]
        first = known[since_end[known] <= self._age]
        if len(first) == len(known):
            return point
        return msgspec.structs.replace(point, later=len(known) - len(first), first=self._measures(first))

    def _young(self, point: Point, old_by: np.timedelta64, old: Array, since_end: Array) -> Point:
        alike = np.flatnonzero(old & self._labelled & (since_end <= old_by))
        return msgspec.structs.replace(point, young=True, alike=self._measures(alike) if len(alike) else {})

    def _measures(self, rows: Array) -> Mapping[str, Measure]:
        return measured(self._judged.take(rows), self._names, self._level)
