"""What a deployment's monitoring is told. Nothing has to be: every setting has a default that is meant to be kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from modelyard.errors import InvalidRequest
from modelyard.monitoring.budget import Budget

if TYPE_CHECKING:
    from modelyard.monitoring.facets import Margins


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one deployment.

    >>> Settings().needed / 86_400 > 90
    True

    `share` is the part of the budget that one watch has; whoever runs watches sets it (`with_share`).
    """

    false_alarms: str = "1 per quarter"
    """Over all columns, windows and watches of the deployment together; see `Budget.parse`."""
    window: float = 3600.0
    """Seconds of event time that a window stands for; 86,400 is divisible by it."""
    distance: float = 0.05
    """Differences of distributions up to this do not matter; see `Margins`."""
    missing: float = 0.02
    """The same for the share of what is missing, new, or outside of the range of the reference."""
    certainty: float = 0.99
    """How sure it is, over the life of a reference, that the reference lies within its own bounds."""
    grouped: float = 1.0
    """So many rows at most come together and hang together, such as the rows of one call about one customer."""
    weights: Mapping[str, float] = {}
    """How much columns matter; those not named have what the watch finds, or 1."""
    metric: str = ""
    """The metric that the user cares for, such as ``accuracy`` or ``mae``; empty: the usual one of the model's kind."""
    harm: float = 0.02
    """A loss of the metric up to this does not matter (for errors of numbers: as a part of the reference's error)."""
    slices: tuple[str, ...] = ()
    """Columns whose values are told apart when performance is measured, beside the slices that are found."""
    positive: str = ""
    """Which class is meant by a score, as text; empty: the last one."""
    seasons: bool = True
    """Whether windows are held against the same hour and weekday, once two weeks or days are stored."""
    grace: float = 0.0
    """So many seconds of event time a window is left open after its end for calls that come late."""
    late_after: float = 0.0
    """Seconds without traffic after which traffic is called absent; 0: as the rhythm so far suggests."""
    max_age: float = 0.0
    """Seconds after which a version is called stale; 0: never by age alone."""
    replayed: int = 20
    """So many live requests an hour are replayed through the native pipeline; 0: none."""
    latency: float = 0.0
    """Seconds that 99 of 100 calls have to stay below; 0: as it was in the version's first windows."""
    lookback: float = 90 * 86_400.0
    """So many seconds of event time back rows are read when labels have come."""
    quiet: int = 3
    """An alert is over after so many windows in a row without it, or more; see docs/alerts.md."""
    again: float = 86_400.0
    """What comes again within so many seconds of event time after it was last found is the same alert."""
    remind: float = 86_400.0
    """Seconds after which alerts that fire are sent again; 0: never."""
    off: tuple[str, ...] = ()
    """Watches that are not to be run, by name."""
    share: float = 1.0

    @property
    def budget(self) -> Budget:
        """The budget of the whole deployment."""
        return Budget.parse(self.false_alarms)

    @property
    def needed(self) -> float:
        """Seconds between two false alarms of a watch that has `share` of the budget: what an e-detector has to reach.

        >>> Settings(false_alarms="1 per day", share=0.5).needed
        172800.0
        """
        return self.budget.seconds_each / self.share

    @property
    def margins(self) -> Margins:
        """What does not matter in practice."""
        from modelyard.monitoring.facets import Margins  # arrays: those who only read settings have no use for them

        return Margins(self.distance, self.missing)

    def with_share(self, share: float) -> Settings:
        """The same for a watch that has this part of the budget."""
        return msgspec.structs.replace(self, share=share)

    def changed(self, said: Mapping[str, str]) -> Settings:
        """With some changed, each given as text; numbers as they are written, lists with commas between.

        >>> Settings().changed({"false_alarms": "2 per year", "slices": "carrier,origin"}).slices
        ('carrier', 'origin')

        Raises:
            InvalidRequest: there is no such setting, or that is no value for it.
        """
        names = [name for name in self.__struct_fields__ if name != "share"]
        unknown = sorted(set(said) - set(names))
        if unknown:
            raise InvalidRequest(f"there is no setting {unknown[0]!r}; there are: {', '.join(names)}")
        document = msgspec.to_builtins(self) | {name: _value(name, text) for name, text in said.items()}
        try:
            found = msgspec.convert(document, Settings, strict=False)
        except msgspec.ValidationError as error:
            raise InvalidRequest(f"that cannot be set: {error}") from error
        found.check()
        return found

    def check(self) -> None:
        """Whether all of it makes sense together.

        Raises:
            InvalidRequest: it does not; says what would.
        """
        _ = self.budget
        if self.window <= 0 or 86_400 % self.window:
            raise InvalidRequest(f"window = {self.window:g} is no whole part of a day; 3600 and 900 are")
        for name in ("distance", "missing", "certainty"):
            if not 0 < getattr(self, name) < 1:
                raise InvalidRequest(f"{name} = {getattr(self, name)} has to lie between 0 and 1")
        if self.quiet < 1 or self.again < 0 or self.remind < 0:
            raise InvalidRequest("quiet has to be at least 1, again and remind 0 or more")
        if self.grouped < 1:
            raise InvalidRequest(f"grouped = {self.grouped:g}: it has to be at least 1")
        if any(weight < 0 for weight in self.weights.values()):
            raise InvalidRequest("weights have to be 0 or more")


def _value(name: str, text: str) -> object:
    if name in ("slices", "off"):
        return [part.strip() for part in text.split(",") if part.strip()]
    if name == "weights":
        pairs = [part.split(":", 1) for part in text.split(",") if part.strip()]
        if any(len(pair) != 2 for pair in pairs):
            raise InvalidRequest("weights are written column:weight,column:weight")
        return {column.strip(): weight.strip() for column, weight in pairs}
    return text
