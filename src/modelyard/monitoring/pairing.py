"""Columns that no longer go together as they did, though each alone may be what it was: exchanged values, broken joins.

The evidence of some rows about a two by two table is a likelihood ratio of Fisher's noncentral hypergeometric law
(`modelyard.monitoring.odds`): given how often each column has which value, whatever that is, the ratio of an odds ratio
further out to the furthest that is harmless has an expectation of at most 1 under all that are harmless, since the law
has monotone likelihood ratios. It is added up as in `modelyard.monitoring.detector`, over tables, alternatives, and two
ways of taking rows: window by window, and day by day. Three things only ever take evidence away:

- Windows in which a column alone looks otherwise than in the reference are left out, and so are pairs of which a
  column has so far differed from the reference, from one window to the next, by clearly more than chance. Where columns
  hang on the hour or the day, as the weather does, rows of one hour are few cases in truth, and go together in their
  own way; by days such pairs are looked at if their days are alike. How two columns go together plays no part in this.
- Rows that hang together make tables rougher than chance does. How rough they have been so far, as the variance of what
  they had beside what was expected, in parts of what chance allows, is the root that is taken of the evidence: as with
  `grouped`, which holds as well. That is an estimate, not a bound; with independent rows it changes nothing but delay.
- Windows of the first day, and the first four tables, tell how rough they are, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np

from modelyard.domain.frame import Array
from modelyard.monitoring.dependence import Cuts, cells, dependence_of, paired_otherwise, said
from modelyard.monitoring.detector import unpacked
from modelyard.monitoring.evidence import added_up
from modelyard.monitoring.findings import Finding
from modelyard.monitoring.odds import FAR, Tables, log_partition
from modelyard.monitoring.pairs import Met, Pairs
from modelyard.monitoring.ranking import rank
from modelyard.monitoring.reference import Reference
from modelyard.monitoring.rhythm import DAY, midnight
from modelyard.monitoring.settings import Settings
from modelyard.monitoring.watching import Snapshot
from modelyard.monitoring.windows import Profile

_STEPS = np.array([0.25, 0.6, 1.4, 3.0])
"""How far alternatives are from what is still harmless, in log odds ratios."""

_LEAST_ROWS = 20
_NEAR = 0.1
"""A column whose share of some levels is further from the reference's is not taken for what it was."""

_FIRST = 4
_UNSTEADY = 3.0
"""A column that has so many times the variance about the reference's share that chance allows is not steady."""

_TOLERATED = 0.02
"""A column's share may lie so far from the reference's and is still as steady as chance."""

_SUPPOSED = 8.0
"""Roughness is learned from tables, and from so many supposed ones that are as smooth as chance."""

_REMEMBERED = 500.0
_LARGEST_LOG = 400.0
_QUIET = 10.0


class PairingState(msgspec.Struct, frozen=True):
    """What was gathered, how rough tables and columns were, and since when pairs have evidence (s)."""

    gathered: bytes = b""
    rough: bytes = b""
    ages: bytes = b""
    first: datetime | None = None


class _Asked:
    """What is computed once for a reference and settings: what is asked, what is harmless, alternatives, weights."""

    def __init__(self, pairs: Pairs, settings: Settings, influence: dict[str, float]) -> None:
        self.cuts = Cuts(pairs)
        low, high = self.cuts.harmless(settings.certainty, settings.distance)
        ends = np.repeat(np.stack([high, low], axis=1), len(_STEPS), axis=1)
        there = np.isfinite(ends)
        self.harmless = np.where(there, ends, 0.0)
        tilts = np.concatenate([_STEPS, -_STEPS])
        self.other = np.where(there, np.clip(self.harmless + tilts, -FAR, FAR), 0.0)
        each = _matter(pairs, settings, influence)[self.cuts.pair_of]
        number = np.bincount(self.cuts.pair_of, minlength=len(pairs.names))[self.cuts.pair_of]
        ways = np.maximum(there.sum(axis=1, keepdims=True), 1)
        self.weights = np.where(there, (each / number)[:, None] / ways, 0.0) / len(_WAYS)
        known = np.isfinite(low).astype(float), np.isfinite(high).astype(float)
        found = np.where(known[0] > 0, low, 0.0) + np.where(known[1] > 0, high, 0.0)
        self.usual = found / np.maximum(known[0] + known[1], 1.0)

    def ratios(self, tables: Tables) -> Array:
        """Logarithms of the e-values of some tables: 0 where a table says nothing."""
        ends, _ = log_partition(tables, np.stack([self.harmless[:, 0], self.harmless[:, -1]], axis=1))
        others, _ = log_partition(tables, self.other)
        logs = (self.other - self.harmless) * tables.x[:, None] - others
        logs[:, : len(_STEPS)] += ends[:, :1]
        logs[:, len(_STEPS) :] += ends[:, 1:]
        found: Array = np.where(self.weights > 0, logs, 0.0)
        return found

    def deviations(self, tables: Tables) -> Array:
        """How far tables are from what the reference suggests, in standard deviations."""
        expected = tables.expected(self.usual[:, None])
        found: Array = ((tables.x[:, None] - expected) / tables.spread(expected))[:, 0]
        return found

    def per_pair(self, values: Array) -> Array:
        """Sums over the tables of each pair."""
        found: Array = np.bincount(self.cuts.pair_of, weights=values, minlength=len(self.cuts.pairs.names))
        return found


