"""Both planes on this machine: who listens where, and that a home has them once."""

from __future__ import annotations

import fcntl
import ipaddress
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from modelyard.control import announce
from modelyard.control.announce import Announcement
from modelyard.control.supervisor import Program, Supervisor
from modelyard.errors import Conflict, PolicyDenied
from modelyard.home import Home

CONTROL, DATA, MONITOR, SHIPPER = "control plane", "data plane", "monitor", "shipper"
RETRAINING = "retraining"

_BACKLOG = 4096


@dataclass(frozen=True, slots=True)
class Running:
    """The planes that run on a home: the supervisor's process and each plane's address."""

    pid: int
    control: Announcement
    data: Announcement


@dataclass(frozen=True, slots=True)
class Options:
    """Where to listen. Ports of 0 mean any free one."""

    host: str = "127.0.0.1"
    port: int = 8080
    control_port: int = 0
    allow_remote: bool = False
    serving: tuple[str, ...] = ()
    """More words for the data plane's command line."""


def running(home: Home) -> Running | None:
    """The planes that run on `home` now; None when there are none, or they are still starting."""
    if not _is_held(_lock_file(home)):
        return None
    try:
        return msgspec.json.decode(_up_file(home).read_bytes(), type=Running)
    except FileNotFoundError:
        return None


def await_running(home: Home, seconds: float = 30.0) -> Running | None:
    """As `running`, but planes that are still starting are waited for."""
    until = time.monotonic() + seconds
    while (there := running(home)) is None and _is_held(_lock_file(home)) and time.monotonic() < until:
        time.sleep(0.1)
    return there


def supervise(
    home: Home,
    options: Options,
    stop: threading.Event,
    tell: Callable[[str], None],
    ready: Callable[[Running], None],
) -> None:
    """Run both planes on `home` until `stop` is set; `ready` is called once, when both listen.

    Raises:
        Conflict: they already run on this home, or a port is taken.
        PolicyDenied: an address that others could reach, without `allow_remote`.
        Failed: a plane cannot start.
    """
    _check_host(options)
    home.create()
    with (
        _only_one(home),
        _listen("127.0.0.1", options.control_port, "--control-port") as control,
        _listen(options.host, options.port, "--port", patience=5.0) as data,
    ):
        say = _announcer(home, ready)
        listening = [_control(home, control), _data(home, options, control, data)]
        Supervisor([*listening, _monitor(home), _shipper(home), _retraining(home)], tell, say).run(stop)


def _announcer(home: Home, ready: Callable[[Running], None]) -> Callable[[dict[str, Announcement]], None]:
    """Keep ``run/up.json`` true, and call `ready` when it is first complete."""
    told = False

    def say(known: dict[str, Announcement]) -> None:
        nonlocal told
        if CONTROL in known and DATA in known:
            present = Running(os.getpid(), known[CONTROL], known[DATA])
            announce.write(_up_file(home), present)
            if not told:
                told = True
                ready(present)

    return say


def _control(home: Home, listener: socket.socket) -> Program:
    """The control plane, on a socket that outlives its process: during a restart its callers wait, none is refused."""
    file = home.run / "control.json"
    where = ["--home", home.path, "--fd", listener.fileno(), "--announce", file]
    command = _python("modelyard.control", *where, "--routes", "modelyard.retraining.routes")
    return Program(CONTROL, lambda _before: command, file, fds=(listener.fileno(),))


def _data(home: Home, options: Options, control: socket.socket, listener: socket.socket) -> Program:
    """The data plane, on a socket that outlives its processes too."""
    file = home.run / "serving.json"
    desired = f"http://127.0.0.1:{control.getsockname()[1]}/desired-state"
    where = ["--desired", desired, "--fd", listener.fileno(), *(["--allow-remote"] if options.allow_remote else [])]
    keep = ["--announce", file, "--records", home.records, "--home", home.path, *options.serving]
    command = _python("modelyard.serving", *where, *keep)
    return Program(DATA, lambda _before: command, file, fds=(listener.fileno(),))


def _monitor(home: Home) -> Program:
    """The monitor, which listens nowhere."""
    file = home.run / "monitor.json"
    command = _python("modelyard.control.monitoring", "--home", home.path, "--announce", file)
    return Program(MONITOR, lambda _before: command, file)


def _shipper(home: Home) -> Program:
    """The shipper of records, which listens nowhere either."""
    file = home.run / "shipper.json"
    command = _python("modelyard.control.shipping", "--home", home.path, "--announce", file)
    return Program(SHIPPER, lambda _before: command, file)


def _retraining(home: Home) -> Program:
    """What looks after deployments whose models are trained again by themselves."""
    file = home.run / "retraining.json"
    command = _python("modelyard.retraining.following", "--home", home.path, "--announce", file)
    return Program(RETRAINING, lambda _before: command, file)


def _python(module: str, *arguments: object) -> list[str]:
    """This Python with `module`; the folder that happens to be current is not searched for modules."""
    return [sys.executable, "-P", "-m", module, *map(str, arguments)]


def _check_host(options: Options) -> None:
    if not options.allow_remote and not _is_loopback(options.host):
        raise PolicyDenied(
            f"{options.host} can be reached from other machines, and nothing asks callers who they are yet: "
            "listen on 127.0.0.1, or say --allow-remote if the network in front of it does"
        )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def _listen(host: str, port: int, option: str, patience: float = 0.0) -> Iterator[socket.socket]:
    """A listening socket; a port that a stopped server is just giving back is waited for."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    until = time.monotonic() + patience
    while True:
        try:
            listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
            break
        except OSError as error:
            if time.monotonic() >= until:
                raise Conflict(f"cannot listen on {host}:{port} ({error.strerror}): choose another {option}") from error
            time.sleep(0.1)
    with listener:
        yield listener


@contextmanager
def _only_one(home: Home) -> Iterator[None]:
    """Hold the home's lock while the planes run; the system gives it back if this process is killed."""
    with _lock_file(home).open("w") as handle:
        _take(handle, home)
        _up_file(home).unlink(missing_ok=True)  # a killed one leaves its own
        try:
            yield
        finally:
            _up_file(home).unlink(missing_ok=True)


def _take(handle: IO[str], home: Home, tries: Sequence[float] = (0.05, 0.1, 0.2, 0.0)) -> None:
    """Take the lock, or raise. Tried a few times: whoever asks `running` holds it for a moment."""
    for pause in tries:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(pause)
    there = running(home)
    where = f", at {there.data.url} (pid {there.pid})" if there else ""
    raise Conflict(f"Modelyard is already up on this home{where}: stop that one first, or set another MODELYARD_HOME")


def _is_held(lock: Path) -> bool:
    try:
        with lock.open() as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _lock_file(home: Home) -> Path:
    return home.run / "up.lock"


def _up_file(home: Home) -> Path:
    return home.run / "up.json"
