"""What a retraining was, from why it began to what became of it. A report is kept whatever happens."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypeAlias

import msgspec

from modelyard.monitoring.performance.intervals import Measure

Trigger: TypeAlias = Literal["hand", "alert", "schedule", "labels"]

State: TypeAlias = Literal["running", "accepted", "declined", "failed", "stopped", "lost"]
"""``accepted``: the challenger passed the gates; ``declined``: it did not; ``failed``: there is no challenger, or it
could not be judged; ``stopped``: somebody ended it, or `modelyard up` that had begun it; ``lost``: the process that was
at it died."""


class Data(msgspec.Struct, frozen=True, kw_only=True):
    """What the challenger was trained on. Moments are of event time; None where they are not known."""

    ref: str
    origin: str
    """Where it came from, in words."""
    rows: int = 0
    since: datetime | None = None
    until: datetime | None = None
    is_new: bool = True
    left_out: int = 0
    """Records that could not be read as rows of the version in use."""


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of both versions on the same rows.

    `worse` is by how much the challenger is worse, in the metric's own unit, with an interval: below zero it is better.
    """

    metric: str
    champion: Measure
    challenger: Measure
    worse: Measure
    blocks: str = "rows"
    """What was taken to be independent for the interval: rows, or hours or days of them together."""
    harm: float | None = None
    safety: float | None = None
    """Of losses between 0 and 1, e-values: evidence that the mean difference is above, or below, the gate's margin."""


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """One part of the rows: those that fulfil `name`."""

    column: str
    name: str
    rows: int
    compared: Compared


class Passed(msgspec.Struct, frozen=True, kw_only=True):
    """What one gate said: `said` has the numbers it rested on."""

    gate: str
    passed: bool
    said: str


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """Champion and challenger on labelled rows that neither was trained on."""

    rows: int
    since: datetime | None
    until: datetime | None
    fair: str
    """Why neither was trained on them, in words."""
    excluded: dict[str, int] = {}
    """Labelled rows that were left out, by why."""
    whole: tuple[Compared, ...] = ()
    slices: tuple[Slice, ...] = ()
    gates: tuple[Passed, ...] = ()
    certainty: float = 0.95

    @property
    def passed(self) -> bool:
        """Whether it passed all gates."""
        return bool(self.gates) and all(gate.passed for gate in self.gates)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All of one retraining. `reason` says in a sentence what came of it; `stage` what it is at while it runs."""

    id: int = 0
    deployment: str
    model: str
    champion: str
    """The version in use, as in ``flights-delay@3``."""
    trigger: Trigger = "hand"
    why: str = ""
    by: str = ""
    alerts: tuple[int, ...] = ()
    labelled: int = 0
    """Labelled rows of the deployment when it began."""
    began: datetime
    ended: datetime | None = None
    state: State = "running"
    stage: str = ""
    reason: str = ""
    command: tuple[str, ...] = ()
    data: Data | None = None
    run: str = ""
    run_seconds: float | None = None
    run_metrics: dict[str, float] = {}
    challenger: str = ""
    proof: str = ""
    """What came of the challenger's verification, in words."""
    evaluation: Evaluation | None = None
    rollout: str = ""
    """How the challenger goes on; empty: it does not."""

    @property
    def seconds(self) -> float | None:
        """How long it took."""
        return None if self.ended is None else (self.ended - self.began).total_seconds()
