"""The time of day jumps, forwards and back, while calls are answered: nothing that is promised hangs on it.

A few lines of C, loaded before the C library, move the real-time clock of the server's processes by what a file says.
The monotonic clock goes on as it does when an administrator or NTP sets the time.
"""

from __future__ import annotations

import mmap
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import compiled_bundles
from faults.promises import Fault, check, now, workers
from load import Target, load
from modelyard.records.log import read
from serving_process import ServingProcess, serving, until

SHIM = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *shift;

__attribute__((constructor)) static void begin(void) {
    int file = open(getenv("CLOCK_SHIFT"), O_RDONLY);
    void *there = file < 0 ? MAP_FAILED : mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
    if (there != MAP_FAILED) shift = there;
    if (file >= 0) close(file);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && shift && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += *shift;
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec found;
    int failed = clock_gettime(CLOCK_REALTIME, &found);
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return failed;
}

time_t time(time_t *into) {
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    if (into) *into = found.tv_sec;
    return found.tv_sec;
}
"""

HOUR, DAY = 3600, 86400
JUMPS = (HOUR, -HOUR, 30 * DAY, -3650 * DAY, 0)
"""Seconds by which the clock is off, one after another; the last is the right time again."""

Set = Callable[[int], None]


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Set]:
    """A way to move the clock of processes started from now on."""
    source, shim, shift = tmp_path / "shim.c", tmp_path / "shim.so", tmp_path / "shift"
    source.write_text(SHIM)
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", str(shim), str(source)], check=True)
    shift.write_bytes(bytes(8))
    monkeypatch.setenv("CLOCK_SHIFT", str(shift))
    monkeypatch.setenv("LD_PRELOAD", str(shim))
    with shift.open("r+b") as file, mmap.mmap(file.fileno(), 8) as memory:

        def move(seconds: int) -> None:
            memory[:] = struct.pack("q", seconds)

        yield move


@pytest.mark.timeout(180)
def test_a_clock_that_jumps_changes_no_answer(clock: Set, tmp_path: Path) -> None:
    bundle, faults = compiled_bundles.write_compiled(tmp_path / "toy"), list[Fault]()
    target = Target("/predict/toy", callers=3, pause=0.005, headers={"x-request-timeout-ms": "60000"})
    with serving(tmp_path / "server", "--bundle", bundle.path, "--name", "toy", "--workers", "2") as server:
        server.wait_ready()
        until(lambda: len(workers(server)) == 2, "two workers")
        alive = workers(server)
        with load(tmp_path, server.address, target) as running:
            for shift in JUMPS:
                faults.append(now())
                clock(shift)
                running.wait_for_more(30)
                _still_well(server, shift)
            calls = running.end()
        assert workers(server) == alive
        assert server.get("/status").json["worker_restarts"] == 0
    records = tmp_path / "server" / "home" / "records"
    check(calls, faults, records)
    # The clock did jump: times of day in the records are those of the server's clock.
    off = {round((record.received_ns / 1e9 - time.time()) / HOUR) for record in read(records)}
    assert {round(shift / HOUR) for shift in JUMPS} <= off


def _still_well(server: ServingProcess, shift: int) -> None:
    """It is ready, tells the time, and takes labels and its metrics go on."""
    reply = server.get("/v2/health/ready")
    assert reply.status == 200, (shift, reply)
    called = server.post("/predict/toy", {"rows": [{"x0": 1.0, "x1": 0, "x2": 0, "carrier": None}]})
    name = called.json["prediction_id"]
    assert server.post("/labels", {"labels": [{"prediction_id": name, "value": "late"}]}).status == 200
    assert server.get("/metrics").status == 200
