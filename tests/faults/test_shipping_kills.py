"""The promise of the whole path: what was acknowledged is in the tables exactly once, whoever was killed and when."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from faults.promises import is_gone, say, size
from live_records import profile
from modelyard.cli.app import app
from modelyard.control import announce, up
from modelyard.control.up import Running
from modelyard.home import Home
from modelyard.monitoring.counting import count
from modelyard.monitoring.parts import encoded, merged
from modelyard.monitoring.shipments import ship_all, shipments
from modelyard.monitoring.store import MonitorStore
from modelyard.monitoring.versions import KnownVersions
from modelyard.records import segments
from modelyard.records.delta import TablesRoot
from modelyard.records.log import decode_record
from modelyard.registry import Registry
from serving_process import until
from small_bundles import report, write_line

KILLS = size(6, 200)
BUSY = 180.0
WORKERS = 2
WINDOW = 10.0
"""Seconds: the kills go on over several windows, so that some close while this and that dies."""


@dataclass
class Traffic:
    """Callers that ask, and tell what came of it, until told to stop; what was acknowledged to them."""

    url: str
    predictions: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _callers: list[threading.Thread] = field(default_factory=list)

    def start(self, callers: int = 3) -> None:
        self._callers = [threading.Thread(target=self._call, args=(number,)) for number in range(callers)]
        for caller in self._callers:
            caller.start()

    def end(self) -> None:
        self._stop.set()
        for caller in self._callers:
            caller.join()

    def more(self, than: int) -> None:
        until(lambda: len(self.predictions) > than, "answers", BUSY)

    def _call(self, number: int) -> None:
        draw = random.Random(number)
        while not self._stop.is_set():
            try:
                with httpx.Client(base_url=self.url, timeout=20, trust_env=False) as client:
                    while not self._stop.is_set():
                        self._exchange(client, draw)
            except httpx.HTTPError:
                time.sleep(0.02)

    def _exchange(self, client: httpx.Client, draw: random.Random) -> None:
        rows = [{"x": draw.gauss(0, 1)} for _ in range(draw.randint(1, 3))]
        reply = client.post("/predict/live", json={"rows": rows})
        if reply.status_code != 200:
            return
        names = [row["prediction_id"] for row in reply.json()["rows"]]
        self.predictions += names
        told = client.post("/labels", json={"labels": [{"prediction_id": name, "value": 1.0} for name in names]})
        if told.status_code == 200:
            self.labels += names


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "yard").create()


@pytest.fixture
def planes(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, Running]]:
    monkeypatch.setenv("MODELYARD_HOME", str(home.path))
    with Registry.open(home) as registry:
        bundle = write_line(tmp_path / "line", "line", profile=profile(np.random.default_rng(1)))
        version = registry.register(bundle)
        registry.add_report(version, report(bundle, version.number))
        MonitorStore(registry.database).change_settings("live", {"window": f"{WINDOW:g}"})
    process = subprocess.Popen(
        [sys.executable, "-m", "modelyard.cli.app", "up", "--port", "0", "--workers", str(WORKERS)]
    )
    try:
        running = until(lambda: up.running(home), "both planes", BUSY)
        done = CliRunner().invoke(app, ["deploy", "line@1", "--to", "live"])
        assert done.exit_code == 0, done.output
        yield process.pid, running
    finally:
        process.terminate()
        process.wait()


def shipper(home: Home) -> subprocess.Popen[bytes]:
    """One more of them, in a hurry."""
    command = [sys.executable, "-m", "modelyard.control.shipping", "--home", str(home.path), "--every", "0.05"]
    return subprocess.Popen(command)


def killed(file: Path) -> Callable[[], None]:
    """Kills the process that announced itself in `file`, and waits until there is another."""

    def kill() -> None:
        before = until(lambda: announce.read(file), file.name, BUSY)
        os.kill(before.pid, signal.SIGKILL)
        until(lambda: (now := announce.read(file)) is not None and now.pid != before.pid, f"another {file.name}", BUSY)

    return kill


def kill_worker(url: str, moments: random.Random) -> Callable[[], None]:
    """Kills one of the processes that answer, and waits until there is another in its place."""

    def pids() -> set[int]:
        return {int(worker["pid"]) for worker in httpx.get(f"{url}/status", trust_env=False).json()["workers"]}

    def replaced(victim: int) -> bool:
        try:
            return is_gone(victim) and len(pids() - {victim}) == WORKERS
        except httpx.HTTPError:
            return False

    def kill() -> None:
        victim = moments.choice(sorted(pids()))
        os.kill(victim, signal.SIGKILL)
        until(lambda: replaced(victim), "another worker", BUSY)

    return kill


@pytest.mark.timeout(300 + 20 * KILLS)
def test_every_acknowledged_record_is_in_the_tables_once(home: Home, planes: tuple[int, Running]) -> None:
    traffic, moments = Traffic(planes[1].data.url), random.Random(20130101)
    mine = [shipper(home)]

    def kill_mine() -> None:
        mine[-1].kill()
        mine[-1].wait()
        mine.append(shipper(home))

    targets = [
        kill_worker(planes[1].data.url, moments),
        killed(home.run / "shipper.json"),
        killed(home.run / "serving.json"),
        kill_mine,
        killed(home.run / "monitor.json"),
        kill_mine,
    ]
    traffic.start()
    try:
        for number in range(KILLS):
            traffic.more(len(traffic.predictions))
            time.sleep(moments.uniform(0, 0.4))
            targets[number % len(targets)]()
        traffic.more(len(traffic.predictions))
    finally:
        traffic.end()
        mine[-1].terminate()
        mine[-1].wait()
    os.kill(planes[0], signal.SIGTERM)
    until(lambda: is_gone(planes[0]), "the end of the planes", BUSY)
    check(home, traffic)


def check(home: Home, traffic: Traffic) -> None:
    """Everything is in the tables, once, and counted as it is there."""
    with Registry.open(home) as registry:
        assert not ship_all(home.records, shipments(home, registry)).damage
        assert [segments.segments(home.records / folder) for folder in ("predictions", "labels")] == [[], []]
        rows, labels, parts = (table(home, name) for name in ("predictions", "labels", "profiles"))
        for acknowledged, found in ((traffic.predictions, rows), (traffic.labels, labels)):
            times = Counter(found["prediction_id"].to_pylist())
            assert len(acknowledged) == len(set(acknowledged)) > 0
            assert [name for name in acknowledged if times[name] != 1] == []
            assert set(times.values()) == {1}
        records = [decode_record(one) for one in rows["record"].to_pylist() if one is not None]
        store = MonitorStore(registry.database)
        again = count(records, KnownVersions(registry).counted, lambda name: store.settings(name).window)
        assert {place: encoded(part) for place, part in merged(parts.to_pylist()).items()} == {
            place: encoded(part) for place, part in again.items()
        }
    say(
        f"{KILLS} kills: {rows.num_rows} rows, {labels.num_rows} labels, {parts.num_rows} parts of {len(again)} windows"
    )


def table(home: Home, name: str) -> Any:
    found = TablesRoot.of(home.records).open(name)
    assert found is not None
    return found.to_pyarrow_table()
