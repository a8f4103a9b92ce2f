"""Parts of windows as a table: what one stretch of one segment adds to each window that its calls fall into."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from modelyard.errors import DataDamaged
from modelyard.monitoring.calls import Calls
from modelyard.monitoring.counting import Counted, Part, Place, count
from modelyard.monitoring.windows import decode
from modelyard.records.log import decode_record

PROFILES = "profiles"
"""The name of the table."""

PART_SCHEMA = pa.schema(
    [
        ("deployment", pa.string()),
        ("day", pa.string()),
        ("model", pa.string()),
        ("version", pa.int32()),
        ("digest", pa.string()),
        ("window", pa.timestamp("us")),
        ("seconds", pa.float64()),
        ("rows", pa.int64()),
        ("calls", pa.binary()),
        ("profile", pa.binary()),
        ("segment", pa.string()),
        ("position", pa.int64()),
    ]
)
"""One line a window that a stretch of a segment has calls of; the last two say where the stretch begins."""

_CALLS = msgspec.msgpack.Decoder(Calls)


class PartTables:
    """Makes the tables. `versions` and `seconds_of` are those of `modelyard.monitoring.counting.count`."""

    def __init__(self, versions: Callable[[str], Counted | None], seconds_of: Callable[[str], float]) -> None:
        self._versions, self._seconds_of = versions, seconds_of

    def build(self, segment: Path, frames: Sequence[tuple[int, bytes]]) -> Any:
        """The table of these frames ``(offset, payload)`` of a segment of the prediction log."""
        records = (decode_record(payload) for _, payload in frames)
        start = frames[0][0] if frames else 0
        found = count(records, self._versions, self._seconds_of)
        return table_of([(place, part, segment.name, start) for place, part in sorted(found.items())])


def table_of(parts: Sequence[tuple[Place, Part, str, int]]) -> Any:
    """Parts, each with the segment and the offset it begins at, as a `pyarrow.Table`."""
    lines = [_line(*each) for each in parts]
    columns = zip(*lines, strict=True) if lines else [() for _ in PART_SCHEMA]
    arrays = [pa.array(values, type=field.type) for values, field in zip(columns, PART_SCHEMA, strict=True)]
    return pa.table(arrays, schema=PART_SCHEMA)


def _line(place: Place, part: Part, segment: str, position: int) -> tuple[Any, ...]:
    began = place.began_ns // 1000
    calls, profile = encoded(part)
    return (
        place.deployment,
        datetime.fromtimestamp(began / 1e6, UTC).strftime("%Y-%m-%d"),
        place.model,
        place.version,
        place.digest,
        began,
        place.seconds,
        part.calls.rows,
        calls,
        profile,
        segment,
        position,
    )


def encoded(part: Part) -> tuple[bytes, bytes | None]:
    """Calls and profile as bytes; equal parts give equal bytes."""
    return msgspec.msgpack.encode(part.calls), None if part.profile is None else part.profile.encode()


def decoded(calls: bytes, profile: bytes | None) -> Part:
    """What `encoded` wrote.

    Raises:
        DataDamaged: it is not that.
    """
    try:
        return Part(_CALLS.decode(calls), None if profile is None else decode(profile))
    except (msgspec.DecodeError, ValueError) as error:
        raise DataDamaged(f"a window's counts of calls cannot be read: {error}") from error


def merged(lines: Iterable[dict[str, Any]]) -> dict[Place, Part]:
    """Parts of the table by place, added up. The same line twice counts once."""
    found: dict[Place, Part] = {}
    seen: set[tuple[Place, str, int]] = set()
    for line in lines:
        place = place_of(line)
        key = (place, line["segment"], line["position"])
        if key in seen:
            continue
        seen.add(key)
        part = decoded(line["calls"], line["profile"])
        found[place] = found[place] + part if place in found else part
    return found


def place_of(line: dict[str, Any]) -> Place:
    """Which window a line of the table is about."""
    moment = line["window"].replace(tzinfo=UTC)
    began_ns = int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000
    return Place(
        line["deployment"], line["model"], line["version"] or 0, line["digest"], began_ns, float(line["seconds"])
    )
