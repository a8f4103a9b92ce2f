"""A program run and recorded from outside: ``modelyard train -- python train.py``."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, BinaryIO, Protocol

from modelyard.domain.run import Outcome, Run
from modelyard.errors import InvalidRequest
from modelyard.home import Home
from modelyard.runs import machine
from modelyard.runs.beginning import Asked, Within, begin
from modelyard.runs.folder import VARIABLE, RunFolder
from modelyard.runs.limits import Watchdog, stand_back
from modelyard.runs.output import Output
from modelyard.runs.shipping import end

_INSIDE = Path(__file__).parent / "inside"
_FORWARDED = (signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Done:
    """A program that has ended: the id of its run, what a shell would give as its exit code, and the record.

    `record` is None where it could not be stored; standard error said so.
    """

    run_id: str
    exit_code: int
    record: Run | None


class Alongside(Protocol):
    """Something else that a program may log to, taken in with its run."""

    def surroundings(self, folder: RunFolder) -> Mapping[str, str]:
        """Environment variables that the program gets."""
        ...

    def collect(self, folder: RunFolder) -> None:
        """Called once when the program has ended and before the run is stored. It raises nothing."""
        ...


def train(
    command: Sequence[str],
    *,
    streams: tuple[BinaryIO, BinaryIO],
    name: str | None = None,
    data: Sequence[str] = (),
    tags: Mapping[str, str] | None = None,
    note: str = "",
    home: str | Path | Home | None = None,
    within: Within | None = None,
    alongside: Sequence[Alongside] = (),
) -> Done:
    """Run a program as a recorded run, and wait for it.

    Args:
        command: The program and its arguments.
        streams: Where its standard output and standard error go on to.
        name: What the run is called; by default the program's file name, or what the program itself says.
        data: Dataset versions that it is meant to read.
        tags: Texts to search by.
        note: A line to keep.
        home: Where the registry is; see `Home.locate`.
        within: Where it runs and within which limits; without, it runs here and as it is.
        alongside: What else the program may log to.

    Raises:
        InvalidRequest: there is no such program, or the name cannot be one.
        DatasetNotFound, VersionNotFound: there is no such version of data.
    """
    asked = Asked(name or default_name(command), tuple(command), data, tags or {}, note, within)
    folder = begin(Home.locate(home), asked)
    if name is not None:
        folder.tell(name=name)
    clock = time.monotonic()
    try:
        settings = {name: value for each in alongside for name, value in each.surroundings(folder).items()}
        child = _start(command, folder, within, settings)
    except OSError as error:
        end(folder, Outcome("failed", error=f"{command[0]} cannot be started: {error.strerror}"), 0.0)
        raise InvalidRequest(f"{command[0]} cannot be started: {error.strerror}") from error
    folder.put("process.json", machine.process(child.pid))
    outputs = [Output(folder.files / "output" / f"{each}.txt") for each in ("stdout", "stderr")]
    limits = None if within is None else Watchdog(child, within.seconds, within.memory)
    if limits is None:
        with _signals_forwarded(child):
            code = _waited(child, outputs, streams)
    else:
        with limits:
            code = _waited(child, outputs, streams)
    seconds = time.monotonic() - clock
    for each in alongside:
        each.collect(folder)
    outcome = _outcome(code, outputs[1])
    if limits is not None and limits.reason:
        outcome = replace(outcome, state="killed", error=limits.reason)
    record = end(folder, outcome, seconds, pid=child.pid)
    return Done(folder.path.name, 128 - code if code < 0 else code, record)


def default_name(command: Sequence[str]) -> str:
    """What a run of this command is called, if nobody says.

    >>> default_name(["python", "-m", "shop.train"]), default_name(["python", "jobs/fit all.py", "--depth", "6"])
    ('shop.train', 'fit-all')
    """
    words = [word for word in command[1:] if not word.startswith("-")] or [command[0]]
    stem = Path(words[0]).name.removesuffix(".py")
    safe = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "-" for letter in stem)
    return safe.strip("-._")[:100] or "train"


def _start(
    command: Sequence[str], folder: RunFolder, within: Within | None, settings: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    environment = {**(os.environ if within is None else within.environ), **settings}
    path = [str(_INSIDE), *filter(None, [environment.get("PYTHONPATH")])]
    environment |= {
        VARIABLE: str(folder.path),
        "MODELYARD_HOME": str(folder.home.path),
        "PYTHONPATH": os.pathsep.join(path),
    }
    environment.setdefault("PYTHONUNBUFFERED", "1")  # what a killed program printed is not lost in its buffers
    return subprocess.Popen(
        list(command),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd=None if within is None else within.folder,
        start_new_session=within is not None,
        preexec_fn=None if within is None or within.is_repeat else stand_back(within.nice),
    )


def _waited(child: subprocess.Popen[bytes], outputs: Sequence[Output], streams: Sequence[BinaryIO]) -> int:
    pipes = [pipe for pipe in (child.stdout, child.stderr) if pipe is not None]
    pumps = [
        threading.Thread(target=_pump, args=parts, daemon=True) for parts in zip(pipes, outputs, streams, strict=True)
    ]
    for pump in pumps:
        pump.start()
    code = child.wait()
    for pump, pipe in zip(pumps, pipes, strict=True):  # processes that it left behind may hold the pipes open
        pump.join(timeout=2)
        if not pump.is_alive():
            pipe.close()
    for output in outputs:
        output.close()
    return code


def _pump(pipe: IO[bytes], output: Output, stream: BinaryIO) -> None:
    is_heard = True
    while raw := os.read(pipe.fileno(), 1 << 16):
        with suppress(ValueError):  # closed, since the program ended long ago
            output.write(raw)
        try:
            if is_heard:
                stream.write(raw)
                stream.flush()
        except OSError:  # nobody reads what it prints: it is recorded all the same
            is_heard = False


@contextmanager
def _signals_forwarded(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """To stop this process is to stop the program; Ctrl-C reaches it by itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.signal(each, lambda number, _: child.send_signal(number)) for each in _FORWARDED}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _outcome(code: int, stderr: Output) -> Outcome:
    if code == 0:
        return Outcome("finished", 0)
    if code < 0:
        return Outcome("killed", 128 - code, signal=_signal_name(-code))
    return Outcome("failed", code, error=stderr.last_line())


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
