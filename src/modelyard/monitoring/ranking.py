"""What moved, told for people: by how much, how it matters for the score, and a picture of before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from modelyard.monitoring.comparison import bins
from modelyard.monitoring.effects import Effect, effect, share
from modelyard.monitoring.facets import Facet
from modelyard.monitoring.findings import Finding
from modelyard.monitoring.slots import Counts, NumberSlots, Slots, Tally
from modelyard.monitoring.watching import Snapshot
from modelyard.monitoring.windows import Profile

Beside: TypeAlias = tuple[Counts, Counts]
"""Counts before, and now."""

_EVEN = 0.5
"""So much of the weight of inputs goes to all of them evenly, the rest by what they do to the score."""

_LEAST = 0.05


def columns_matter(
    columns: Sequence[str], outputs: Sequence[str], influence: Mapping[str, float], weights: Mapping[str, float]
) -> dict[str, float]:
    """A weight for each column: half of all for answers, where there are any, the rest for inputs.

    `influence` says how much each input moves the score; `weights` are the user's, by which they are multiplied.

    >>> columns_matter(["a", "b", "score"], ["score"], {"a": 1.0}, {})
    {'a': 0.375, 'b': 0.125, 'score': 0.5}
    """
    answers = [name for name in columns if name in set(outputs)]
    inputs = [name for name in columns if name not in set(outputs)]
    known = sum(influence.get(name, 0.0) for name in inputs)
    even = _EVEN if known > 0 else 1.0
    half = 0.5 if answers and inputs else 1.0
    found = {
        name: half * (even / len(inputs) + (1 - even) * influence.get(name, 0.0) / (known or 1.0)) for name in inputs
    }
    found |= {name: half / len(answers) for name in answers}
    return {name: found[name] * max(0.0, weights.get(name, 1.0)) for name in columns}


def watch_name(snapshot: Snapshot, column: str, facet: Facet) -> str:
    """What a finding about a facet of a column is called."""
    if facet is not Facet.DISTRIBUTION:
        return {Facet.MISSING: "quality.missing", Facet.OUTSIDE: "quality.range", Facet.NEW: "quality.unseen"}[facet]
    if column not in snapshot.outputs:
        return "drift.input"
    return "drift.score" if isinstance(snapshot.reference.slots[column], NumberSlots) else "drift.class"


def finding_of(
    snapshot: Snapshot,
    column: str,
    facet: Facet,
    stretch: Profile | None,
    about: Mapping[str, Any],
    watch: str = "",
    past: Profile | None = None,
) -> Finding:
    """A finding about a column, with what it was like over a stretch of windows beside the `past`, or the reference.

    The margin is part of what the evidence is against, so that evidence alone is enough to alarm.
    """
    slots = snapshot.reference.slots[column]
    tally = stretch.columns.get(column) if stretch is not None else None
    counts = slots.reference if tally is None else tally.counts
    before = past.columns[column].counts if past is not None and column in past.columns else slots.reference
    found = effect(slots, before, counts)
    size, margin = _size(facet, slots, (before, counts), found), snapshot.settings.margins.of(facet)
    if about["evidence"] >= about["needed"]:
        size = max(size, margin * 1.000001)
    influence = dict(snapshot.influence).get(column)
    return snapshot.finding(
        watch or watch_name(snapshot, column, facet),
        said(column, facet, slots, (before, counts), tally, size),
        subject=column,
        effect=size,
        margin=margin,
        details={
            "rank": rank(size / margin, influence, len(snapshot.influence)),
            "influence": influence,
            "psi": found.psi,
            "jensen_shannon": found.jensen_shannon,
            "ks": None if found.ks is None else [found.ks.least, found.ks.most],
            "missing": [share(before, slots.MISSING), share(counts, slots.MISSING)],
            "newcomers": [list(each) for each in tally.newcomers.named()] if tally and tally.newcomers else [],
            "plot": [[each.label, each.reference, each.current] for each in bins(slots, before, counts)],
        },
        **about,
    )


def rank(size: float, influence: float | None, inputs: int) -> float:
    """What to read first: how far a column moved, times what it does to the score beside the average input.

    >>> rank(4.0, 0.3, 10) > rank(8.0, 0.01, 10)
    True
    """
    return size if influence is None else size * max(_LEAST, influence * inputs)


def _size(facet: Facet, slots: Slots, counts: Beside, found: Effect) -> float:
    if facet is Facet.DISTRIBUTION:
        return found.distance
    if facet is Facet.MISSING:
        return abs(found.missing_change)
    where = (slots.INFINITE, slots.BELOW, slots.above) if isinstance(slots, NumberSlots) else (slots.NEW,)
    return abs(sum(share(counts[1], slot) - share(counts[0], slot) for slot in where))


def said(column: str, facet: Facet, slots: Slots, counts: Beside, tally: Tally | None, size: float) -> str:
    """One sentence."""
    if facet is Facet.MISSING:
        before, now = (share(each, slots.MISSING) for each in counts)
        return f"{column}: {now:.1%} missing, {before:.1%} before"
    if facet is Facet.OUTSIDE and isinstance(slots, NumberSlots):
        within = "" if slots.least is None or slots.largest is None else f" {slots.least:.4g} to {slots.largest:.4g}"
        return f"{column}: {size:.1%} outside of the range{within}"
    if facet is Facet.NEW:
        named = ", ".join(name for name, _ in tally.newcomers.named()[:4]) if tally and tally.newcomers else ""
        return f"{column}: {size:.1%} never seen before{f' ({named})' if named else ''}"
    return f"{column}: the distribution moved by {size:.1%}{_most(slots, counts)}"


def _most(slots: Slots, counts: Beside) -> str:
    """The part of the distribution that changed most."""
    parts = list(bins(slots, *counts))
    if not parts:
        return ""
    most = max(parts, key=lambda each: abs(each.current - each.reference))
    if abs(most.current - most.reference) < 0.001:  # what moved lies beyond the parts that are drawn
        return ""
    return f", {most.label} {most.reference:.1%} -> {most.current:.1%}"
