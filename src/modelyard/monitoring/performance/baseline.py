"""What a version's answers were like at first: what later ones are held against.

It begins with the version's first labelled rows and is as long as it has to be: until its own error is well below what
matters, over three days at least (or ten thousand rows), a week at most. From then on it stays as it is.

A source in which some hours are always harder than others is looked at by whole days, and rows that hang together count
for as much less as the variance of windows says: both are found in these first rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from statistics import NormalDist

import msgspec
import numpy as np
import pyarrow as pa

from modelyard.domain.frame import Array
from modelyard.monitoring.performance.cuts import Cut, cuts
from modelyard.monitoring.performance.history import usual_age
from modelyard.monitoring.performance.judged import Judged
from modelyard.monitoring.performance.metrics import row_losses
from modelyard.monitoring.performance.streams import COVERAGE, Unit, unit, values, watched
from modelyard.monitoring.performance.task import Aim, Task
from modelyard.monitoring.settings import Settings
from modelyard.monitoring.worsening import Ladder

DAY = 86_400.0
_ROWS, _WINDOWS = 500, 24
_MANY = 10_000
_SHORT, _LONG = 3 * DAY, 7 * DAY
_SLICE_ROWS = 200
LADDER, _WHOLE, _DECLARED, _FOUND = 0.5, 0.3, 0.1, 0.1
"""The parts of the watch's budget: how sure wrong answers were, metrics of all rows, and those of slices."""

_PROMISED = 0.1
"""The part of what metrics of all rows have that goes to those that training promised, where it did."""

