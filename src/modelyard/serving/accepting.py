"""Taking connections from one listening socket that all workers share.

The socket outlives any worker: what waits in the kernel's queue is taken by whoever is there. Each worker takes one
connection a turn of its loop, and one that holds more than the least loaded other lets that one go first.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import time
from collections.abc import Callable, Sequence
from math import ceil

from modelyard.serving.slots import Slot, State

YIELD_SECONDS = 0.001
"""How long a fuller worker leaves a waiting connection to the others. Nobody else coming, it takes it."""

PAUSE_SECONDS = 0.1
"""How long to wait after the system had no descriptor or memory for another connection."""

_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

_log = logging.getLogger("modelyard.serving")


def gives_way(mine: int, others: Sequence[int]) -> bool:
    """Whether a worker with `mine` connections lets one with fewer go first.

    >>> gives_way(3, [3, 4]), gives_way(3, [2, 4]), gives_way(3, [])
    (False, True, False)
    """
    return bool(others) and mine > min(others)


SLACK = 8
"""What a worker may have beyond its share of the connections before it lets some go: one more for each so many."""


def too_many(mine: int, others: Sequence[int]) -> int:
    """How many of its connections a worker lets go, for emptier ones to take: what it has beyond its share.

    Connections that were made while only one worker served, or whose worker was killed, would else stay where they are
    for as long as their clients keep them.

    >>> too_many(8, [0]), too_many(5, [3]), too_many(100, [90]), too_many(1, [0]), too_many(3, [])
    (4, 1, 0, 0, 0)
    """
    share = ceil((mine + sum(others)) / (1 + len(others)))
    return mine - share if mine - share > share // SLACK or (mine - share > 0 and share <= SLACK) else 0


class Accepting:
    """Takes connections on `listener` and gives each a protocol made by `factory`. Used on the event loop's thread.

    `held` tells how many connections this worker holds, `mine` is its row and `others` those of the rest.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: socket.socket,
        factory: Callable[[], asyncio.BaseProtocol],
        held: Callable[[], int],
        mine: Slot,
        others: Sequence[Slot],
    ) -> None:
        self._loop, self._listener, self._factory = loop, listener, factory
        self._held, self._mine, self._others = held, mine, others
        self._wanted = self._reading = False
        self._gave_way = False
        self._exhausted = False
        self._again: asyncio.TimerHandle | None = None
        self._handing: set[asyncio.Task[None]] = set()

    @property
    def count(self) -> int:
        """Connections this worker holds, those on their way to their protocol included."""
        return self._held() + len(self._handing)

    def too_many(self) -> int:
        """How many connections are better held by the other workers."""
        return too_many(self.count, self._connections_of_others())

    def start(self) -> None:
        """Take connections from now on. Calling it twice is harmless."""
        self._wanted = True
        if not self._reading and self._again is None:
            self._read()

    def stop(self) -> None:
        """Leave the socket to the others; what waits there goes on waiting for them."""
        self._wanted = False
        if self._again is not None:
            self._again.cancel()
            self._again = None
        self._rest()

    def finish(self) -> None:
        """Take what waits on the socket, for the last time: the process is about to end, and so may the socket."""
        self.stop()
        while self._take():
            pass

    def _read(self) -> None:
        self._again = None
        if self._wanted and not self._reading:
            self._reading = True
            self._loop.add_reader(self._listener.fileno(), self._readable)

    def _rest(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._listener.fileno())

    def _later(self, seconds: float) -> None:
        self._rest()
        self._again = self._loop.call_later(seconds, self._read)

    def _readable(self) -> None:
        if not self._may_answer():
            self._later(YIELD_SECONDS)
            return
        if not self._gave_way and gives_way(self.count, self._connections_of_others()):
            self._gave_way = True
            self._later(YIELD_SECONDS)
            return
        self._gave_way = False
        self._take()

    def _may_answer(self) -> bool:
        """Whether a connection is in good hands here: with a worker that can answer, or with the first while none can.

        Who has heard from one worker that the server is ready must not get to another one that is not.
        """
        now = time.monotonic_ns()
        if self._mine.state in (State.SERVING, State.DRAINING):
            return True
        return not any(other.serves(now) for other in self._others)

    def _connections_of_others(self) -> list[int]:
        now = time.monotonic_ns()
        return [other.connections for other in self._others if other.serves(now)]

    def _take(self) -> bool:
        """Take one connection; False when there was none, or none could be taken."""
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            return self._not_taken(error)
        if self._exhausted:
            self._exhausted = False
            _log.info("connections are taken again")
        connection.setblocking(False)
        task = self._loop.create_task(self._hand_over(connection))
        self._handing.add(task)
        task.add_done_callback(self._handing.discard)
        self._mine.accepted += 1
        self._mine.connections = self.count
        return True

    def _not_taken(self, error: OSError) -> bool:
        if error.errno in _EXHAUSTED:
            if not self._exhausted:
                self._exhausted = True
                _log.error("no further connections can be taken (%s), with %d open", error.strerror, self.count)
            if self._wanted:
                self._later(PAUSE_SECONDS)
            return False
        return True  # that one client went away again; the next may be there

    async def _hand_over(self, connection: socket.socket) -> None:
        try:
            if connection.family != socket.AF_UNIX:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(self._factory, connection)
        except OSError as error:
            _log.debug("a client went away before it was served: %s", error)
            connection.close()
