"""Who is compared in a rollout, and what is asked of the records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import msgspec

from modelyard.monitoring.performance.task import Task

LAG = timedelta(seconds=2)
"""A look goes up to so long before now: what has ended by then is in the records."""

LONGEST = timedelta(minutes=2)
"""Calls that took longer are not found any more."""


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """Who is compared: two versions (as in ``flights-delay@4``) of a deployment, since `began` (UTC).

    `task` says what their answers are; None where nobody knows, and then labels say nothing of them. Only calls count
    that arrived from `arrived` to before `ended`, where these are given. `cuts` are values at which answered numbers
    are told apart: see `modelyard.rollout.cuts`.
    """

    deployment: str
    baseline: str
    candidate: str
    began: datetime
    task: Task | None = None
    cuts: tuple[float, ...] = ()
    arrived: datetime | None = None
    ended: datetime | None = None


@dataclass(frozen=True, slots=True)
class Period:
    """A stretch of time in which the candidate had one share; both moments in UTC."""

    began: datetime
    ended: datetime
    share: float


class Recent(Protocol):
    """Gives recent records, as `modelyard.records.recent.RecentRecords` does."""

    def calls(
        self,
        deployments: Sequence[str],
        since: datetime,
        columns: Sequence[str] = ...,
        *,
        until: datetime | None = ...,
        ended: datetime | None = ...,
    ) -> Any:
        """The rows of calls that arrived from a moment on, until another, and ended from one on."""
        ...

    def labels(self, since: datetime, columns: Sequence[str] = ...) -> Any:
        """All labels that were received from a moment on."""
        ...

    def history(self, deployments: Sequence[str], since: datetime, until: datetime | None = ...) -> dict[str, Any]:
        """Tables for `query`, ``waiting`` and ``shipped``, with the calls of a long time."""
        ...

    def query(self, sql: str, tables: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What a SELECT over some tables gives."""
        ...
