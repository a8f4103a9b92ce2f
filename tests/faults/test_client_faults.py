"""Clients that misbehave: silent, slow, deaf, gone, senseless or far too many. The others are answered rightly.

``MODELYARD_CLIENTS`` sets how many idle connections there are (1,000 otherwise).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import compiled_bundles
from faults.test_serving_kills import Caller, CompiledCaller, _assert_logged, wait_for_more
from faults.test_worker_faults import workers
from serving_process import ServingProcess, start, until

IDLE = int(os.environ.get("MODELYARD_CLIENTS", "1000"))
PATIENCE = 60.0
CALLERS = 2

pytestmark = pytest.mark.timeout(180)

ROW = {"x0": 0.25, "x1": 0, "x2": 0, "carrier": None}


@pytest.fixture(scope="module")
def files() -> Iterator[int]:
    """As many open files as may be had, for this process and those it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 65_536 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    yield most
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clients")


@pytest.fixture(scope="module")
def server(folder: Path, files: int) -> Iterator[ServingProcess]:
    """One for all tests: none of these clients may leave anything behind. The last one ends it."""
    bundle = compiled_bundles.write_compiled(folder / "toy")
    made = start(folder / "server", "--bundle", bundle.path, "--name", "toy", "--workers", "2")
    try:
        made.wait_ready()
        until(lambda: len(workers(made)) == 2, "two workers")
        yield made
    finally:
        made.stop(signal.SIGKILL)


@contextlib.contextmanager
def asked_all_along(server: ServingProcess) -> Iterator[list[Caller]]:
    """Ordinary clients that ask before, during and after the block, and lose nothing."""
    alive = workers(server)
    callers: list[Caller] = [CompiledCaller(server, "/predict/toy", number).start() for number in range(CALLERS)]
    try:
        wait_for_more(callers, 3)
        yield callers
        wait_for_more(callers, 3)
    finally:
        for caller in callers:
            caller.end()
    assert [(caller.wrong, caller.lost) for caller in callers] == [([], 0)] * CALLERS
    assert workers(server) == alive


