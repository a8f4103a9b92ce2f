"""What an alert is: its parts, its states, and who said what about it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec

from modelyard.monitoring.findings import Finding, Kind


class State(StrEnum):
    """What is to be done about an alert."""

    FIRING = "firing"
    ACKNOWLEDGED = "acknowledged"
    """It goes on, and somebody knows."""
    RESOLVED = "resolved"


class What(StrEnum):
    """Why something is sent."""

    FIRING = "firing"
    AGAIN = "firing again"
    GREW = "more"
    """Something else moved that has the same cause."""
    REMINDER = "still firing"
    RESOLVED = "resolved"
    TEST = "test"


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """When an alert is over, when it is the same one, and how often it is told.

    Windows are counted and `again` and `forgotten` are measured in the time that the data is about, so that neither a
    clock that jumps nor a year that is streamed in minutes makes a difference; the others are the time of the wall.
    """

    quiet: int = 3
    """An alert is over after so many windows in a row without it; twice as many each time it has come again."""
    most_quiet: int = 24
    doubt: float = 4.0
    """What took long to notice has to be gone for so many times as long before it is over."""
    patience: timedelta = timedelta(days=7)
    """But no longer than this."""
    clear: float = 0.8
    """A window is quiet where the effect is below this part of its margin: what hovers at the margin is not over."""
    again: timedelta = timedelta(days=1)
    """What comes again within so long after it was last seen is the same alert."""
    forgotten: timedelta = timedelta(days=7)
    """An alert that no watch could look at for so long is closed, such as that of a version that was replaced."""
    remind: timedelta = timedelta(days=1)
    """Firing alerts are told again after so long; 0: never."""
    more: timedelta = timedelta(hours=1)
    """News of an alert that was told are told no sooner than so long after."""


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What the watches of a deployment said about one window of one version.

    `findings` are all that they had to say, alarming or not: what is still beyond its margin keeps an alert open though
    evidence has only begun to gather again. `looked` names the watches that could judge this window, in full
    (``drift.score``) or by kind (``drift``): a window that nobody could judge is not a quiet one.
    """

    deployment: str
    version: str
    window: datetime
    """When it began (aware)."""
    looked: tuple[str, ...]
    findings: tuple[Finding, ...] = ()

    def covers(self, watch: str) -> bool:
        """Whether the watch of that name could judge the window.

        >>> from datetime import UTC
        >>> began = datetime(2026, 1, 1, tzinfo=UTC)
        >>> look = Look(deployment="a", version="m@1", window=began, looked=("drift", "skew.any"))
        >>> look.covers("drift.score"), look.covers("skew.other")
        (True, False)
        """
        return any(watch == name or watch.startswith(f"{name}.") for name in self.looked)


PartKey = tuple[str, str, str]
"""Watch, subject and slice."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that an alert is about, as it was last found beyond its margin, in evidence and effect."""

    watch: str
    subject: str
    slice: str
    said: str
    evidence: float
    needed: float
    effect: float
    margin: float
    rank: float
    """What to read first: drift by influence where the watch knows it (`details["rank"]`), else effect by margin."""
    first: datetime
    """The first and the last window in which it was found, and the last in which it was looked for."""
    last: datetime
    looked: datetime
    quiet: int = 0
    """Windows in a row, up to `looked`, in which it was looked for and not found."""
    delay: timedelta = timedelta(0)
    """How long evidence took to gather, at its longest: from when it began until it was noticed, or between two times
    that it was found, halved."""
    details: Mapping[str, Any] = {}

    @property
    def key(self) -> PartKey:
        """What makes it the same."""
        return self.watch, self.subject, self.slice

    @property
    def kind(self) -> Kind:
        """What it is about."""
        return Kind(self.watch.partition(".")[0])

    @property
    def text(self) -> str:
        """It in one line: ``temp, where carrier = 'EV': 31% missing, 2% before``."""
        if self.slice and self.said.startswith(self.subject) and f"where {self.slice}:" in self.said:
            return self.said
        subject = "" if self.said.startswith(f"{self.subject}:") else self.subject
        where = ", where ".join(word for word in (subject, self.slice) if word)
        return f"{where}: {self.said}" if where else self.said


class Said(msgspec.Struct, frozen=True):
    """Somebody acknowledged it or said that it is over; `by` is empty where Modelyard saw it itself."""

    by: str
    why: str
    at: datetime


class Told(msgspec.Struct, frozen=True):
    """What receivers were told last. `keys` are the parts that the alert had then."""

    what: What
    at: datetime
    keys: tuple[PartKey, ...] = ()
    number: int = 1
    """How many times anything was told of this alert: with it a message is known again."""


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """Something that needs looking after. `parts` are ranked: what to read first comes first."""

    id: int = 0
    """0 until it is stored."""
    deployment: str
    version: str
    cause: str
    state: State = State.FIRING
    parts: tuple[Part, ...]
    since: datetime
    """When what was found began, as far as is known, in the time of the data."""
    opened: datetime
    """When it was opened, by the clock."""
    times: int = 1
    """How many times it came: 2 once it came again soon after it was over."""
    loss: str = ""
    """What it costs in the metric that matters, as far as labels or the estimate say."""
    acknowledged: Said | None = None
    resolved: Said | None = None
    told: Told | None = None

    @property
    def kind(self) -> Kind:
        """What its first part is about."""
        return self.parts[0].kind

    @property
    def last(self) -> datetime:
        """The last window in which any of it was found."""
        return max(part.last for part in self.parts)

    @property
    def open(self) -> bool:
        """Whether it goes on."""
        return self.state is not State.RESOLVED

    @property
    def title(self) -> str:
        """It in one line."""
        more = len(self.parts) - 1
        return f"{self.deployment}: {self.parts[0].text}" + (f", and {more} more" if more else "")


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """What is not to be sent for a time. Empty means any; `deployment` and `subject` may be patterns with ``*``."""

    id: int = 0
    deployment: str = ""
    version: str = ""
    watch: str = ""
    """A watch or a kind."""
    subject: str = ""
    starts: datetime
    ends: datetime
    by: str = ""
    why: str = ""
