"""Clients that misbehave: silent, slow, deaf, gone, senseless or far too many. The others are answered rightly.

The long form has 10,000 idle connections, the short one 1,000.
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
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import compiled_bundles
from faults.promises import LONG, Fault, check, check_records, say, size, workers
from load import LOST, REFUSED, RIGHT, Call, Load, Target, load, quantile
from modelyard.records.log import read
from serving_process import ServingProcess, serving, start, until

IDLE = size(1_000, 10_000)
PATIENCE = 60.0
CALLERS = 2
ORDINARY = Target("/predict/toy", callers=CALLERS)

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
def asked_all_along(server: ServingProcess, folder: Path) -> Iterator[Load]:
    """Ordinary clients in a process of their own ask before, during and after the block, and lose nothing."""
    alive, records = workers(server), folder / "server" / "home" / "records"
    with load(folder, server.address, ORDINARY) as running:
        yield running
        running.wait_for_more(3)
        calls = running.end()
    check(calls, [], records)
    assert workers(server) == alive


def request(rows: int, *headers: str) -> bytes:
    body = json.dumps({"rows": [ROW] * rows}).encode()
    head = ["POST /predict/toy HTTP/1.1", "host: x", f"content-length: {len(body)}", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


def connections(server: ServingProcess) -> int:
    return sum(worker["connections"] for worker in server.get("/status").json["workers"])


def test_idle_connections_cost_others_nothing(server: ServingProcess, folder: Path, files: int) -> None:
    if files < IDLE + 500:
        pytest.skip(f"the system lets a process have {files} open files, which is too few for {IDLE} connections")
    with contextlib.ExitStack() as stack, load(folder, server.address, ORDINARY) as running:
        running.wait_for_more(100)
        begun = time.monotonic_ns()
        for _ in range(IDLE):
            stack.enter_context(socket.create_connection(server.address, timeout=PATIENCE))
        until(lambda: connections(server) >= IDLE, "all taken")
        taken = time.monotonic_ns()
        running.wait_for_more(100)
        beside = time.monotonic_ns()
        stack.close()
        until(lambda: connections(server) < IDLE // 2, "all let go")
        running.wait_for_more(3)
        calls = running.end()
    check(calls, [], folder / "server" / "home" / "records")
    before = [call.seconds for call in calls if call.ended < begun]
    during = [call.seconds for call in calls if taken < call.begun and call.ended < beside]
    say(
        f"beside {IDLE} idle connections: median {1e3 * quantile(during, 0.5):.2f} ms"
        f" (before {1e3 * quantile(before, 0.5):.2f} ms), p99 {1e3 * quantile(during, 0.99):.2f} ms"
        f" (before {1e3 * quantile(before, 0.99):.2f} ms)"
    )


def test_slow_senders_hold_only_their_own_connections(server: ServingProcess, folder: Path) -> None:
    slow = request(1)
    with contextlib.ExitStack() as stack, asked_all_along(server, folder) as running:
        there = [stack.enter_context(socket.create_connection(server.address, timeout=PATIENCE)) for _ in range(50)]
        for byte in slow[:8]:
            for one in there:
                one.sendall(bytes([byte]))
            running.wait_for_more(10)
            if LONG:
                time.sleep(1.0)
        # Slow is not wrong: what does arrive in the end is answered.
        there[0].sendall(slow[8:])
        assert there[0].recv(1024).startswith(b"HTTP/1.1 200 ")


def test_clients_that_never_read_hold_only_their_own_connections(server: ServingProcess, folder: Path) -> None:
    large = request(5_000)
    with contextlib.ExitStack() as stack, asked_all_along(server, folder) as running:
        for _ in range(6):
            deaf = stack.enter_context(socket.socket())
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(server.address)
            deaf.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                deaf.send(large * 4)
        running.wait_for_more(50)


def test_clients_that_vanish_leave_nothing_behind(server: ServingProcess, folder: Path) -> None:
    whole = request(500)
    with asked_all_along(server, folder) as running:
        for number in range(60):
            with socket.create_connection(server.address, timeout=PATIENCE) as gone:
                sent = whole if number % 2 else whole[: len(whole) * number // 60]
                gone.sendall(sent)
                if number % 3 == 0:  # a reset in place of an orderly end
                    gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        running.wait_for_more(10)
    until(lambda: connections(server) <= 2, "all let go")
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("before", [0, 3])
def test_garbage_is_refused_once_and_after_what_was_asked_before(
    server: ServingProcess, folder: Path, before: int
) -> None:
    with asked_all_along(server, folder):
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
            if b"connection: close" in found[-1].head:  # a fuller worker lets it go to another one
                writer.close()
                reader, writer = await asyncio.open_connection(*server.address)
        writer.close()
        return found

    async with asyncio.timeout(PATIENCE * 2):
        return [one for found in await asyncio.gather(*(client() for _ in range(clients))) for one in found]


def test_a_flood_is_refused_quickly_and_leaves_a_normal_service(server: ServingProcess, folder: Path) -> None:
    found = asyncio.run(_flood(server, 200, 5, request(1_000, "x-request-timeout-ms: 100")))
    counts = Counter(one.status for one in found)
    assert set(counts) <= {200, 429, 504}, counts
    refused = [one for one in found if one.status == 429]
    assert refused or counts[504], counts  # how many of which depends on how busy the machine is with other things
    assert all(b"\r\nretry-after: " in one.head for one in refused)
    # Bodies wait in the kernel until they are read, so a refusal takes longer than no time; but nobody hangs.
    assert not refused or statistics.median(one.seconds for one in refused) < 5.0
    with asked_all_along(server, folder) as running:
        running.wait_for_more(20)


def test_a_full_disk_fails_calls_honestly_until_there_is_room(server: ServingProcess, folder: Path) -> None:
    """A file-size limit stands in for the disk: the kernel writes what fits, then says no, as on a full disk."""
    kept, failed = list[str](), 0
    records = folder / "server" / "home" / "records"
    for worker in workers(server):
        written = max(records.rglob(f"*-{worker}-*.log")).stat().st_size  # its present segment
        _, hard = resource.prlimit(worker, resource.RLIMIT_FSIZE)
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (written + 50_000, hard))
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
    with asked_all_along(server, folder) as running:
        running.wait_for_more(10)
    logged = {record.prediction_id for record in read(records)}
    assert set(kept) <= logged


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system; the test before has a limit in place")
def test_a_really_full_disk_fails_calls_honestly_until_there_is_room(
    server: ServingProcess, folder: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "modelyard-test", str(disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        bundle = folder / "toy"
        arguments = ["--bundle", bundle, "--name", "toy", "--workers", "2", "--records", disk / "records"]
        with serving(tmp_path / "server", *arguments) as full:
            full.wait_ready()
            until(lambda: len(workers(full)) == 2, "two workers")
            _fill_and_free(full, disk, tmp_path)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def _fill_and_free(server: ServingProcess, disk: Path, folder: Path) -> None:
    ballast = disk / "ballast"
    with load(folder, server.address, ORDINARY) as running:
        filled = time.monotonic_ns()
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        body = request(20).partition(b"\r\n\r\n")[2]
        seen = Counter[int]()

        def refused() -> bool:
            seen[server.ask("POST", "/predict/toy", body).status] += 1
            return seen[503] >= 200  # by then not even the smallest record finds room on the last page

        until(refused, "no room")
        # Whoever watches can see it, and the server still lives.
        assert server.get("/v2/health/live").status == 200
        ballast.unlink()
        freed = Fault(time.monotonic_ns(), "room")
        running.wait_for_more(20)
        calls = running.end()
    full = [call for call in calls if call.outcome == REFUSED]
    assert full
    assert {call.status for call in full} == {503}
    assert all("log" in call.said and "No space left on device" in call.said for call in full)

    def while_full(call: Call) -> bool:
        return filled <= call.ended and call.begun <= freed.at

    check(calls, [freed], disk / "records", may_refuse=while_full)


def test_sigterm_under_load_loses_nothing_that_was_answered(server: ServingProcess, folder: Path) -> None:
    with load(folder, server.address, ORDINARY) as running:
        running.wait_for_more(20)
        told = time.monotonic_ns()
        assert server.stop() == 0
        calls = running.end()
    # Those who go on asking find the connection closed; nobody is told anything else.
    assert [call for call in calls if call.outcome not in (RIGHT, LOST)] == []
    assert [call for call in calls if call.outcome == LOST and call.ended < told] == []
    check_records([call for call in calls if call.outcome == RIGHT], folder / "server" / "home" / "records")
