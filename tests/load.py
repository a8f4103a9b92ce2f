"""Load from a process of its own: callers that ask on and on, check every answer, and write down each call.

`Load` starts this file as a program and looks at what it does: calls are lines in a file, and counts of right answers
lie in memory that both share. Moments are of ``time.monotonic_ns()``, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import mmap
import os
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

PATIENCE = 60.0
SECOND = 1_000_000_000
RIGHT, WRONG, REFUSED, LOST, HUNG = "right", "wrong", "refused", "lost", "hung"
_CLOSER = 1e-12


@dataclass(frozen=True)
class Target:
    """Whom to ask: `callers` connections on `path`, each asking again `pause` seconds after an answer.

    `kind` is ``logistic`` for the small compiled model of `compiled_bundles`, with `biases` by version, or ``twice``
    for a model that gives back twice ``x`` as `output`.
    """

    path: str
    kind: str = "logistic"
    callers: int = 3
    rows: int = 1
    pause: float = 0.002
    biases: dict[str, float] = field(default_factory=dict)
    output: str = "twice"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """One call and what became of it; moments in nanoseconds, `opened` is when its connection was opened."""

    caller: int
    path: str
    opened: int
    begun: int
    ended: int
    outcome: str
    status: int
    name: str
    version: str
    said: str

    @property
    def seconds(self) -> float:
        return (self.ended - self.begun) / SECOND


class Load:
    """Callers in a process of their own, until `end`."""

    def __init__(
        self, folder: Path, address: tuple[str, int], targets: Sequence[Target], label: str, nice: int = 0
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.callers = sum(target.callers for target in targets)
        self._calls, progress = folder / f"{label}.jsonl", folder / f"{label}.progress"
        progress.write_bytes(bytes(8 * self.callers))
        with progress.open("r+b") as file:
            self._progress = mmap.mmap(file.fileno(), 8 * self.callers)
        order = {"address": address, "targets": [asdict(target) for target in targets], "nice": nice}
        command = [sys.executable, "-P", __file__, json.dumps(order), str(self._calls), str(progress)]
        self._said = folder / f"{label}.txt"
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(command, stdout=said, stderr=said)

    def answered(self) -> list[int]:
        """How many right answers each caller has had."""
        return list(struct.unpack(f"{self.callers}q", self._progress[:]))

    def wait_for_more(self, calls: int, seconds: float = PATIENCE) -> None:
        """Wait until every caller has had that many right answers more."""
        before, deadline = self.answered(), time.monotonic() + seconds
        while any(now < then + calls for now, then in zip(self.answered(), before, strict=True)):
            assert self.process.poll() is None, self._said.read_text()
            assert time.monotonic() < deadline, "there were no right answers any more"
            time.sleep(0.005)

    def end(self) -> list[Call]:
        """Let calls that are open end, and give back all there were."""
        self.process.terminate()
        try:
            self.process.wait(2 * PATIENCE)
        finally:
            self.process.kill()
        said = self._said.read_text()
        assert (self.process.returncode, said) == (0, "")
        return [Call(*json.loads(line)) for line in self._calls.read_text().splitlines()]


@contextlib.contextmanager
def load(
    folder: Path, address: tuple[str, int], *targets: Target, label: str = "load", nice: int = 0
) -> Iterator[Load]:
    """Load for the length of a block; whoever wants the calls ends it there. `nice` lets others go first."""
    made = Load(folder, address, targets, label, nice)
    try:
        made.wait_for_more(3)
        yield made
    finally:
        made.process.kill()
        made.process.wait()


def outcomes(calls: Iterable[Call]) -> Counter[str]:
    """How many calls ended how."""
    return Counter(call.outcome for call in calls)


def quantile(seconds: Iterable[float], share: float) -> float:
    """The value that `share` of them do not exceed."""
    ordered = sorted(seconds)
    return ordered[min(math.ceil(share * len(ordered)), len(ordered)) - 1]


# What follows runs in the process of its own.


class _Caller:
    """One caller: one connection at a time, one call at a time."""

    def __init__(self, number: int, address: tuple[str, int], target: Target, tell: Any) -> None:
        self.number, self.address, self.target, self.tell = number, address, target, tell
        self.calls, self.opened = 0, 0
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self.call()
            await asyncio.sleep(self.target.pause)
        self.hang_up()

    def hang_up(self) -> None:
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None

    async def call(self) -> None:
        self.calls += 1
        values = _values(self.target, self.number, self.calls)
        begun, status, name, version, said = time.monotonic_ns(), 0, "", "", ""
        if self.writer is None:
            self.opened = begun
        try:
            async with asyncio.timeout(PATIENCE):
                status, body = await self.exchange(_request(self.target, values))
            document = json.loads(body)
            name, version = str(document.get("prediction_id", "")), str(document.get("version", ""))
            outcome, said = _judged(self.target, values, status, document)
        except TimeoutError:
            outcome = HUNG
        except (OSError, EOFError, ValueError) as error:
            outcome, said = LOST, f"{type(error).__name__}: {error}"
        if outcome in (HUNG, LOST):
            self.hang_up()
        ended = time.monotonic_ns()
        path = self.target.path
        self.tell(Call(self.number, path, self.opened, begun, ended, outcome, status, name, version, said))
        if outcome in (LOST, REFUSED):
            await asyncio.sleep(0.01)

    async def exchange(self, request: bytes) -> tuple[int, bytes]:
        if self.writer is None or self.reader is None:
            self.reader, self.writer = await asyncio.open_connection(*self.address)
        self.writer.write(request)
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        [length] = [int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")]
        body = await self.reader.readexactly(length)
        if b"\r\nconnection: close" in head:
            self.hang_up()
        return int(head[9:12]), body


def _values(target: Target, caller: int, call: int) -> list[float]:
    """What each row holds: another value in each row of each call of each caller, from -4 to 4 at any time."""
    start = caller * 1_000_003 + call * target.rows
    if target.kind == "twice":
        return [float(1_000_000 + start + row) for row in range(target.rows)]
    return [((start + row) * 3_141_593 % 8_000_009) / 1e6 - 4 for row in range(target.rows)]


def _request(target: Target, values: list[float]) -> bytes:
    if target.kind == "twice":
        rows: list[dict[str, Any]] = [{"x": value} for value in values]
    else:
        rows = [{"x0": value, "x1": 0, "x2": 0, "carrier": None} for value in values]
    body = json.dumps({"rows": rows}).encode()
    more = "".join(f"{name}: {value}\r\n" for name, value in target.headers.items())
    return f"POST {target.path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n{more}\r\n".encode() + body


def _judged(target: Target, values: list[float], status: int, document: Any) -> tuple[str, str]:
    if status != 200:
        return REFUSED, str(document)[:300]
    rows = document["rows"]
    right = len(rows) == len(values)
    for value, row in zip(values, rows, strict=False):
        right = right and _right(target, value, row, str(document["version"]))
    return (RIGHT, "") if right else (WRONG, str((values, document))[:1000])


def _right(target: Target, value: float, row: Any, version: str) -> bool:
    if target.kind == "twice":
        said = row[target.output]
        return said is not None and math.isclose(said, 2 * value, rel_tol=_CLOSER)
    expected = 1 / (1 + math.exp(-(value + target.biases.get(version, 0.0))))
    return math.isclose(row["predict_proba"]["late"], expected, rel_tol=_CLOSER)


async def _main(order: Any, calls: Path, progress: Path) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    targets = [Target(**target) for target in order["targets"]]
    callers = [target for target in targets for _ in range(target.callers)]
    with progress.open("r+b") as file:
        counts = memoryview(mmap.mmap(file.fileno(), 8 * len(callers))).cast("q")
    with calls.open("w") as lines:

        def tell(call: Call) -> None:
            lines.write(json.dumps(list(asdict(call).values())) + "\n")
            counts[call.caller] += call.outcome == RIGHT

        address = (order["address"][0], order["address"][1])
        made = [_Caller(number, address, target, tell) for number, target in enumerate(callers)]
        await asyncio.gather(*(caller.run(stop) for caller in made))


if __name__ == "__main__":
    os.nice(json.loads(sys.argv[1])["nice"])
    asyncio.run(_main(json.loads(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])))
