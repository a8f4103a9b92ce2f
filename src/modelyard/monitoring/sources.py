"""Where parts of windows come from: the prediction log, counted as it grows, and shipped to a table of their own."""

from __future__ import annotations

from collections.abc import Callable
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
    """The parts of all windows of a home. `refresh` reads what is there now; the rest answers from that."""

    def __init__(self, home: Home, versions: KnownVersions, seconds_of: Callable[[str], float]) -> None:
        self._records, self._shipment = home.records, profile_shipment(versions, seconds_of)
        self._recorded = Recorded(PART_SCHEMA)

    def refresh(self) -> None:
        """Take what is there now."""
        self._recorded = recorded(self._records, self._shipment)

    def deployments(self) -> list[str]:
        """Those that have calls."""
        names = self._recorded.table(["deployment"])["deployment"]
        return sorted(name for name in pc.unique(names).to_pylist() if name)

    def newest(self, deployment: str, until: float) -> int:
        """When the newest window of a deployment began that began before `until` (seconds since 1970); 0: none."""
        wanted = (ds.field("deployment") == deployment) & (ds.field("window") < _moment(until))
        found = pc.max(self._recorded.table(["window"], wanted)["window"]).as_py()
        return 0 if found is None else int(found.replace(tzinfo=UTC).timestamp())

    def parts(self, deployment: str, since: int = 0) -> dict[Place, Part]:
        """All windows of a deployment that begin from `since` (seconds since 1970) on, each added up."""
        wanted = (ds.field("deployment") == deployment) & (ds.field("window") >= _moment(since))
        return merged(self._recorded.table(None, wanted).to_pylist())


def _moment(seconds: float) -> Any:
    return pa.scalar(datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None), pa.timestamp("us"))
