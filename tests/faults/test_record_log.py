"""The promise of the logs: what was acknowledged is read back exactly once, whatever kills the writer."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from faults.promises import size
from modelyard.errors import RecordNotKept
from modelyard.records.log import LabelLog, PredictionLog, RecordFiles, read, read_labels
from modelyard.records.query import query
from modelyard.records.segments import Damage
from unit.records.samples import label, record

KILLS = size(10, 100)

WRITER = """
import sys
from modelyard.domain.records import Label, PredictionRecord
from modelyard.records.log import LabelLog, PredictionLog

what, directory, life = sys.argv[1:]
log = PredictionLog(directory, segment_bytes=200_000) if what == "predictions" else LabelLog(directory)
number = 0
while True:
    name = f"{life}-{number}"
    if what == "predictions":
        body = bytes([number % 251]) * (number * 37 % 20_000)
        log.append(PredictionRecord(name, "d", "m", 1, "", number, 0, 200, "ok", "rows", 1, body, body))
    else:
        log.append(Label(name, number, number))
    sys.stdout.write(name + "\\n")
    sys.stdout.flush()
    number += 1
"""


def acknowledged_before_the_kill(what: str, directory: Path, life: int, delay: float) -> list[str]:
    """Run a writer, kill it `delay` seconds after its first acknowledgement, and return what it acknowledged."""
    command = [sys.executable, "-c", WRITER, what, str(directory), str(life)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        # Reading on keeps the pipe from filling, so that the kill can hit any moment of an append.
        os.set_blocking(process.stdout.fileno(), False)
        rest, deadline = b"", time.monotonic() + delay
        while time.monotonic() < deadline:
            rest += process.stdout.read() or b""
        process.send_signal(signal.SIGKILL)
        process.wait()
        os.set_blocking(process.stdout.fileno(), True)
        rest += process.stdout.read()
    return [line.decode().strip() for line in (first + rest).splitlines(keepends=True) if line.endswith(b"\n")]


@pytest.mark.timeout(60 + 5 * KILLS)
@pytest.mark.parametrize("what", ["predictions", "labels"])
def test_killed_writers_lose_nothing_that_was_acknowledged(tmp_path: Path, what: str) -> None:
    moments = random.Random(20130101)
    acknowledged: list[str] = []
    for life in range(KILLS):
        acknowledged += acknowledged_before_the_kill(what, tmp_path, life, moments.uniform(0, 0.1))
    damage: list[Damage] = []
    files = RecordFiles(tmp_path, damage.append)
    found = [one.prediction_id for one in (files.predictions() if what == "predictions" else files.labels())]
    assert len(found) == len(set(found))
    assert set(acknowledged) <= set(found)
    # At most the one append in flight at each kill was written and not acknowledged.
    assert len(found) - len(acknowledged) <= KILLS
    assert damage == []
    table = "predictions" if what == "predictions" else "labels_history"
    assert query(tmp_path, f"SELECT prediction_id FROM {table}").num_rows == len(found)


def test_a_full_disk_is_reported_and_the_log_stays_whole(tmp_path: Path) -> None:
    """A file-size limit stands in for the disk: the kernel writes what fits, then says no, as on a full disk."""
    program = """
import resource, sys
from modelyard.errors import RecordNotKept
from modelyard.records.log import LabelLog, PredictionLog
from unit.records.samples import label, record
directory, limit = sys.argv[1], int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
log = PredictionLog(directory)
kept = refused = 0
while refused < 5:
    try:
        log.append(record(f"r{kept}-{refused}"))
        kept += 1
    except RecordNotKept as error:
        refused += 1
        message = str(error)
try:
    LabelLog(directory).append_many(label(str(number)) for number in range(100))
    print("labels kept")
except RecordNotKept:
    print("labels refused")
print(kept, message)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", program, str(tmp_path), "5000"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    first, second = result.stdout.splitlines()
    kept, message = second.split(" ", 1)
    assert first == "labels refused"
    assert int(kept) > 3
    assert "could not write to the log" in message
    assert "nothing that was acknowledged is lost" in message
    damage: list[Damage] = []
    assert len(list(RecordFiles(tmp_path, damage.append).predictions())) == int(kept)
    assert damage == []
    # With room again, the next writers go on.
    log = PredictionLog(tmp_path)
    log.append(record("later"))
    LabelLog(tmp_path).append(label("later"))
    assert [one.prediction_id for one in read(tmp_path)][-1] == "later"
    assert [one.prediction_id for one in read_labels(tmp_path)] == ["later"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_no_space_left_is_said_in_these_words(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path)
    log.append(record("a1"))
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, log._segments._descriptor)
    os.close(full)
    with pytest.raises(RecordNotKept, match="No space left on device"):
        log.append(record("a2"))
    # The broken descriptor is given up; the next append has a segment of its own.
    log.append(record("a3"))
    assert [one.prediction_id for one in read(tmp_path)] == ["a1", "a3"]


def test_a_reader_beside_a_writer_sees_every_acknowledged_record(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, "predictions", str(tmp_path), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for _ in range(20):
                name = [process.stdout.readline() for _ in range(50)][-1].strip()
                number = int(name.split("-")[1])
                found = [one.prediction_id for one in read(tmp_path)]
                assert found == [f"0-{index}" for index in range(len(found))]
                assert len(found) > number
        finally:
            process.kill()
