"""Brings messages to receivers, each on its own: one that is slow or dead makes neither the monitor nor others wait."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from modelyard.errors import ModelyardError
from modelyard.monitoring.alerts.alert import What
from modelyard.monitoring.alerts.content import trial
from modelyard.monitoring.alerts.outbox import LONGEST_PAUSE, Outbox, Owed
from modelyard.monitoring.alerts.receivers import Form, Receiver, Receivers
from modelyard.monitoring.alerts.senders import SECONDS, NotTaken, Sender
from modelyard.monitoring.alerts.store import Alerts
from modelyard.registry.database import Database

LOOK_SECONDS = 2.0
"""So often it looks for messages when nobody tells it that there are."""

TEND_SECONDS = 30.0
FORGET_SECONDS = 3600.0
REFRESH_SECONDS = 300.0
FIRST_PAUSE = 1.0

_log = logging.getLogger("modelyard.alerts")
_Answer = TypeVar("_Answer")


def tried(receiver: Receiver, seconds: float = SECONDS) -> str:
    """Send a receiver a trial, once; why it did not take it, or an empty text."""

    async def send() -> str:
        sender = Sender(seconds)
        try:
            await sender.send(receiver, trial(receiver.name, _now()))
        except NotTaken as error:
            return error.said
        finally:
            await sender.close()
        return ""

    return asyncio.run(send())


def pause(failed: int, asked: float = 0.0, luck: float = 1.0) -> float:
    """Seconds until a receiver is tried again that has failed so often in a row.

    `asked` is what it asked for itself; `luck`, from 0 to 1, keeps many from coming back at the same moment.

    >>> [pause(failed) for failed in (1, 2, 3, 20)], pause(1, asked=30.0), pause(3, luck=0)
    ([1.0, 2.0, 4.0, 300.0], 30.0, 2.0)
    """
    longest = LONGEST_PAUSE.total_seconds()
    grown = min(FIRST_PAUSE * 2.0 ** min(failed - 1, 16), longest) * (0.5 + 0.5 * luck)
    return max(grown, min(asked, longest))


@dataclass(slots=True)
class _Standing:
    """How a receiver has done lately. `until` is when it is tried again, by the clock that does not jump."""

    failed: int = 0
    until: float = 0.0
    refreshed: float = float("-inf")
    was_told: bool = False


@dataclass(slots=True)
class Courier:
    """Brings what is owed, in a thread of its own, until it is stopped.

    Several may run on one database: a message is held by one of them while it is brought. What a killed one held is
    brought by another a minute later, with the same key: a receiver may get a message twice, but never not at all.
    """

    database: Database
    seconds: float = SECONDS
    """How long a receiver has to take a message."""
    _standing: dict[str, _Standing] = field(default_factory=dict)
    _busy: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _thread: threading.Thread | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _loop: asyncio.AbstractEventLoop | None = None
    _awake: asyncio.Event | None = None
    _tended: float = float("-inf")
    _forgot: float = float("-inf")
    _troubled: bool = False

    def start(self) -> None:
        """Begin."""
        self._stop.clear()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="alerts", daemon=True)
        self._thread.start()

    def stop(self, grace: float = 5.0) -> None:
        """Stop; what is under way has so many seconds to end, and is brought again by the next courier otherwise."""
        self._stop.set()
        self.wake()
        if self._thread is not None:
            self._thread.join(grace + 1.0)
            self._thread = None

    def tend(self) -> None:
        """Owe what time alone makes due, and forget what was sent long ago. Running couriers do so by themselves."""
        Alerts(self.database).tend()
        Outbox(self.database).forget(_now())

    def wake(self) -> None:
        """There may be messages: look at once."""
        loop, awake = self._loop, self._awake
        if loop is not None and awake is not None and not loop.is_closed():
            loop.call_soon_threadsafe(awake.set)

    def once(self, seconds: float = 60.0) -> None:
        """Bring what is due now, each once, and return when that is done or after so long."""
        asyncio.run(self._once(seconds))

    async def _once(self, seconds: float) -> None:
        sender = Sender(self.seconds)
        try:
            async with asyncio.timeout(seconds):
                await self._look(sender)
                await asyncio.gather(*self._busy.values())
        except TimeoutError:
            pass
        finally:
            await self._end(sender, 0.0)

    async def _run(self) -> None:
        self._loop, self._awake = asyncio.get_running_loop(), asyncio.Event()
        sender = Sender(self.seconds)
        while not self._stop.is_set():
            self._awake.clear()
            try:
                await self._tend()
                await self._look(sender)
                self._troubled = False
            except Exception as error:  # noqa: BLE001 - such as a database that is away: alerts are sent when it is back
                self._tell_trouble(error)
            try:
                await asyncio.wait_for(self._awake.wait(), LOOK_SECONDS)
            except TimeoutError:
                continue
        await self._end(sender, 5.0)

    async def _tend(self) -> None:
        now = time.monotonic()
        if now - self._tended >= TEND_SECONDS:
            self._tended = now
            await _aside(lambda: Alerts(self.database).tend())
        if now - self._forgot >= FORGET_SECONDS:
            self._forgot = now
            await _aside(lambda: Outbox(self.database).forget(_now()))

    def _tell_trouble(self, error: Exception) -> None:
        """Say once that alerts cannot be looked for, until they can again."""
        if not self._troubled:
            said = str(error) if isinstance(error, ModelyardError) else type(error).__name__
            _log.warning("alerts cannot be looked for now, and will be again: %s", said)
        self._troubled = True

    async def _end(self, sender: Sender, grace: float) -> None:
        if self._busy:
            await asyncio.wait(self._busy.values(), timeout=grace)
        for task in self._busy.values():
            task.cancel()
        await asyncio.gather(*self._busy.values(), return_exceptions=True)
        self._busy.clear()
        await sender.close()

    async def _look(self, sender: Sender) -> None:
        """Begin to bring what is due to whoever is not busy and not resting."""
        self._busy = {name: task for name, task in self._busy.items() if not task.done()}
        due = set(await _aside(lambda: Outbox(self.database).receivers(_now())))
        for receiver in await _aside(Receivers(self.database).listed):
            standing = self._standing.setdefault(receiver.name, _Standing())
            wanted = receiver.name in due or self._is_to_refresh(receiver, standing)
            if wanted and receiver.name not in self._busy and time.monotonic() >= standing.until:
                work = self._bring(sender, receiver, standing)
                self._busy[receiver.name] = asyncio.create_task(work, name=f"receiver {receiver.name}")

    def _is_to_refresh(self, receiver: Receiver, standing: _Standing) -> bool:
        is_due = time.monotonic() - standing.refreshed >= REFRESH_SECONDS
        return receiver.form is Form.ALERTMANAGER and is_due

    async def _bring(self, sender: Sender, receiver: Receiver, standing: _Standing) -> None:
        """Bring a receiver all that is due, until it fails."""
        try:
            if self._is_to_refresh(receiver, standing):
                await self._refresh(sender, receiver, standing)
            while not self._stop.is_set() and time.monotonic() >= standing.until:
                owed = await _aside(lambda: Outbox(self.database).take(receiver.name, _now()))
                if owed is None:
                    return
                await self._send(sender, receiver, standing, owed)
        except Exception as error:  # noqa: BLE001 - the database, mostly; nobody waits for this task to hear of it
            standing.until = time.monotonic() + LOOK_SECONDS
            self._tell_trouble(error)

    async def _send(self, sender: Sender, receiver: Receiver, standing: _Standing, owed: Owed) -> None:
        outbox = Outbox(self.database)
        try:
            await sender.send(receiver, owed.message)
        except NotTaken as error:
            said = error
        except Exception as error:  # noqa: BLE001 - one message that cannot be written must not stop the others
            said = NotTaken(f"it could not be written: {type(error).__name__}", alone=True)
        else:
            self._took(receiver, standing)
            return await _aside(lambda: outbox.sent(owed, _now()))
        rest = self._failed(receiver, standing, said, owed.attempts)
        return await _aside(lambda: outbox.failed(owed, said.said, timedelta(seconds=rest), _now()))

    async def _refresh(self, sender: Sender, receiver: Receiver, standing: _Standing) -> None:
        """Tell Alertmanager again what goes on."""
        going_on = await _aside(lambda: Alerts(self.database).listed(most=10_000))
        told = [
            alert for alert in going_on if alert.told and alert.told.what is not What.RESOLVED and receiver.wants(alert)
        ]
        try:
            if told:
                await sender.refresh(receiver, told, _now())
            standing.refreshed = time.monotonic()
        except NotTaken as error:
            self._failed(receiver, standing, error, standing.failed + 1)
            standing.until = max(standing.until, time.monotonic() + LOOK_SECONDS)

    def _took(self, receiver: Receiver, standing: _Standing) -> None:
        standing.failed, standing.until = 0, 0.0
        if standing.was_told:
            _log.info("receiver %s takes alerts again", receiver.name)
            standing.was_told = False

    def _failed(self, receiver: Receiver, standing: _Standing, error: NotTaken, attempts: int) -> float:
        """How long to wait before the same message is tried again; the receiver itself rests unless it is about one."""
        if not standing.was_told:  # once, not with every attempt
            _log.warning("receiver %s does not take alerts, which wait for it: %s", receiver.name, error.said)
            standing.was_told = True
        if error.alone:
            return LONGEST_PAUSE.total_seconds()
        standing.failed += 1
        rest = pause(max(standing.failed, attempts), error.after, random.random())  # noqa: S311 - no secret
        standing.until = time.monotonic() + rest
        return rest


async def _aside(work: Callable[[], _Answer]) -> _Answer:
    """Work that waits for the database, in another thread."""
    return await asyncio.to_thread(work)


def _now() -> datetime:
    return datetime.now(UTC)
