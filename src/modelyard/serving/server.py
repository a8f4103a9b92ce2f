"""The server process: one socket, one event loop, the parts joined, and an orderly end."""

from __future__ import annotations

import asyncio
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
import uvloop

from modelyard import __version__
from modelyard.domain.desired import Deployment, DesiredState
from modelyard.errors import PolicyDenied, ServiceUnreachable
from modelyard.home import Home
from modelyard.records.log import LabelLog, PredictionLog
from modelyard.serving.actions import Services
from modelyard.serving.answering import Answering
from modelyard.serving.app import MAX_BODY_BYTES, Application
from modelyard.serving.desired import DesiredFollower, DesiredSource, write_whole
from modelyard.serving.http1 import Connections, HttpConnection, Limits
from modelyard.serving.meters import Meters
from modelyard.serving.opening import open_version
from modelyard.serving.plane import DataPlane

_log = logging.getLogger("modelyard.serving")

_BACKLOG = 2048
DRAIN_SECONDS = 30.0
SWEEP_SECONDS = 0.5


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


def serve(options: Options) -> None:
    """Serve until told to stop (SIGTERM, SIGINT), then finish the requests there are.

    Raises:
        PolicyDenied: the address is not this machine's own, and that is not allowed.
        ServiceUnreachable: the address is taken.
        RecordNotKept: the records folder cannot be written.
    """
    listener = _listener(options)
    with _joined(options) as parts:
        uvloop.run(_run(options, listener, parts))


async def _run(options: Options, listener: socket.socket, parts: _Parts) -> None:
    """Answer until a signal says stop; then finish what there is."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    answering = Answering(parts.plane, parts.records, parts.meters)
    application = Application(parts.services, answering, options.max_body)
    connections = Connections(Limits(body=options.max_body))
    server = await loop.create_server(lambda: HttpConnection(application, connections), sock=listener, backlog=_BACKLOG)
    _log.info("listening on %s", url_of(listener))
    if options.announce is not None:
        document = {"url": url_of(listener), "pid": os.getpid()}
        write_whole(options.announce, msgspec.json.encode(document))
    while not stop.is_set():
        connections.sweep()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), SWEEP_SECONDS)
    parts.plane.draining = True
    server.close()
    await drain(connections, answering, DRAIN_SECONDS)
    answering.close()


async def drain(connections: Connections, answering: Answering, seconds: float) -> None:
    """Answer what was asked, for at most so long; then close what is left."""
    connections.drain()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await answering.drained()
            while connections.busy():
                await asyncio.sleep(0.01)
    connections.abort()
    await asyncio.sleep(0)  # lets the sockets close


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a server is made of."""

    plane: DataPlane
    records: PredictionLog
    services: Services
    meters: Meters


@contextlib.contextmanager
def _joined(options: Options) -> Iterator[_Parts]:
    """All parts, put together; taken apart at the end, the model processes last."""
    home = options.home.create()
    directory = options.records or home.records
    meters = Meters()
    plane = DataPlane(lambda deployment: open_version(deployment, home, options.python, meters))
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
        yield _Parts(plane, records, services, meters)
