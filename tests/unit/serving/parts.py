"""Parts for tests of the data plane: versions made without opening anything from disk, and a way to call the app."""

from __future__ import annotations

import asyncio
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
from modelyard.serving.app import Application
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

    def alive(self) -> bool:
        return not self.dead

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
        if self.broken is not None:
            raise self.broken
        self.records.append(record)

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
    return Application(Services(plane, KeptLabels(kept), "0.1.0"), kept, **options)


async def ask(
    app: Application, method: str, path: str, body: bytes | list[bytes] = b"", headers: dict[str, str] | None = None
) -> Answer:
    """One request to the application; a list of bodies arrives in pieces."""
    pieces = body if isinstance(body, list) else [body]
    messages = [
        {"type": "http.request", "body": piece, "more_body": at < len(pieces) - 1} for at, piece in enumerate(pieces)
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
    }
    await app(scope, receive, send)
    start, *rest = sent
    found = {name.decode(): value.decode() for name, value in start["headers"]}
    return Answer(start["status"], found, b"".join(part["body"] for part in rest))


def get(app: Application, path: str) -> Answer:
    return asyncio.run(ask(app, "GET", path))


def post(app: Application, path: str, document: Any = None, *, raw: Any = None, **headers: str) -> Answer:
    body = raw if raw is not None else b"" if document is None else json.dumps(document).encode()
    return asyncio.run(ask(app, "POST", path, body, {name.replace("_", "-"): value for name, value in headers.items()}))
