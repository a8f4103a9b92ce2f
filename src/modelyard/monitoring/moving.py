"""Drift of inputs and answers away from the reference, and what is missing, new or out of range in them.

The evidence is that of `modelyard.monitoring.detector`, with weights of columns by what they matter: half of it is for
answers, the rest for inputs, more of it where an input moves the score. Columns with a rhythm are judged by whole days
or weeks, see `modelyard.monitoring.rhythm`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np

from modelyard.domain.frame import Array
from modelyard.monitoring.asking import Asked
from modelyard.monitoring.began import Beginnings
from modelyard.monitoring.detector import question_weights, unpacked
from modelyard.monitoring.evidence import Against
from modelyard.monitoring.facets import Facet
from modelyard.monitoring.findings import Finding
from modelyard.monitoring.ranking import columns_matter, finding_of
from modelyard.monitoring.reference import Reference
from modelyard.monitoring.rhythm import (
    DAY,
    WEEK,
    Unit,
    Units,
    answers_of,
    due,
    midnight,
    restless,
    units,
    week_began,
    whole_days,
)
from modelyard.monitoring.settings import Settings
from modelyard.monitoring.watching import Snapshot
from modelyard.monitoring.windows import Profile

_FIRST = 4
"""So many windows with traffic are needed to tell what is restless, before a distribution may alarm."""

_RESTLESS = 2.5
"""So many clear differences between one window and the next within a day make a column restless."""

_QUIET = 10.0
"""A column whose evidence comes to less than so many windows' time has nothing to speak of."""


class MovingState(msgspec.Struct, frozen=True):
    """What was gathered, what each column is judged by, how restless it was, and since when it has evidence (s)."""

    gathered: bytes = b""
    units: bytes = b""
    restless: bytes = b""
    ages: bytes = b""
    first: datetime | None = None
    seen: int = 0


@dataclass(frozen=True, slots=True)
class Made:
    """What is computed once for a reference, facets and settings."""

    asked: Asked
    margin: Array
    low: Array
    high: Array
    """The shares that are harmless, from and to."""
    against: Against


class Moving:
    """One watch for some facets of all columns; `patient` ones wait until it can be told what is restless."""

    state = MovingState

    def __init__(self, name: str, share: float, facets: tuple[Facet, ...], *, patient: bool) -> None:
        self.name, self.share = name, share
        self._facets, self._patient = facets, patient

    def start(self, reference: Reference, settings: Settings) -> MovingState:
        """Nothing gathered."""
        return MovingState()

    def look(self, state: MovingState, snapshot: Snapshot) -> tuple[MovingState, list[Finding]]:
        """Take a window in; names the columns with evidence."""
        made = made_for(snapshot, self._facets)
        if snapshot.window is not None:
            state = msgspec.structs.replace(state, first=state.first or snapshot.began, seen=state.seen + 1)
        judged = self._units(state, snapshot, made)
        loose = _restless(state, snapshot, made)
        if self._patient and snapshot.settings.seasons and not _two_days(state, snapshot):
            judged = np.maximum(judged, np.where(loose >= _RESTLESS, Unit.DAY, Unit.WINDOW)).astype(np.uint8)
        gathered = _advanced(state, snapshot, made, judged)
        parts = made.against.parts(gathered)
        ages = _aged(state, snapshot, made, parts)
        columns, needed = made.asked.per_column(parts), snapshot.settings.needed
        alarm = float(columns.sum()) >= needed and (not self._patient or state.seen >= _FIRST)
        findings = list(_findings(snapshot, made, (parts, ages, judged), alarm))
        after = MovingState(
            b"" if alarm else gathered.tobytes(),
            judged.tobytes(),
            loose.tobytes(),
            np.zeros_like(ages).tobytes() if alarm else ages.tobytes(),
            state.first,
            state.seen,
        )
        return after, findings

    def _units(self, state: MovingState, snapshot: Snapshot, made: Made) -> Units:
        """As they were, or told anew when that is due."""
        known = len(state.units) == len(made.asked.columns)
        kept = np.frombuffer(state.units, dtype=np.uint8) if known else np.zeros(len(made.asked.columns), np.uint8)
        today = midnight(snapshot.began)
        if not snapshot.settings.seasons or state.first is None:
            return kept
        if not due(snapshot.began, state.first, snapshot.seconds):
            return kept
        found = units(made.asked, snapshot.earlier, today, state.first, snapshot.seconds)
        return found if _two_days(state, snapshot) else np.maximum(found, kept)


def made_for(snapshot: Snapshot, facets: tuple[Facet, ...]) -> Made:
    """What is computed once."""
    told = msgspec.structs.replace(snapshot.settings, share=1.0)
    key = msgspec.msgpack.encode(told, order="deterministic")
    return _made(_Same(snapshot.reference), key, facets, snapshot.outputs, snapshot.influence)


@lru_cache(maxsize=64)
def _made(
    reference: _Same,
    settings: bytes,
    facets: tuple[Facet, ...],
    outputs: tuple[str, ...],
    influence: tuple[tuple[str, float], ...],
) -> Made:
    told = msgspec.msgpack.decode(settings, type=Settings)
    asked = Asked(reference.reference, facets)
    low, high = asked.likely(told.certainty)
    margin = np.array([told.margins.of(facet) for facet in asked.facets])
    matter = columns_matter(asked.columns, outputs, dict(influence), told.weights)
    weights = question_weights(asked, matter)
    low, high = low - margin, high + margin
    return Made(asked, margin, low, high, Against(low, high, weights, told.grouped))


