"""Keeps a model's own process alive: notices its death, brings it back, and repeats what it was computing, once."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from modelyard.domain.deaths import Death, ended_how, failures
from modelyard.domain.frame import Answers, Frame
from modelyard.errors import ModelyardError, RuntimeLost, VersionNotReady
from modelyard.runtime.interface import Runtime
from modelyard.serving.deaths import memory_kills, pause_after

LOOK_EVERY = 0.1
"""Seconds between two looks at the process."""

PATIENCE = 30.0
"""Seconds that a request waits for the process to come back."""

DEATHS = 5
"""Failures in a row, within `WINDOW` seconds and without an answer in between, after which a version is isolated."""

WINDOW = 60.0

_START_SECONDS = 1.0

_log = logging.getLogger("modelyard.serving")


class NotUp(RuntimeLost):
    """There is no process now; the call has not begun, and may be made again when there is one."""


class ProcessRuntime(Runtime, Protocol):
    """A runtime whose process can die and be started again."""

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        ...

    def alive(self) -> bool:
        """Whether the process runs."""
        ...

    def ended(self) -> int | None:
        """The exit code of the process (negative: the signal that killed it); None while it runs."""
        ...

    def restart(self) -> None:
        """Start the process anew, in place of a dead or stuck one."""
        ...


def resident_bytes(pid: int) -> int:
    """Memory that the process holds in RAM; 0 when it is gone.

    >>> resident_bytes(os.getpid()) > 1_000_000
    True
    """
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


class KeptRuntime:
    """A runtime over a process that is brought back when it dies. Safe to call from several threads.

    A call that the process took with it is computed again, once, by the next process; calls that arrive while there is
    none wait for it. A process that was brought back answers only after `prove` has passed on it. A version whose
    process dies `DEATHS` times in a row is isolated: calls are refused at once with `VersionNotReady`, while attempts
    to bring it back go on with growing pauses; the first that succeeds lets calls in again. A process that was killed
    from outside while it had no call is brought back at once, however often: it did nothing wrong.

    A process that holds more than `memory_bytes` of memory is started again between two calls.
    """

    def __init__(
        self, runtime: ProcessRuntime, prove: Callable[[Runtime], None], name: str, memory_bytes: int | None = None
    ) -> None:
        self._runtime, self._prove, self._name = runtime, prove, name
        self._memory_bytes = memory_bytes
        self._change = threading.Condition()
        self._life = 1
        self._users = 0
        self._up_since, self._memory_kills = time.monotonic(), memory_kills()
        self._up, self._closed = True, False
        self._failed, self._answered = 0, False
        self._restarts = 0
        self._died: list[float] = []
        self._start_seconds, self._back_at = _START_SECONDS, 0.0
        self._why = ""
        self._watch = threading.Thread(target=self._keep, name=f"keeper-{name}", daemon=True)
        self._watch.start()

    @property
    def pid(self) -> int | None:
        """The process that computes, while there is one."""
        return self._runtime.pid

    @property
    def restarts(self) -> int:
        """How many times the process was brought back."""
        return self._restarts

    @property
    def isolated(self) -> bool:
        """Whether it died so often that calls are refused until it is back."""
        return not self._up and len(self._died) >= DEATHS

    def wait_up(self, seconds: float) -> bool:
        """Wait until there is a process that answers, at most that long.

        Raises:
            VersionNotReady: it is isolated or closed.
        """
        with self._change:
            up = self._change.wait_for(lambda: self._up or self._closed or self.isolated, seconds)
            self._refuse()
            return up and self._up

    def back_in(self) -> float:
        """Expected seconds until there is a process that answers; 0 when there is one."""
        return 0.0 if self._up else max(self._back_at - time.monotonic(), 0.1)

    def attempt(self, frame: Frame, outputs: Sequence[str] | None = None) -> Answers:
        """As `predict`, but it neither waits for a process nor tries twice.

        Raises:
            NotUp: there is no process; nothing was computed.
            RuntimeLost: the process died over these rows, or at the same time.
        """
        try:
            life = self._enter(0, time.monotonic())
        except RuntimeLost as down:
            raise NotUp(str(down)) from down
        try:
            return self._computed(frame, outputs)
        except RuntimeLost as error:
            self._lost(life, str(error))
            raise
        finally:
            self._leave()

    def _refuse(self) -> None:
        if self._closed:
            raise VersionNotReady(f"{self._name}: the model is being closed")
        if self.isolated:
            raise VersionNotReady(f"{self._name}: {self._why}")

    def trouble(self) -> str:
        """Why it does not answer now; empty when it does."""
        with self._change:
            return "" if self._up and self._runtime.alive() else self._why or "the model's process died"

    def predict(self, frame: Frame, outputs: Sequence[str] | None = None) -> Answers:
        """As every runtime; `RuntimeLost` only when the process dies twice or does not come back in time."""
        deadline = time.monotonic() + PATIENCE
        life = self._enter(0, deadline)
        try:
            return self._computed(frame, outputs)
        except RuntimeLost as error:
            self._lost(life, str(error))
        finally:
            self._leave()
        self._enter(life, deadline)
        try:
            return self._computed(frame, outputs)
        finally:
            self._leave()

    def _computed(self, frame: Frame, outputs: Sequence[str] | None) -> Answers:
        answers = self._runtime.predict(frame, outputs)
        self._answered = True
        if self._died:
            self._died = []
        return answers

    def close(self) -> None:
        """Stop watching and end the process."""
        with self._change:
            self._closed = True
            self._change.notify_all()
        self._watch.join()
        self._runtime.close()

    def _enter(self, after: int, deadline: float) -> int:
        """Wait for a process later than number `after`, and use it until `_leave`; its number."""
        with self._change:
            while not (self._up and self._life > after):
                if self.isolated:
                    self._refuse()
                left = deadline - time.monotonic()
                if self._closed or left <= 0:
                    raise RuntimeLost(f"{self._name}: {self._why or 'the model is being closed'}")
                self._change.wait(left)
            self._users += 1
            return self._life

    def _leave(self) -> None:
        with self._change:
            self._users -= 1
            if not self._users:
                self._change.notify_all()

    def _lost(self, life: int, why: str) -> None:
        with self._change:
            if self._life == life and self._up:
                self._down(why, called=True)

    def _too_large(self) -> str:
        """How much more memory the process holds than it may; empty when it does not."""
        pid = self._runtime.pid
        if self._memory_bytes is None or pid is None:
            return ""
        held = resident_bytes(pid)
        if held <= self._memory_bytes:
            return ""
        return f"it held {held / 1e6:.0f} MB of memory, more than the {self._memory_bytes / 1e6:.0f} MB it may"

    def _down(self, why: str = "", *, called: bool = False) -> None:
        """Note that there is no process any more: `why` it is ended, else it died; the lock is held."""
        now, what = time.monotonic(), "was ended" if why and not called else "died"
        death = self._death(now, forced=called or bool(why or self._users))
        self._failed = 1 if self._answered and death.own_doing else failures(self._failed, death, WINDOW)
        if self._failed:
            self._note_death(now)
        self._back_at = now + pause_after(self._failed) + self._start_seconds
        self._up, self._answered = False, False
        why = why or f"it {ended_how(death)}"
        self._why = f"the model's process {what} and is being started again ({why})"
        if len(self._died) >= DEATHS:
            self._why = f"isolated, as its process {what} {self._failed} times without an answer in between ({why})"
        _log.warning("%s: %s", self._name, self._why)
        self._change.notify_all()

    def _death(self, now: float, *, forced: bool) -> Death:
        """How the process ended; one that had a call, or was too large, is held to have failed."""
        code = self._runtime.ended()
        starved = code == -signal.SIGKILL and memory_kills() > self._memory_kills
        return Death(1 if code is None else code, now - self._up_since, forced, starved)

    def _note_death(self, now: float) -> None:
        self._died = [moment for moment in self._died if now - moment < WINDOW or len(self._died) >= DEATHS] + [now]

    def _keep(self) -> None:
        while True:
            with self._change:
                if self._up and not self._closed:
                    self._change.wait(LOOK_EVERY)
                if self._closed:
                    return
                if self._up and not self._runtime.alive():
                    self._down()
                elif self._up and (large := self._too_large()):
                    self._down(large)
                down = not self._up
            if down:
                self._bring_back()

    def _bring_back(self) -> None:
        with self._change:
            self._change.wait_for(lambda: self._closed, pause_after(self._failed))
            # Those who wait inside must not be the first to use a process that is not proven yet; they are told soon.
            self._change.wait_for(lambda: self._closed or not self._users, PATIENCE)
            if self._closed:
                return
        started = time.monotonic()
        try:
            self._memory_kills = memory_kills()
            self._runtime.restart()
            self._prove(self._runtime)
        except (ModelyardError, OSError) as error:
            with self._change:
                self._failed += 1
                self._note_death(time.monotonic())
                self._back_at = time.monotonic() + pause_after(self._failed) + self._start_seconds
                self._why = f"the model's process does not come back: {error}"
                self._change.notify_all()
            _log.error("%s: %s", self._name, self._why)
            return
        with self._change:
            self._life += 1
            self._restarts += 1
            self._up_since = time.monotonic()
            self._start_seconds = self._up_since - started
            self._up, self._why = True, ""
            self._change.notify_all()
        _log.info("%s: the model's process is back", self._name)
