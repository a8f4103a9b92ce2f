"""Append-only segment files in a folder: one writer per file, any number of readers.

A writer creates a file of its own (its name holds the time, the process and a random part), keeps it locked while it
lives, and appends each frame with one ``write``. What ``write`` took is in the kernel's hands and survives the death of
the process. Readers never lock, and tolerate the end of a file that is being written.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import IO, Literal, TypeAlias

from modelyard.errors import RecordNotKept
from modelyard.records.framing import HEADER_BYTES, MAX_PAYLOAD, SALT_BYTES, Frames, Framing, header, salt_of

SUFFIX = ".log"

_PARTS = 1024
"""So many parts one system call takes at least (IOV_MAX)."""

Fsync: TypeAlias = Literal["never", "always"]
"""``never``: safe against the death of the process; ``always``: against the loss of power as well, and much slower."""


class SegmentWriter:
    """Appends frames to segments of one folder. Safe to call from several threads and after a fork.

    With `continue_last`, it goes on in the newest segment that no living writer holds and that is not full, so that
    many short-lived writers do not leave as many files.
    """

    def __init__(
        self, folder: Path, *, segment_bytes: int, fsync: Fsync = "never", continue_last: bool = False
    ) -> None:
        self.folder = folder
        self._segment_bytes = segment_bytes
        self._fsync = fsync == "always"
        self._continue_last = continue_last
        self._lock = Lock()
        self._descriptor = -1
        self._end = 0
        self._process = 0
        self._framing = Framing.of(bytes(SALT_BYTES))
        self._closed = False
        with _reported(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def append(self, payload: bytes) -> None:
        """Write one frame.

        Raises:
            RecordNotKept: it could not be written (disk full, file too large, closed). The segment stays readable.
        """
        self.append_all([payload])

    def append_all(self, payloads: list[bytes]) -> None:
        """Write several frames with one ``write``.

        Raises:
            RecordNotKept: as for `append`; none of them is kept then.
        """
        if any(len(payload) > MAX_PAYLOAD for payload in payloads):
            raise RecordNotKept(f"a record is larger than {MAX_PAYLOAD} bytes, which no segment can hold")
        with self._lock, _reported(self.folder):
            if self._descriptor < 0 or self._end >= self._segment_bytes or self._process != os.getpid():
                self._open_segment()
            self._write([part for payload in payloads for part in (self._framing.head(payload), payload)])

    def close(self) -> None:
        """Let go of the segment. Calling it twice is harmless; appending afterwards is an error."""
        with self._lock:
            self._closed = True
            self._let_go()

    def _write(self, parts: list[bytes]) -> None:
        """Write all parts as they are: putting them together first would cost more than to write them."""
        try:
            for start in range(0, len(parts), _PARTS):
                self._write_some(parts[start : start + _PARTS])
            if self._fsync:
                os.fdatasync(self._descriptor)
            self._end += sum(map(len, parts))
        except BaseException:
            # Also when a signal interrupts: what is not acknowledged is cut off, and the end stays known.
            self._take_back()
            raise

    def _write_some(self, parts: list[bytes]) -> None:
        written, length = os.writev(self._descriptor, parts), sum(map(len, parts))
        if written < length:
            rest = b"".join(parts)[written:]
            while rest:
                # A short write: the rest either fits or raises the reason.
                rest = rest[os.write(self._descriptor, rest) :]

    def _take_back(self) -> None:
        """Cut off what a failed append left, so that the next one begins where a frame is expected."""
        try:
            os.ftruncate(self._descriptor, self._end)
            os.lseek(self._descriptor, self._end, os.SEEK_SET)
        except OSError:
            self._let_go()

    def _let_go(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            with suppress(OSError):
                os.close(descriptor)

    def _open_segment(self) -> None:
        if self._closed:
            raise OSError(errno.EBADF, "the log is closed")
        self._let_go()
        self._process = os.getpid()
        if not (self._continue_last and self._continue()):
            self._create()

    def _create(self) -> None:
        salt = secrets.token_bytes(SALT_BYTES)
        name = f"{time.time_ns():020d}-{self._process}-{secrets.token_hex(4)}"
        hidden, path = self.folder / f".{name}.new", self.folder / f"{name}{SUFFIX}"
        descriptor = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            # Locked and with its header before anybody can see it: readers never meet half a header.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.write(descriptor, header(salt))
            hidden.rename(path)
            if self._fsync:
                os.fsync(descriptor)
                _fsync_folder(self.folder)
        except OSError:
            os.close(descriptor)
            hidden.unlink(missing_ok=True)
            raise
        self._descriptor, self._end, self._framing = descriptor, HEADER_BYTES, Framing.of(salt)

    def _continue(self) -> bool:
        newest = segments(self.folder)[-1:]
        try:
            if not newest or newest[0].stat().st_size >= self._segment_bytes:
                return False
            descriptor = os.open(newest[0], os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # It may have been shipped and removed between the listing and the lock.
            found = scan(newest[0]) if os.fstat(descriptor).st_nlink else None
            if found is None:
                raise BlockingIOError
            # Whatever follows the last whole frame was never acknowledged, and its writer is gone.
            os.ftruncate(descriptor, found.end)
            os.lseek(descriptor, found.end, os.SEEK_SET)
        except OSError:
            os.close(descriptor)
            return False
        self._descriptor, self._end, self._framing = descriptor, found.end, found.framing
        return True


@dataclass(frozen=True, slots=True)
class Scan:
    """The frames of one segment, from an offset on."""

    path: Path
    framing: Framing
    frames: Frames

    @property
    def end(self) -> int:
        """Offset just after the last whole frame."""
        return self.frames.end

    @property
    def damage(self) -> tuple[Damage, ...]:
        """Stretches that could not be read although whole frames follow them."""
        return tuple(Damage(self.path, at, size) for at, size in self.frames.damaged)


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of a segment that are no longer what was written."""

    path: Path
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.path.name}: {self.size} bytes at offset {self.offset} are damaged and were skipped"


