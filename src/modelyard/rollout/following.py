"""From look to look: what is new of a rollout, from wherever it comes, is added to the evidence.

Labels are looked for among all calls since they are divided in that way, which takes longer the longer that is. So it
is done the more seldom the longer it takes, while everything else is looked at each time. Up to when labels were
counted is kept with the evidence, so none is missed and none counted twice, whoever goes on with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import msgspec

from modelyard.records.recent import RecentRecords
from modelyard.rollout import evidence as evidences
from modelyard.rollout.evidence import Evidence
from modelyard.rollout.gathering import gather_calls, gather_labels, joined
from modelyard.rollout.outside import Outside
from modelyard.rollout.policy import Policy
from modelyard.rollout.subject import Subject

PART = 0.1
"""At most about this part of the time is spent on looking for the calls of labels."""

_KEPT = 64
"""Of so many stretches it is kept up to when labels were counted."""


class Following:
    """Follows the rollouts of a home, for one thread. Close it at the end."""

    def __init__(self, records: str | Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._records, self._outside, self._clock = RecentRecords(records), Outside(), clock
        self._due: dict[tuple[str, str], float] = {}

    def close(self) -> None:
        """Let go of records and connections."""
        self._records.close()
        self._outside.close()

    def take(
        self, evidence: Evidence, subject: Subject, since: datetime, until: datetime, share: float, policy: Policy
    ) -> Evidence:
        """The evidence with what came from `since` to before `until` (UTC) of calls divided by that `share`.

        Raises:
            Unavailable, Failed: the records cannot be reached or read.
        """
        found = gather_calls(self._records, subject, since, until, share, policy)
        if subject.ended is None:  # what others count cannot be told by when its calls arrived
            found = self._outside.added(found, subject, policy, share)
        began = subject.arrived or subject.began
        stretch = (subject.deployment, began.isoformat())
        now = self._clock()
        if now >= self._due.get(stretch, now):
            labelled = evidence.labelled.get(stretch[1], began)
            found = joined(found, gather_labels(self._records, subject, labelled, until, share, policy))
            after = self._clock()
            self._due[stretch] = after + (after - now) / PART
            evidence = msgspec.structs.replace(evidence, labelled=_noted(evidence, stretch[1], until))
        return evidences.take(evidence, found, share)


def _noted(evidence: Evidence, stretch: str, until: datetime) -> dict[str, datetime]:
    known = {**evidence.labelled, stretch: until}
    return dict(sorted(known.items())[-_KEPT:])
