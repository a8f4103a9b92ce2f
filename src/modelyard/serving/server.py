"""How to serve, and where: the options of a data plane and its listening sockets."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from modelyard.domain.desired import Deployment
from modelyard.errors import PolicyDenied, ServiceUnreachable
from modelyard.home import Home
from modelyard.serving.rights import AdminToken

BACKLOG = 4096
"""Connections that may wait in the kernel's queue; the kernel has a limit of its own (``net.core.somaxconn``)."""

DRAIN_SECONDS = 30.0
MAX_BODY_BYTES = 64 * 1024 * 1024


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
    grpc_port: int | None = None
    """Where gRPC is served, 0 for any free port; None for nowhere."""
    workers: int = 0
    """How many processes answer; 0 for one a core."""
    admin: AdminToken | None = None
    """What callers show who may load and unload; None lets nobody."""
    memory_budget: int | None = None
    """Bytes that workers and model processes may hold in all before versions are unloaded; None for no limit."""
    announce: Path | None = None
    records: Path | None = None
    python: Path | None = None
    allow_remote: bool = False
    max_body: int = MAX_BODY_BYTES
    max_rows: int | None = None
    """The most rows that one request may have; None for as many as fit its body."""
    objective_ms: float | None = None
    """The latency to keep where a deployment says nothing of its own."""
    fsync: Literal["never", "always"] = "never"
    drain_seconds: float = DRAIN_SECONDS
    """How long open requests may take once the server is told to stop."""
    grace_seconds: float = 0.0
    """How long connections are still taken then, while readiness says no: so that a balancer can notice first."""

    @property
    def crew(self) -> int:
        """How many processes answer."""
        return self.workers or cores()

    @property
    def threads(self) -> int:
        """How many threads the model of one worker may compute with: its share of the cores."""
        return max(1, cores() // self.crew)


def cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Processor cores this process may use, as its affinity and its control group's quota say; at least 1."""
    allowed = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError):
        quota, _, period = (cgroup / "cpu.max").read_text().partition(" ")
        allowed = min(allowed, -(-int(quota) // int(period)))
    with contextlib.suppress(OSError, ValueError):
        spent, per = (int((cgroup / "cpu" / f"cpu.cfs_{what}_us").read_text()) for what in ("quota", "period"))
        allowed = min(allowed, -(-spent // per)) if spent > 0 else allowed
    return max(allowed, 1)


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


def listener_of(options: Options) -> socket.socket:
    """The socket to take connections from: the inherited one, or a new one.

    Raises:
        PolicyDenied: the address is not this machine's own, and that is not allowed.
        ServiceUnreachable: the address is taken.
    """
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
    listener = _bound(host, port, socket.SO_REUSEADDR)
    listener.listen(BACKLOG)
    return listener


def reserve(host: str, port: int) -> socket.socket:
    """A socket that keeps a port for workers that listen on it themselves, side by side; it takes nothing itself.

    Raises:
        ServiceUnreachable: the address is taken or not this machine's.
    """
    return _bound(host, port, socket.SO_REUSEPORT)


def _bound(host: str, port: int, sharing: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, sharing, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise ServiceUnreachable(f"cannot listen on {host}, port {port}: {error.strerror}") from None
    bound.setblocking(False)
    return bound


def url_of(listener: socket.socket) -> str:
    """The address that clients use."""
    return f"http://{address_of(listener)}"


def address_of(listener: socket.socket) -> str:
    """Host and port, as they stand in an address."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