def segments(folder: Path) -> list[Path]:
    """The segment files of `folder`, oldest first; none where there is no such folder.

    A listing may miss a file that is made meanwhile and yet show a later one. What was there before the newest of one
    listing is in the next for certain, so two of them give the files of one writer without a gap.
    """
    pattern = f"[0-9]*{SUFFIX}"
    newest = max(folder.glob(pattern), default=None)
    return [] if newest is None else sorted(path for path in folder.glob(pattern) if path <= newest)


def scan(path: Path, start: int = HEADER_BYTES, most: int | None = None) -> Scan | None:
    """Read the frames of a segment from the offset `start` on; None where the file is no segment.

    With `most`, only about so many bytes are read, or those of one frame where that is longer.
    """
    with path.open("rb") as file:
        return scan_file(path, file, start, most)


def scan_file(path: Path, file: IO[bytes], start: int = HEADER_BYTES, most: int | None = None) -> Scan | None:
    """As `scan`, of a file that is open already, and so is still there when it was removed."""
    file.seek(0)
    salt = salt_of(file.read(HEADER_BYTES))
    if salt is None:
        return None
    file.seek(start)
    data = file.read() if most is None else file.read(most)
    framing = Framing.of(salt)
    frames = framing.frames(data)
    if not frames.found and most is not None and len(data) == most:
        frames = framing.frames(data + file.read())
    return Scan(
        path,
        framing,
        Frames(
            [(start + at, payload) for at, payload in frames.found],
            [(start + at, size) for at, size in frames.damaged],
            start + frames.end,
        ),
    )


class _reported:  # noqa: N801 - reads as a phrase: "with _reported(folder)"
    """Turns what the system refuses into `RecordNotKept`; a class, as it costs less than a generator."""

    __slots__ = ("folder",)

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, OSError):
            raise RecordNotKept(
                f"could not write to the log in {self.folder}: {error.strerror or error}; "
                "nothing that was acknowledged is lost; free space or correct the folder's rights, then try again"
            ) from error


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
