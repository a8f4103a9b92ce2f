"""The slices that a model does worst in, found by itself and judged on rows that had no part in finding them.

Of very many slices some look bad by luck. So the labelled rows are divided by lot: on one half all values and ranges of
all columns are looked at, and then the worst of them together with those of every other column; the few worst are
judged on the other half alone, by intervals that hold for all of them together (Bonferroni). What is told is from this
half, so neither the search nor its size makes it look worse than it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
import numpy as np
import pyarrow as pa

from modelyard.domain.frame import Array
from modelyard.errors import InvalidRequest
from modelyard.monitoring.performance.cuts import Cut, cuts
from modelyard.monitoring.performance.intervals import LEVEL, Measure, student
from modelyard.monitoring.performance.judged import Judged, judge
from modelyard.monitoring.performance.metrics import chosen, measured, row_losses
from modelyard.monitoring.performance.task import Aim, Task

LEAST_ROWS = 100
"""A slice has at least so many labelled rows in each half."""

_LEAST_PART = 0.005
_PARENTS = 30
_SURE = 2.0
"""Slices are ranked by how much worse they are, less so many standard errors."""

_ALIKE = 0.7
"""Of two slices that have this part of their rows in common only the worse is told."""


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """One slice, measured on the half that had no part in finding it.

    `worse` is by how much its mean loss is above that of all other rows: the share of wrong answers, the squared error
    of probabilities, the absolute error of numbers ...
    """

    conditions: tuple[str, ...]
    rows: int
    share: float
    """Of all labelled rows."""
    worse: Measure
    measures: Mapping[str, Measure]
    before: Measure | None = None
    """What the metric was in it before the moment from which on slices were looked for, where there are enough rows."""

    @property
    def said(self) -> str:
        """Its conditions in one line."""
        return " and ".join(self.conditions)


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What was found. `tried` slices were looked at, `judged` of them on the other half, `slices` were confirmed."""

    metric: str
    level: float
    rows: int
    tried: int
    judged: int
    slices: tuple[Slice, ...]


def worst(
    table: pa.Table,
    task: Task,
    columns: Iterable[str],
    *,
    metric: str = "",
    most: int = 5,
    level: float = LEVEL,
    least: int = LEAST_ROWS,
    seed: int = 0,
    since: datetime | None = None,
) -> Found:
    """Slices by one column, or by two, in which the loss of `metric` is larger than elsewhere; the worst first.

    With `since` they are looked for among rows from that moment on; what was before says what each was like then.

    Raises:
        InvalidRequest: the metric is not known, or no mean over rows (an area under a curve is none).
    """
    name = metric or ("mae" if task.aim is Aim.REGRESSION else "accuracy")
    chosen(task, [name])
    if name in ("auc", "calibration_error", "calibration_bias", "bias", "r2"):
        raise InvalidRequest(f"{name} is no mean over rows, so slices cannot be ranked by it; brier and accuracy can")
    judged = judge(table, task)
    rows = np.flatnonzero(judged.labelled)
    rows = rows[np.isfinite(row_losses(judged.take(rows), name))]
    rows, earlier = _parted(judged, rows, since)
    to_judge = np.random.default_rng(seed).random(len(rows)) < 0.5
    search = _Search(table, rows[~to_judge], row_losses(judged.take(rows[~to_judge]), name), columns, least)
    candidates = search.best(most)
    confirmed = _judged(table, judged, rows[to_judge], candidates, name, level, least)
    before = (table.take(earlier), judged.take(earlier))
    slices = [_with_past(made, each, before, name, level, least) for each, made in confirmed]
    ordered = tuple(sorted(slices, key=lambda each: -(each.worse.value or 0.0)))
    return Found(metric=name, level=level, rows=len(rows), tried=search.tried, judged=len(candidates), slices=ordered)


def _parted(judged: Judged, rows: Array, since: datetime | None) -> tuple[Array, Array]:
    """The rows from that moment on, and those before it; all and none where there is no such moment."""
    if since is None:
        return rows, rows[:0]
    later = judged.moments[rows] >= np.datetime64(since.astimezone(UTC).replace(tzinfo=None), "us")
    return rows[later], rows[~later]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """Parts of one or two cuts, with the score in the searched half."""

    parts: tuple[tuple[Cut, int], ...]
    worse: float
    score: float

    def rows(self, table: pa.Table) -> Array:
        found = np.ones(table.num_rows, dtype=bool)
        for cut, part in self.parts:
            found &= cut.codes(table) == part
        return found

    @property
    def conditions(self) -> tuple[str, ...]:
        return tuple(cut.names[part] for cut, part in self.parts)


