"""What it is to watch a deployment: a snapshot of a closed window in, findings out, with a state kept between looks.

A watch is pure. It has no clock, reads nothing and writes nothing: what it has gathered is handed in and handed back,
so that the same windows always lead to the same findings, and a monitor that was killed begins where it had stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import msgspec

from modelyard.monitoring.calls import Calls
from modelyard.monitoring.findings import Finding
from modelyard.monitoring.reference import Reference
from modelyard.monitoring.settings import Settings
from modelyard.monitoring.windows import Profile

__all__ = ["Calls", "Facts", "Finding", "LabelledWatch", "Settings", "Snapshot", "Watch"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A closed window of one version in a deployment.

    `window` has the counts of inputs and outputs of its answered rows, with outputs named as in the reference profile
    (``predict_proba[1]``); None where nothing was answered. `earlier` gives what any earlier stretch of the same
    version adds up to: ``earlier(began, seconds)``; None where nothing was answered in it.
    """

    deployment: str
    version: str
    """As in ``flights-delay@3``."""
    began: datetime
    """UTC, by event time."""
    seconds: float
    reference: Reference
    window: Profile | None
    earlier: Callable[[datetime, float], Profile | None]
    calls: Calls
    settings: Settings
    made: datetime | None = None
    """When the version was packed, where that is known."""
    outputs: tuple[str, ...] = ()
    """Which columns of the reference are answers."""
    influence: tuple[tuple[str, float], ...] = ()
    """How much each input moves the score, where it is known; parts that add up to one."""

    @property
    def ended(self) -> datetime:
        """Where the window ends."""
        return self.began + timedelta(seconds=self.seconds)

    def finding(self, watch: str, said: str, **fields: Any) -> Finding:
        """A finding about this window."""
        about: dict[str, Any] = {"deployment": self.deployment, "version": self.version, "window": self.began} | fields
        return Finding(watch=watch, said=said, **about)


class Watch(Protocol):
    """Looks at closed windows one after the other, in the order of their time, those without any call included.

    `name` is the kind of its findings (`findings.Kind`), or with more after a point. `share` is the part of the
    deployment's budget of false alarms that it spends; 0 where it tests nothing. `state` is the type of its state.
    """

    @property
    def name(self) -> str:
        """What its findings are called, or how that begins."""
        ...

    @property
    def share(self) -> float:
        """Its part of the budget."""
        ...

    @property
    def state(self) -> type[msgspec.Struct]:
        """The type of what it keeps between looks."""
        ...

    def start(self, reference: Reference, settings: Settings) -> Any:
        """What has been gathered before the first window: nothing."""
        ...

    def look(self, state: Any, snapshot: Snapshot) -> tuple[Any, list[Finding]]:
        """Take the next window in. Findings that do not alarm are told as well, where they are worth a line."""
        ...


@dataclass(frozen=True, slots=True)
class Facts:
    """What a watch of labelled rows is told beside the table: rows with an event time from `began` to `ended` (UTC).

    `now` is how far event time has come; what is younger than the labels' usual delay may still be labelled.
    """

    deployment: str
    version: str
    began: datetime
    ended: datetime
    now: datetime
    reference: Reference
    settings: Settings
    made: datetime | None = None
    outputs: tuple[str, ...] = ()
    task: str = ""
    """``classification`` or ``regression``."""
    classes: tuple[Any, ...] = ()
    holdout: Mapping[str, Any] | None = None
    """Truths (``label``) and ``answers`` by output of rows held out of training, where the version has them."""

    def finding(self, watch: str, said: str, **fields: Any) -> Finding:
        """A finding about these rows."""
        about: dict[str, Any] = {"deployment": self.deployment, "version": self.version, "window": self.began} | fields
        return Finding(watch=watch, said=said, **about)


class LabelledWatch(Protocol):
    """Looks at rows with their answers and, as far as they are known, their labels.

    The table is what ``modelyard records query`` shows as the deployment's flat view: `prediction_id`, `event_time`,
    `version`, inputs, outputs (``predict``, ``predict_proba_<class>``), `label` (null: not known yet), `labelled_at`.
    It is asked again with all rows of `Settings.lookback` and more whenever windows have closed or labels have come, so
    it has to tell by its state which rows it has taken in before.
    """

    @property
    def name(self) -> str:
        """What its findings are called, or how that begins."""
        ...

    @property
    def share(self) -> float:
        """Its part of the budget."""
        ...

    @property
    def state(self) -> type[msgspec.Struct]:
        """The type of what it keeps between looks."""
        ...

    def start(self, reference: Reference, settings: Settings) -> Any:
        """What has been gathered before the first row: nothing."""
        ...

    def look(self, state: Any, table: Any, facts: Facts) -> tuple[Any, Sequence[Finding]]:
        """Take the rows in (`table` is a `pyarrow.Table`)."""
        ...

    def judged(self, before: Any, after: Any) -> Sequence[str]:
        """Which of its findings could have been made by the look between these two states, in full or by kind.

        Where labels are late there is nothing to judge: that nothing is found then does not mean that all is well.
        """
        ...
