"""SIGKILL and SIGSTOP of model processes, of workers and of the whole data plane, under load from another process.

In the long form there are 500 kills in all: 200 of model processes, 200 of workers, 100 of data planes.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

import compiled_bundles
import user_models
from faults.promises import (
    LATEST_SECONDS,
    Fault,
    Moments,
    check,
    check_back,
    check_records,
    in_place_of,
    is_gone,
    model_processes,
    now,
    size,
    workers,
)
from load import RIGHT, SECOND, Target, load
from modelyard.bundle.pack import build_bundle
from modelyard.control import up
from modelyard.home import Home
from modelyard.registry import Registry
from serving_process import ServingProcess, start, until
from small_bundles import report

OF_MODELS, OF_WORKERS, OF_PLANES = size(3, 200), size(3, 200), size(2, 100)
STOPS = size(1, 20)
CALLERS = 4
ASKED = Target("/predict/toy", callers=CALLERS, pause=0.01)

pytestmark = pytest.mark.timeout(120 + 10 * (OF_MODELS + OF_WORKERS + OF_PLANES))


def test_killed_model_processes_come_back_and_no_request_is_lost_or_wrong(tmp_path: Path) -> None:
    sample = pd.DataFrame({"x": [1.0, -2.0, 3.0]})
    bundle = build_bundle(user_models.moody, sample=sample, name="moody", into=tmp_path / "moody", golden_rows=3)
    arguments = ["--bundle", bundle.path, "--name", "moody", "--python", sys.executable, "--workers", "2"]
    server, moments, faults = start(tmp_path / "server", *arguments), Moments(), list[Fault]()
    target = Target("/predict/moody", "twice", CALLERS, pause=0.01)
    try:
        server.wait_ready()
        until(lambda: len(workers(server)) == 2, "two workers")
        with load(tmp_path, server.address, target) as running:
            for _ in range(OF_MODELS):
                moments.wait()
                victim = moments.draw.choice([pid for worker in workers(server) for pid in model_processes(worker)])
                faults.append(now())
                os.kill(victim, signal.SIGKILL)
                running.wait_for_more(1)
                until(lambda: sum(len(model_processes(one)) for one in workers(server)) == 2, "another process")
            running.wait_for_more(2)  # the second was asked after the last kill
            calls = running.end()
        until(lambda: server.get("/v2/health/ready").status == 200, "ready again")
        assert server.get("/status").json["worker_restarts"] == 0
    finally:
        server.stop(signal.SIGKILL)
    check(calls, faults, tmp_path / "server" / "home" / "records")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_dies_or_hangs_is_replaced(server: ServingProcess, tmp_path: Path, how: signal.Signals) -> None:
    kills, moments, faults, whole = OF_WORKERS if how == signal.SIGKILL else STOPS, Moments(), list[Fault](), []
    with load(tmp_path, server.address, ASKED) as running:
        for _ in range(kills):
            moments.wait()
            victim = moments.draw.choice(workers(server))
            faults.append(now())
            os.kill(victim, how)
            in_place_of(server, victim)
            whole.append((time.monotonic_ns() - faults[-1].at) / SECOND)
            assert is_gone(victim)
            running.wait_for_more(1)
        running.wait_for_more(2)
        calls = running.end()
    assert server.get("/status").json["worker_restarts"] == kills
    assert server.stop() == 0
    # A caller has one call open at a time, so a death costs each of them one at the most.
    records = tmp_path / "server" / "home" / "records"
    check(calls, faults, records, may_lose=True, most_lost=kills * CALLERS)
    check_back(whole, "both workers answer")


def test_a_killed_data_plane_comes_back_by_itself_and_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    home = Home(tmp_path / "yard").create()
    with Registry.open(home) as registry:
        bundle = compiled_bundles.write_compiled(tmp_path / "toy")
        version = registry.register(bundle)
        registry.add_report(version, report(bundle, version.number))
    environment = os.environ | {"MODELYARD_HOME": str(home.path)}
    command = [sys.executable, "-m", "modelyard.cli.app"]
    log, moments, faults = tmp_path / "log.txt", Moments(), list[Fault]()
    with socket.create_server(("127.0.0.1", 0)) as free:
        grpc = free.getsockname()[1]
    with log.open("wb") as file:
        serving = ["--port", "0", "--workers", "2", "--grpc-port", str(grpc)]
        planes = subprocess.Popen([*command, "up", *serving], env=environment, stdout=file, stderr=file)
    try:
        running = until(lambda: up.running(home), "both planes")
        deployed = [*command, "deploy", version.ref, "--to", "toy"]
        subprocess.run(deployed, env=environment, check=True, capture_output=True, timeout=120)
        server = ServingProcess(planes, running.data.url, log)
        with load(tmp_path, server.address, ASKED) as asking:
            for _ in range(OF_PLANES):
                moments.wait(1.0)
                victim = until(lambda: up.running(home), "both planes").data.pid
                faults.append(now())
                os.kill(victim, signal.SIGKILL)
                asking.wait_for_more(1)
                _another_plane(home, victim)
            asking.wait_for_more(2)
            calls = asking.end()
        stock = InferenceServerClient(f"127.0.0.1:{grpc}")
        until(lambda: _says_ready(stock), "gRPC at the same address")
        stock.close()
    finally:
        planes.terminate()
        planes.wait(60)
    # While there is none, nobody is refused: connections wait on a socket that outlives the data plane.
    check(calls, faults, home.records, may_lose=True, most_lost=OF_PLANES * CALLERS)


def _says_ready(stock: InferenceServerClient) -> bool:
    try:
        return bool(stock.is_model_ready("toy"))
    except InferenceServerException:
        return False


def _another_plane(home: Home, gone: int) -> None:
    def there() -> bool:
        running = up.running(home)
        return is_gone(gone) and running is not None and running.data.pid != gone

    until(there, "another data plane", LATEST_SECONDS)


def test_a_killed_server_has_kept_every_record_that_it_acknowledged(tmp_path: Path) -> None:
    """The server and all its workers at once, so that nobody is left to put anything in order."""
    bundle = compiled_bundles.write_compiled(tmp_path / "toy")
    folder, calls, moments = tmp_path / "server", [], Moments()
    for life in range(OF_PLANES):
        server = start(folder, "--bundle", bundle.path, "--name", "toy", "--workers", "2")
        try:
            server.wait_ready()
            with load(tmp_path, server.address, ASKED, label=f"{life}") as running:
                moments.wait()
                group = [server.process.pid, *workers(server)]
                for pid in group:
                    os.kill(pid, signal.SIGKILL)
                calls += running.end()
        finally:
            server.stop(signal.SIGKILL)
    assert {call.outcome for call in calls} <= {RIGHT, "lost"}
    check_records([call for call in calls if call.outcome == RIGHT], folder / "home" / "records")
