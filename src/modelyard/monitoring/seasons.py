"""Changes beside a version's own past: the window before, and the same hour of the days or weeks before.

The evidence of one window is the two-sample e-value of `modelyard.monitoring.evidence.beside`, against "no further
apart than the margin". Only windows that share no rows may be multiplied: within one day (week) each hour is held
against its own earlier hours, so that all pairs are apart, and what is gathered is dropped when the next one begins.
With the window before the product is of one window only. As in `modelyard.monitoring.detector` the expectation of what
is gathered is at most the time that has passed, hence false alarms keep to the budget whatever the rhythm is.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec
import numpy as np

from modelyard.domain.frame import Array
from modelyard.monitoring.detector import unpacked
from modelyard.monitoring.evidence import added_up, beside
from modelyard.monitoring.facets import Facet
from modelyard.monitoring.findings import Finding
from modelyard.monitoring.moving import Made, made_for
from modelyard.monitoring.ranking import finding_of
from modelyard.monitoring.reference import Reference
from modelyard.monitoring.rhythm import (
    Unit,
    Units,
    answers_of,
    due,
    midnight,
    same_before,
    units,
    week_began,
    whole_days,
)
from modelyard.monitoring.settings import Settings
from modelyard.monitoring.watching import Snapshot
from modelyard.monitoring.windows import Profile

_FACETS = (Facet.DISTRIBUTION, Facet.MISSING)
_BETS = 24
"""Alternatives of a question: six steps, two directions, two guesses."""

_KNOWN = 20.0
"""A guess from few rows is drawn to the reference, as if so many rows had come from it."""


class SeasonState(msgspec.Struct, frozen=True):
    """What was gathered in this day or week, what each column is judged by, and when there was traffic first."""

    gathered: bytes = b""
    units: bytes = b""
    first: datetime | None = None


class Seasonal:
    """Columns with a rhythm, against the same hour and weekday of the days or weeks before."""

    name = "drift.season"
    share = 0.1
    state = SeasonState

    def start(self, reference: Reference, settings: Settings) -> SeasonState:
        """Nothing gathered."""
        return SeasonState()

    def look(self, state: SeasonState, snapshot: Snapshot) -> tuple[SeasonState, list[Finding]]:
        """Take a window in; columns without a rhythm, and the first two cycles, are not judged."""
        if snapshot.window is not None and state.first is None:
            state = msgspec.structs.replace(state, first=snapshot.began)
        if not snapshot.settings.seasons or state.first is None:
            return state, []
        made = made_for(snapshot, _FACETS)
        judged = _units(state, snapshot, made)
        if not judged.any():
            return SeasonState(b"", judged.tobytes(), state.first), []
        gathered = self._gathered(state, snapshot, made, judged)
        findings, alarm = _judged(
            snapshot, made, gathered, self.name, "the same hour before", _past(snapshot, state, judged)
        )
        return SeasonState(b"" if alarm else gathered.tobytes(), judged.tobytes(), state.first), findings

    def _gathered(self, state: SeasonState, snapshot: Snapshot, made: Made, judged: Units) -> Array:
        """What there is after this window; where a column's day or week has just begun, from nothing."""
        before = unpacked(state.gathered, np.zeros((len(made.asked), _BETS)))
        fresh = np.array([_begins(unit, snapshot) for unit in Unit])[judged]
        if len(state.units) == len(judged):
            fresh |= np.frombuffer(state.units, dtype=np.uint8) != judged
        before = np.where(fresh[made.asked.column_of][:, None], 0.0, before)
        after = before
        for unit in (Unit.DAY, Unit.WEEK):
            mine = (judged == unit)[made.asked.column_of]
            if mine.any():
                after = np.where(mine[:, None], _season(before, snapshot, made, unit, state.first), after)
        return after


def _season(before: Array, snapshot: Snapshot, made: Made, unit: Unit, first: datetime | None) -> Array:
    """One more window against the same hour before."""
    assert first is not None  # noqa: S101 - there is no season without traffic
    earlier = _same_hours(snapshot, unit, first, timedelta(0))
    if earlier is None or snapshot.window is None:
        return before
    one, other = answers_of(made.asked, snapshot.window), answers_of(made.asked, earlier)
    own, whole = made.asked.answers(made.asked.reference_cells())
    usual = np.divide(own, whole, out=np.full(len(own), 0.5), where=whole > 0)
    x, n = answers_of(made.asked, _same_hours(snapshot, unit, first, timedelta(seconds=snapshot.seconds)))
    near = (x + _KNOWN * usual) / (n + _KNOWN)
    return _taken_in(before, snapshot, made, one, other, (usual, near))


