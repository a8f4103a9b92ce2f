"""From a deployment's rows to the record of its estimates: window after window, each with what was known by its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from modelyard.domain.frame import Array
from modelyard.monitoring.columns import table_of
from modelyard.monitoring.estimate.estimating import WIDER, Estimate, Trust, estimate, too_little
from modelyard.monitoring.estimate.learning import Labelled, learn
from modelyard.monitoring.estimate.metrics import BINARY
from modelyard.monitoring.estimate.record import CONTRADICTED, LEVEL, Bets, Entry, Said, next_tail
from modelyard.monitoring.estimate.rows import Rows, classes_losses, numbers_losses
from modelyard.monitoring.performance.judged import Judged
from modelyard.monitoring.performance.task import Aim

DAY = 86_400
WINDOWS = (DAY, 7 * DAY, 28 * DAY)
"""How long a window can be: the shortest that usually has `WINDOW_ROWS` rows."""

WINDOW_ROWS = 1500
LEARNED_WINDOWS = 60
"""Labels of so many windows back are learned from at most,"""

LEARNED_ROWS = 5000
"""and so many rows, evenly spread."""

KEPT = 400
_MONDAY = 4 * DAY
_LEAST_TAIL = 0.002
_COMPARED, _LEAST_COMPARED = 30, 5
_ANEW = 16
_BLOCKS_WANTED = 12
_PARTS = (1, 4, 24)
_SETTLED, _HALF = 0.8, 0.5
_LEAST_TRUTH = 30
_RESEARCHED = 10
COUNTED = ("accuracy", "auc", "brier", "mae", "rmse", "bias")
"""Metrics whose misses count as evidence against the estimates."""


class State(msgspec.Struct, frozen=True):
    """All that is kept between looks.

    `seconds` is the length of a window (0: not chosen yet), `forget` the moment before which labels are not learned
    from any more, since those that came later contradicted it. `tails` has for each metric the chance to leave outside.
    `usual` is what metrics were when estimates began.
    """

    seconds: int = 0
    record: tuple[Entry, ...] = ()
    forget: int = 0
    tails: Mapping[str, float] = {}
    bets: Bets = Bets()
    loss: Bets = Bets()
    usual: Mapping[str, float] = {}
    strengths: Mapping[str, float] = {}


@dataclass(frozen=True)
class Walk:
    """The rows of a version, by event time, with the columns that are inputs.

    A label that is said to have become known after `now` was brought in later; it counts as known at once.
    """

    judged: Judged
    table: Any
    inputs: tuple[str, ...]
    now: int

    @cached_property
    def chances(self) -> Array | None:
        """Probabilities of all classes; None where there are none, or numbers that are no probabilities."""
        found = self.judged.probabilities
        if found is None:
            return None
        there = found[np.isfinite(found)]
        return found if len(there) and there.min() >= -1e-6 and there.max() <= 1 + 1e-6 else None

    @property
    def moments(self) -> Array:
        """Event times in seconds since 1970."""
        return self.judged.moments.astype("datetime64[s]").astype(np.int64)

    @property
    def known(self) -> Array:
        """When labels became known, likewise; the largest number where they have not."""
        there, moments = self.judged.labelled, self.moments
        at = self.judged.known_at.astype("datetime64[s]").astype(np.int64)
        at = np.where(np.isnat(self.judged.known_at) | (at > self.now), moments, at)
        found: Array = np.where(there, at, np.iinfo(np.int64).max)
        return found

    def rows(self, chosen: Array) -> Rows:
        """Some rows as estimates need them; with their truth if all are labelled."""
        judged = self.judged.take(chosen)
        inputs = table_of(self.table.select(list(self.inputs)).take(chosen))
        labelled = bool(judged.labelled.all())
        if judged.task.aim is Aim.REGRESSION:
            losses = numbers_losses(judged.answer, judged.truth) if labelled else {}
            return Rows("numbers", inputs, judged.answer, judged.answer, judged.truth if labelled else None, losses)
        chances = None if self.chances is None else self.chances[chosen]
        if judged.task.aim is Aim.BINARY and chances is not None:
            decided = (judged.answer == 1).astype(np.float64)
            truth = (judged.truth == 1).astype(np.float64) if labelled else None
            return Rows("binary", inputs, chances[:, 1], decided, truth)
        sure = np.full(len(judged), 0.5) if chances is None else chances.max(axis=1)
        places = tuple(range(len(judged.task.classes)))
        losses = classes_losses(judged.answer, judged.truth, chances, places) if labelled else {}
        return Rows("classes", inputs, sure, judged.answer, judged.truth if labelled else None, losses)

    def answered(self) -> Array:
        """Which rows have an answer that can be judged."""
        judged = self.judged
        if judged.task.aim is Aim.REGRESSION:
            return np.isfinite(judged.answer)
        there: Array = judged.answer >= 0
        return there if self.chances is None else there & np.isfinite(self.chances).all(axis=1)


def walk(state: State, rows: Walk) -> State:
    """Estimate the windows that have closed since the last look, and settle those whose labels have come."""
    moments, known, usable = rows.moments, rows.known, rows.answered()
    if not usable.any():
        return state
    if not (seconds := _chosen(state, moments[usable], rows.now)):
        return state
    state = msgspec.structs.replace(state, seconds=seconds)
    last = state.record[-1] if state.record else None
    first = _start(int(moments[usable].min()), seconds) if last is None else last.began + last.seconds
    steps = _Steps(rows, moments, known, usable)
    for began in range(first, rows.now - seconds + 1, seconds):
        state = steps.settled(state, began + seconds)
        state = steps.estimated(state, began)
    return steps.settled(state, rows.now, last=True)


def _start(moment: int, seconds: int) -> int:
    """When the window of a moment begins. Weeks begin on Monday.

    >>> _day(_start(1362096000, 7 * DAY))
    '2013-02-25'
    """
    return (moment - _MONDAY) // seconds * seconds + _MONDAY


def _chosen(state: State, moments: Array, now: int) -> int:
    """The length of a window. Until there is an estimate it may become shorter: at first few may ask a new version."""
    if any(entry.values for entry in state.record):
        return state.seconds
    found = _window(moments, now)
    return min(found, state.seconds) if found and state.seconds else found or state.seconds


def _window(moments: Array, now: int) -> int:
    """The shortest window that usually has enough rows; 0 while none has closed."""
    for seconds in WINDOWS:
        windows = np.unique((moments - _MONDAY) // seconds, return_counts=True)[1]
        closed = _start(now, seconds) > _start(int(moments.min()), seconds)
        if closed and (np.median(windows) >= WINDOW_ROWS or seconds == WINDOWS[-1]):
            return seconds
    return 0


class _Steps:
    """The steps of one walk; remembers what was learned last."""

    def __init__(self, rows: Walk, moments: Array, known: Array, usable: Array) -> None:
        self._rows, self._moments, self._known = rows, moments, known
        order = np.argsort(moments, kind="stable")
        self._order = order[usable[order]]
        self._ordered = moments[self._order]

    def _between(self, began: int, ended: int) -> Array:
        """Rows with an answer whose moment lies in a stretch, in the order of time."""
        first, last = np.searchsorted(self._ordered, [began, ended])
        found: Array = self._order[first:last]
        return found

    def estimated(self, state: State, began: int) -> State:
        """With an estimate of the window that begins then."""
        ended = began + state.seconds
        here = self._between(began, ended)
        if not len(here):
            return state
        oldest = max(state.forget, began - LEARNED_WINDOWS * state.seconds)
        before = self._between(oldest, began)
        there = before[self._known[before] <= ended]
        if len(there) > LEARNED_ROWS:
            there = there[np.linspace(0, len(there) - 1, LEARNED_ROWS).astype(np.int64)]
        made, learned, newest = self._made(state, began, here, there)
        if learned is not None:
            state = self._learned(state, learned)
        entry = Entry(
            began=began,
            seconds=state.seconds,
            rows=len(here),
            trust=made.trust,
            reason=made.reason,
            values={name: Said(each.value, each.low, each.high) for name, each in made.values.items()},
            newest=newest,
            worth=made.worth,
            outside=made.outside,
            blind=not bool((self._known[here] <= ended).any()),
        )
        return msgspec.structs.replace(state, record=(*state.record, entry)[-KEPT:])

    def _made(
        self, state: State, began: int, here: Array, there: Array
    ) -> tuple[Estimate, Labelled | None, int | None]:
        if not len(there):
            return Estimate(Trust.REFUSED, self._because(state, "no labels so far"), len(here)), None, None
        rows, moments = self._rows.rows(there), self._moments[there]
        length = _block(moments, state.seconds)
        blocks = moments // length
        why = too_little(rows, len(np.unique(blocks)))
        newest = int(moments[-1])
        if why:
            return Estimate(Trust.REFUSED, self._because(state, why), len(here), labelled=len(there)), None, newest
        learned = learn(rows, blocks, self._rows.inputs, state.strengths)
        ahead = max(1, began // length - newest // length)
        tails = {name: max(_LEAST_TAIL, state.tails.get(name, 1 - LEVEL)) for name in learned.history}
        window = self._rows.rows(here)
        made = estimate(learned, window, ahead=ahead, length=state.seconds // length, tails=tails)
        return _marked(made, state), learned, newest

    def _because(self, state: State, why: str) -> str:
        if not state.forget:
            return why
        return f"labels contradict what was learned before {_day(state.forget)}; since then {why}"

    def _learned(self, state: State, learned: Labelled) -> State:
        usual = state.usual or _truths(learned.rows)
        again = len(state.record) % _RESEARCHED == 0
        return msgspec.structs.replace(state, usual=usual, strengths={} if again else learned.strengths)

    def settled(self, state: State, until: int, *, last: bool = False) -> State:
        """With the labels that were known by `until`, and what they say of earlier estimates.

        Those that are settled are looked at the `last` time only: labels that came later change what is shown.
        """
        for at, entry in enumerate(state.record):
            if entry.settled and not last:
                continue
            here = self._between(entry.began, entry.began + entry.seconds)
            there = here[self._known[here] <= until]
            if len(there) < _LEAST_TRUTH or (entry.settled and len(there) == entry.labelled):
                continue
            state = self._settle(state, at, there)
        return state

    def _settle(self, state: State, at: int, there: Array) -> State:
        entry = state.record[at]
        truths = _truths(self._rows.rows(there))
        complete = len(there) >= _SETTLED * entry.rows
        values = {
            name: msgspec.structs.replace(said, truth=truths.get(name))
            if np.isfinite(truths.get(name, np.nan))
            else said
            for name, said in entry.values.items()
        }
        settled = entry.settled or complete or (len(there) >= _HALF * entry.rows and len(there) == entry.labelled)
        new = msgspec.structs.replace(entry, values=values, realized=truths, labelled=len(there), settled=settled)
        state = msgspec.structs.replace(state, record=(*state.record[:at], new, *state.record[at + 1 :]))
        return _counted(state, new) if settled and not entry.settled else state


def _marked(made: Estimate, state: State) -> Estimate:
    """Widened, where an interval is much wider than those before were: what came lately has been further off."""
    if made.trust is not Trust.TRUSTED:
        return made
    if made.blocks and state.forget and state.record[-1].began - state.forget < _ANEW * state.seconds:
        return msgspec.structs.replace(
            made, trust=Trust.WIDENED, reason=f"learned anew from labels since {_day(state.forget)}, which are few"
        )
    for name in COUNTED:
        before = [each.values[name] for each in state.record[-_COMPARED:] if name in each.values]
        if name in made.values and len(before) >= _LEAST_COMPARED:
            usual = float(np.median([said.high - said.low for said in before]))
            if made.values[name].high - made.values[name].low > WIDER * usual:
                return msgspec.structs.replace(
                    made, trust=Trust.WIDENED, reason="labels that came lately were further off"
                )
    return made


def _counted(state: State, entry: Entry) -> State:
    """With what a window whose truth has become known says for or against the estimates."""
    covered = {name: said.covered for name, said in entry.values.items() if said.covered is not None}
    if not covered or entry.began < state.forget:
        return state
    promised = 1 - LEVEL
    tails = {name: next_tail(state.tails.get(name, promised), missed=not hit) for name, hit in covered.items()}
    counted = [not hit for name, hit in covered.items() if name in COUNTED]
    bets = state.bets.after(float(np.mean(counted)), entry.began) if counted else state.bets
    if bets.evidence < CONTRADICTED:
        return msgspec.structs.replace(state, tails={**state.tails, **tails}, bets=bets)
    # What was learned before no longer holds; begin anew with the labels from where the misses began.
    forget = entry.began if bets.since is None else bets.since
    record = tuple(
        each if each.settled or not each.values else msgspec.structs.replace(each, withdrawn=True)
        for each in state.record
    )
    return msgspec.structs.replace(state, record=record, tails={}, bets=Bets(), forget=forget, strengths={})


def _truths(rows: Rows) -> dict[str, float]:
    if rows.task == "binary":
        found = {name: metric(rows.score, rows.decided, rows.labels)[0] for name, metric in BINARY.items()}
    else:
        found = {name: float(losses.mean()) for name, losses in rows.losses.items()}
        if "rmse" in found:
            found["rmse"] **= 0.5
    return {name: value for name, value in found.items() if np.isfinite(value)}


def _block(moments: Array, seconds: int) -> int:
    """How long blocks of time are: windows, or parts of them while labels of few windows are known."""
    for parts in _PARTS:
        if len(np.unique(moments // (seconds // parts))) >= _BLOCKS_WANTED:
            return seconds // parts
    return seconds // _PARTS[-1]


def _day(moment: int) -> str:
    return str(np.datetime64(moment, "s").astype("datetime64[D]"))


def headline(names: Sequence[str], wanted: str) -> str:
    """The metric to show first: the one that the user cares for, or the usual one.

    >>> headline(["brier", "auc", "accuracy"], ""), headline(["mae", "rmse"], "rmse")
    ('accuracy', 'rmse')
    """
    if wanted in names:
        return wanted
    return next((name for name in ("accuracy", "mae") if name in names), names[0] if names else "")
