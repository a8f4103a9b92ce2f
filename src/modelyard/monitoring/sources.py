"""Where parts of windows come from: the prediction log, counted as it grows, and shipped to a table of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from modelyard.home import Home
from modelyard.monitoring.counting import Part, Place
from modelyard.monitoring.parts import PART_SCHEMA, PROFILES, PartTables, merged
from modelyard.monitoring.versions import KnownVersions
from modelyard.records.log import PREDICTIONS
from modelyard.records.reading import Recorded, recorded
from modelyard.records.shipping import Shipment


def profile_shipment(versions: KnownVersions, seconds_of: Callable[[str], float]) -> Shipment:
    """The table of the parts of windows."""
    tables = PartTables(versions.counted, seconds_of)
    return Shipment(PROFILES, PREDICTIONS, PART_SCHEMA, ("deployment", "day"), tables.build)


class PartSource:
    """The parts of all windows of a home. `refresh` says what is there now; the rest answers from that.

    Of what is shipped only the days that are asked for are read.
    """

    def __init__(self, home: Home, versions: KnownVersions, seconds_of: Callable[[str], float]) -> None:
        self._records, self._shipment = home.records, profile_shipment(versions, seconds_of)
        self._found = Recorded(PART_SCHEMA)
        self._days: dict[str, set[str]] = {}

    def refresh(self) -> None:
        """Look at what has come since."""
        self._found = recorded(self._records, self._shipment)
        self._days = {}
        if self._found.shipped is not None:
            for fragment in self._found.shipped.get_fragments():
                keys = ds.get_partition_keys(fragment.partition_expression)
                self._days.setdefault(keys["deployment"], set()).add(str(keys["day"]))

    def deployments(self) -> list[str]:
        """Those that have calls."""
        waiting = {name for table in self._found.tables for name in pc.unique(table["deployment"]).to_pylist()}
        return sorted(name for name in {*waiting, *self._days} if name)

    def newest(self, deployment: str, until: float) -> int:
        """When the newest window of a deployment began that began before `until` (seconds since 1970); 0: none."""
        last = max((day for day in self._days.get(deployment, ()) if day <= _day(until)), default="9999")
        found = [
            pc.max(table["window"]).as_py()
            for table in self._tables(deployment, last, ds.field("window") < _moment(until), ["deployment", "window"])
        ]
        moments = [moment.replace(tzinfo=UTC).timestamp() for moment in found if moment is not None]
        return int(max(moments, default=0))

    def parts(self, deployment: str, since: int = 0) -> dict[Place, Part]:
        """All windows of a deployment that begin from `since` (seconds since 1970) on, each added up."""
        tables = self._tables(deployment, _day(since), ds.field("window") >= _moment(since), PART_SCHEMA.names)
        return merged(line for table in tables for line in table.to_pylist())

    def _tables(self, deployment: str, day: str, windows: Any, columns: list[str]) -> Iterator[Any]:
        """What is not shipped, and what is from a day on, as far as `windows` says."""
        mine = ds.field("deployment") == deployment
        for table in self._found.tables:
            yield table.select(columns).filter(mine & windows)
        if self._found.shipped is not None:
            # Moments are compared once they are read: in the files they are said to be UTC, here all are.
            days = mine & (ds.field("day") >= day)
            yield self._found.shipped.to_table(columns=columns, filter=days).filter(windows)


def _moment(seconds: float) -> Any:
    return pa.scalar(datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None), pa.timestamp("us"))


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