class _Search:
    """All slices by one column and the promising ones by two, on the searched half."""

    def __init__(self, table: pa.Table, rows: Array, loss: Array, columns: Iterable[str], least: int) -> None:
        self._table = table.take(rows)
        self._loss = loss
        self._least = max(least, int(len(rows) * _LEAST_PART))
        self._cuts = cuts(self._table, columns, self._least)
        self._codes = [cut.codes(self._table) for cut in self._cuts]
        self.tried = 0

    def best(self, most: int) -> list[_Candidate]:
        """The worst, none of them much the same as another."""
        if not len(self._loss):
            return []
        single = sorted(self._single(), key=lambda each: -each.score)
        found = sorted([*single, *self._pairs(single[:_PARENTS])], key=lambda each: -each.score)
        taken: list[tuple[_Candidate, Array]] = []
        for each in found:
            if each.score <= 0 or len(taken) == most:
                break
            rows = each.rows(self._table)
            if all(_common(rows, other) < _ALIKE for _, other in taken):
                taken.append((each, rows))
        return [each for each, _ in taken]

    def _single(self) -> Iterator[_Candidate]:
        everything = np.arange(len(self._loss))
        for at, cut in enumerate(self._cuts):
            for part, worse, score in self._parts(everything, at):
                yield _Candidate(((cut, part),), worse, score)

    def _pairs(self, parents: Sequence[_Candidate]) -> Iterator[_Candidate]:
        """With another column; only where that is clearly worse than without it."""
        places = {cut.column: at for at, cut in enumerate(self._cuts)}
        for parent in parents:
            cut, part = parent.parts[0]
            rows = np.flatnonzero(self._codes[places[cut.column]] == part)
            for at, other in enumerate(self._cuts):
                if other.column == cut.column:
                    continue
                for second, worse, score in self._parts(rows, at):
                    if score > max(parent.score, parent.worse):
                        yield _Candidate(((cut, part), (other, second)), worse, score)

    def _parts(self, rows: Array, at: int) -> Iterator[tuple[int, float, float]]:
        """Each part of a cut among some rows: by how much it is worse than all rows, and its score."""
        codes, loss = self._codes[at][rows], self._loss[rows]
        held = codes >= 0
        many = np.bincount(codes[held], minlength=1).astype(np.float64)
        sums = np.bincount(codes[held], loss[held], len(many))
        squares = np.bincount(codes[held], np.square(loss[held]), len(many))
        for part in np.flatnonzero(many >= self._least).tolist():
            self.tried += 1
            mean = sums[part] / many[part]
            error = np.sqrt(max(squares[part] / many[part] - mean**2, 0.0) / many[part])
            worse = float(mean - self._loss.mean())
            yield part, worse, worse - _SURE * float(error)


def _common(one: Array, other: Array) -> float:
    """The part of the rows of either that is in both."""
    return float((one & other).sum() / max((one | other).sum(), 1))


def _judged(
    table: pa.Table,
    judged: Judged,
    rows: Array,
    candidates: Sequence[_Candidate],
    name: str,
    level: float,
    least: int,
) -> Iterator[tuple[_Candidate, Slice]]:
    """Those of the candidates that are worse on these rows too."""
    part, known = table.take(rows), judged.take(rows)
    loss = row_losses(known, name)
    names = [metric.name for metric in chosen(judged.task)]
    for each in candidates:
        inside = each.rows(part)
        many = int(inside.sum())
        if many < least or many == len(rows):
            continue
        worse = _difference(loss[inside], loss[~inside], 1 - (1 - level) / len(candidates))
        if (worse.low or 0.0) > 0:
            yield (
                each,
                Slice(
                    conditions=each.conditions,
                    rows=many,
                    share=many / len(rows),
                    worse=worse,
                    measures=measured(known.take(inside), names, level),
                ),
            )


def _with_past(
    made: Slice, of: _Candidate, before: tuple[pa.Table, Judged], name: str, level: float, least: int
) -> Slice:
    table, judged = before
    inside = of.rows(table)
    if int(inside.sum()) < least:
        return made
    return msgspec.structs.replace(made, before=measured(judged.take(inside), [name], level)[name])


def _difference(one: Array, other: Array, level: float) -> Measure:
    """Of two means, with Welch's interval (1947)."""
    first, second = one.var(ddof=1) / len(one), other.var(ddof=1) / max(len(other), 1)
    value = float(one.mean() - other.mean())
    whole = float(first + second)
    if whole <= 0:
        return Measure(value, value, value, len(one))
    freedom = whole**2 / float(first**2 / (len(one) - 1) + second**2 / max(len(other) - 1, 1))
    reach = student(level, max(1, int(freedom))) * whole**0.5
    return Measure(value, value - reach, value + reach, len(one))
