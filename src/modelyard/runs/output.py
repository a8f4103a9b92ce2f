"""What a program prints: passed on as it comes, and kept."""

from __future__ import annotations

import threading
from collections import deque
from pathlib import Path
from typing import Any, TextIO

LIMIT = 32 << 20
"""Bytes of a stream that are kept from its beginning; of a longer one the end is kept too."""

TAIL = 64 << 10


class Output:
    """One stream, kept in a file as it comes."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._handle = file.open("ab", buffering=0)
        self._room = LIMIT
        self._tail: deque[bytes] = deque()
        self._tail_bytes = self._passed = 0
        self._lock = threading.Lock()

    def write(self, raw: bytes) -> None:
        """Keep `raw`; where there is no room on the disk, only its end."""
        with self._lock:
            kept = raw[: self._room]
            self._room -= len(kept)
            self._passed += len(raw) - len(kept)
            self._remember(raw)
            try:
                self._handle.write(kept)
            except OSError:
                self._room = 0

    def last_line(self) -> str:
        """The last line that says something."""
        lines = b"".join(self._tail).decode("utf-8", "replace").splitlines()
        return next((line.strip()[:500] for line in reversed(lines) if line.strip()), "")

    def close(self) -> None:
        """Add the end of a stream that was too long."""
        with self._lock, self._handle as handle:
            end = b"".join(self._tail)[-min(TAIL, self._passed) :] if self._passed else b""
            if end:
                handle.write(b"\n[%d bytes are left out here]\n" % (self._passed - len(end)) + end)

    def _remember(self, raw: bytes) -> None:
        self._tail.append(raw[-TAIL:])
        self._tail_bytes += len(self._tail[-1])
        while self._tail_bytes - len(self._tail[0]) >= TAIL:
            self._tail_bytes -= len(self._tail.popleft())


class Tee:
    """Stands in for a text stream of this process, and keeps what is written."""

    def __init__(self, stream: TextIO, output: Output) -> None:
        self._stream, self._output = stream, output

    def write(self, text: str) -> int:
        """Pass on and keep."""
        self._output.write(text.encode("utf-8", "replace"))
        return self._stream.write(text)

    def writelines(self, texts: list[str]) -> None:
        """Pass on and keep."""
        for text in texts:
            self.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
