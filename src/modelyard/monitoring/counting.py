"""Calls as they were recorded, to counts by version and window: no row is left of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from modelyard.domain.frame import Array, Frame, Vector
from modelyard.domain.records import PredictionRecord
from modelyard.domain.schema import Schema
from modelyard.monitoring.calls import KEPT, Calls, Repeats, latency_bin
from modelyard.monitoring.newcomers import as_texts, hashes
from modelyard.monitoring.reference import Reference
from modelyard.monitoring.windows import Profile
from modelyard.protocol.many import Given, ManyCalls, Told, output_vectors
from modelyard.protocol.table import TableReader

LATE_NS = 3_600_000_000_000
_MIX = np.uint64(0x9E3779B97F4A7C15)
_REASONS = 32
_LONGEST_REASON = 80


@dataclass(frozen=True, slots=True)
class Counted:
    """What is needed to count calls of a version."""

    schema: Schema
    reader: TableReader
    reference: Reference

    @classmethod
    def of(cls, schema: Schema, profile: Mapping[str, Any]) -> Counted:
        """From the schema and the reference profile of its bundle."""
        return cls(schema, TableReader(schema), Reference.of_profile(profile))


class Place(msgspec.Struct, frozen=True, order=True):
    """What a part is about: calls of a version in a deployment (or of none: digest empty) within one window."""

    deployment: str
    model: str
    version: int
    digest: str
    began_ns: int
    seconds: float


class Part(msgspec.Struct, frozen=True):
    """Counts of some calls of one place. Parts of a place are added up; the order makes no difference."""

    calls: Calls
    profile: Profile | None = None

    def __add__(self, other: Part) -> Part:
        """Both together; profiles of different references cannot be added, the one with more rows stays."""
        return Part(self.calls + other.calls, _added(self.profile, other.profile))


def count(
    records: Iterable[PredictionRecord],
    versions: Callable[[str], Counted | None],
    seconds_of: Callable[[str], float],
) -> dict[Place, Part]:
    """Counts of records by version and window of event time.

    Args:
        records: Some calls, in any order.
        versions: What a version is counted with, by the digest of its bundle; None where that is not known any more.
        seconds_of: How long the windows of a deployment are.
    """
    by_version: dict[tuple[str, str, int, str], list[PredictionRecord]] = {}
    for record in records:
        key = (record.deployment, record.model, record.version, record.digest)
        by_version.setdefault(key, []).append(record)
    parts: dict[Place, Part] = {}
    for (deployment, model, version, digest), some in sorted(by_version.items(), key=lambda item: item[0]):
        seconds = seconds_of(deployment)
        counted = versions(digest) if digest else None
        for began, part in _of_version(some, counted, seconds).items():
            parts[Place(deployment, model, version, digest, began, seconds)] = part
    return parts


def event_ns(record: PredictionRecord) -> int:
    """The moment that a call is about: what its caller said, or when it came."""
    return record.event_ns or record.received_ns


def _of_version(records: Sequence[PredictionRecord], counted: Counted | None, seconds: float) -> dict[int, Part]:
    length = int(seconds * 1e9)
    windows = np.array([event_ns(record) // length * length for record in records], dtype=np.int64)
    gathered = None if counted is None else ManyCalls(counted.reader)
    if gathered is not None:
        for number, record in enumerate(records):
            if record.outcome == "ok":
                gathered.add(number, record)
    found: dict[int, Part] = {}
    whole = _Whole(gathered, counted)
    for began in np.unique(windows).tolist():
        numbers = np.flatnonzero(windows == began)
        found[began] = whole.part([records[at] for at in numbers.tolist()], numbers, alone=len(numbers) == len(records))
    return found


class _Whole:
    """Rows and answers of all calls of a version, to be counted window by window."""

    def __init__(self, gathered: ManyCalls | None, counted: Counted | None) -> None:
        self._counted = counted
        self._gathered = gathered
        self._given = gathered.given() if gathered is not None else None
        self._told = gathered.told() if gathered is not None else []

    def part(self, records: Sequence[PredictionRecord], numbers: Array, *, alone: bool) -> Part:
        """The counts of the calls with these numbers; `alone`: there are no others."""
        calls = _calls(records)
        if self._counted is None or self._gathered is None:
            return Part(calls)
        given = self._given if alone or self._given is None else _given_of(self._given, numbers)
        told = self._told if alone else [_told_of(each, numbers) for each in self._told]
        unreadable = sum(1 for at in numbers.tolist() if at in self._gathered.unreadable)
        calls = msgspec.structs.replace(
            calls,
            unreadable=unreadable,
            repeated=_repeats(row_hashes(given.frame)) if given is not None and given.frame.rows else Repeats(),
            not_finite=sum(_not_finite(array) for each in told for array in each.answers.values()),
        )
        return Part(calls, _profile(self._counted, given, told))


def _given_of(given: Given, numbers: Array) -> Given:
    rows = np.flatnonzero(np.isin(given.of, numbers))
    return Given(given.frame.take(rows), given.of[rows])


def _told_of(told: Told, numbers: Array) -> Told:
    rows = np.flatnonzero(np.isin(told.of, numbers))
    return Told({name: array[rows] for name, array in told.answers.items()}, told.of[rows])


def _profile(counted: Counted, given: Given | None, told: Sequence[Told]) -> Profile | None:
    if given is None or not given.frame.rows:
        return None
    profile = counted.reference.profile(given.frame)
    names = given.frame.columns
    for each in told:
        columns = {
            (f"output:{name}" if name in names else name): Vector(array)
            for name, array in output_vectors(each.answers, counted.schema).items()
        }
        rows = len(each.of)
        answered = counted.reference.profile(Frame(columns, rows))
        profile = profile + Profile(answered.reference, 0, answered.columns)
    return profile


def _calls(records: Sequence[PredictionRecord]) -> Calls:
    answered = [record for record in records if record.outcome == "ok"]
    refused = Counter(f"{each.status} {_reason(each.error)}" for each in records if each.outcome != "ok")
    ids = [one for record in answered for one in record.row_ids]
    return Calls(
        outcomes=dict(sorted(Counter(record.outcome for record in records).items())),
        refusals=dict(sorted(refused.items())),
        rows=sum(record.rows for record in answered),
        identities=_repeats(hashes(as_texts(ids))) if ids else Repeats(),
        latency=dict(sorted(Counter(latency_bin(record.latency_ns) for record in answered).items())),
        late=sum(record.received_ns - event_ns(record) > LATE_NS for record in records),
        largest_call=max((record.rows for record in answered), default=0),
        request_bytes=sum(len(record.request) for record in records),
        memory=max((record.memory_bytes for record in records), default=0) or None,
    )


def _reason(error: str | None) -> str:
    """The kind of an error without what is particular to one row: up to the first value or number that it quotes."""
    text = (error or "").partition("\n")[0]
    for mark in (", got ", "; got ", ": got ", "(got "):
        text = text.partition(mark)[0]
    kept = "".join("#" if letter.isdigit() else letter for letter in text)
    return kept[:_LONGEST_REASON]


def row_hashes(frame: Frame) -> Array:
    """A 64-bit hash of each row, of all its columns; the same on every machine.

    >>> found = row_hashes(Frame({"n": Vector(np.array([1.0, 2.0, 1.0]))}, 3))
    >>> bool(found[0] == found[2]), bool(found[0] == found[1])
    (True, False)
    """
    mixed = np.zeros(frame.rows, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for vector in frame.columns.values():
            flat = vector.values.reshape(frame.rows, -1)
            for at in range(flat.shape[1]):
                mixed = (mixed ^ _hashed(flat[:, at])) * _MIX
                mixed ^= mixed >> np.uint64(29)
    return mixed


def _hashed(values: Array) -> Array:
    if values.dtype.kind == "O":
        import pandas as pd

        codes, distinct = pd.factorize(values)
        keys = hashes(as_texts(distinct.tolist()))
        return np.append(keys, np.uint64(1))[codes]
    wide = values.astype(np.float64) if values.dtype.kind == "f" else values.astype(np.int64)
    bits = (wide + 0 if wide.dtype.kind == "f" else wide).view(np.uint64) * _MIX
    found: Array = bits ^ (bits >> np.uint64(32))
    return found


def _repeats(keys: Array) -> Repeats:
    distinct, counts = np.unique(keys, return_counts=True)
    return Repeats(tuple(zip(distinct[:KEPT].tolist(), counts[:KEPT].tolist(), strict=True)))


def _not_finite(array: Array) -> int:
    return int((~np.isfinite(array)).sum()) if array.dtype.kind == "f" else 0


def _added(one: Profile | None, other: Profile | None) -> Profile | None:
    if one is None or other is None:
        return other if one is None else one
    if one.reference != other.reference:
        return max(one, other, key=lambda each: (each.rows, each.reference))
    return one + other
