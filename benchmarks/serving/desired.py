"""A control plane for scenarios: it says what our server is to serve, and the server follows it."""

from __future__ import annotations

import contextlib
import http.client
import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

from benchmarks.serving.forms import OURS
from benchmarks.serving.processes import NotStarted
from benchmarks.serving.servers import OUR_PATHS, PATIENCE, WORKERS, Place, Running, Server
from modelyard.bundle.layout import Bundle
from modelyard.domain.desired import Deployment, DesiredState


class Wanted:
    """Says what is wanted, at `url`. `set` asks for something else; `generation` counts how often that was."""

    def __init__(self, deployments: Sequence[Deployment]) -> None:
        self.generation = 0
        self._body = b""
        self.set(deployments)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/desired-state"

    def set(self, deployments: Sequence[Deployment]) -> None:
        """From now on, this is wanted."""
        self.generation += 1
        self._body = msgspec.json.encode(DesiredState(self.generation, tuple(deployments)))

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Answer for the length of a block."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def answer(self, known: str | None) -> tuple[int, str, bytes]:
        """Status, tag and body for a caller that has the state with the tag `known`."""
        tag = f'"{self.generation}"'
        return (304, tag, b"") if known == tag else (200, tag, self._body)


def _handler(wanted: Wanted) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, tag, body = wanted.answer(self.headers.get("If-None-Match"))
            self.send_response(status)
            self.send_header("ETag", tag)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            """Say nothing."""

    return Handler


def deployment(name: str, version: int, bundle: Bundle) -> Deployment:
    """A wish for a version of this bundle's model."""
    return Deployment(name, "bench", version, bundle.digest, str(bundle.path))


def following(wanted: Wanted, options: Sequence[str] = ()) -> Server:
    """Our server, which serves what is wanted."""

    def command(place: Place) -> Sequence[str]:
        made = [sys.executable, "-m", "modelyard.serving", "--desired", wanted.url, "--port", str(place.port)]
        made += ["--home", str(place.folder / "home"), "--python", sys.executable, "--workers", str(WORKERS)]
        return [*made, *options]

    return Server("modelyard", "compiled", OURS, command, lambda place: OUR_PATHS)


def asked_for_json(port: int, path: str) -> Any:
    """A JSON document from our server."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())


def settled_on(running: Running, wanted: Wanted) -> None:
    """Wait until every worker answers with what is wanted now.

    Raises:
        NotStarted: it does not happen; the message says what the server tells.
    """
    deadline = time.monotonic() + PATIENCE
    status = None
    while time.monotonic() < deadline and running.process.root.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            status = asked_for_json(running.port, "/status")
            states = {one["state"] for one in status["deployments"]}
            if status["generation"] == wanted.generation and states == {"READY"} and status["ready"]:
                return
        time.sleep(0.02)
    raise NotStarted(f"not ready for generation {wanted.generation}: {status}; {running.process.tail()}")
