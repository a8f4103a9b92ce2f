"""Workers that are killed, stopped or left alone, under load: no wrong answer, and the service is back soon."""

from __future__ import annotations

import os
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import compiled_bundles
from faults.test_serving_kills import CALLERS, KILLS, MOMENTS, CompiledCaller, _assert_logged, wait_for_more
from serving_process import ServingProcess, start, until

pytestmark = pytest.mark.timeout(120 + 10 * KILLS)

BACK_SECONDS = 20.0
"""Two seconds is the promise; on a busy machine that runs tests it may take longer, never for ever."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServingProcess]:
    bundle = compiled_bundles.write_compiled(tmp_path / "toy")
    made = start(tmp_path / "server", "--bundle", bundle.path, "--name", "toy", "--workers", "2")
    try:
        made.wait_ready()
        until(lambda: len(workers(made)) == 2, "two workers")
        yield made
    finally:
        made.stop(signal.SIGKILL)


def workers(server: ServingProcess) -> list[int]:
    seen: Any = server.get("/status").json
    return [worker["pid"] for worker in seen["workers"] if worker["ready"]]


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def in_place_of(server: ServingProcess, gone: int) -> None:
    until(lambda: gone not in (now := workers(server)) and len(now) == 2, "another worker", BACK_SECONDS)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_dies_or_hangs_is_replaced(server: ServingProcess, tmp_path: Path, how: signal.Signals) -> None:
    callers = [CompiledCaller(server, "/predict/toy", number).start() for number in range(CALLERS)]
    kills = KILLS if how == signal.SIGKILL else max(KILLS // 3, 1)
    try:
        for _ in range(kills):
            wait_for_more(callers, MOMENTS.randint(1, 20))
            victim = MOMENTS.choice(workers(server))
            os.kill(victim, how)
            in_place_of(server, victim)
            assert is_gone(victim)
            wait_for_more(callers, 1)
    finally:
        for caller in callers:
            caller.end()
    assert [caller.wrong for caller in callers] == [[]] * CALLERS
    # A caller has one request open at a time, so a death costs each of them one at the most.
    assert sum(caller.lost for caller in callers) <= kills * CALLERS
    assert server.get("/status").json["worker_restarts"] >= kills
    assert server.stop() == 0
    _assert_logged(tmp_path / "server" / "home" / "records", list(callers))


def test_workers_end_with_their_supervisor(server: ServingProcess) -> None:
    alive = workers(server)
    server.stop(signal.SIGKILL)
    until(lambda: all(map(is_gone, alive)), "the end of the workers", BACK_SECONDS)


def test_no_request_is_lost_when_it_stops(server: ServingProcess) -> None:
    alive = workers(server)
    callers = [CompiledCaller(server, "/predict/toy", number).start() for number in range(CALLERS)]
    wait_for_more(callers, 5)
    for caller in callers:
        caller.stop.set()
    assert server.stop() == 0
    for caller in callers:
        caller.end()
    assert [(caller.wrong, caller.lost) for caller in callers] == [([], 0)] * CALLERS
    assert all(map(is_gone, alive))


def test_a_second_signal_ends_it_at_once(server: ServingProcess) -> None:
    with socket.create_connection(server.address) as half:
        half.sendall(b"POST /predict/toy HTTP/1.1\r\ncontent-length: 100\r\n\r\n{")
        server.process.send_signal(signal.SIGTERM)
        until(lambda: "stopping" in server.log.read_text(), "the first signal")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(BACK_SECONDS) == 1


def test_connections_are_spread_over_the_workers(server: ServingProcess) -> None:
    body = b"GET /status HTTP/1.1\r\nhost: x\r\n\r\n"
    there = []
    try:
        for _ in range(40):
            there.append(socket.create_connection(server.address, timeout=BACK_SECONDS))
            there[-1].sendall(body)
            assert there[-1].recv(1024)

        def counts() -> list[int]:
            return [worker["connections"] for worker in server.get("/status").json["workers"]]

        until(lambda: sum(counts()) >= 40, "all counted")
        assert min(counts()) >= 10, Counter(counts())
    finally:
        for one in there:
            one.close()
