"""Calls for a version that is not loaded now: they wait for it together, and go on when it answers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from modelyard.errors import ModelyardError, Overloaded, VersionLoading
from modelyard.serving.exchange import Incoming
from modelyard.serving.plane import DataPlane

PATIENCE_SECONDS = 30.0
"""How long a call waits that has no deadline of its own."""

_LOOK_SECONDS = 0.05


class Waiting(Protocol):
    """A call that can wait. Times are of ``time.perf_counter_ns()``; `loading_ns` is what it waited so far."""

    @property
    def incoming(self) -> Incoming:
        """What was asked."""
        ...

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for its answer any more."""
        ...

    arrived_ns: int
    loading_ns: int


Call = TypeVar("Call", bound=Waiting)


@dataclass(slots=True, eq=False)
class _Group:
    """The calls that wait for one deployment, and in how many seconds it is expected since they began to."""

    calls: list[Waiting] = field(default_factory=list)
    bytes: int = 0
    began_ns: int = field(default_factory=time.perf_counter_ns)
    seconds: float = 0.0

    def left(self, now: int) -> float:
        """Expected seconds until it answers; 0 where nothing is known."""
        return max(self.seconds - (now - self.began_ns) / 1e9, 0.0)


class Loading:
    """Has versions loaded that calls ask for, each once whatever the number of calls. Belongs to one event loop.

    Args:
        plane: loads them.
        most_bytes: how many bytes of request bodies may wait for one deployment.
        go_on: takes a call whose version may answer now.
        fail: ends a call with an error.
        gone: ends a call that nobody waits for.
    """

    def __init__(
        self,
        plane: DataPlane,
        most_bytes: int,
        go_on: Callable[[Call], None],
        fail: Callable[[Call, BaseException], None],
        gone: Callable[[Call], None],
    ) -> None:
        self._plane, self._most_bytes = plane, most_bytes
        self._go_on: Callable[..., None] = go_on
        self._fail: Callable[..., None] = fail
        self._gone: Callable[..., None] = gone
        self._groups: dict[str, _Group] = {}

    def wait(self, call: Waiting, name: str) -> None:
        """Let a call wait until `name` answers, or end it at once if that would be too late for it."""
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = _Group()
            group.seconds = wake(self._plane, name, lambda: self._loaded(name))
            asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look, name, group)
        now, size = time.perf_counter_ns(), len(call.incoming.body)
        if _until(call) < now + group.left(now) * 1e9:
            self._fail(call, _late(name, group.left(now)))
        elif group.bytes and group.bytes + size > self._most_bytes:
            more = max(group.left(now), _LOOK_SECONDS)
            self._fail(call, Overloaded(f"too many bytes of requests wait for {name!r} to be loaded", more))
        else:
            group.calls.append(call)
            group.bytes += size

    def _loaded(self, name: str) -> None:
        group = self._groups.pop(name, None)
        now = time.perf_counter_ns()
        for call in [] if group is None else group.calls:
            if call.cancelled:
                self._gone(call)
                continue
            call.loading_ns += now - call.arrived_ns
            call.arrived_ns = now
            self._go_on(call)

    def _look(self, name: str, group: _Group) -> None:
        """End calls whose time is over, and those that nobody waits for."""
        if self._groups.get(name) is not group:
            return
        now, kept = time.perf_counter_ns(), list[Waiting]()
        for call in group.calls:
            if call.cancelled:
                self._gone(call)
            elif _until(call) < now:
                self._fail(call, _late(name, group.left(now)))
            else:
                kept.append(call)
        group.calls, group.bytes = kept, sum(len(call.incoming.body) for call in kept)
        asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look, name, group)


def wake(plane: DataPlane, name: str, done: Callable[[], None]) -> float:
    """As `DataPlane.wake`, but `done` is called in a later turn of the running event loop."""
    loop = asyncio.get_running_loop()

    def told() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(done)

    return plane.wake(name, told)


async def awake(plane: DataPlane, name: str, seconds: float | None = None) -> None:
    """Wait until `name` answers or is known not to.

    Raises:
        VersionLoading: it takes longer than `seconds`.
    """
    done = asyncio.Event()
    expected = wake(plane, name, done.set)
    try:
        await asyncio.wait_for(done.wait(), PATIENCE_SECONDS if seconds is None else seconds)
    except TimeoutError:
        raise _late(name, expected) from None


def _until(call: Waiting) -> float:
    asked = call.incoming.deadline_ns
    return call.incoming.started_ns + PATIENCE_SECONDS * 1e9 if asked is None else asked


def _late(name: str, seconds: float) -> ModelyardError:
    return VersionLoading(
        f"{name!r} was not loaded, as memory is short; it is being loaded now, which takes longer than this call may "
        "wait; ask again soon",
        max(seconds, 1.0),
    )
