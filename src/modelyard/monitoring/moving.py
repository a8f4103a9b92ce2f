"""Drift of inputs and answers away from the reference, with evidence that stays valid however often one looks."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache

import msgspec

from modelyard.monitoring import detector
from modelyard.monitoring.detector import Detector
from modelyard.monitoring.effects import effect, share
from modelyard.monitoring.facets import Facet
from modelyard.monitoring.findings import Finding
from modelyard.monitoring.reference import Reference
from modelyard.monitoring.settings import Settings
from modelyard.monitoring.slots import NumberSlots
from modelyard.monitoring.watching import Snapshot
from modelyard.monitoring.windows import Profile


class MovingState(msgspec.Struct, frozen=True):
    """What the detector has gathered, and since when: the first window since it had last nothing to speak of."""

    gathered: detector.State
    since: datetime | None = None


class Moving:
    """The detector of `modelyard.monitoring.detector` over every column of the reference."""

    name = "drift"
    share = 0.5
    state = MovingState

    def start(self, reference: Reference, settings: Settings) -> MovingState:
        """Nothing gathered."""
        return MovingState(_detector(reference, settings).start())

    def look(self, state: MovingState, snapshot: Snapshot) -> tuple[MovingState, list[Finding]]:
        """Take a window in; names the columns with evidence."""
        found = _detector(snapshot.reference, snapshot.settings)
        window = snapshot.window or Profile(snapshot.reference.digest, 0, {})
        gathered, verdict = found.step(state.gathered, window, snapshot.seconds)
        quiet = verdict.evidence < 0.01
        since = None if quiet else state.since or snapshot.began
        findings = [
            self._finding(snapshot, suspect, verdict, since)
            for suspect in verdict.suspects
            if suspect.column in window.columns
        ]
        return MovingState(gathered, None if verdict.alarm else since), findings

    def _finding(
        self, snapshot: Snapshot, suspect: detector.Suspect, verdict: detector.Verdict, since: datetime | None
    ) -> Finding:
        settings, name = snapshot.settings, suspect.column
        size = _size(snapshot, name, suspect.facet)
        # The margin is part of what the evidence is against, so that evidence alone is enough to alarm.
        return snapshot.finding(
            f"drift.{suspect.facet.value}",
            f"{name}: {_words(suspect.facet)} by {size:.1%} in this window",
            subject=name,
            evidence=verdict.evidence * settings.needed,
            needed=settings.needed,
            effect=max(size, settings.margins.of(suspect.facet) * 1.000001) if verdict.alarm else size,
            margin=settings.margins.of(suspect.facet),
            since=since,
            details={"part": suspect.part},
        )


def _size(snapshot: Snapshot, name: str, facet: Facet) -> float:
    """By how much the column differs in the window itself."""
    slots = snapshot.reference.slots[name]
    counts = snapshot.window.columns[name].counts if snapshot.window else slots.reference
    found = effect(slots, slots.reference, counts)
    if facet is Facet.DISTRIBUTION:
        return found.distance
    if facet is Facet.MISSING:
        return abs(found.missing_change)
    where = (slots.INFINITE, slots.BELOW, slots.above) if isinstance(slots, NumberSlots) else (slots.NEW,)
    return abs(sum(share(counts, slot) - share(slots.reference, slot) for slot in where))


def _words(facet: Facet) -> str:
    return {
        Facet.DISTRIBUTION: "the distribution moved",
        Facet.MISSING: "the share of what is missing moved",
        Facet.OUTSIDE: "the share outside of the range moved",
        Facet.NEW: "values never seen before make a difference",
    }[facet]


@lru_cache(maxsize=64)
def _made(settings: bytes, reference: _Same) -> Detector:
    told = msgspec.msgpack.decode(settings, type=Settings)
    return Detector(
        reference.reference,
        detector.Settings(
            msgspec.structs.replace(told.budget, seconds=told.budget.seconds / told.share),
            told.margins,
            told.certainty,
            told.grouped,
            told.weights,
        ),
    )


class _Same:
    """A reference, the same to a cache as any other with its digest."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.reference.digest == self.reference.digest

    def __hash__(self) -> int:
        return hash(self.reference.digest)


def _detector(reference: Reference, settings: Settings) -> Detector:
    return _made(msgspec.msgpack.encode(settings, order="deterministic"), _Same(reference))
