"""Parts for tests of the data plane: versions made without opening anything from disk, and a way to call the app."""

from __future__ import annotations

import asyncio
import atexit
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

import compiled_bundles
from modelyard.domain.desired import Deployment, DesiredState
from modelyard.domain.environment import Environment
from modelyard.domain.frame import Answers, Frame
from modelyard.domain.manifest import FORMAT, Code, Manifest, Tolerance
from modelyard.domain.records import Label, PredictionRecord
from modelyard.errors import RuntimeLost
from modelyard.protocol.table import TableReader
from modelyard.runtime.interface import Runtime
from modelyard.runtime.onnx import OnnxRuntime
from modelyard.serving.actions import Services
from modelyard.serving.answering import Answering
from modelyard.serving.app import Application
from modelyard.serving.http1 import Connections, HttpConnection, Limits
from modelyard.serving.meters import Meters
from modelyard.serving.plane import DataPlane
from modelyard.serving.served import Pace, ServedVersion

PATIENCE = 20.0


def until(condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Wait until `condition` holds and give back what it said; fails when it never does."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)
    return found


def deployment(name: str = "live", version: int = 1, model: str = "toy") -> Deployment:
    return Deployment(name, model, version, f"digest-{version}", f"bundles/{version}")


def desired(generation: int, *deployments: Deployment) -> DesiredState:
    return DesiredState(generation, deployments)


def manifest(runtime: Any = "onnx") -> Manifest:
    return Manifest(
        format=FORMAT,
        name="toy",
        framework="onnx",
        estimator="logistic",
        schema=compiled_bundles.schema(),
        runtime=runtime,
        native=None,
        compiled=compiled_bundles.form(),
        attempts=(),
        tolerance=Tolerance(),
        environment=Environment("3.11.7", "linux_x86_64", ()),
        code=Code(),
        golden_rows=0,
        files={},
    )


def logistic(bias: float = 0.0) -> OnnxRuntime:
    """The real compiled runtime over the small logistic model."""
    return OnnxRuntime(compiled_bundles.graph(bias=bias), compiled_bundles.form(), compiled_bundles.schema())


def served(wanted: Deployment, runtime: Runtime | None = None, *, inline: bool = True) -> ServedVersion:
    """An open version whose answers tell it from others: the bias is its number."""
    return ServedVersion(
        wanted,
        manifest(),
        wanted.digest,
        runtime or logistic(bias=float(wanted.version)),
        Pace(inline, one=1e-5, more=1e-6),
        TableReader(compiled_bundles.schema()),
    )


@dataclass
class Gate:
    """A runtime that computes only once it is let go, and tells who is waiting."""

    waiting: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    go: threading.Event = field(default_factory=threading.Event)
    closed: bool = False
    inner: OnnxRuntime = field(default_factory=logistic)

    def predict(self, frame: Frame, outputs: Sequence[str] | None = None) -> Answers:
        self.waiting.release()
        assert self.go.wait(PATIENCE)
        assert not self.closed, "closed under a request"
        return self.inner.predict(frame, outputs)

    def close(self) -> None:
        self.closed = True


@dataclass
class Mortal:
    """A runtime over a process that dies when told to: it answers the number of its life."""

    life: int = 1
    dead: bool = False
    deaths_to_come: int = 0
    failing_starts: int = 0
    starts: int = 0
    closed: bool = False
    pid: int | None = 4711
    code: int = -9

    def alive(self) -> bool:
        return not self.dead

    def ended(self) -> int | None:
        return self.code if self.dead else None

    def restart(self) -> None:
        self.starts += 1
        if self.failing_starts:
            self.failing_starts -= 1
            raise RuntimeLost("the process ended while it was starting")
        self.life, self.dead = self.life + 1, False

    def predict(self, frame: Frame, outputs: Sequence[str] | None = None) -> Answers:
        if self.deaths_to_come:
            self.deaths_to_come -= 1
            self.dead = True
        if self.dead:
            raise RuntimeLost("the connection to the process is gone")
        return {"life": np.full(frame.rows, self.life)}

    def close(self) -> None:
        self.closed = True


@dataclass
class Kept:
    """Keeps records and labels in memory, in place of the log."""

    records: list[PredictionRecord] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    broken: Exception | None = None

    def append(self, record: PredictionRecord) -> None:
        self.append_all([record])

    def append_all(self, records: Sequence[PredictionRecord]) -> None:
        if self.broken is not None:
            raise self.broken
        self.records.extend(records)

    def close(self) -> None:
        """Nothing to give back."""


@dataclass
class KeptLabels:
    """The label side of `Kept`."""

    kept: Kept

    def append(self, label: Label) -> None:
        self.kept.labels.append(label)

    def append_many(self, labels: Any) -> int:
        before = len(self.kept.labels)
        self.kept.labels.extend(labels)
        return len(self.kept.labels) - before

    def close(self) -> None:
        """Nothing to give back."""


@dataclass
class Answer:
    """What came back from the application."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def error(self) -> str:
        assert set(self.json) >= {"error", "code"}
        return str(self.json["error"])


def application(plane: DataPlane, kept: Kept | None = None, **options: Any) -> Application:
    kept = kept or Kept()
    return Application(Services(plane, KeptLabels(kept), "0.1.0"), Answering(plane, kept, Meters()), **options)


class Wire(asyncio.Transport):
    """The other end of a connection without a socket: keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = self.paused = False
        self.news = asyncio.Event()

    def write(self, data: Any) -> None:
        self.written += data
        self.news.set()

    def writelines(self, pieces: Any) -> None:
        self.write(b"".join(pieces))

    def close(self) -> None:
        self.closed = True
        self.news.set()

    abort = close

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def get_write_buffer_size(self) -> int:
        return 0

    def answers(self) -> list[Answer]:
        """The whole answers so far."""
        found, rest = [], bytes(self.written)
        while b"\r\n\r\n" in rest:
            head, _, rest = rest.partition(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines)
            length = int(headers.get("content-length", 0))
            if len(rest) < length:
                break
            found.append(Answer(int(first.split()[1]), headers, rest[:length]))
            rest = rest[length:]
        return found


_LOOP = asyncio.Runner()
atexit.register(_LOOP.close)


def run(work: Any) -> Any:
    """Run a coroutine on the one event loop of these tests, which lanes stay bound to."""
    return _LOOP.run(work)


def connected(app: Any, connections: Connections | None = None) -> tuple[HttpConnection, Wire]:
    """A connection to the application, and its other end."""
    connection, wire = HttpConnection(app, Connections() if connections is None else connections), Wire()
    connection.connection_made(wire)
    return connection, wire


def written(method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
    """A request as it goes over the wire."""
    lines = {"host": "here", "content-length": str(len(body)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body


async def ask(
    app: Application, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> Answer:
    """Send one request and wait for its answer."""
    connection, wire = connected(app, Connections(Limits(body=app.max_body)))
    connection.data_received(written(method, path, body, headers))
    async with asyncio.timeout(PATIENCE):
        while not wire.answers():
            wire.news.clear()
            await wire.news.wait()
    [answer] = wire.answers()
    connection.connection_lost(None)
    return answer


def get(app: Application, path: str) -> Answer:
    return run(ask(app, "GET", path))


def post(app: Application, path: str, document: Any = None, *, raw: Any = None, **headers: str) -> Answer:
    body = raw if raw is not None else b"" if document is None else json.dumps(document).encode()
    return run(ask(app, "POST", path, body, {name.replace("_", "-"): value for name, value in headers.items()}))
