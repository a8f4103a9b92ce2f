"""Calls that watch a switch from one version to another over the wire, as any caller would notice it."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Self
from urllib.parse import urlsplit

import msgspec

from modelyard.domain.splitting import goes_to_candidate

PAUSE_SECONDS = 0.01
"""How long a prober rests between its calls."""

CALL_SECONDS = 10.0

NO_ROWS = b'{"rows":[]}'
"""A call without a row: it is routed and answered as any other, and leaves no value in the records."""


class Seen(msgspec.Struct, frozen=True):
    """One call: which version answered it (``churn@4``), or why none did; `at` is when that was known.

    Moments are of ``time.monotonic()``.
    """

    at: float
    version: str = ""
    failure: str = ""


class Switch(msgspec.Struct, frozen=True):
    """One switch, as calls saw it: `seconds` from the decision to the last answer of the version that had to go.

    `calls` were asked from the decision until it was over, of which `failed` had no answer; `failure` is the first
    reason.
    """

    seconds: float
    calls: int
    failed: int
    failure: str = ""


class _Said(msgspec.Struct):
    model: str
    version: int


_ANSWERS = msgspec.json.Decoder(_Said)


def key_for(salt: str, share: float) -> str:
    """A key whose calls go to the candidate of a split with this salt and share, which is more than 0.

    >>> goes_to_candidate(key_for("live/7", 0.001), "live/7", 0.001)
    True
    """
    return next(key for number in count() if goes_to_candidate(key := f"rehearsal-{number}", salt, share))


def switch_of(seen: Sequence[Seen], decided: float, gone: str) -> Switch:
    """What the calls since a decision say of the switch away from the version `gone`.

    >>> switch_of([Seen(1.2, "churn@3"), Seen(1.4, "churn@3"), Seen(1.5, "churn@4")], 1.0, "churn@3").seconds
    0.4
    """
    since = [one for one in seen if one.at >= decided]
    last = max((one.at - decided for one in since if one.version == gone), default=0.0)
    failures = [one.failure for one in since if one.failure]
    return Switch(round(last, 4), len(since), len(failures), failures[0] if failures else "")


def ask(url: str, deployment: str, body: bytes, headers: Mapping[str, str]) -> Seen:
    """One call on a connection of its own, so that any worker may get it."""
    parts = urlsplit(url)
    try:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=CALL_SECONDS)
        with contextlib.closing(connection):
            connection.request("POST", f"/predict/{deployment}", body, dict(headers))
            answer = connection.getresponse()
            said = answer.read()
        if answer.status != 200:
            return Seen(time.monotonic(), failure=f"status {answer.status}: {said[:300].decode(errors='replace')}")
        found = _ANSWERS.decode(said)
        return Seen(time.monotonic(), f"{found.model}@{found.version}")
    except (OSError, http.client.HTTPException, msgspec.MsgspecError) as error:
        return Seen(time.monotonic(), failure=f"{type(error).__name__}: {error}")


class Prober:
    """Asks on and on in a thread of its own, with one key."""

    def __init__(self, url: str, deployment: str, key: str) -> None:
        self._url, self._deployment, self._key = url, deployment, key
        self._seen: list[Seen] = []
        self._change, self._over = threading.Condition(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="probing", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def seen(self) -> list[Seen]:
        """All calls until now."""
        with self._change:
            return list(self._seen)

    def settles_on(self, version: str, calls: int, seconds: float) -> bool:
        """Wait until so many calls in a row were answered by that version; False when that takes longer."""

        def settled() -> bool:
            return len(self._seen) - asked >= calls and {one.version for one in self._seen[-calls:]} == {version}

        with self._change:
            asked = len(self._seen)
            return self._change.wait_for(settled, seconds)

    def _run(self) -> None:
        for one in self._asked():
            with self._change:
                self._seen.append(one)
                self._change.notify_all()

    def _asked(self) -> Iterator[Seen]:
        headers = {"X-Modelyard-Key": self._key}
        while not self._over.wait(PAUSE_SECONDS):
            yield ask(self._url, self._deployment, NO_ROWS, headers)
