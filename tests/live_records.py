"""A registered version and calls of it in the prediction log, hour by hour, for tests of monitoring."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np

from modelyard.domain.frame import Frame, Vector
from modelyard.domain.profile import build
from modelyard.domain.records import PredictionRecord
from modelyard.protocol import rows
from modelyard.protocol.table import Source
from modelyard.records.log import PredictionLog
from modelyard.registry import Registry
from small_bundles import SCHEMA, write_line

START = datetime(2026, 3, 2, tzinfo=UTC)


def profile(draw: np.random.Generator) -> bytes:
    x = draw.normal(size=3000)
    return msgspec.json.encode(build(Frame({"x": Vector(x)}, len(x)), {"predict": 2 * x}, SCHEMA))


def register(registry: Registry, folder: Path) -> None:
    """``line@1``, which answers twice its only input, whose reference is normal."""
    registry.register(write_line(folder / "line", "line", profile=profile(np.random.default_rng(1))))


def calls(
    registry: Registry,
    hours: range,
    *,
    moved_from: int = 10**9,
    many: int = 30,
    start: datetime = START,
    deployment: str = "live",
) -> None:
    """`many` rows an hour, in calls of five; from an hour on, x is larger by one."""
    draw = np.random.default_rng(hours.start)
    digest = registry.version("line@1").digest
    log = PredictionLog(registry.home.records)
    for hour in hours:
        for at in range(0, many, 5):
            x = draw.normal(size=5) + (hour >= moved_from)
            frame, moment = Frame({"x": Vector(x)}, 5), start + timedelta(hours=hour, minutes=at)
            ns, name = int(moment.timestamp() * 1e9), f"{hour}-{at}"
            answer = rows.write_response({"predict": 2 * x}, SCHEMA, Source("line", 1, name, 5))
            log.append(
                PredictionRecord(
                    name, deployment, "line", 1, digest, ns, 10**6, 200, "ok", "rows", 5,
                    rows.write_request(frame, SCHEMA), answer,
                )
            )  # fmt: skip
    log.close()


def hour(at: int) -> datetime:
    return START + timedelta(hours=at)