def request(rows: int, *headers: str) -> bytes:
    body = json.dumps({"rows": [ROW] * rows}).encode()
    head = ["POST /predict/toy HTTP/1.1", "host: x", f"content-length: {len(body)}", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


def connections(server: ServingProcess) -> int:
    return sum(worker["connections"] for worker in server.get("/status").json["workers"])


def test_idle_connections_cost_others_nothing(server: ServingProcess, files: int) -> None:
    wanted = min(IDLE, files - 200)
    with contextlib.ExitStack() as stack, asked_all_along(server) as callers:
        for _ in range(wanted):
            stack.enter_context(socket.create_connection(server.address, timeout=PATIENCE))
        until(lambda: connections(server) >= wanted, "all taken")
        wait_for_more(callers, 20)
        stack.close()
        until(lambda: connections(server) < wanted // 2, "all let go")


def test_slow_senders_hold_only_their_own_connections(server: ServingProcess) -> None:
    slow = request(1)
    with contextlib.ExitStack() as stack, asked_all_along(server) as callers:
        there = [stack.enter_context(socket.create_connection(server.address, timeout=PATIENCE)) for _ in range(50)]
        for byte in slow[:8]:
            for one in there:
                one.sendall(bytes([byte]))
            wait_for_more(callers, 10)
        # Slow is not wrong: what does arrive in the end is answered.
        there[0].sendall(slow[8:])
        assert there[0].recv(1024).startswith(b"HTTP/1.1 200 ")


def test_clients_that_never_read_hold_only_their_own_connections(server: ServingProcess) -> None:
    large = request(5_000)
    with contextlib.ExitStack() as stack, asked_all_along(server) as callers:
        for _ in range(6):
            deaf = stack.enter_context(socket.socket())
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(server.address)
            deaf.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                deaf.send(large * 4)
        wait_for_more(callers, 50)


def test_clients_that_vanish_leave_nothing_behind(server: ServingProcess) -> None:
    whole = request(500)
    with asked_all_along(server) as callers:
        for number in range(60):
            with socket.create_connection(server.address, timeout=PATIENCE) as gone:
                sent = whole if number % 2 else whole[: len(whole) * number // 60]
                gone.sendall(sent)
                if number % 3 == 0:  # a reset in place of an orderly end
                    gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        wait_for_more(callers, 10)
    until(lambda: connections(server) <= 2, "all let go")
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("before", [0, 3])
def test_garbage_is_refused_once_and_after_what_was_asked_before(server: ServingProcess, before: int) -> None:
    with asked_all_along(server):
        for garbage in (
            b"\0\xff\x16\x03\x01" * 200,
            b"GET / HTTP/9.9\r\n\r\n",
            b"POST /predict/toy HTTP/1.1\r\nb ad\r\n",
        ):
            with socket.create_connection(server.address, timeout=PATIENCE) as client:
                client.sendall(request(1) * before + garbage)
                client.shutdown(socket.SHUT_WR)
                got = b"".join(iter(lambda: client.recv(65536), b""))
            assert got.count(b"HTTP/1.1 200 ") == before, got
            assert got.count(b"HTTP/1.1 400 ") == 1, got
            assert b"Traceback" not in got


@dataclass
class Outcome:
    status: int
    seconds: float
    head: bytes


async def _flood(server: ServingProcess, clients: int, calls: int, what: bytes) -> list[Outcome]:
    async def client() -> list[Outcome]:
        reader, writer = await asyncio.open_connection(*server.address)
        found = []
        for _ in range(calls):
            begun = time.monotonic()
            writer.write(what)
            head = await reader.readuntil(b"\r\n\r\n")
            found.append(Outcome(int(head.split()[1]), time.monotonic() - begun, head.lower()))
            [length] = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            await reader.readexactly(int(length.split(b":")[1]))
        writer.close()
        return found

    async with asyncio.timeout(PATIENCE * 2):
        return [one for found in await asyncio.gather(*(client() for _ in range(clients))) for one in found]


def test_a_flood_is_refused_quickly_and_leaves_a_normal_service(server: ServingProcess) -> None:
    found = asyncio.run(_flood(server, 200, 5, request(1_000, "x-request-timeout-ms: 100")))
    counts = Counter(one.status for one in found)
    assert set(counts) <= {200, 429, 504}, counts
    refused = [one for one in found if one.status == 429]
    assert refused, counts
    assert all(b"\r\nretry-after: " in one.head for one in refused)
    # Bodies wait in the kernel until they are read, so a refusal takes longer than no time; but nobody hangs.
    assert statistics.median(one.seconds for one in refused) < 5.0
    with asked_all_along(server) as callers:
        wait_for_more(callers, 20)


def test_a_full_disk_fails_calls_honestly_until_there_is_room(server: ServingProcess, folder: Path) -> None:
    """A file-size limit stands in for the disk: the kernel writes what fits, then says no, as on a full disk."""
    kept, failed = list[str](), 0
    records = folder / "server" / "home" / "records"
    size = max(file.stat().st_size for file in records.rglob("*") if file.is_file())
    for worker in workers(server):
        _, hard = resource.prlimit(worker, resource.RLIMIT_FSIZE)
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (size + 50_000, hard))
    for _ in range(400):
        reply = server.ask("POST", "/predict/toy", request(20).partition(b"\r\n\r\n")[2])
        assert reply.status in (200, 503, 507), reply
        if reply.status == 200:
            kept.append(reply.json["prediction_id"])
        else:
            failed += 1
            assert "log" in reply.json["error"]
        if failed >= 20:
            break
    assert failed >= 20
    for worker in workers(server):
        _, hard = resource.prlimit(worker, resource.RLIMIT_FSIZE)
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (hard, hard))
    with asked_all_along(server) as callers:
        wait_for_more(callers, 10)
    callers[0].acknowledged += kept
    _assert_logged(records, callers)


def test_sigterm_under_load_loses_nothing_that_was_answered(server: ServingProcess, folder: Path) -> None:
    callers: list[Caller] = [CompiledCaller(server, "/predict/toy", number).start() for number in range(4)]
    try:
        wait_for_more(callers, 20)
        assert server.stop() == 0
    finally:
        for caller in callers:
            caller.end()
    # Those who go on asking find the connection closed; nobody is told anything else.
    assert [caller.wrong for caller in callers] == [[]] * 4
    _assert_logged(folder / "server" / "home" / "records", callers)
