"""The watch: after every closed window an estimate, and whether it says that a metric has fallen before labels do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from modelyard.monitoring.estimate.metrics import LESS_IS_BETTER
from modelyard.monitoring.estimate.record import LEVEL, Entry, coverage
from modelyard.monitoring.estimate.walking import State, Walk, headline, walk
from modelyard.monitoring.findings import Finding
from modelyard.monitoring.performance.judged import judge
from modelyard.monitoring.performance.watch import task_of
from modelyard.monitoring.reference import Reference
from modelyard.monitoring.settings import Settings
from modelyard.monitoring.watching import Facts

_NUMBERS = ("mae", "rmse")


class Estimates:
    """Estimates windows of a version before their labels come, and keeps the record of it.

    Windows are days, weeks or four weeks, whichever is the first that usually has 1,500 rows.
    """

    name = "estimate"
    share = 0.05
    state = State

    def start(self, reference: Reference, settings: Settings) -> State:
        """Nothing estimated yet."""
        return State()

    def look(self, state: State, table: Any, facts: Facts) -> tuple[State, Sequence[Finding]]:
        """Estimate what has closed, settle what has got its labels; tells about the newest window.

        An alarm takes intervals that lie beyond what is harmless altogether, window after window: each of them by
        chance is no more likely than one in ten, and bets on that not being chance have to reach the budget.
        """
        task = task_of(facts, table.column_names)
        if task is None:
            return state, []
        rows = Walk(judge(table, task), table, _inputs(facts, table), int(facts.now.timestamp()))
        last = state.record[-1].began if state.record else None
        state = walk(state, rows)
        alarmed: Finding | None = None
        for entry in state.record:
            if last is not None and entry.began <= last:
                continue
            state, found = _weighed(state, entry, facts)
            alarmed = found if found is not None and found.alarm else alarmed
        if alarmed is not None:
            return msgspec.structs.replace(state, loss=type(state.loss)()), [alarmed]
        newest = state.record[-1] if state.record else None
        told = None if newest is None else _finding(state, newest, facts)
        return state, [] if told is None else [told]

    def judged(self, before: State, after: State) -> Sequence[str]:
        """All of it where a window was estimated; one that was refused says nothing."""
        last = before.record[-1].began if before.record else -math.inf
        new = [entry for entry in after.record if entry.began > last]
        return (self.name,) if any(entry.values for entry in new) else ()


def _weighed(state: State, entry: Entry, facts: Facts) -> tuple[State, Finding | None]:
    """With the bet on one more window."""
    name = headline(list(entry.values), facts.settings.metric)
    if not name or name not in state.usual:
        return state, None
    said = entry.values[name]
    most = said.high if name not in LESS_IS_BETTER else said.low
    lost = _loss(name, state.usual[name], most) > _margin(name, state.usual[name], facts.settings)
    state = msgspec.structs.replace(state, loss=state.loss.after(float(lost), entry.began, float(entry.seconds)))
    return state, _finding(state, entry, facts)


def _finding(state: State, entry: Entry, facts: Facts) -> Finding | None:
    began = datetime.fromtimestamp(entry.began, UTC)
    name = headline(list(entry.values), facts.settings.metric)
    details = {"trust": entry.trust.value, "reason": entry.reason, "rows": entry.rows, "worth": entry.worth}
    if not name or name not in state.usual:
        said = f"no estimate for {began:%Y-%m-%d}: {entry.reason}"
        nothing = not any(each.values for each in state.record)
        return facts.finding("estimate.refused", said, window=began, details=details | {"unlabelled": nothing})
    value, usual, kept = entry.values[name], state.usual[name], coverage(state.record, name)
    so_far = f"; intervals so far held {kept.covered} of {kept.known} times" if kept.known else ""
    said = (
        f"{name} is estimated at {value.value:.3f} ({value.low:.3f} to {value.high:.3f}, {LEVEL:.0%}) before labels, "
        f"{usual:.3f} when estimates began; {entry.trust.value}{f': {entry.reason}' if entry.reason else ''}{so_far}"
    )
    since = None if state.loss.since is None else datetime.fromtimestamp(state.loss.since, UTC)
    return facts.finding(
        f"estimate.{name}",
        said,
        subject=name,
        window=began,
        since=since,
        evidence=state.loss.evidence,
        needed=facts.settings.needed,
        effect=max(0.0, _loss(name, usual, value.value)),
        margin=_margin(name, usual, facts.settings),
        details=details | {"estimate": value.value, "low": value.low, "high": value.high, "usual": usual},
    )


def _loss(name: str, usual: float, now: float) -> float:
    """How much worse it is."""
    if name == "bias":
        return abs(now) - abs(usual)
    return now - usual if name in LESS_IS_BETTER else usual - now


def _margin(name: str, usual: float, settings: Settings) -> float:
    return settings.harm * usual if name in _NUMBERS else settings.harm


def _inputs(facts: Facts, table: Any) -> tuple[str, ...]:
    outputs = set(facts.outputs)
    return tuple(name for name in facts.reference.described if name not in outputs and name in table.column_names)
