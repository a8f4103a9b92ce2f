"""Where the model does worst since an alarm's beginning: told with the alarm.

It decides nothing and spends nothing of the budget: the alarm was raised by evidence of its own. The slices are found
on one half of the rows and measured on the other, see `modelyard.monitoring.performance.worst`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from modelyard.monitoring.findings import Finding
from modelyard.monitoring.performance.intervals import Measure
from modelyard.monitoring.performance.spells import APART
from modelyard.monitoring.performance.streams import COVERAGE
from modelyard.monitoring.performance.task import LABEL, Task
from modelyard.monitoring.performance.worst import Found, Slice, worst

MOST = 3
"""So many slices are told."""

_LABELS = f"performance.{COVERAGE}"
"""Of labels that stay away there is nothing to say where the model errs."""

ROWS = 50_000
"""So many of the newest labelled rows are looked at: enough for slices of half a percent, and done within a second."""


class Spell(msgspec.Struct, frozen=True):
    """A stretch in which one alarm followed the other: when it began, and the last window that alarmed."""

    since: datetime
    last: datetime

    def goes_on(self, since: datetime) -> bool:
        """Whether an alarm about a change that began then belongs to it."""
        return since - self.last <= APART


def located(
    findings: Sequence[Finding], table: pa.Table, task: Task, columns: Iterable[str], spell: Spell | None
) -> tuple[list[Finding], Spell | None]:
    """The findings, and the spell that they are of.

    With the one that alarms most go the slices that the model is worst in since the spell began, as
    ``details["worst"]``, and what they were like before.
    """
    alarming = [found for found in findings if found.alarm and found.since and found.window and found.watch != _LABELS]
    if not alarming:
        return list(findings), spell
    first = max(alarming, key=lambda found: found.effect / found.margin if found.margin > 0 else found.effect)
    spell = _spell(first, spell)
    labelled = np.flatnonzero(table[LABEL].is_valid().to_numpy())[-ROWS:]
    found = worst(table.take(labelled), task, columns, most=MOST, since=spell.since)
    if not found.slices:
        return list(findings), spell
    more = {"worst": [_told(found, each) for each in found.slices]}
    told = msgspec.structs.replace(first, details={**first.details, **more})
    return [told if each is first else each for each in findings], spell


def _spell(found: Finding, spell: Spell | None) -> Spell:
    assert found.since is not None and found.window is not None  # noqa: S101, PT018 - only such findings are asked about
    told = found.details.get("spells")
    since = datetime.fromisoformat(told[0]["since"]) if told and told[0]["since"] else found.since
    return Spell(spell.since if spell is not None and spell.goes_on(since) else since, found.window)


def _told(found: Found, slice_: Slice) -> Mapping[str, Any]:
    now = slice_.measures[found.metric]
    return {
        "slice": slice_.said,
        "rows": slice_.rows,
        "share": slice_.share,
        "metric": found.metric,
        "value": now.value,
        "low": now.low,
        "high": now.high,
        "before": None if slice_.before is None else slice_.before.value,
        "loss_more": slice_.worse.value,
        "said": said(found.metric, slice_.said, now, slice_.share, slice_.before),
    }


def said(metric: str, where: str, now: Measure, share: float, before: Measure | None) -> str:
    """One slice in one line.

    >>> said("accuracy", "shop = 'c'", Measure(0.71, 0.68, 0.74, 900), 0.08, Measure(0.9, 0.88, 0.92, 1200))
    "shop = 'c': accuracy 0.71 [0.68, 0.74] in 8.0% of the rows, 0.9 before"
    """
    between = f" [{now.low:.3g}, {now.high:.3g}]" if now.low is not None and now.high is not None else ""
    was = f", {before.value:.3g} before" if before is not None and before.value is not None else ""
    return f"{where}: {metric} {now.value:.3g}{between} in {share:.1%} of the rows{was}"
