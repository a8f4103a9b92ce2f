"""Loading beside live traffic: one version at a time on the whole machine, in small slices with rests in between.

Threads are not given a low priority for it: one that holds the interpreter's lock while the system lets it wait would
make the event loop wait too. What is loaded while nothing answers yet takes all the time it can get.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

SLICE_SECONDS = 0.001
"""How long loading computes before it rests."""

REST = 2.0
"""How long it rests after that, as a multiple of what it computed."""

TURN_SECONDS = 10.0
"""How long a worker waits for its turn; then it loads beside the other, which may be stuck."""

_LOOK_SECONDS = 0.01


@dataclass(slots=True)
class Paced:
    """Rests now and then: call `step` after each small piece of work. Belongs to one thread.

    >>> paced = Paced(live=lambda: False)
    >>> paced.step()
    """

    live: Callable[[], bool]
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.perf_counter
    _since: float | None = None

    def step(self) -> None:
        """Rest if a slice is over and calls are answered meanwhile; otherwise go on at once."""
        now = self.clock()
        if self._since is None:
            self._since = now
            return
        worked = now - self._since
        if worked < SLICE_SECONDS:
            return
        if self.live():
            self.sleep(worked * REST)
        self._since = self.clock()


@dataclass(slots=True, eq=False)
class Turns:
    """Whose turn it is to load, among the threads of a worker and, by a lock on `file`, among workers.

    `live` says whether calls are answered meanwhile; while none are, workers do not wait for each other. Safe to use
    from several threads. A lock goes with the process that held it.
    """

    file: Path | None = None
    live: Callable[[], bool] = lambda: False
    patience: float = TURN_SECONDS
    _here: threading.Lock = field(default_factory=threading.Lock)

    @contextlib.contextmanager
    def turn(self) -> Iterator[Paced]:
        """Load inside this block, and tell what it yields how far you are."""
        mine = self._here.acquire(timeout=self.patience)
        try:
            with self._among_workers():
                yield Paced(self.live)
        finally:
            if mine:
                self._here.release()

    @contextlib.contextmanager
    def _among_workers(self) -> Iterator[None]:
        if self.file is None or not self.live():
            yield
            return
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # a courtesy: nothing goes wrong without it
                descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                stack.callback(os.close, descriptor)
                self._wait_for(descriptor)
            yield

    def _wait_for(self, descriptor: int) -> None:
        until = time.monotonic() + self.patience
        while time.monotonic() < until:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(_LOOK_SECONDS)
            else:
                return