def _taken_in(
    before: Array,
    snapshot: Snapshot,
    made: Made,
    one: tuple[Array, Array],
    other: tuple[Array, Array],
    guesses: tuple[Array, ...],
) -> Array:
    """With the e-values of a pair of windows, for each of some guesses."""
    grouped = snapshot.settings.grouped
    ratios = np.concatenate([beside(*one, other, guess, made.margin, grouped) for guess in guesses], axis=1)
    return added_up(before, ratios, np.minimum(one[1], other[1]), snapshot.seconds)


def _same_hours(snapshot: Snapshot, unit: Unit, first: datetime, back: timedelta) -> Profile | None:
    """The windows at the same place of the cycles before, added up; or those `back` before them."""
    found: Profile | None = None
    for began in same_before(unit, snapshot.began, first):
        one = snapshot.earlier(began - back, snapshot.seconds)
        if one is not None:
            found = one if found is None else found + one
    return found


def _units(state: SeasonState, snapshot: Snapshot, made: Made) -> Units:
    """As they were, or told anew when that is due."""
    today = midnight(snapshot.began)
    if state.first is not None and due(snapshot.began, state.first, snapshot.seconds):
        return units(made.asked, snapshot.earlier, today, state.first, snapshot.seconds)
    known = len(state.units) == len(made.asked.columns)
    return np.frombuffer(state.units, dtype=np.uint8) if known else np.zeros(len(made.asked.columns), np.uint8)


def _begins(unit: Unit, snapshot: Snapshot) -> bool:
    """Whether a unit's cycle begins with this window."""
    since = midnight(snapshot.began) if unit is Unit.DAY else week_began(snapshot.began)
    return unit is not Unit.WINDOW and (snapshot.began - since).total_seconds() < snapshot.seconds


def _past(snapshot: Snapshot, state: SeasonState, judged: Units) -> Profile | None:
    unit = Unit.WEEK if (judged == Unit.WEEK).any() else Unit.DAY
    return None if state.first is None else _same_hours(snapshot, unit, state.first, timedelta(0))


class PreviousState(msgspec.Struct, frozen=True):
    """What each column is judged by, and when there was traffic first."""

    units: bytes = b""
    first: datetime | None = None


class Previous:
    """Columns without a rhythm, against the window before: what changed from one window to the next."""

    name = "drift.previous"
    share = 0.05
    state = PreviousState

    def start(self, reference: Reference, settings: Settings) -> PreviousState:
        """Nothing gathered."""
        return PreviousState()

    def look(self, state: PreviousState, snapshot: Snapshot) -> tuple[PreviousState, list[Finding]]:
        """Take a window in; until there are two days by which a rhythm can be told, nothing is judged."""
        if snapshot.window is not None and state.first is None:
            state = msgspec.structs.replace(state, first=snapshot.began)
        if state.first is None or snapshot.window is None:
            return state, []
        made = made_for(snapshot, _FACETS)
        judged = np.zeros(len(made.asked.columns), dtype=np.uint8)
        if snapshot.settings.seasons:
            if whole_days(midnight(snapshot.began), state.first, snapshot.seconds) < 2:
                return state, []
            judged = _units(SeasonState(b"", state.units, state.first), snapshot, made)
        after = PreviousState(judged.tobytes(), state.first)
        before = snapshot.earlier(snapshot.began - timedelta(seconds=snapshot.seconds), snapshot.seconds)
        if before is None:
            return after, []
        own, whole = made.asked.answers(made.asked.reference_cells())
        usual = np.divide(own, whole, out=np.full(len(own), 0.5), where=whole > 0)
        one, other = answers_of(made.asked, snapshot.window), answers_of(made.asked, before)
        steady = (judged == Unit.WINDOW)[made.asked.column_of]
        one = np.where(steady, one[0], 0.0), np.where(steady, one[1], 0.0)
        gathered = _taken_in(np.zeros((len(made.asked), _BETS // 2)), snapshot, made, one, other, (usual,))
        return after, _judged(snapshot, made, gathered, self.name, "the window before", before)[0]


def _judged(
    snapshot: Snapshot, made: Made, gathered: Array, watch: str, beside_what: str, past: Profile | None
) -> tuple[list[Finding], bool]:
    """Findings of columns with evidence, and whether they alarm."""
    weights = made.against.weights.sum(axis=1)
    columns = made.asked.per_column(gathered.mean(axis=1) * weights)
    needed, reached = snapshot.settings.needed, float(columns.sum())
    alarm, findings = reached >= needed, []
    for at in np.argsort(-columns, kind="stable").tolist():
        own = float(columns[at])
        if own < max(needed / 100, min(reached / 20, needed)):
            break
        about: dict[str, Any] = {"evidence": reached if alarm else min(own, needed * 0.999), "needed": needed}
        found = finding_of(snapshot, made.asked.columns[at], Facet.DISTRIBUTION, snapshot.window, about, watch, past)
        findings.append(msgspec.structs.replace(found, said=f"{found.said}, beside {beside_what}"))
    return findings, alarm