_WAYS = ("windows", "days")
_ROUGH = ("tables", "mean", "squares", "all tables", "first", "second")
"""Of tables that were taken in their number, the mean of what they had beside what was expected, and the squares about
it; of all tables their number, and the squares of what the first and the second column had beside what was expected."""


def _matter(pairs: Pairs, settings: Settings, influence: dict[str, float]) -> Array:
    """A weight for each pair: half of all evenly, half by influence on the score; times the user's weights."""
    named = np.array([sum(influence.get(name, 0.0) for name in names) for names in pairs.names])
    even = np.full(len(named), 1 / max(len(named), 1))
    own = even if not named.sum() > 0 else (even + named / named.sum()) / 2
    said = [min(settings.weights.get(name, 1.0) for name in names) for names in pairs.names]
    return np.asarray(own * np.clip(said, 0.0, None))


@dataclass(frozen=True, slots=True)
class _Taken:
    """Rows to be taken in: in which way, what met, the time that they stand for, and whether they are evidence."""

    way: int
    met: Met
    seconds: float
    judged: bool


class Pairing:
    """Pairs of columns whose odds ratios changed. References of earlier releases have no pairs: nothing is watched."""

    name = "drift.pairs"
    share = 0.05
    state = PairingState

    def start(self, reference: Reference, settings: Settings) -> PairingState:
        """Nothing gathered."""
        return PairingState()

    def look(self, state: PairingState, snapshot: Snapshot) -> tuple[PairingState, list[Finding]]:
        """Take a window in; names the pairs with evidence."""
        if snapshot.reference.pairs is None or snapshot.window is None:
            return state, []
        asked = _asked_for(snapshot)
        if not len(asked.cuts):
            return state, []
        first = state.first or snapshot.began
        number = len(asked.cuts)
        gathered = unpacked(state.gathered, np.zeros((len(_WAYS), *asked.weights.shape))).copy()
        rough = unpacked(state.rough, np.zeros((len(_WAYS), len(_ROUGH), number))).copy()
        for taken in _due(snapshot, first):
            _take(asked, taken, gathered[taken.way : taken.way + 1], rough[taken.way], snapshot.settings.grouped)
        ways = [asked.per_pair(np.einsum("qa,qa->q", each, asked.weights)) for each in gathered]
        parts: Array = ways[0] + ways[1]
        ages = _aged(state, snapshot, asked, parts)
        days = (ways[1] > ways[0]) & (ages > 0)
        ages = np.where(days, np.maximum(ages, DAY), ages)
        alarm = float(parts.sum()) >= snapshot.settings.needed
        findings = list(_findings(snapshot, asked.cuts.pairs, parts, ages, alarm))
        after = PairingState(
            b"" if alarm else gathered.tobytes(),
            rough.tobytes(),
            np.zeros_like(ages).tobytes() if alarm else ages.tobytes(),
            first,
        )
        return after, findings


def _asked_for(snapshot: Snapshot) -> _Asked:
    told = msgspec.structs.replace(snapshot.settings, share=1.0)
    key = msgspec.msgpack.encode(told, order="deterministic")
    return _asked(_Same(snapshot.reference), key, snapshot.influence)


