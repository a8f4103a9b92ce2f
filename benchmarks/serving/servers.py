"""Servers as they are measured: what starts them, how they are asked, and whether they answer as training does."""

from __future__ import annotations

import contextlib
import http.client
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import modelyard
from benchmarks.serving.forms import ARROW_STREAM, BINARY, FIXED, OURS, PROTOCOL, Answer, Form, parse_answer
from benchmarks.serving.models import Model
from benchmarks.serving.processes import ONE_THREAD, NotStarted, Process, answers_from, free_port, start

ROOT = Path(__file__).resolve().parents[2]
WORKERS = max(2, len(os.sched_getaffinity(0)))
PATIENCE = 240.0
TOLERANCE = 1e-6
OUR_PATHS = {"PYTHONPATH": os.pathsep.join([str(Path(modelyard.__file__).parents[1]), str(ROOT)])}

Kind = Literal["compiled", "native", "peer", "floor"]


@dataclass(frozen=True)
class Place:
    """Where a server is started: its folder, its port and what it serves."""

    model: Model
    folder: Path
    port: int


@dataclass(frozen=True)
class Server:
    """One way to serve a model.

    `command` gives the command line for a place, `settings` what is added to the environment; `forms` are other forms
    that it is asked in, by name.
    """

    name: str
    kind: Kind
    form: Form
    command: Callable[[Place], Sequence[str]]
    settings: Callable[[Place], Mapping[str, str]] = lambda place: {}
    forms: Mapping[str, Form] = field(default_factory=dict)


@dataclass(frozen=True)
class Running:
    """A server that has answered its first request. `started_s` is how many seconds that took."""

    server: Server
    model: Model
    process: Process
    port: int
    started_s: float = float("nan")


def launch(server: Server, model: Model, folder: Path) -> Running:
    """Start a server without waiting for it.

    Raises:
        NotStarted: its command cannot be made or run.
    """
    place = Place(model, folder / server.name.replace(" ", "-"), free_port())
    place.folder.mkdir(parents=True, exist_ok=True)
    settings = {**ONE_THREAD, "PORT": str(place.port), "MODEL_FILE": str(model.file), "WORKERS": str(WORKERS)}
    try:
        process = start(server.command(place), place.folder, {**settings, **server.settings(place)})
    except OSError as error:
        raise NotStarted(str(error)) from None
    return Running(server, model, process, place.port)


def settled(running: Running) -> Running:
    """Wait until a launched server answers one row.

    Raises:
        NotStarted: it does not.
    """
    asked = running.server.form.message(running.model.rows[:1])

    def status() -> int:
        return exchange(running.port, asked).status

    took = answers_from(running.process, status, PATIENCE)
    return Running(running.server, running.model, running.process, running.port, took)


@contextlib.contextmanager
def serving(server: Server, model: Model, folder: Path) -> Iterator[Running]:
    """One server for the length of a block. Some have fixed time-outs when they start, so each has a second attempt.

    Raises:
        NotStarted: it does not come up.
    """
    try:
        running = _up(server, model, folder)
    except NotStarted:
        running = _up(server, model, folder)
    try:
        yield running
    finally:
        running.process.end()


def _up(server: Server, model: Model, folder: Path) -> Running:
    running = launch(server, model, folder)
    try:
        return settled(running)
    except BaseException:
        running.process.end()
        raise


def exchange(port: int, asked: bytes) -> Answer:
    """One request on a connection of its own.

    Raises:
        OSError, http.client.HTTPException: nobody answers.
    """
    head, _, body = asked.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    method, path, _ = first.split(" ")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request(method, path, body, dict(line.split(": ", 1) for line in lines))
        response = connection.getresponse()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


def wrong_answers(form: Form, model: Model, batches: Sequence[Sequence[int]], answers: Sequence[bytes]) -> int:
    """How many of the answers to these batches of rows differ from what the pipeline says; a missing one does not."""
    wrong = 0
    for batch, answer in zip(batches, answers, strict=True):
        if answer:
            wrong += not _right(form, [model.expected[at] for at in batch], answer)
    return wrong


def _right(form: Form, expected: Sequence[float], answer: bytes) -> bool:
    try:
        said = form.read(parse_answer(answer))
    except (ValueError, KeyError, TypeError, IndexError):
        return False
    return len(said) == len(expected) and all(
        abs(one - other) <= TOLERANCE for one, other in zip(said, expected, strict=True)
    )


def ours(runtime: Literal["onnx", "python"] = "onnx", name: str = "", options: Sequence[str] = ()) -> Server:
    """Our server with schema check, metrics and records on, and authentication off."""

    def command(place: Place) -> Sequence[str]:
        made = [sys.executable, "-m", "modelyard.serving", "--bundle", str(place.model.bundle(runtime).path)]
        made += ["--name", "bench", "--port", str(place.port), "--home", str(place.folder / "home")]
        made += ["--python", sys.executable] if runtime == "python" else []
        return [*made, "--workers", str(WORKERS), *options]

    kind: Kind = "compiled" if runtime == "onnx" else "native"
    forms = {"protocol": PROTOCOL, "binary": BINARY, "arrow": ARROW_STREAM}
    return Server(name or f"modelyard {kind}", kind, OURS, command, lambda place: OUR_PATHS, forms)


def floor() -> Server:
    """Bare uvicorn with a plain ASGI application that sends a fixed reply."""

    def command(place: Place) -> Sequence[str]:
        options = ["--port", str(place.port), "--workers", str(WORKERS), "--lifespan", "off", "--ws", "none"]
        options += ["--no-access-log", "--log-level", "warning"]
        return [sys.executable, "-m", "uvicorn", "benchmarks.serving.bare:app", *options]

    return Server("bare uvicorn", "floor", FIXED, command, lambda place: OUR_PATHS)
