"""Alerts whose processes are killed at any moment: what is kept is what would have been, and everybody is told."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest

from hook_server import hook_server
from modelyard.monitoring.alerts import Alerts
from modelyard.monitoring.alerts.receivers import Form, Receiver, Receivers
from modelyard.registry.database import Database
from unit.monitoring.alert_looks import FIRST, found, look

KILLS = 100 if os.environ.get("MODELYARD_FAULTS") else 4
HOURS = 300 if os.environ.get("MODELYARD_FAULTS") else 24

LOOKS = """
import sys
from modelyard.monitoring.alerts import Alerts
from modelyard.registry.database import Database
from faults.test_alert_kills import look_at
from pathlib import Path
alerts = Alerts(Database(Path(sys.argv[1])))
print("begun", flush=True)
for at in range(int(sys.argv[2]), int(sys.argv[3])):
    alerts.take([look_at(at)])
    print(at, flush=True)
print("all", flush=True)
"""

SENDS = """
import sys, threading
from pathlib import Path
from modelyard.monitoring.alerts import outbox
from modelyard.monitoring.alerts.courier import Courier
from modelyard.registry.database import Database
from datetime import timedelta
outbox.LEASE = timedelta(seconds=0.5)
courier = Courier(Database(Path(sys.argv[1])))
courier.start()
print("begun", flush=True)
threading.Event().wait()
"""


def look_at(at: int) -> object:
    """What is found in an hour: some columns for a while, each a few times."""
    return look(at, *(found(f"c{column}") for column in range(4) if at % (11 + 3 * column) < 3))


def begin(program: str, *words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)


def killed(process: subprocess.Popen[str], seconds: float) -> list[str]:
    """What it said until it was killed."""
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    time.sleep(seconds)  # any moment will do
    process.send_signal(signal.SIGKILL)
    said, _ = process.communicate()
    return said.splitlines()


@pytest.mark.timeout(1800)
def test_of_what_was_killed_nothing_is_lost_and_nobody_is_told_of_what_was_not(tmp_path: Path) -> None:
    draw = random.Random(5)
    plain, file = Alerts(Database(tmp_path / "plain.db")), tmp_path / "killed.db"
    for at in range(HOURS):
        plain.take([look_at(at)])  # type: ignore[list-item]
    with hook_server() as hooks:
        database = Database(file)
        Receivers(database).add(Receiver(name="ops", form=Form.WEBHOOK, url=hooks.url))
        reached = 0
        for _ in range(KILLS // 2):
            monitor, courier = begin(LOOKS, file, max(reached - 2, 0), HOURS), begin(SENDS, file)
            said = killed(monitor, draw.random() * 0.2)
            killed(courier, draw.random() * 0.2)
            reached = max([reached, *(int(word) + 1 for word in said if word.isdigit())])
        for at in range(max(reached - 2, 0), HOURS):
            Alerts(database).take([look_at(at)])  # type: ignore[list-item]
        last = begin(SENDS, file)
        until = time.monotonic() + 120
        while waiting(database):
            assert time.monotonic() < until
            time.sleep(0.1)
        killed(last, 0.0)
    kept = Alerts(database)
    assert seen(kept) == seen(plain)
    told: dict[int, list[dict[str, object]]] = defaultdict(list)
    for call in hooks.calls:
        told[call.document["data"]["id"]].append(call.document)
    open_now = {alert.id for alert in kept.listed(most=1000)}
    for alert in kept.listed(all_states=True, most=1000):
        newest = max(told[alert.id], key=lambda each: each["data"]["sequence"])  # type: ignore[index]
        assert (newest["type"] == "alert.resolved") == (alert.id not in open_now)
    assert set(told) == {alert.id for alert in kept.listed(all_states=True, most=1000)}


def waiting(database: Database) -> bool:
    from modelyard.monitoring.alerts.deliveries import standings

    return any(each.waiting for each in standings(database))


def seen(alerts: Alerts) -> list[object]:
    """Alerts without what depends on the clock."""
    return [
        (
            alert.id,
            alert.state,
            alert.times,
            alert.since,
            [(part.key, part.first, part.last, part.quiet) for part in alert.parts],
        )
        for alert in alerts.listed(all_states=True, most=1000)
        if alert.since >= FIRST
    ]
