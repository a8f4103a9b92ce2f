"""A call for answers on its way through the data plane, the same for every entrance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from modelyard.domain.records import WireForm
from modelyard.protocol.media import PLAIN, Media
from modelyard.serving.http import Reply

Done: TypeAlias = Callable[[Reply], None]
"""Called once, on the event loop's thread, with the answer or the refusal; never after the ticket was cancelled."""


@dataclass(slots=True, eq=False)
class Incoming:
    """One call for answers, as an entrance took it in.

    `deployment` None asks for the only one there is, `version` None for the one that answers. `body` is without
    compression. `received_ns` is nanoseconds since 1970, `started_ns` and `deadline_ns` are of
    ``time.perf_counter_ns()``; after the deadline the answer is of no use to the caller. `trace` is the caller's W3C
    ``traceparent``. `event_ns` is the moment that its rows are about, nanoseconds since 1970, 0 if it did not say.
    `key` is what it is about, such as a customer: of two versions that share the calls, one gets all with that key.
    """

    prediction_id: str
    form: WireForm
    deployment: str | None
    version: str | None
    body: bytes
    received_ns: int
    started_ns: int
    media: Media = PLAIN
    deadline_ns: int | None = None
    trace: str | None = None
    event_ns: int = 0
    key: str = ""


@dataclass(slots=True, eq=False)
class Ticket:
    """Stands for a call that was handed in. `cancel` when the caller is gone: work that has not begun never will."""

    cancelled: bool = field(default=False, kw_only=True)

    def cancel(self) -> None:
        """Nobody waits for the answer any more."""
        self.cancelled = True
