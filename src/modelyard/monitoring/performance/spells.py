"""Several alarms of one mean within one look, as after a standstill: one finding that tells when each spell began."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from modelyard.monitoring.findings import Finding

APART = timedelta(days=1)
"""An alarm whose change began so soon after the alarm before it goes on with the same spell: evidence began anew."""

MOST = 20
"""So many spells are told at most, the latest."""


def together(alarms: Sequence[Finding]) -> Finding | None:
    """The last of the alarms, with all spells as ``details["spells"]`` where there is more than one; None of none.

    >>> from datetime import UTC
    >>> day = lambda at: datetime(2026, 3, at, tzinfo=UTC)
    >>> made = [Finding(deployment="a", watch="performance.auc", said=f"day {at}", since=day(at), window=day(at + 1))
    ...         for at in (1, 3, 9)]
    >>> [(each["since"][:10], each["last"][:10]) for each in together(made).details["spells"]]
    [('2026-03-01', '2026-03-04'), ('2026-03-09', '2026-03-10')]
    """
    if not alarms:
        return None
    spells: list[tuple[datetime | None, datetime | None, str]] = []
    for each in alarms:
        since, window = each.since, each.window
        if spells and _goes_on(spells[-1][1], since):
            spells[-1] = (spells[-1][0], window, each.said)
        else:
            spells.append((since, window, each.said))
    if len(spells) == 1:
        return msgspec.structs.replace(alarms[-1], since=spells[0][0])
    told = [{"since": _text(since), "last": _text(last), "said": said} for since, last, said in spells[-MOST:]]
    return msgspec.structs.replace(alarms[-1], details={**alarms[-1].details, "spells": told})


def with_early(early: Sequence[Finding], findings: Sequence[Finding]) -> list[Finding]:
    """Findings of the first rows before those of later ones; of two alarms about the same, one that tells of both."""
    later = {(found.watch, found.subject): found for found in findings if not found.slice}
    told, gone = [], []
    for first in early:
        other = later.get((first.watch, first.subject))
        if other is not None and first.alarm and other.alarm:
            told.append(together([first, other]) or other)
            gone.append(other)
        elif other is None or first.alarm:
            told.append(first)
            gone += [] if other is None else [other]
    return [*told, *(found for found in findings if not any(found is each for each in gone))]


def _goes_on(last: datetime | None, since: datetime | None) -> bool:
    return last is None or since is None or since - last <= APART


def _text(moment: datetime | None) -> str:
    return "" if moment is None else moment.isoformat()
