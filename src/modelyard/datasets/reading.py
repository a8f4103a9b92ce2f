"""Reading files for a snapshot: each as it was at one moment, cut and hashed on the way, large ones on two cores."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import Any, BinaryIO, Self

from blake3 import blake3

from modelyard.datasets.cutting import LEAST, cut, hashed
from modelyard.datasets.scan import Found, Stamp
from modelyard.datasets.store import Piece, Sink
from modelyard.datasets.tree import Content, shown
from modelyard.errors import Failed

BLOCK = 8 * 2**20
"""So much of a large file is read at once; more than the largest chunk."""

_ATTEMPTS = 3


class FileReader:
    """Reads files one after the other and stores their chunks, as a context."""

    def __init__(self, writer: Sink, advance: Callable[[int], None]) -> None:
        self._writer, self._advance = writer, advance
        self._helper = ThreadPoolExecutor(1, thread_name_prefix="hash")
        self._buffers: list[memoryview] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._helper.shutdown()

    def read(self, file: Found, pieces: list[Piece]) -> tuple[Found, int, Content]:
        """The file as it was at one moment, when it was looked at (ns since 1970), and its content.

        It is read again if it changed meanwhile. Chunks of a large file are stored, a small one goes to `pieces`.

        Raises:
            Failed: it cannot be read, or changes whenever it is read.
        """
        try:
            for _ in range(_ATTEMPTS):
                looked_at = time.time_ns()
                with open(file.path, "rb", buffering=0) as handle:  # noqa: PTH123  # thousands of times
                    before = Stamp.of(os.fstat(handle.fileno()))
                    content = self._small(handle, pieces) if before.size <= LEAST else self._large(handle)
                    after = Stamp.of(os.fstat(handle.fileno()))
                if before == after and content.size == before.size:
                    return replace(file, stamp=before), looked_at, content
        except OSError as error:
            raise Failed(f"{shown(os.fsencode(file.path))} cannot be read: {error.strerror}") from error
        raise Failed(f"{shown(os.fsencode(file.path))} changes while it is read; take the snapshot when it is finished")

    def _small(self, handle: BinaryIO, pieces: list[Piece]) -> Content:
        raw = handle.read(LEAST + 1)
        digest = blake3(raw).digest()
        self._advance(len(raw))
        if not raw:
            return Content(0, digest, ())
        pieces.append((digest, raw))
        return Content(len(raw), digest, (digest,))

    def _large(self, handle: BinaryIO) -> Content:
        """Block by block: while one is hashed (its chunks, and the whole file on and on) the next is read and cut."""
        whole, size, chunks = blake3(), 0, list[bytes]()
        hashing: Future[list[Piece]] | None = None
        tail: memoryview = memoryview(b"")
        self._buffers = self._buffers or [memoryview(bytearray(BLOCK)) for _ in range(2)]
        is_last = False
        while not is_last:
            buffer = self._buffers[0]
            self._buffers.reverse()
            kept = len(tail)
            buffer[:kept] = tail
            end = kept + _fill(handle, buffer[kept:])
            is_last = end < BLOCK
            parts = list(cut(buffer[:end]))
            tail = parts.pop() if parts and not is_last else buffer[:0]
            if hashing is not None:
                chunks += self._stored(hashing)
            hashing = self._helper.submit(_hashed, whole, buffer[kept:end], parts)
            size += end - kept
            self._advance(end - kept)
        if hashing is not None:
            chunks += self._stored(hashing)
        return Content(size, whole.digest(), tuple(chunks))

    def _stored(self, hashing: Future[list[Piece]]) -> list[bytes]:
        pieces = hashing.result()
        try:
            self._writer.put(pieces)
        except OSError as error:
            raise not_stored(error) from error
        return [digest for digest, _ in pieces]


def not_stored(error: OSError) -> Failed:
    """What is said when there is no room, or no right, to store what was read."""
    return Failed(f"the snapshot cannot be stored: {error.strerror}; nothing was registered")


def _hashed(whole: Any, fresh: memoryview, parts: list[memoryview]) -> list[Piece]:
    whole.update(fresh)
    return [*hashed(parts)]


def _fill(handle: BinaryIO, buffer: memoryview) -> int:
    """Read until `buffer` is full or the file ends."""
    filled = 0
    while filled < len(buffer):
        count = handle.readinto(buffer[filled:])  # type: ignore[attr-defined]
        if not count:
            break
        filled += count
    return filled