_RHYTHM = 3.0
"""Hours of the day differ by this many times what chance would do: then there is a rhythm."""


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """One mean that is watched: of a metric's values over all rows, or over the `part` of a cut.

    `mean` is what it was, `limit` the most that it may have been in truth, `weight` its part of the budget.
    """

    metric: str
    unit: Unit
    mean: float
    limit: float
    rows: int
    weight: float
    cut: int = -1
    part: int = 0
    slice: str = ""
    promised: bool = False
    """Whether it is held against rows that were held out of training, not against the version's first rows."""


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in the first rows. Moments are microseconds since 1970."""

    began: int
    until: int
    age: float
    """Seconds after the end of a window at which its labels count; later ones do not."""
    step: float
    """Seconds that are taken at once."""
    together: float
    """So many rows say as much as one independent one."""
    rows: int
    labelled: int
    cuts: tuple[Cut, ...]
    streams: tuple[Stream, ...]
    rungs: tuple[float, ...]
    severities: tuple[int, ...]
    """Labelled rows by the rung of their severity (see `worsening.Ladder`)."""


def baseline(
    table: pa.Table,
    judged: Judged,
    inputs: Iterable[str],
    now: int,
    settings: Settings,
    promised: Judged | None = None,
) -> Baseline | None:
    """The baseline that the rows of `table` (oldest first) make; None as long as they are too few.

    `now` is how far event time has come, in microseconds since 1970, `promised` what was answered to rows that were
    held out of training: metrics are held against these as well, from the first row on.
    """
    age = usual_age(judged)
    window = round(settings.window * 1e6)
    windows = judged.moments.astype(np.int64) // window
    whole = int((now - round(age * 1e6)) // window)
    known = timely(judged, (windows + 1) * window, age)
    loss = np.full(len(judged), np.nan)
    loss[known] = row_losses(judged.take(known), watched(judged.task)[0].rstrip("+-"))
    until = _long_enough(loss, windows, whole, settings, judged.task.aim)
    if until is None:
        return None
    rows = np.flatnonzero(windows < until)
    told = rows[np.isfinite(loss[rows])]
    together = max(settings.grouped, _together(loss[told], windows[told], window))
    step = DAY if _rhythm(loss[told], windows[told], window) else settings.window
    first = judged.take(rows)
    cut = cuts(table.take(rows), inputs, _SLICE_ROWS)
    ladder = ladder_of(judged.take(told))
    return Baseline(
        began=int(windows[rows].min()) * window,
        until=until * window,
        age=age,
        step=step,
        together=together,
        rows=len(rows),
        labelled=len(told),
        cuts=cut,
        streams=(
            *_streams(table.take(rows), first, known[rows], windows[rows], cut, settings, together, promised),
            *_promises(promised, settings, together),
        ),
        rungs=ladder.rungs,
        severities=tuple(ladder.count(severities(judged.take(told))).tolist()),
    )


def timely(judged: Judged, ends: Array, age: float) -> Array:
    """Which rows have a label that had come at that age of their window."""
    known_at = judged.known_at.astype(np.int64)
    found: Array = judged.labelled & (known_at <= ends + round(age * 1e6))
    return found


def severities(judged: Judged) -> Array:
    """Of labelled rows: of numbers how far off they are; of classes 0 where right, else how sure the answer was."""
    if judged.task.aim is Aim.REGRESSION:
        far: Array = np.abs(judged.answer - judged.truth)
        return far
    return np.where(judged.answer == judged.truth, 0.0, _sureness(judged))


def ladder_of(judged: Judged) -> Ladder:
    """The rungs that fit these rows."""
    if judged.task.aim is Aim.REGRESSION:
        return Ladder.of_errors(severities(judged))
    return Ladder.of_classes(_sureness(judged))


def _sureness(judged: Judged) -> Array:
    """The probability of what was answered; 1 where there are none, so that wrong is wrong."""
    if judged.probabilities is None:
        return np.ones(len(judged))
    given = np.take_along_axis(judged.probabilities, np.maximum(judged.answer, 0)[:, None], axis=1)[:, 0]
    return np.where(np.isfinite(given), given, 1.0)


def _long_enough(loss: Array, windows: Array, whole: int, settings: Settings, aim: Aim) -> int | None:
    """The window before which the first rows are enough, among the windows before `whole`."""
    told = np.isfinite(loss) & (windows < whole)
    if not told.any():
        return None
    window, first = round(settings.window * 1e6), int(windows[told].min())
    for until in range(first + _WINDOWS, whole + 1, _WINDOWS):
        rows = told & (windows < until)
        at, some = windows[rows], loss[rows]
        if len(some) < _ROWS or len(np.unique(at)) < _WINDOWS:
            continue
        span = (until - first) * settings.window
        if span >= _LONG:
            return until
        harm = settings.harm * (float(np.mean(some)) if aim is Aim.REGRESSION else 1.0)
        error = math.sqrt(float(some.var()) * _together(some, at, window) / len(some))
        if 3 * error <= harm and (span >= _SHORT or len(some) >= _MANY):
            return until
    return None


def _together(loss: Array, windows: Array, window: int) -> float:
    """By how much windows, or days, vary more than they would if rows were independent; 1 if chance explains it."""
    return max(1.0, *(_excess(loss, at) for at in (windows, windows * window // round(DAY * 1e6))))


def _excess(loss: Array, groups: Array) -> float:
    sizes, sums = _by_group(loss, groups)
    freedom, variance = len(sizes) - 1, float(loss.var())
    if freedom < 3 or not variance > 0:
        return 1.0
    between = float((sizes * np.square(sums / sizes - loss.mean())).sum() / freedom / variance)
    # Wilson and Hilferty 1931: the 99th percentile of a chi-squared variable.
    high = (1 - 2 / (9 * freedom) + NormalDist().inv_cdf(0.99) * math.sqrt(2 / (9 * freedom))) ** 3
    return between if between > high else 1.0


def _rhythm(loss: Array, windows: Array, window: int) -> bool:
    """Whether the same hours of several days are alike, and differ from others: analysis of variance of windows."""
    hours = windows * window // 3_600_000_000 % 24
    days = len(np.unique(windows * window // round(DAY * 1e6)))
    sizes, sums = _by_group(loss, windows)
    if days < 3 or len(sizes) < 2 * _WINDOWS:
        return False
    of_window = _by_group(hours, windows)[1] / sizes
    mean, hour = sums / sizes, np.rint(of_window).astype(np.int64)
    whole, weighted = np.bincount(hour, sizes), np.bincount(hour, sums)
    there = whole > 0
    expected = np.divide(weighted, whole, out=np.zeros(len(whole)), where=there)
    between = float((whole * np.square(expected - loss.mean()))[there].sum()) / max(int(there.sum()) - 1, 1)
    left = float((sizes * np.square(mean - expected[hour])).sum()) / max(len(sizes) - int(there.sum()), 1)
    return left > 0 and between / left > _RHYTHM


def _by_group(values_: Array, groups: Array) -> tuple[Array, Array]:
    """The number of rows and the sum of each group."""
    _, codes = np.unique(groups, return_inverse=True)
    return np.bincount(codes).astype(np.float64), np.bincount(codes, values_)


def _streams(
    table: pa.Table,
    judged: Judged,
    known: Array,
    windows: Array,
    cut: Sequence[Cut],
    settings: Settings,
    together: float,
    promised: Judged | None,
) -> tuple[Stream, ...]:
    named = watched(judged.task)
    share = _WHOLE - (_PROMISED if _promising(promised) else 0.0)
    whole = _weighted([*_usual_first(judged.task, settings), COVERAGE], share)
    asked = [(name, -1, 0, "", weight) for name, weight in whole]
    asked += _sliced(cut, settings, named[0])
    reach = _reach(len(asked), settings, together, promised)
    codes = [each.codes(table) for each in cut]
    found = []
    for name, at, part, said, weight in asked:
        rows = np.ones(len(judged), dtype=bool) if at < 0 else codes[at] == part
        made = stream_values(judged, known, windows, rows, name)
        if made is None or len(made[1]) < (_SLICE_ROWS if at >= 0 else 1):
            continue
        stream = _stream(name, made, weight, reach)
        found.append(msgspec.structs.replace(stream, cut=at, part=part, slice=said))
    return tuple(found)


def _stream(name: str, made: tuple[Unit, Array], weight: float, reach: float) -> Stream:
    """The mean of some values, and the most that it may have been in truth, `reach` standard errors above it."""
    held, of_rows = made
    mean, spread = float(of_rows.mean()), float(of_rows.std())
    # Where nothing was ever wrong, something may still have been: about three rows' worth (rule of three).
    error = max(reach * spread / math.sqrt(len(of_rows)), 3.0 / len(of_rows))
    limit = min(mean + error, 0.999)
    return Stream(metric=name, unit=held, mean=mean, limit=limit, rows=len(of_rows), weight=weight)


def _reach(asked: int, settings: Settings, together: float, promised: Judged | None) -> float:
    """Standard errors within which all of so many means, and one more, lie with the certainty that is asked for.

    Where training promised something there are two such families of means, and each has half of the doubt.
    """
    doubt = (1 - settings.certainty) / (2 if _promising(promised) else 1)
    return NormalDist().inv_cdf(1 - doubt / (asked + 1)) * math.sqrt(together)


def _usual_first(task: Task, settings: Settings) -> list[str]:
    """The metrics of a task, the one that matters first."""
    named = watched(task)
    first = settings.metric if settings.metric in named else named[0]
    return [first, *(name for name in named if name != first)]


def _promising(promised: Judged | None) -> bool:
    return promised is not None and int(promised.labelled.sum()) >= _SLICE_ROWS


def _promises(promised: Judged | None, settings: Settings, together: float) -> Iterator[Stream]:
    """Metrics over the rows that were held out of training, if these are enough to say anything."""
    if promised is None or not _promising(promised):
        return
    everything = np.ones(len(promised), dtype=bool)
    weights = _weighted(_usual_first(promised.task, settings), _PROMISED)
    reach = _reach(len(weights), settings, together, promised)
    for name, weight in weights:
        made = stream_values(promised, promised.labelled, np.zeros(len(promised), dtype=np.int64), everything, name)
        if made is not None and len(made[1]):
            yield msgspec.structs.replace(_stream(name, made, weight, reach), promised=True)


def stream_values(judged: Judged, known: Array, windows: Array, rows: Array, name: str) -> tuple[Unit, Array] | None:
    """The values of a metric over some rows in the baseline, with the unit that fits them."""
    if name == COVERAGE:
        return Unit(), (~known[rows]).astype(np.float64)
    chosen = np.flatnonzero(rows & known)
    if not len(chosen):
        return None
    some = judged.take(chosen)
    held = unit(some, name)
    return held, values(some, name, held, windows[chosen])[0]


def _weighted(names: Sequence[str], whole: float) -> list[tuple[str, float]]:
    """The first has half of it, if there are others."""
    rest = whole / 2 / max(len(names) - 1, 1)
    return [(name, whole / 2 if not at else rest) for at, name in enumerate(names)]


def _sliced(cut: Sequence[Cut], settings: Settings, metric: str) -> list[tuple[str, int, int, str, float]]:
    """All parts of all cuts: those that were declared share one part of the budget, the others another."""
    named = [
        (at, part, said, each.column in settings.slices)
        for at, each in enumerate(cut)
        for part, said in enumerate(each.names)
    ]
    many = sum(declared for *_, declared in named)
    share = {True: _DECLARED / max(many, 1), False: _FOUND / max(len(named) - many, 1)}
    return [(metric, at, part, said, share[declared]) for at, part, said, declared in named]
