"""What monitoring says about a window: findings, each with its evidence, its effect, and one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec


class Kind(StrEnum):
    """What a finding is about."""

    QUALITY = "quality"
    DRIFT = "drift"
    PERFORMANCE = "performance"
    ESTIMATE = "estimate"
    SKEW = "skew"
    HEALTH = "health"
    """Missing, infinite or constant answers."""
    STALENESS = "staleness"
    COMPUTING = "computing"
    """Latency and memory."""
    TRAFFIC = "traffic"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was noticed about a deployment.

    `subject` is what it is about: a column, an output, a metric, or empty. `evidence` is an e-value, or infinity for
    what needs no statistics; `needed` is what it has to reach. `effect` is how large it is, in the unit that `said`
    names, and `margin` what would still be harmless. It alarms where both are exceeded. `details` may be written as
    JSON: numbers, texts, lists and mappings of those, with no value of a single row but the names of newcomers.

    >>> found = Finding(deployment="flights", watch="quality.missing", subject="temp", said="31% missing, 2% before",
    ...                 evidence=400.0, needed=100.0, effect=0.29, margin=0.02)
    >>> found.kind, found.alarm
    (<Kind.QUALITY: 'quality'>, True)
    """

    deployment: str
    watch: str
    """Its kind, and after a point what was looked for: ``quality.missing``, ``drift.score``, ``performance.auc``."""
    said: str
    version: str = ""
    """As in ``flights-delay@3``; empty where it is about the whole deployment."""
    subject: str = ""
    slice: str = ""
    """Which rows, as in ``carrier = 'EV'``; empty for all."""
    evidence: float = 0.0
    needed: float = 1.0
    effect: float = 0.0
    margin: float = 0.0
    window: datetime | None = None
    """When the window began in which it was noticed (UTC)."""
    since: datetime | None = None
    """When what was noticed began, as far as is known (UTC)."""
    details: Mapping[str, Any] = {}

    @property
    def kind(self) -> Kind:
        """What it is about: the part of `watch` before the point."""
        return Kind(self.watch.partition(".")[0])

    @property
    def alarm(self) -> bool:
        """Whether there is both evidence and an effect."""
        return self.evidence >= self.needed and self.effect > self.margin