class _Same:
    """A reference, the same to a cache as any other with its digest."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.reference.digest == self.reference.digest

    def __hash__(self) -> int:
        return hash(self.reference.digest)


def _two_days(state: MovingState, snapshot: Snapshot) -> bool:
    """Whether there are two whole days by which rhythms can be told."""
    return state.first is not None and whole_days(midnight(snapshot.began), state.first, snapshot.seconds) >= 2


def _restless(state: MovingState, snapshot: Snapshot, made: Made) -> Array:
    """How often each column differed clearly from the window before, with half-forgotten days."""
    before: Array = _floats(state.restless, len(made.asked.columns)) * 0.5 ** (snapshot.seconds / DAY)
    if snapshot.window is None or not snapshot.settings.seasons or _two_days(state, snapshot):
        return before
    earlier = snapshot.earlier(snapshot.began - timedelta(seconds=snapshot.seconds), snapshot.seconds)
    if earlier is None:
        return before
    one, other = answers_of(made.asked, snapshot.window), answers_of(made.asked, earlier)
    more: Array = before + restless(made.asked, one, other, made.margin)
    return more


def _advanced(state: MovingState, snapshot: Snapshot, made: Made, judged: Units) -> Array:
    """What there is after this window; columns judged by days or weeks take theirs in when one has ended.

    Where a column is judged by something else than before, what it had is forgotten.
    """
    gathered = unpacked(state.gathered, made.against.start())
    if len(state.units) == len(judged):
        changed = np.frombuffer(state.units, dtype=np.uint8) != judged
        gathered = np.where(changed[made.asked.column_of][:, None], 0.0, gathered)
    for unit, profile, seconds in _ended(snapshot):
        x, n = answers_of(made.asked, profile)
        mine = (judged == unit)[made.asked.column_of]
        gathered = made.against.advance(gathered, np.where(mine, x, 0.0), np.where(mine, n, 0.0), seconds)
    return gathered


def _ended(snapshot: Snapshot) -> Iterator[tuple[Unit, Profile | None, float]]:
    """What ends with this window, and what it adds up to."""
    yield Unit.WINDOW, snapshot.window, snapshot.seconds
    today = midnight(snapshot.began)
    if snapshot.ended >= today + timedelta(seconds=DAY):
        yield Unit.DAY, _with(snapshot, today), DAY
        monday = week_began(snapshot.began)
        if snapshot.ended >= monday + timedelta(seconds=WEEK):
            yield Unit.WEEK, _with(snapshot, monday), WEEK


def _with(snapshot: Snapshot, since: datetime) -> Profile | None:
    """Everything from a moment on, with this window."""
    before = snapshot.earlier(since, (snapshot.began - since).total_seconds()) if snapshot.began > since else None
    if before is None or snapshot.window is None:
        return snapshot.window if before is None else before
    return before + snapshot.window


def _aged(state: MovingState, snapshot: Snapshot, made: Made, parts: Array) -> Array:
    """For each column for how many seconds it has had evidence to speak of."""
    ages = _floats(state.ages, len(made.asked.columns))
    whole = made.asked.per_column(made.against.weights.sum(axis=1))
    quiet = made.asked.per_column(parts) < _QUIET * snapshot.seconds * whole
    found: Array = np.where(quiet, 0.0, ages + snapshot.seconds)
    return found


def _floats(raw: bytes, number: int) -> Array:
    return unpacked(raw, np.zeros(number))


def _findings(snapshot: Snapshot, made: Made, gathered: tuple[Array, Array, Units], alarm: bool) -> Iterator[Finding]:
    """Columns that have a hundredth of what an alarm needs; in an alarm those that have a twentieth of all there is."""
    parts, ages, judged = gathered
    whole = {unit: _whole(snapshot, unit) for unit in Unit}
    beginnings = {unit: Beginnings(made.asked, snapshot, *whole[unit]) for unit in Unit}
    columns, needed = made.asked.per_column(parts), snapshot.settings.needed
    reached = float(columns.sum())
    for at in np.argsort(-columns, kind="stable").tolist():
        own = float(columns[at])
        if own < needed / 100:
            return
        first, last = made.asked.first[at], made.asked.first[at + 1]
        question = int(first + np.argmax(parts[first:last]))
        facet = made.asked.facets[question]
        ended, seconds = whole[judged[at]]
        oldest = min(snapshot.ended - timedelta(seconds=float(ages[at])), ended - timedelta(seconds=seconds))
        since = beginnings[judged[at]].began(question, float(made.low[question]), float(made.high[question]), oldest)
        part = own >= min(reached / 20, needed)
        evidence = reached if alarm and part else min(own, needed * 0.999)
        about: dict[str, Any] = {"evidence": evidence, "needed": needed, "since": since}
        yield finding_of(snapshot, made.asked.columns[at], facet, _with(snapshot, since), about)


def _whole(snapshot: Snapshot, unit: Unit) -> tuple[datetime, float]:
    """When the last whole window, day or week ended, and how long such a one is."""
    ended = snapshot.ended if unit is Unit.WINDOW else midnight(snapshot.ended)
    return week_began(ended) if unit is Unit.WEEK else ended, unit.seconds or snapshot.seconds


def moving_watches() -> Mapping[str, Moving]:
    """By name: drift of distributions, and what is missing, new or out of range."""
    drift = Moving("drift", 0.2, (Facet.DISTRIBUTION,), patient=True)
    quality = Moving("quality", 0.1, (Facet.MISSING, Facet.OUTSIDE, Facet.NEW), patient=False)
    return {each.name: each for each in (drift, quality)}
