"""Follows the desired state: pulled from the control plane, kept on disk, so that serving goes on without it."""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from modelyard.domain.desired import DesiredState
from modelyard.errors import InvalidRequest, ServiceUnreachable

POLL_SECONDS = 0.5
TIMEOUT_SECONDS = 5.0
FIRST_SECONDS = 0.5
"""The same for the first look where there is a state on disk to go on with."""

_log = logging.getLogger("modelyard.serving")

_STATES = msgspec.json.Decoder(DesiredState)


def read_cached(path: Path) -> DesiredState | None:
    """The state kept at `path`; None when there is none, or none that can be read."""
    try:
        return _STATES.decode(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        _log.warning("the desired state kept at %s cannot be read: %s", path, error)
        return None


def write_cached(path: Path, state: DesiredState) -> None:
    """Keep `state` at `path`, wholly or not at all."""
    write_whole(path, msgspec.json.encode(state))


def write_whole(path: Path, content: bytes) -> None:
    """Write a small file so that readers see the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise


class DesiredSource:
    """Asks one address for the desired state, and hears only what has changed.

    Not safe for several threads.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise InvalidRequest(
                f"{url!r} is no address to follow; give one such as http://127.0.0.1:8090/desired-state"
            )
        self.url = url
        self._host, self._port = parts.hostname, parts.port or 80
        self._path = parts.path or "/"
        self._etag: str | None = None
        self._connection: http.client.HTTPConnection | None = None

    def changed(self, seconds: float = TIMEOUT_SECONDS) -> DesiredState | None:
        """The state, if it is another than the last time; None otherwise. A first answer may take so many `seconds`.

        Raises:
            ServiceUnreachable: nobody answers there, or not with a desired state.
        """
        try:
            return self._ask(seconds)
        except (OSError, http.client.HTTPException, msgspec.MsgspecError) as error:
            self.close()
            raise ServiceUnreachable(f"no desired state from {self.url}: {error}") from None

    def _ask(self, seconds: float) -> DesiredState | None:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self._host, self._port, timeout=seconds)
        elif self._connection.sock is not None:
            self._connection.sock.settimeout(seconds)
        self._connection.request("GET", self._path, headers={"If-None-Match": self._etag} if self._etag else {})
        response = self._connection.getresponse()
        body = response.read()
        if response.status == 304:
            return None
        if response.status != 200:
            raise http.client.HTTPException(f"status {response.status}")
        state = _STATES.decode(body)
        self._etag = response.getheader("ETag")
        return state

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class DesiredFollower:
    """Polls a `DesiredSource` in a thread and hands new states to `apply`; begins with the cached one if needed."""

    def __init__(self, source: DesiredSource, cache: Path, apply: Callable[[DesiredState], None]) -> None:
        self._source, self._cache, self._apply = source, cache, apply
        self._stop = threading.Event()
        self._trouble: str | None = None
        self._heard_at: float | None = None
        self._thread = threading.Thread(target=self._follow, name="desired-state", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def close(self) -> None:
        """Stop following."""
        self._stop.set()
        self._thread.join()
        self._source.close()

    def facts(self) -> dict[str, Any]:
        """For the status page: where the state comes from and when it was last heard of."""
        age = None if self._heard_at is None else round(time.monotonic() - self._heard_at, 3)
        return {
            "control": {
                "url": self._source.url,
                "reachable": self._trouble is None,
                "reason": self._trouble or "",
                "heard_seconds_ago": age,
            }
        }

    def _follow(self) -> None:
        cached = read_cached(self._cache)
        self._look(TIMEOUT_SECONDS if cached is None else FIRST_SECONDS)
        if self._heard_at is None and cached is not None:
            _log.info("going on with the desired state kept on disk (generation %d)", cached.generation)
            self._apply(cached)
        while not self._stop.wait(POLL_SECONDS):
            self._look()

    def _look(self, seconds: float = TIMEOUT_SECONDS) -> None:
        try:
            state = self._source.changed(seconds)
            if state is not None:
                self._apply(state)
                write_cached(self._cache, state)
        except (ServiceUnreachable, OSError) as error:
            if self._trouble is None:
                _log.warning("%s", error)
            self._trouble = str(error)
            return
        if self._trouble is not None:
            _log.info("the control plane answers again")
        self._trouble, self._heard_at = None, time.monotonic()
