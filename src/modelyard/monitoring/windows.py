"""Profiles of windows: counts that can be added, and parts of a window by key, so that a retried part counts once.

A *part* is what one replica counted since its last flush. Its key is version, window, replica and a sequence number
that the replica gives once. Parts come in any order, any number of times, cut in any way; what they add up to is
the same, byte for byte, as if all rows had been counted at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any

import msgspec
import numpy as np

from modelyard.domain.profile import LEAST_NAMED
from modelyard.errors import Conflict, DataDamaged, InvalidRequest
from modelyard.monitoring.moments import Moments
from modelyard.monitoring.newcomers import Newcomers
from modelyard.monitoring.pairs import Met
from modelyard.monitoring.slots import Counts, Tally

FORMAT = 1


class Key(msgspec.Struct, frozen=True, order=True):
    """Which part it is. `window` is the moment at which the window begins, as ISO 8601 text in UTC."""

    version: str
    window: str
    replica: str
    sequence: int


class Profile(msgspec.Struct, frozen=True, eq=False):
    """Counts of some rows in the slots of a reference (`reference`: its digest), by column, and of pairs of columns."""

    reference: str
    rows: int
    columns: Mapping[str, Tally]
    met: Met = {}

    def __add__(self, other: Profile) -> Profile:
        """Both together.

        Raises:
            InvalidRequest: they were counted in slots of different references.
        """
        if self.reference != other.reference:
            raise InvalidRequest("profiles of different references cannot be added; count again with one of them")
        columns = dict(self.columns)
        for name, tally in other.columns.items():
            columns[name] = columns[name] + tally if name in columns else tally
        met = dict(self.met)
        for pair, counts in other.met.items():
            met[pair] = met[pair] + counts if pair in met else counts
        return Profile(self.reference, self.rows + other.rows, columns, met)

    def encode(self) -> bytes:
        """The form in which open windows are kept: all of it, with the names of rare newcomers."""
        return _encoded(self, lambda newcomers: newcomers.kept)

    def publish(self) -> bytes:
        """The form in which closed windows are kept: newcomers that occur fewer than five times are not in it."""
        return _encoded(self, _published)


def decode(raw: bytes) -> Profile:
    """Read what `Profile.encode` or `Profile.publish` wrote.

    Raises:
        DataDamaged: it is not that.
    """
    try:
        stored = _STORED.decode(raw)
        columns = {name: _tally(*parts) for name, parts in stored.columns.items()}
        met = {pair: _unpacked(packed) for pair, packed in stored.met.items()}
    except (msgspec.DecodeError, ValueError, TypeError) as error:
        raise DataDamaged(f"a window's profile cannot be read: {error}") from error
    if stored.format != FORMAT:
        raise DataDamaged(f"a window's profile is of format {stored.format}; this program reads {FORMAT}")
    return Profile(stored.reference, stored.rows, columns, met)


def total(profiles: Iterable[Profile]) -> Profile:
    """All of them together; there is at least one.

    Raises:
        InvalidRequest: there is none, or they are of different references.
    """
    found = list(profiles)
    if not found:
        raise InvalidRequest("there is no profile to add")
    return reduce(lambda one, other: one + other, found)


class Parts:
    """The parts of windows that have arrived."""

    def __init__(self) -> None:
        self._parts: dict[Key, Profile] = {}

    def add(self, key: Key, profile: Profile) -> bool:
        """Take a part in; gives whether it is new. The same part again changes nothing.

        Raises:
            Conflict: there is another part under that key, so two replicas share a name or a number was given twice.
        """
        there = self._parts.get(key)
        if there is None:
            self._parts[key] = profile
            return True
        if there.encode() != profile.encode():
            raise Conflict(
                f"two different parts are called {key.replica!r} {key.sequence} in window {key.window} of "
                f"{key.version}; give every replica a name of its own"
            )
        return False

    def window(self, version: str, window: str) -> Profile:
        """All parts of one window together.

        Raises:
            InvalidRequest: there is none.
        """
        return total(self._parts[key] for key in sorted(self._parts) if (key.version, key.window) == (version, window))


class _Stored(msgspec.Struct, frozen=True, array_like=True):
    format: int
    reference: str
    rows: int
    columns: dict[str, tuple[list[int], list[Any] | None, list[Any] | None]]
    met: dict[int, list[int]] = {}
    """Windows of earlier releases end before it, and so do those that have none."""


_STORED = msgspec.msgpack.Decoder(_Stored)


def _encoded(profile: Profile, shown: Any) -> bytes:
    columns = {
        name: (_packed(tally.counts), _moments(tally.moments), _newcomers(tally.newcomers, shown))
        for name, tally in sorted(profile.columns.items())
    }
    stored = [FORMAT, profile.reference, profile.rows, columns]
    met = {pair: _packed(counts) for pair, counts in sorted(profile.met.items())}
    return msgspec.msgpack.encode([*stored, met] if met else stored)


def _packed(counts: Counts) -> list[int]:
    """Counts, with a run of zeros as its length below zero."""
    packed: list[int] = []
    for count in counts.tolist():
        if count:
            packed.append(count)
        elif packed and packed[-1] < 0:
            packed[-1] -= 1
        else:
            packed.append(-1)
    return packed


def _tally(packed: list[int], moments: list[Any] | None, newcomers: list[Any] | None) -> Tally:
    read = None if moments is None else Moments(*moments[:2], *map(_integer, moments[2:4]), *moments[4:])
    new = None if newcomers is None else Newcomers(tuple((key, name, n) for key, name, n in newcomers[1]), newcomers[0])
    return Tally(_unpacked(packed), read, new)


def _unpacked(packed: list[int]) -> Counts:
    counts: list[int] = []
    for count in packed:
        counts.extend([count] if count > 0 else [0] * -count)
    return np.array(counts, dtype=np.int64)


def _moments(moments: Moments | None) -> list[Any] | None:
    if moments is None:
        return None
    sums = [_bytes(moments.total), _bytes(moments.squares)]
    return [moments.unit, moments.n, *sums, moments.least, moments.largest]


def _bytes(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True)


def _integer(raw: bytes) -> int:
    return int.from_bytes(raw, "big", signed=True)


def _newcomers(newcomers: Newcomers | None, shown: Any) -> list[Any] | None:
    return None if newcomers is None else [newcomers.more, shown(newcomers)]


def _published(newcomers: Newcomers) -> list[Any]:
    """The commonest; in the order of their hashes, as always."""
    names = {name for name, _ in newcomers.named()}
    return [each for each in newcomers.kept if each[1] in names and each[2] >= LEAST_NAMED]
