"""What workers and supervisor know of each other at any moment: a few numbers a worker, in memory that all share.

Each number has one writer, so nothing is locked: the worker writes its own row, and the supervisor clears the row of a
worker that is dead.
"""

from __future__ import annotations

import mmap
import os
import time
from enum import IntEnum

_FIELDS = 6
_PID, _BEAT, _CONNECTIONS, _STATE, _OPENING, _ACCEPTED = range(_FIELDS)
_BYTES = 8

FRESH_SECONDS = 0.5
"""A worker whose last beat is older than this is not counted on by the others."""


class State(IntEnum):
    """How far a worker is."""

    EMPTY = 0
    STARTING = 1
    SERVING = 2
    """It has carried out what was wanted when it started, and takes connections."""
    DRAINING = 3


class Slot:
    """One worker's row of numbers."""

    __slots__ = ("_at", "_numbers", "index")

    def __init__(self, numbers: memoryview, index: int) -> None:
        self._numbers, self._at, self.index = numbers, index * _FIELDS, index

    @property
    def pid(self) -> int:
        """The worker's process; 0 for none."""
        return int(self._numbers[self._at + _PID])

    @property
    def beat_ns(self) -> int:
        """When its event loop last turned, of ``time.monotonic_ns()``; 0 while it never has."""
        return int(self._numbers[self._at + _BEAT])

    @property
    def connections(self) -> int:
        """How many connections it holds."""
        return int(self._numbers[self._at + _CONNECTIONS])

    @connections.setter
    def connections(self, count: int) -> None:
        self._numbers[self._at + _CONNECTIONS] = count

    @property
    def state(self) -> State:
        """How far it is."""
        return State(self._numbers[self._at + _STATE])

    @state.setter
    def state(self, state: State) -> None:
        self._numbers[self._at + _STATE] = state

    @property
    def opening(self) -> bool:
        """Whether it is opening a version, which may keep its event loop waiting."""
        return bool(self._numbers[self._at + _OPENING])

    @opening.setter
    def opening(self, opening: bool) -> None:
        self._numbers[self._at + _OPENING] = opening

    @property
    def accepted(self) -> int:
        """How many connections it has taken since it started."""
        return int(self._numbers[self._at + _ACCEPTED])

    @accepted.setter
    def accepted(self, count: int) -> None:
        self._numbers[self._at + _ACCEPTED] = count

    def beat(self) -> None:
        """Say that the event loop turns."""
        self._numbers[self._at + _BEAT] = time.monotonic_ns()

    def take(self, pid: int) -> None:
        """Belong to the process `pid` from now on."""
        self.clear()
        self._numbers[self._at + _PID] = pid
        self._numbers[self._at + _STATE] = State.STARTING

    def clear(self) -> None:
        """Belong to nobody."""
        for field in range(_FIELDS):
            self._numbers[self._at + field] = 0

    def serves(self, now_ns: int) -> bool:
        """Whether it takes connections, and its loop has turned lately."""
        return self.state == State.SERVING and now_ns - self.beat_ns < FRESH_SECONDS * 1e9


class Slots:
    """The rows of all workers. They live as long as any process has them, and are on no disk.

    >>> slots = Slots.create(2)
    >>> slots[1].take(4711)
    >>> slots[1].beat()
    >>> slots[1].pid, slots[1].state.name, slots[1].serves(time.monotonic_ns())
    (4711, 'STARTING', False)
    """

    def __init__(self, descriptor: int, count: int) -> None:
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, max(count, 1) * _FIELDS * _BYTES)
        numbers = memoryview(self._memory).cast("q")
        self._rows = tuple(Slot(numbers, index) for index in range(count))

    @classmethod
    def create(cls, count: int) -> Slots:
        """Fresh rows for `count` workers."""
        descriptor = os.memfd_create("modelyard-slots")
        os.ftruncate(descriptor, max(count, 1) * _FIELDS * _BYTES)
        return cls(descriptor, count)

    @classmethod
    def inherited(cls, descriptor: int) -> Slots:
        """The rows behind a descriptor that this process was started with."""
        return cls(descriptor, os.fstat(descriptor).st_size // (_FIELDS * _BYTES))

    def __getitem__(self, index: int) -> Slot:
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def others(self, index: int) -> tuple[Slot, ...]:
        """All rows but one."""
        return tuple(row for row in self._rows if row.index != index)
