"""The native form in a process and an environment of its own."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from modelyard.domain.deaths import Death, ended_how
from modelyard.domain.frame import Answers, Frame
from modelyard.domain.manifest import Manifest
from modelyard.errors import EnvironmentFailed, ModelFailed, RowsRefused, RuntimeLost
from modelyard.niceness import pass_on
from modelyard.runtime.host import __file__ as _host_package
from modelyard.runtime.host import wire
from modelyard.runtime.host.serve import Stream

_HOST = Path(_host_package).with_name("__main__.py")
_LOG = logging.getLogger("modelyard.model")
_LAST_LINES = 20
_CLOSING = 2.0
_HUNG_UP = 0.2
"""Seconds in which a process that has closed its socket has to end by itself."""

_IDLE, _IDLE_TIMES = 1.0, 5.0
_GLANCE = 0.2
"""Seconds between two looks at whether a process that computes uses the processor."""

_LONGEST_LINE = 8192
_LINES_A_SECOND = 50
_BREATH = 0.005
"""Pause after each piece that is thrown away, so that a model that prints endlessly costs next to nothing here."""

_PASSED_ON = frozenset(
    {"PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES"}
)
"""What a model's process gets of the server's environment. The rest may hold secrets and would move results."""

_POOLS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "LOKY_MAX_CPU_COUNT",
)


class PythonRuntime:
    """A version's native form, computed by a process that runs `python`, the interpreter of its environment.

    The process is started by the constructor, ends with this process whatever happens to it, and answers one call at
    a time. When it dies, calls raise `RuntimeLost` until `restart`.

    Raises:
        EnvironmentFailed: the interpreter cannot be started, or a module that the model needs is not there.
        ModelFailed: the model cannot be loaded.
    """

    def __init__(
        self,
        bundle_dir: Path,
        manifest: Manifest,
        python: Path,
        threads: int = 1,
        timeout: float = 60,
        load_timeout: float = 300,
    ) -> None:
        if manifest.native is None:
            raise ModelFailed(f"{manifest.name}: the bundle has no native form to run in Python")
        self._bundle_dir, self._manifest = Path(bundle_dir).resolve(), manifest
        self._python, self._threads = Path(python), threads
        self._timeout, self._load_timeout = timeout, load_timeout
        self._columns = [column.name for column in manifest.schema.columns]
        self._inputs = [column.kind.value for column in manifest.schema.columns]
        self._outputs = {output.name: (at, output.kind.value) for at, output in enumerate(manifest.schema.outputs)}
        self._shapes = {output.name: output.shape for output in manifest.schema.outputs}
        self._lock = threading.Lock()
        self._closed = False
        self._expected: Callable[[int], float] | None = None
        self._process = self._started()

    @property
    def pid(self) -> int:
        """The process that computes now."""
        return self._process.pid

    def alive(self) -> bool:
        """Whether that process runs."""
        return not self._closed and self._process.alive()

    def ended(self) -> int | None:
        """The exit code of that process (negative: the signal that killed it); None while it runs."""
        return self._process.ended()

    def set_patience(self, timeout: float, expected: Callable[[int], float] | None) -> None:
        """End calls that take longer than `timeout` seconds, and those that hang.

        A call hangs when it takes longer than a second and five times the `expected` seconds for its rows, and its
        process and their children have neither used nor waited for the processor for a second.
        """
        self._timeout, self._expected = timeout, expected

    def predict(self, frame: Frame, outputs: Sequence[str] | None = None) -> Answers:
        """Answer every row; see `modelyard.runtime.interface.Runtime.predict`."""
        wanted = list(self._outputs) if outputs is None else [name for name in self._outputs if name in outputs]
        bits = sum(1 << self._outputs[name][0] for name in wanted)
        cells = [(frame.columns[name].values, frame.columns[name].missing) for name in self._columns]
        message = wire.call(frame.rows, bits, self._inputs, cells)
        with self._lock:
            process = self._able()
            idle = None if self._expected is None else max(_IDLE, _IDLE_TIMES * self._expected(frame.rows))
            kind, body = process.exchange(message, self._timeout, idle)
        if kind not in (wire.ANSWERS, wire.REFUSED, wire.BROKEN):
            process.kill()
            raise RuntimeLost(f"the model's process sent something that is no answer: a message of kind {kind}")
        if kind == wire.REFUSED:
            raise RowsRefused(_text(body))
        if kind == wire.BROKEN:
            raise ModelFailed(_text(body))
        try:
            arrays = wire.read_answers([self._outputs[name][1] for name in wanted], body, frame.rows)
        except wire.Malformed as broken:
            process.kill()
            raise RuntimeLost(f"the model's process sent something that is no answer: {broken}") from broken
        found = dict(zip(wanted, arrays, strict=True))
        self._check_shapes(process, found, frame.rows)
        return found

    def _check_shapes(self, process: _Process, found: Answers, rows: int) -> None:
        """A process that is not ours to trust has to keep to the schema, since others rely on it."""
        for name, array in found.items():
            got, wanted = array.shape, (rows, *self._shapes[name])
            if got != wanted and (
                len(got) != len(wanted) or any(w not in (-1, g) for g, w in zip(got, wanted, strict=True))
            ):
                process.kill()
                raise RuntimeLost(f"the model's process answered {name!r} in shape {got}, not {wanted}")

    def _able(self) -> _Process:
        """The process, or a new one where the last call was interrupted: its answer may still be on the way."""
        if self._process.interrupted and not self._closed:
            self._process.close()
            self._process = self._started()
        return self._process

    def restart(self) -> None:
        """Replace the process by a new one, dead or not.

        Raises:
            RuntimeLost: this runtime is closed.
            EnvironmentFailed, ModelFailed: as when it was made.
        """
        with self._lock:
            if self._closed:
                raise RuntimeLost("this runtime is closed")
            self._process.close()
            self._process = self._started()

    def close(self) -> None:
        """End the process. Calling it twice is harmless."""
        self._closed = True
        self._process.close()

    def _started(self) -> _Process:
        process = _Process(self._python, self._threads)
        try:
            self._load(process)
        except BaseException:
            process.close()
            raise
        return process

    def _load(self, process: _Process) -> None:
        code = self._bundle_dir / "code"
        order = {
            "bundle": str(self._bundle_dir),
            "native": msgspec.to_builtins(self._manifest.native),
            "schema": msgspec.to_builtins(self._manifest.schema),
            "code": str(code) if code.is_dir() else None,
        }
        try:
            kind, body = process.exchange(wire.message(wire.OPEN, [json.dumps(order).encode()]), self._load_timeout)
        except RuntimeLost as lost:
            raise ModelFailed(f"{self._manifest.name}: the model could not be loaded: {lost}") from lost
        if kind != wire.READY:
            raise self._not_loaded(json.loads(bytes(body)))

    def _not_loaded(self, reason: dict[str, Any]) -> EnvironmentFailed | ModelFailed:
        name, module = self._manifest.name, reason.get("module")
        if module is None:
            return ModelFailed(f"{name}: the model could not be loaded: {reason.get('text')}")
        return EnvironmentFailed(
            f"{name}: the model needs the module {module!r}, but neither its environment nor the bundle's code has it"
        )


def _text(body: memoryview) -> str:
    return bytes(body).decode("utf-8", "replace")


class _Process:
    """One process, its socket, and the last lines that it printed. It ends with this object at the latest."""

    def __init__(self, python: Path, threads: int) -> None:
        ours, theirs = socket.socketpair()
        folder = tempfile.mkdtemp(prefix="modelyard-model-")
        try:
            self._child = _spawn(python, threads, theirs.fileno(), folder)
        except OSError as broken:
            ours.close()
            shutil.rmtree(folder, ignore_errors=True)
            raise EnvironmentFailed(
                f"the interpreter {python.name!r} of the model's environment cannot be started: {broken.strerror}"
            ) from broken
        finally:
            theirs.close()
        self._socket, self._stream = ours, Stream(ours)
        self._printed: deque[str] = deque(maxlen=_LAST_LINES)
        self._reader = threading.Thread(target=_listen, args=(self._child.stderr, self._printed), daemon=True)
        self._reader.start()
        self.close = weakref.finalize(self, _end, ours, self._child, self._reader, folder)
        self.pid = self._child.pid
        self.interrupted = False
        self._number = -1

    def alive(self) -> bool:
        """Whether the process runs."""
        return self._child.poll() is None

    def ended(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._child.poll()

    def exchange(self, message: bytes, timeout: float, idle: float | None = None) -> tuple[int, memoryview]:
        """Send a message and wait for the answer to it, and no longer for a process that hangs for `idle` seconds.

        Raises:
            RuntimeLost: the process is gone, or does not answer in time and was stopped.
        """
        self._number = (self._number + 1) & 0xFFFFFFFF
        try:
            self._socket.settimeout(timeout)
            self._stream.send(wire.numbered(message, self._number))
            if idle is not None:
                self._look_on(timeout, idle)
            kind, body = self._stream.receive()
            if self._stream.number != self._number:
                raise wire.Malformed(f"the answer to message {self._stream.number} in place of {self._number}")
            return kind, body
        except _Hung as hung:
            self.kill()
            raise RuntimeLost(f"the model's process hung and was stopped ({hung})") from hung
        except TimeoutError as late:
            self.kill()
            raise RuntimeLost(f"the model's process gave no answer within {timeout:g} s and was stopped") from late
        except (EOFError, OSError) as gone:
            raise RuntimeLost(self._epitaph()) from gone
        except wire.Malformed as broken:
            self.kill()
            raise RuntimeLost(f"the model's process sent something that is no answer: {broken}") from broken
        except BaseException:  # such as Ctrl-C: the next message would be answered by the answer to this one
            self.interrupted = True
            self.kill()
            raise

    def _look_on(self, timeout: float, idle: float) -> None:
        """Wait until an answer begins to arrive; raises `_Hung` when the process only sits there, or `TimeoutError`."""
        ready = select.poll()
        ready.register(self._socket, select.POLLIN)
        start = time.monotonic()
        moved, used = start, -1
        while not ready.poll(1000 * min(_GLANCE, timeout)):
            now, seen = time.monotonic(), processor_time(self.pid)
            if now - start > timeout:
                raise TimeoutError
            if seen < 0 or used < 0 or seen - used > 1:  # a process that only looks at its clock needs a tick or so
                moved, used = now, seen
            if now - start >= idle and now - moved >= _IDLE:
                raise _Hung(f"no answer for {now - start:.1f} s, and no use of the processor")

    def kill(self) -> None:
        """End the process at once, and what it started."""
        _kill_group(self._child)
        self._child.wait()

    def _epitaph(self) -> str:
        try:
            self._child.wait(_HUNG_UP)
        except subprocess.TimeoutExpired:
            self.kill()
        self._reader.join(0.2)
        status = self._child.returncode
        how = "is gone" if status is None else ended_how(Death(status))
        tail = "\n".join(self._printed)
        return f"the model's process {how}" + (f"; it last printed:\n{tail}" if tail else "")


class _Hung(Exception):
    """The process neither answers nor computes."""


def processor_time(pid: int) -> int:
    """Clock ticks that the process and its children have used; -1 when one of them waits for the processor or a disk.

    >>> processor_time(os.getpid())  # this process runs, or it could not ask
    -1
    """
    total = 0
    for task in _tasks(pid):
        try:
            fields = (task / "stat").read_text().rpartition(")")[2].split()
            children = (task / "children").read_text().split()
        except (OSError, ValueError):
            continue
        if fields[0] in "RD":
            return -1
        total += int(fields[11]) + int(fields[12])
        for child in children:
            used = processor_time(int(child))
            if used < 0:
                return -1
            total += used
    return total


def _tasks(pid: int) -> list[Path]:
    with contextlib.suppress(OSError):
        return list(Path(f"/proc/{pid}/task").iterdir())
    return []


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    """Kill the process and what it started: it leads a session of its own."""
    with contextlib.suppress(OSError):
        os.killpg(child.pid, signal.SIGKILL)


def _listen(printed: IO[bytes] | None, last: deque[str]) -> None:
    """Log what the model prints, some lines a second, and count the others; the last lines explain a death.

    The pipe is kept empty, so that a model that prints does not wait, unless it prints megabytes a second.
    """
    if printed is None:
        return
    with printed:
        while _listen_a_second(printed, last):
            pass


def _listen_a_second(printed: IO[bytes], last: deque[str]) -> bool:
    """Log the lines of the next second or so; False at the end."""
    end = time.monotonic() + 1.0
    for _ in range(_LINES_A_SECOND):
        line = printed.readline(_LONGEST_LINE)
        if not line:
            return False
        text = line.decode("utf-8", "replace").rstrip()
        last.append(text)
        _LOG.info("%s", text)
        if time.monotonic() >= end:
            return True
    left_out, more = _skip(printed, last, end)
    if left_out:
        _LOG.warning("the model prints too much: %d lines were left out", left_out)
    return more


def _skip(printed: IO[bytes], last: deque[str], end: float) -> tuple[int, bool]:
    """Read until that moment without logging: how many lines that were, and whether there may be more."""
    left_out = 0
    poll = select.poll()
    poll.register(printed, select.POLLIN)
    while (left := end - time.monotonic()) > 0:
        if not poll.poll(1000 * left):
            break
        piece = os.read(printed.fileno(), 65536)
        if not piece:
            return left_out, False
        left_out += piece.count(b"\n")
        last.extend(line[:_LONGEST_LINE].decode("utf-8", "replace") for line in piece.splitlines()[-_LAST_LINES:])
        time.sleep(_BREATH)
    return left_out, True


def _end(connection: socket.socket, child: subprocess.Popen[bytes], reader: threading.Thread, folder: str) -> None:
    """Hang up, which ends the process; kill it if that does not."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(_CLOSING)
    _kill_group(child)
    child.wait()
    reader.join(_CLOSING)
    connection.close()
    shutil.rmtree(folder, ignore_errors=True)


def _spawn(python: Path, threads: int, descriptor: int, folder: str) -> subprocess.Popen[bytes]:
    """Start the host. It is in a session of its own: signals to the server's group are the server's business."""
    environ = {name: value for name, value in os.environ.items() if name in _PASSED_ON}
    environ |= dict.fromkeys(_POOLS, str(threads))
    environ["PYTHONHASHSEED"] = "0"
    host = subprocess.Popen(
        [str(python), "-s", "-P", str(_HOST), str(descriptor)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        pass_fds=(descriptor,),
        cwd=folder,
        env=environ,
        start_new_session=True,
    )
    pass_on(host.pid)
    return host
