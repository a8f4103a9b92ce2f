"""A deployment watched as it runs: real planes, calls in event time, a drift, an alert, a check that fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from live_records import START, register
from modelyard.client import Client
from modelyard.home import Home
from modelyard.registry import Registry
from scenarios.test_up_deploy import Yard, eventually
from small_bundles import report


def looked_at(yard: Yard) -> int:
    """How many windows have been; an alert is told before the windows that it is about are stored."""
    status, out, _ = yard.run("monitor", "show", "live", "--json")
    return int(json.loads(out)["windows"]) if status == 0 else 0


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    made = Yard(Home(tmp_path / "yard").create())
    with Registry.open(made.home) as registry:
        register(registry, tmp_path)
        registry.add_report("line@1", report(registry.bundle("line@1")))
    try:
        yield made
    finally:
        made.down()


def test_a_drift_under_real_traffic_raises_an_alert_and_fails_the_check(yard: Yard, tmp_path: Path) -> None:
    address = yard.up().data.url
    yard.json("deploy", "line@1", "--to", "live")
    draw = np.random.default_rng(7)
    with Client(address) as client:
        for hour in range(60):
            x = draw.normal(size=40) + (hour >= 40)
            rows = [{"x": float(value)} for value in x]
            client.predict("live", rows, event_time=START + timedelta(hours=hour, minutes=10))
    alert = eventually(lambda: yard.json("monitor", "alerts", "live")["alerts"], 150.0)[0]
    assert alert["version"] == "line@1"
    eventually(lambda: looked_at(yard) == 59, 150.0)  # the last hour is not over yet
    failed = yard.json("monitor", "check", "live", "--fail-on", "alert", status=1)
    assert failed["alerts"][0]["what"]
    assert set(failed["moved"]) == {"x", "predict"}
    page = tmp_path / "live.html"
    yard.json("monitor", "report", "live", "--html", str(page))
    assert "<svg" in page.read_text()
