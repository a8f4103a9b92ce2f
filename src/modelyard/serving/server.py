"""The server process: one socket, one event loop, the parts joined, and an orderly end."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from modelyard import __version__
from modelyard.domain.desired import Deployment, DesiredState
from modelyard.errors import PolicyDenied, ServiceUnreachable
from modelyard.home import Home
from modelyard.records.log import LabelLog, PredictionLog
from modelyard.serving.actions import Services
from modelyard.serving.app import MAX_BODY_BYTES, Application
from modelyard.serving.desired import DesiredFollower, DesiredSource, write_whole
from modelyard.serving.opening import open_version
from modelyard.serving.plane import DataPlane

_log = logging.getLogger("modelyard.serving")

_BACKLOG = 2048
DRAIN_SECONDS = 30
KEEP_ALIVE_SECONDS = 75
"""Longer than the pools of usual clients and balancers, so that none sends on a connection just being closed."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to serve: either the one `deployment`, or what the address `desired` says."""

    home: Home
    deployment: Deployment | None = None
    desired: str | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    fd: int | None = None
    """A listening socket that was inherited; `host` and `port` do not matter then."""
    announce: Path | None = None
    records: Path | None = None
    python: Path | None = None
    allow_remote: bool = False
    max_body: int = MAX_BODY_BYTES


def check_host(host: str, allow_remote: bool) -> str:
    """The host to listen on, if that is allowed: there are no keys and no TLS yet, so only this machine may call.

    Raises:
        PolicyDenied: for an address that others can reach, unless `allow_remote`.

    >>> check_host("localhost", False)
    'localhost'
    """
    if allow_remote or _is_loopback(host):
        return host
    raise PolicyDenied(
        f"refused to listen on {host}: others could call it, and calls are not authenticated or encrypted; "
        "use 127.0.0.1, or allow it with --allow-remote"
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def _listener(options: Options) -> socket.socket:
    if options.fd is None:
        return listen(check_host(options.host, options.allow_remote), options.port)
    listener = socket.socket(fileno=options.fd)
    check_host(listener.getsockname()[0], options.allow_remote)
    listener.setblocking(False)
    return listener


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 picks a free one. Callers wait from now on, until the server takes them.

    Raises:
        ServiceUnreachable: the address is taken or not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ServiceUnreachable(f"cannot listen on {host}, port {port}: {error.strerror}") from None
    listener.setblocking(False)
    return listener


def url_of(listener: socket.socket) -> str:
    """The address that clients use."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Protocol(HttpToolsProtocol):
    """Answers unreadable HTTP in the same form as every other error."""

    def send_400_response(self, msg: str) -> None:
        body = msgspec.json.encode({"error": msg, "code": "InvalidRequest"})
        head = (
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n"
            b"content-length: " + str(len(body)).encode() + b"\r\n\r\n"
        )
        self.transport.write(head + body)
        self.transport.close()


class _Server(uvicorn.Server):
    """Tells when it listens, and when it is asked to stop."""

    def __init__(self, config: uvicorn.Config, listening: Callable[[], None], stopping: Callable[[], None]) -> None:
        super().__init__(config)
        self._listening, self._stopping = listening, stopping

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listening()

    def handle_exit(self, sig: int, frame: Any) -> None:
        self._stopping()
        super().handle_exit(sig, frame)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Uvicorn's own raises the signal again at the end, which would kill the process before its parts are closed.
        before = {sig: signal.signal(sig, self.handle_exit) for sig in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for sig, handler in before.items():
                signal.signal(sig, handler)


def serve(options: Options) -> None:
    """Serve until told to stop (SIGTERM, SIGINT), then finish the requests there are.

    Raises:
        PolicyDenied: the address is not this machine's own, and that is not allowed.
        ServiceUnreachable: the address is taken.
        RecordNotKept: the records folder cannot be written.
    """
    listener = _listener(options)
    with _joined(options) as (application, plane):
        config = uvicorn.Config(
            application,
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )

        def listening() -> None:
            _log.info("listening on %s", url_of(listener))
            if options.announce is not None:
                document = {"url": url_of(listener), "pid": os.getpid()}
                write_whole(options.announce, msgspec.json.encode(document))

        def stopping() -> None:
            plane.draining = True

        _Server(config, listening, stopping).run(sockets=[listener])


@contextlib.contextmanager
def _joined(options: Options) -> Iterator[tuple[Application, DataPlane]]:
    """All parts, put together; taken apart at the end, the model processes last."""
    home = options.home.create()
    directory = options.records or home.records
    plane = DataPlane(lambda deployment: open_version(deployment, home, options.python))
    with contextlib.ExitStack() as parts:
        records, labels = PredictionLog(directory), LabelLog(directory)
        parts.callback(records.close)
        parts.callback(labels.close)
        parts.callback(plane.close)
        facts: Callable[[], dict[str, Any]] = dict
        if options.desired is not None:
            plane.waiting_for = f"no desired state from {options.desired} yet"
            follower = DesiredFollower(DesiredSource(options.desired), home.run / "desired.json", plane.apply)
            facts = follower.facts
            follower.start()
            parts.callback(follower.close)
        elif options.deployment is not None:
            plane.apply(DesiredState(0, (options.deployment,)))
        services = Services(plane, labels, __version__, facts)
        yield Application(services, records, options.max_body), plane
