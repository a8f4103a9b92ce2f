"""Workers that end: with their supervisor, when told to, at once; and how connections are spread over them."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from faults.promises import LATEST_SECONDS, check, is_gone, workers
from load import LOST, SECOND, Call, Target, load
from serving_process import ServingProcess, until

pytestmark = pytest.mark.timeout(120)


def test_workers_end_with_their_supervisor(server: ServingProcess) -> None:
    alive = workers(server)
    server.stop(signal.SIGKILL)
    until(lambda: all(map(is_gone, alive)), "the end of the workers", LATEST_SECONDS)


def test_no_request_is_lost_when_it_stops(server: ServingProcess, tmp_path: Path) -> None:
    alive = workers(server)
    with load(tmp_path, server.address, Target("/predict/toy")) as running:
        running.wait_for_more(5)
        told = time.monotonic_ns()
        assert server.stop() == 0
        calls = running.end()
    # Those who come later find nobody there; those who were there had an answer to whatever they asked.
    assert [call for call in calls if call.outcome == LOST and call.opened < told and not _paused(call, calls)] == []
    check([call for call in calls if call.outcome != LOST], [], tmp_path / "server" / "home" / "records")
    assert all(map(is_gone, alive))


def _paused(lost: Call, calls: Sequence[Call]) -> bool:
    """Whether the caller had not asked for so long that its connection was held to be idle: this machine is busy."""
    before = [call.ended for call in calls if call.caller == lost.caller and call.ended < lost.begun]
    return not before or lost.begun - max(before) > 0.1 * SECOND


def test_a_second_signal_ends_it_at_once(server: ServingProcess) -> None:
    with socket.create_connection(server.address) as half:
        half.sendall(b"POST /predict/toy HTTP/1.1\r\ncontent-length: 100\r\n\r\n{")
        server.process.send_signal(signal.SIGTERM)
        until(lambda: "stopping" in server.log.read_text(), "the first signal")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(LATEST_SECONDS) == 1


def test_connections_that_outlive_a_worker_are_shared_with_the_one_that_replaces_it(server: ServingProcess) -> None:
    victim = workers(server)[0]
    clients = [http.client.HTTPConnection(*server.address, timeout=LATEST_SECONDS) for _ in range(8)]

    def counts() -> list[int]:
        answers = []
        for client in clients:
            client.request("GET", "/status")
            answers.append(json.loads(client.getresponse().read()))
        return [worker["connections"] for worker in answers[-1]["workers"]]

    try:
        until(lambda: len(counts()) == 2, "both workers")
        os.kill(victim, signal.SIGKILL)
        until(lambda: is_gone(victim), "the end of the worker", LATEST_SECONDS)
        for client in clients:
            client.close()  # those of the dead one are gone, the others come to the survivor
        until(lambda: len(counts()) == 2 and min(counts()) >= 3, "connections on both")
    finally:
        for client in clients:
            client.close()


def test_connections_are_spread_over_the_workers(server: ServingProcess) -> None:
    body = b"GET /status HTTP/1.1\r\nhost: x\r\n\r\n"
    there = []
    try:
        for _ in range(40):
            there.append(socket.create_connection(server.address, timeout=LATEST_SECONDS))
            there[-1].sendall(body)
            assert there[-1].recv(1024)

        def counts() -> list[int]:
            return [worker["connections"] for worker in server.get("/status").json["workers"]]

        until(lambda: sum(counts()) >= 40, "all counted")
        assert min(counts()) >= 10, Counter(counts())
    finally:
        for one in there:
            one.close()
