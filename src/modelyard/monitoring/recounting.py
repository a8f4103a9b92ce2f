"""The counts of windows held against the records themselves: counted again from the table of predictions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelyard.monitoring.counting import Counted, Part, Place, count
from modelyard.monitoring.parts import encoded
from modelyard.monitoring.sources import PartSource
from modelyard.records.log import decode_record
from modelyard.records.reading import recorded
from modelyard.records.shipping import record_shipments

_AT_ONCE = 20_000


def recounted(
    records: Path, versions: Callable[[str], Counted | None], seconds_of: Callable[[str], float]
) -> dict[Place, Part]:
    """All windows of a records folder, counted anew from the calls that its table of predictions has."""
    table = recorded(records, record_shipments(records)[0]).table(["record"])
    raw = table["record"].drop_null()
    found: dict[Place, Part] = {}
    for start in range(0, len(raw), _AT_ONCE):
        calls = (decode_record(each) for each in raw.slice(start, _AT_ONCE).to_pylist())
        for place, part in count(calls, versions, seconds_of).items():
            found[place] = found[place] + part if place in found else part
    return found


def differing(source: PartSource, counted: dict[Place, Part]) -> list[Place]:
    """The windows whose counts are not, byte for byte, those that were `counted` anew."""
    source.refresh()
    live = {place: part for name in source.deployments() for place, part in source.parts(name).items()}
    return sorted(place for place in {*live, *counted} if _bytes(live.get(place)) != _bytes(counted.get(place)))


def _bytes(part: Part | None) -> Any:
    return None if part is None else encoded(part)
