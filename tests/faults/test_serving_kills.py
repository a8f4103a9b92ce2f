"""SIGKILL of a model's process and of the serving process under load, at random moments.

``MODELYARD_KILLS`` sets how many (6 otherwise).
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import compiled_bundles
import user_models
from modelyard.bundle.pack import build_bundle
from modelyard.records.log import read
from serving_process import ServingProcess, serving, start, until

KILLS = int(os.environ.get("MODELYARD_KILLS", "6"))
CALLERS = 3
MOMENTS = random.Random(20130101)

pytestmark = pytest.mark.timeout(120 + 30 * KILLS)


@dataclass
class Caller:
    """Calls on and on, one request after another, and checks every answer."""

    server: ServingProcess
    path: str
    number: int
    acknowledged: list[str] = field(default_factory=list)
    wrong: list[Any] = field(default_factory=list)
    lost: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    def start(self) -> Caller:
        self.thread = threading.Thread(target=self._call_on)
        self.thread.start()
        return self

    def end(self) -> None:
        self.stop.set()
        assert self.thread is not None
        self.thread.join()

    def _call_on(self) -> None:
        connection, calls = http.client.HTTPConnection(*self.server.address, timeout=60), 0
        while not self.stop.is_set():
            calls += 1
            x = float((self.number + 1) * 1_000_000 + calls)
            try:
                connection.request("POST", self.path, body=self.body(x))
                response = connection.getresponse()
                document = json.loads(response.read())
            except (OSError, http.client.HTTPException, ValueError):
                self.lost += 1
                connection.close()
                self.stop.wait(0.01)
                continue
            if response.status == 200 and self.right(x, document):
                self.acknowledged.append(document["prediction_id"])
            else:
                self.wrong.append((x, response.status, document))
        connection.close()

    def body(self, x: float) -> bytes:
        return json.dumps({"rows": [{"x": x}]}).encode()

    def right(self, x: float, document: Any) -> bool:
        return bool(document["rows"][0]["twice"] == 2 * x)


class CompiledCaller(Caller):
    """The same, of the small compiled model."""

    def body(self, x: float) -> bytes:
        return json.dumps({"rows": [{"x0": x / 1e8, "x1": 0, "x2": 0, "carrier": None}]}).encode()

    def right(self, x: float, document: Any) -> bool:
        return 0.5 <= document["rows"][0]["predict_proba"]["late"] <= 1


def answered(callers: list[Caller]) -> list[int]:
    return [len(caller.acknowledged) for caller in callers]


def wait_for_more(callers: list[Caller], calls: int) -> None:
    """Wait until every caller has had that many answers more."""
    before = answered(callers)
    until(lambda: all(now >= then + calls for now, then in zip(answered(callers), before, strict=True)), "answers")


def test_killed_model_processes_come_back_and_no_request_is_lost_or_wrong(tmp_path: Path) -> None:
    sample = pd.DataFrame({"x": [1.0, -2.0, 3.0]})
    bundle = build_bundle(user_models.moody, sample=sample, name="moody", into=tmp_path / "moody", golden_rows=3)
    arguments = ["--bundle", bundle.path, "--name", "moody", "--python", sys.executable]
    with serving(tmp_path / "server", *arguments) as server:
        server.wait_ready()
        callers = [Caller(server, "/predict/moody", number).start() for number in range(CALLERS)]
        try:
            for _ in range(KILLS):
                wait_for_more(callers, MOMENTS.randint(1, 20))
                os.kill(_host(server), signal.SIGKILL)
                wait_for_more(callers, 1)
        finally:
            for caller in callers:
                caller.end()
        assert [caller.wrong for caller in callers] == [[]] * CALLERS
        assert sum(caller.lost for caller in callers) == 0
        until(lambda: server.get("/v2/health/ready").status == 200, "ready again")
    _assert_logged(tmp_path / "server" / "home" / "records", callers)


def _host(server: ServingProcess) -> int:
    def pid() -> int | None:
        [status] = server.get("/status/moody").json["deployments"]
        return status["pid"] if status["state"] == "READY" else None

    return int(until(pid, "a process"))


def test_a_killed_server_has_kept_every_record_that_it_acknowledged(tmp_path: Path) -> None:
    bundle = compiled_bundles.write_compiled(tmp_path / "toy")
    folder, callers = tmp_path / "server", list[Caller]()
    for _ in range(KILLS):
        server = start(folder, "--bundle", bundle.path, "--name", "toy")
        try:
            server.wait_ready()
            present: list[Caller] = [CompiledCaller(server, "/predict/toy", n).start() for n in range(CALLERS)]
            wait_for_more(present, MOMENTS.randint(1, 40))
        finally:
            server.stop(signal.SIGKILL)
            for caller in present:
                caller.end()
        callers += present
    assert [caller.wrong for caller in callers] == [[]] * len(callers)
    _assert_logged(folder / "home" / "records", callers)


def _assert_logged(records: Path, callers: list[Caller]) -> None:
    """Every acknowledged call is in the log exactly once."""
    logged = Counter(record.prediction_id for record in read(records) if record.outcome == "ok")
    acknowledged = [name for caller in callers for name in caller.acknowledged]
    assert len(acknowledged) == len(set(acknowledged)) > 0
    assert [name for name in acknowledged if logged[name] != 1] == []
