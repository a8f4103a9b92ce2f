"""What is said of a column, or of two, when tables are compared once."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Verdict(StrEnum):
    """What is said of a column, or of a pair of them."""

    MOVED = "moved"
    """Chance does not explain the difference, and it is large enough to matter."""

    HARMLESS = "moved but harmless"
    """Chance does not explain the difference, but it is within the margin."""

    STEADY = "steady"
    """Nothing that chance does not explain, with enough rows to have noticed twice the margin."""

    TOO_LITTLE = "too little data"
    """Nothing that chance does not explain, and too few rows to have noticed twice the margin."""

    UNREADABLE = "not comparable"
    """What was of numbers is no longer, or it is of a type that is not counted."""


class Bin(msgspec.Struct, frozen=True):
    """A part of a distribution, with its share of the rows in the reference and now."""

    label: str
    reference: float
    current: float
