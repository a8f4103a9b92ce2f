"""How many false alarms are taken, in plain words."""

from __future__ import annotations

import re

import msgspec

from modelyard.errors import InvalidRequest

_SECONDS = {"hour": 3600.0, "day": 86_400.0, "week": 604_800.0, "month": 2_629_746.0, "quarter": 7_889_238.0}
_SECONDS["year"] = 31_556_952.0
_WORDS = {"a": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
_SAID = re.compile(r"(?P<many>\d+|[a-z]+)\s+(?:per|a|in a|every)\s+(?:(?P<each>\d+|[a-z]+)\s+)?(?P<unit>[a-z]+?)s?")


class Budget(msgspec.Struct, frozen=True):
    """False alarms of one deployment, over all its columns: no more than `alarms` in `seconds` in the long run."""

    alarms: int
    seconds: float

    @property
    def seconds_each(self) -> float:
        """So much time has to pass for each false alarm."""
        return self.seconds / self.alarms

    @classmethod
    def parse(cls, said: str) -> Budget:
        """Read ``1 per quarter``, ``2 per year``, ``one a month``, ``1 every 2 weeks``.

        >>> Budget.parse("2 per day").seconds_each
        43200.0

        Raises:
            InvalidRequest: that is no such budget.
        """
        found = _SAID.fullmatch(said.strip().lower())
        if found is not None:
            many, each = _number(found["many"]), _number(found["each"] or "1")
            unit = _SECONDS.get(found["unit"])
            if many and each and unit:
                return cls(many, each * unit)
        raise InvalidRequest(
            f"false alarms {said!r} cannot be understood; write '1 per quarter', '2 per year' or '1 every 2 weeks' "
            f"with one of {', '.join(_SECONDS)}"
        )


def _number(word: str) -> int:
    return int(word) if word.isdigit() else _WORDS.get(word, 0)