class _Same:
    """A reference, the same to a cache as any other with its digest."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.reference.digest == self.reference.digest

    def __hash__(self) -> int:
        return hash(self.reference.digest)


@lru_cache(maxsize=32)
def _asked(reference: _Same, settings: bytes, influence: tuple[tuple[str, float], ...]) -> _Asked:
    assert reference.reference.pairs is not None  # noqa: S101 - it is asked for where there are pairs
    return _Asked(reference.reference.pairs, msgspec.msgpack.decode(settings, type=Settings), dict(influence))


def _due(snapshot: Snapshot, first: datetime) -> Iterator[_Taken]:
    """What is to be taken in with this window: itself, and the day that it ends."""
    assert snapshot.window is not None  # noqa: S101 - nothing is taken in without rows
    a_day = snapshot.ended - first > timedelta(seconds=DAY) or not snapshot.settings.seasons
    yield _Taken(0, snapshot.window.met, snapshot.seconds, a_day)
    today = midnight(snapshot.began)
    if (snapshot.ended - today).total_seconds() >= DAY:
        yield _Taken(1, _since(snapshot, (snapshot.began - today).total_seconds()).met, DAY, True)


def _since(snapshot: Snapshot, seconds: float) -> Profile:
    """The window and so many seconds before it."""
    assert snapshot.window is not None  # noqa: S101 - nothing is taken in without rows
    before = snapshot.earlier(snapshot.began - timedelta(seconds=seconds), seconds) if seconds > 0 else None
    return snapshot.window if before is None else before + snapshot.window


def _take(asked: _Asked, taken: _Taken, gathered: Array, rough: Array, grouped: float) -> None:
    """Add the evidence of some rows, in place, and then what they tell about roughness."""
    tables = asked.cuts.tables(taken.met)
    enough = tables.n >= _LEAST_ROWS
    if not enough.any():
        return
    _learn_columns(rough, asked.cuts.off(tables, _TOLERATED), enough)
    columns = unsteady(rough) / grouped
    used = enough & (tables.least < tables.most) & asked.cuts.alike(tables, _NEAR) & (columns <= _UNSTEADY)
    known = used & (rough[0] >= _FIRST) & taken.judged
    if known.any():
        logs = np.where(known[:, None], asked.ratios(tables), 0.0)
        logs /= np.maximum(np.maximum(grouped, columns), roughness(rough))[:, None]
        ratios = np.exp(np.minimum(logs, _LARGEST_LOG))
        gathered[0] = added_up(gathered[0], ratios, np.where(known, tables.n, 0), taken.seconds)
    _learn(rough, asked.deviations(tables), used)


def unsteady(rough: Array) -> Array:
    """How many times the variance that chance allows the less steady column of each table has had."""
    number, squares = rough[3], np.maximum(rough[4], rough[5])
    found: Array = (squares + _SUPPOSED) / (number + _SUPPOSED)
    return found


def roughness(rough: Array) -> Array:
    """How many times the variance that chance allows tables have had so far; at least 1."""
    number, squares = rough[0], rough[2]
    found: Array = np.maximum(1.0, (squares + _SUPPOSED) / np.maximum(number + _SUPPOSED - 1, _SUPPOSED))
    return found


def _learn_columns(rough: Array, off: tuple[Array, Array], enough: Array) -> None:
    fade = np.where(enough & (rough[3] >= _REMEMBERED), 1 - 1 / _REMEMBERED, 1.0)
    rough[3] = rough[3] * fade + enough
    for row, squares in zip((4, 5), off, strict=True):
        rough[row] = rough[row] * fade + np.where(enough, squares, 0.0)


def _learn(rough: Array, deviations: Array, used: Array) -> None:
    """Numbers, means and sums of squares about them (Welford 1962), of the last some hundred tables about."""
    usual = 3 * np.sqrt(roughness(rough))  # what is far from all before is rather a change than rough
    bounded = np.clip(deviations, rough[1] - usual, rough[1] + usual)
    deviations = np.where(rough[0] >= _FIRST, bounded, deviations)
    fade = np.where(used & (rough[0] >= _REMEMBERED), 1 - 1 / _REMEMBERED, 1.0)
    rough[0] = rough[0] * fade + used
    apart = deviations - rough[1]
    rough[1] += np.where(used, apart / np.maximum(rough[0], 1.0), 0.0)
    rough[2] = rough[2] * fade + np.where(used, apart * (deviations - rough[1]), 0.0)


def _aged(state: PairingState, snapshot: Snapshot, asked: _Asked, parts: Array) -> Array:
    """For each pair for how many seconds it has had evidence to speak of."""
    ages = unpacked(state.ages, np.zeros(len(parts)))
    quiet: Array = parts < _QUIET * snapshot.seconds * len(_WAYS) * asked.per_pair(asked.weights.sum(axis=1))
    return np.asarray(np.where(quiet, 0.0, ages + snapshot.seconds))


def _findings(snapshot: Snapshot, pairs: Pairs, parts: Array, ages: Array, alarm: bool) -> Iterator[Finding]:
    """Pairs that have a hundredth of what an alarm needs; in an alarm those that have a twentieth of all there is."""
    reached, needed = float(parts.sum()), snapshot.settings.needed
    for at in np.argsort(-parts, kind="stable").tolist():
        own = float(parts[at])
        if own < needed / 100:
            return
        part = alarm and own >= min(reached / 20, needed)
        before = max(0.0, float(ages[at]) - snapshot.seconds)
        stretch = _since(snapshot, before)
        evidence = reached if part else min(own, needed * 0.999)
        yield _finding(snapshot, pairs, at, stretch, evidence, snapshot.began - timedelta(seconds=before))


def _finding(snapshot: Snapshot, pairs: Pairs, at: int, stretch: Profile, evidence: float, since: Any) -> Finding:
    counts, needed, margin = stretch.met[at], snapshot.settings.needed, snapshot.settings.distance
    size = paired_otherwise(pairs.reference[at], counts)
    if evidence >= needed:  # the margin is part of what the evidence is against
        size = max(size, margin * 1.000001)
    influence = dict(snapshot.influence)
    mine = [influence[name] for name in pairs.names[at] if name in influence]
    return snapshot.finding(
        "drift.pairs",
        said(pairs, at, counts),
        subject=", ".join(pairs.names[at]),
        evidence=evidence,
        needed=needed,
        effect=size,
        margin=margin,
        since=since,
        details={
            "rank": rank(size / margin, sum(mine) / 2 if mine else None, len(influence)),
            "influence": sum(mine) if mine else None,
            "dependence": [dependence_of(pairs.reference[at]), dependence_of(counts)],
            "plot": [list(each) for each in cells(pairs, at, counts)],
        },
    )
