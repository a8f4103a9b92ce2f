"""What a worker tells the others of itself: its board, made from its parts and put up."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sized
from pathlib import Path

from modelyard.serving import boards
from modelyard.serving.answering import Answering
from modelyard.serving.budget import Budget
from modelyard.serving.meters import Meters
from modelyard.serving.plane import DataPlane
from modelyard.serving.served import ServedVersion
from modelyard.serving.slots import Slot

PUBLISH_SECONDS = 0.5
"""Seconds between two boards at most."""

SHARE = 100
"""Between two boards passes so many times what making one takes, or more."""

_log = logging.getLogger("modelyard.serving")


class Telling:
    """Puts up one worker's board in `folder`. Used on the event loop's thread only."""

    def __init__(
        self,
        folder: Path,
        index: int,
        slot: Slot,
        plane: DataPlane,
        meters: Meters,
        answering: Answering,
        connections: Sized,
    ) -> None:
        self._folder, self._index, self._slot = folder, index, slot
        self._plane, self._meters, self._answering, self._connections = plane, meters, answering, connections
        self._life, self._began = boards.new_life(index), time.time()
        self.published = 0.0
        """When that was last tried, of ``time.monotonic()``."""
        self.pause = 0.0
        """Seconds to let pass until the next one: counts made meanwhile are lost if this process is killed."""
        self.budget: Budget | None = None
        """What keeps the worker within its share of the memory budget, if there is one."""
        self.alone = False
        """Whether nobody is left who would read it: that it cannot be written is then not worth a word."""

    def board(self) -> boards.Board:
        """What there is to tell now."""
        status = self._plane.status()
        return boards.Board(
            worker=self._index,
            pid=os.getpid(),
            life=self._life,
            started=self._began,
            written=time.monotonic(),
            status=status,
            orders=self._plane.orders.revision,
            connections=len(self._connections),
            accepted=self._slot.accepted,
            meters=self._meters.snapshots(),
            versions=tuple(_facts(served) for served in self._plane.served() if not served.trouble()),
            memory_bytes=_resident(os.getpid()),
            processor_seconds=round(time.process_time(), 3),
            loads=self._plane.loads,
            evictions=self._plane.evictions,
            budget_bytes=0 if self.budget is None else self.budget.most,
            budgeted_bytes=0 if self.budget is None else self.budget.held,
            records_written=self._answering.recorded,
            records_failed=self._answering.unrecorded,
        )

    def publish(self) -> None:
        """Put it up: whoever reads the boards from now on, in whatever process, sees all that was counted so far."""
        self.published = time.monotonic()
        try:
            boards.publish(self._folder, self.board())
        except OSError as error:
            if not self.alone:
                _log.error("worker %d cannot tell of itself: %s", self._index, error)
        self.pause = min(SHARE * (time.monotonic() - self.published), PUBLISH_SECONDS)


def _facts(served: ServedVersion) -> boards.VersionFacts:
    status = served.status()
    return boards.VersionFacts(
        deployment=served.deployment.name,
        model=status.model,
        version=status.version,
        digest=status.digest,
        runtime=status.runtime,
        pid=status.pid,
        memory_bytes=served.memory_bytes if status.pid is None else _resident(status.pid),
    )


def _resident(pid: int) -> int | None:
    """Bytes of memory that a process holds; None when it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_bytes().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
