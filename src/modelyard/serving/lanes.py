"""Where answers are computed that do not belong on the event loop: one lane a version."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from modelyard.domain.frame import Answers, Frame

Computed: TypeAlias = Callable[["Answers | BaseException", int, int], None]
"""Called on the event loop's thread with the answers or the error, the nanoseconds the rows waited in the lane, and
those that the computation took."""


@dataclass(slots=True, eq=False)
class Job:
    """The rows of one call. `size` is the bytes of its body; `deadline_ns` is of ``time.perf_counter_ns()``.

    A job that is `cancelled`, or past its deadline, before its turn is never computed; `done` is then called with
    `DeadlinePassed`, or not at all when it was cancelled.
    """

    frame: Frame
    outputs: Sequence[str] | None
    done: Computed
    size: int = 0
    deadline_ns: int | None = None
    cancelled: bool = False


class Lane(Protocol):
    """Computes jobs in the order in which they came. All methods are called on the event loop's thread."""

    def submit(self, job: Job) -> None:
        """Take a job in; its `done` is called later, never from within this call."""
        ...

    def wait_seconds(self) -> float:
        """Expected seconds until a job that came now would begin."""
        ...

    @property
    def rows(self) -> int:
        """Rows that wait."""
        ...

    @property
    def bytes(self) -> int:
        """Bytes of request bodies that wait."""
        ...

    def close(self) -> None:
        """End it; jobs that still wait get `VersionNotReady`."""
        ...
