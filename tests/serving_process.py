"""A real data plane in its own process, and a place that tells it what to serve, for scenarios and fault tests."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec

from modelyard.domain.desired import DesiredState

PATIENCE = 60.0


def until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """Wait until `condition` holds and give back what it said."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"it never happened: {what}"
        time.sleep(0.01)
    return found


@dataclass
class Reply:
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class ServingProcess:
    """A running ``python -m modelyard.serving``."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        return host, int(port)

    def ask(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Reply:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection(*self.address, timeout=PATIENCE)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            response = connection.getresponse()
            return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def get(self, path: str) -> Reply:
        return self.ask("GET", path)

    def post(self, path: str, document: Any) -> Reply:
        return self.ask("POST", path, json.dumps(document).encode())

    def wait_ready(self) -> None:
        """Wait until everything answers; fails with the reason and the log when it does not."""
        reason = "never asked"

        def ready() -> bool:
            nonlocal reason
            assert self.process.poll() is None, self.log.read_text()
            reply = self.get("/v2/health/ready")
            reason = reply.json.get("reason", "")
            return reply.status == 200

        try:
            until(ready, "ready")
        except AssertionError as error:
            raise AssertionError(f"not ready: {reason}\n{self.log.read_text()}") from error

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(PATIENCE)


def start(folder: Path, *arguments: object, fds: tuple[int, ...] = ()) -> ServingProcess:
    """Start a data plane whose files are in `folder`, and wait until it listens."""
    folder.mkdir(parents=True, exist_ok=True)
    announce, log = folder / "announce.json", folder / "log.txt"
    announce.unlink(missing_ok=True)
    home = folder / "home"
    command = [sys.executable, "-P", "-m", "modelyard.serving", *map(str, arguments)]
    command += ["--announce", str(announce), "--home", str(home)]
    command += [] if fds else ["--port", "0"]
    with log.open("ab") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, pass_fds=fds, env=os.environ | {"PYTHONUNBUFFERED": "1"}
        )

    def announced() -> Any:
        assert process.poll() is None, log.read_text()
        return announce.exists()

    until(announced, "listening")
    return ServingProcess(process, json.loads(announce.read_bytes())["url"], log)


@contextlib.contextmanager
def serving(folder: Path, *arguments: object) -> Iterator[ServingProcess]:
    """A data plane for the length of a block."""
    server = start(folder, *arguments)
    try:
        yield server
    finally:
        server.stop()


@dataclass
class ControlPlane:
    """Tells a data plane what to serve, as the control plane's address does."""

    state: DesiredState = field(default_factory=lambda: DesiredState(0))
    asked: int = 0
    unchanged: int = 0
    _server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.server_address[1]}/desired-state"

    def start(self, port: int = 0) -> int:
        """Answer from now on; the port."""
        plane = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if plane._server is None:
                    self.close_connection = True
                    return
                plane.asked += 1
                etag = f'"{plane.state.generation}"'
                same = self.headers.get("If-None-Match") == etag
                plane.unchanged += same
                body = b"" if same else msgspec.json.encode(plane.state)
                self.send_response(304 if same else 200)
                self.send_header("ETag", etag)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Say nothing."""

        ThreadingHTTPServer.daemon_threads = True
        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """Answer no more."""
        if self._server is not None:
            server, self._server = self._server, None
            server.shutdown()
            server.server_close()
