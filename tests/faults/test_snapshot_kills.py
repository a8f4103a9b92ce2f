"""A process that takes snapshots is killed at random moments, and several take them at once: nothing is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from data_stores import content, files_in, wait_until_settled, write
from modelyard import data

KILLS = int(os.environ.get("MODELYARD_KILLS", "5"))

SNAPSHOT = """
import sys
from modelyard import data
from modelyard.datasets import packs
packs.FULL = 2**19  # many packs, so that kills come between and within them
print("ready", flush=True)
made = data.snapshot(sys.argv[2], "toy", home=sys.argv[1])
print(made.ref, made.read_bytes, made.stored_bytes, flush=True)
"""


LITTLE_ROOM = """
import resource, signal, sys
from modelyard import data, errors
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2**21, 2**21))  # as on a full disk, writing fails
try:
    data.snapshot(sys.argv[2], "toy", home=sys.argv[1])
except errors.Failed as error:
    print(error)
"""


def start(home: Path, folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SNAPSHOT, str(home), str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.timeout(60 + 20 * KILLS)
def test_a_killed_snapshot_goes_on_where_it_was(tmp_path: Path) -> None:
    draw = random.Random(7)
    interrupted = 0
    for attempt in range(KILLS):
        home, folder = tmp_path / f"home-{attempt}", tmp_path / "data"
        write(folder, {"large": content(8 * 2**20, attempt)} | {f"s{at}": content(999, at) for at in range(100)})
        wait_until_settled(folder)
        process = start(home, folder)
        time.sleep(draw.uniform(0.0, 0.3))
        process.send_signal(signal.SIGKILL)
        said, _ = process.communicate()
        finished = said.endswith("\n")
        interrupted += not finished
        made = data.snapshot(folder, "toy", home=home)
        assert made.ref == "toy@1"
        assert made.is_new or finished or made.stored_bytes == 0
        data.checkout("toy@1", tmp_path / f"out-{attempt}", home=home)
        assert files_in(tmp_path / f"out-{attempt}") == files_in(folder)
        assert data.verify("toy@1", home=home) == ()
        stored = sum(path.stat().st_size for path in home.rglob("*.pack"))
        assert stored < 2 * 8 * 2**20, "what was kept before the kill was stored a second time"
    assert interrupted, "no kill came early enough to interrupt a snapshot"


def test_snapshots_at_once_all_succeed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    shared = {f"shared-{at}": content(400_000, at) for at in range(10)}
    folders = [tmp_path / f"data-{at}" for at in range(4)]
    for at, folder in enumerate(folders):
        write(folder, shared | {"own": content(300_000, 100 + at)})
    processes = [start(home, folder) for folder in folders for _ in range(2)]
    said = [process.communicate(timeout=120)[0].split()[0] for process in processes]
    assert all(process.returncode == 0 for process in processes)
    assert sorted(set(said)) == ["toy@1", "toy@2", "toy@3", "toy@4"]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda ref: data.checkout(ref, tmp_path / ref, home=home), sorted(set(said))))
    given_back = [files_in(tmp_path / ref) for ref in sorted(set(said))]
    assert all(files_in(folder) in given_back for folder in folders)


def test_a_full_disk_is_told_and_leaves_nothing_half(tmp_path: Path) -> None:
    home = tmp_path / "home"
    write(tmp_path / "data", {"large": content(8 * 2**20)})
    done = subprocess.run(
        [sys.executable, "-c", LITTLE_ROOM, str(home), str(tmp_path / "data")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "cannot be stored" in done.stdout, done.stderr
    assert data.newest(home=home) == ()
    assert data.snapshot(tmp_path / "data", "toy", home=home).ref == "toy@1"
    assert data.verify("toy@1", home=home) == ()
