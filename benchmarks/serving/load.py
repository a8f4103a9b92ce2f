"""The one load tool of all scenarios: the generator beside this file, compiled when first used, in its own process."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.environments import cache_folder
from benchmarks.serving.histogram import Histogram

SOURCE = Path(__file__).with_name("generator.c")


def generator() -> Path:
    """The compiled generator.

    Raises:
        SystemExit: there is no C compiler.
    """
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    made = cache_folder() / f"generator-{digest}"
    if not made.exists():
        compiler = shutil.which(os.environ.get("CC", "cc"))
        if compiler is None:
            raise SystemExit("the load generator has to be compiled and there is no C compiler; install cc, or set CC")
        made.parent.mkdir(parents=True, exist_ok=True)
        partial = made.with_suffix(f".{os.getpid()}")
        subprocess.run([compiler, "-O2", "-o", partial, SOURCE], check=True)
        partial.rename(made)
    return made


@dataclass(frozen=True)
class Result:
    """What came back in the counted time.

    Latencies count from the time at which a request was due (open loop) or sent (closed loop); `service` always from
    when it was sent. Of an open loop, `due` is how many were due, `sent` how many of them found a connection, `skipped`
    how many did not in time. `lost` is how many were sent and not answered, `unfinished` how many had no answer when
    the generator stopped waiting. `answers` has the last good answer to each message, empty where there was none.
    """

    seconds: float
    sent: int
    due: int
    skipped: int
    unfinished: int
    all_answered: int
    lost: Mapping[str, int]
    statuses: Mapping[int, int]
    retry_after: Mapping[str, float]
    cpu_seconds: float
    latency: Mapping[str, Histogram]
    service: Mapping[str, Histogram]
    answers: Sequence[bytes]

    @property
    def rate(self) -> float:
        """Requests answered well, a second."""
        return sum(count for status, count in self.statuses.items() if 200 <= status < 300) / self.seconds

    @property
    def failed(self) -> int:
        """Requests without an answer, and answers that are neither success nor 429."""
        wrong = sum(count for status, count in self.statuses.items() if not 200 <= status < 300 and status != 429)
        return wrong + sum(self.lost.values()) + self.unfinished

    @property
    def tool_us(self) -> float:
        """What the generator itself costs, in microseconds of processor time a request."""
        return self.cpu_seconds / max(1, self.all_answered) * 1e6

    def ms(self, share: float, outcome: str = "ok") -> float:
        """A quantile of the latencies of one outcome (``ok``, ``refused``, ``other``), in milliseconds."""
        return self.latency[outcome].quantile(share)


def read(document: bytes, answers: bytes) -> Result:
    """What the generator printed, and the answers that it kept."""
    found: dict[str, Any] = json.loads(document)
    kept, at = [], 0
    while at < len(answers):
        (length,) = struct.unpack_from("<I", answers, at)
        kept.append(answers[at + 4 : at + 4 + length])
        at += 4 + length
    return Result(
        found["seconds"],
        found["sent"],
        found["due"],
        found["skipped"],
        found["unfinished"],
        found["all_answered"],
        found["lost"],
        {int(status): count for status, count in found["statuses"].items()},
        found["retry_after"],
        found["cpu_seconds"],
        {name: Histogram.read(pairs) for name, pairs in found["latency"].items()},
        {name: Histogram.read(pairs) for name, pairs in found["service"].items()},
        kept,
    )


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer: to which message, and when it was due and there, in nanoseconds of ``time.monotonic_ns()``."""

    due: int
    ended: int
    message: int
    status: int
    content: bytes


_LINE = struct.Struct("<QQIIII")


def read_journal(journal: Path) -> Iterator[Answered]:
    """Every answer of a load that kept a journal, in the order in which they came."""
    with journal.open("rb") as file:
        while head := file.read(_LINE.size):
            due, ended, message, status, _, length = _LINE.unpack(head)
            yield Answered(due, ended, message, status, file.read(length))


class Load:
    """A load that runs until its time is over or `stop` is called.

    Args:
        port: Where the server listens on this machine.
        messages: Whole requests, sent in turn.
        connections: How many connections there are.
        seconds: How long is counted.
        rate: Requests a second of an open loop; 0 for a closed one.
        late: Seconds that a request of an open loop waits for a free connection; it is skipped then.
        warm: Seconds before that which are not counted.
        grace: Seconds that missing answers get at the end.
        protocol: ``http``, or ``grpc``, whose messages are frames.
        journal: A file for every answer with its times, for `read_journal`.
    """

    def __init__(
        self,
        port: int,
        messages: Sequence[bytes],
        *,
        connections: int = 16,
        seconds: float = 2.0,
        rate: float = 0.0,
        late: float = 3600.0,
        warm: float = 0.5,
        grace: float = 5.0,
        protocol: Literal["http", "grpc"] = "http",
        journal: Path | None = None,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="load-")
        asked, self._answers = Path(self._folder.name, "asked"), Path(self._folder.name, "answers")
        asked.write_bytes(b"".join(struct.pack("<I", len(one)) + one for one in messages))
        numbers = [str(number) for number in (connections, warm, seconds, rate, late, grace)]
        command = [str(generator()), protocol, str(port), str(asked), *numbers, str(self._answers)]
        command += [] if journal is None else [str(journal)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._patience = warm + seconds + grace + 30

    def stop(self) -> Result:
        """End the counted time now."""
        self._process.send_signal(signal.SIGTERM)
        return self.result()

    def result(self) -> Result:
        """Wait for the end.

        Raises:
            RuntimeError: the generator failed.
        """
        with self._folder:
            try:
                out, problems = self._process.communicate(timeout=self._patience)
            except BaseException:
                self._process.kill()
                self._process.wait()
                raise
            if self._process.returncode != 0:
                raise RuntimeError(f"the load generator failed: {problems.decode(errors='replace').strip()}")
            return read(out, self._answers.read_bytes())
