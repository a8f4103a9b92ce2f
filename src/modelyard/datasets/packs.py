"""Packs: files that hold many chunks each, so that thousands of small files cost a few writes.

A pack is ``MYPACK1`` and a line feed, the chunks one after the other, an index (MessagePack: digest, offset, size of
each), the length of the index (eight bytes, little endian) and the first eight bytes again. It can be read without the
database.

Its name is drawn by lot, 256 bits of it, and never comes again. So a pack that is found to be of no use can be removed
while others write: whoever stores the same chunks at that moment does so in a pack of another name, which the removal
cannot meet. A pack is first kept and then made known in the index; a kept pack that no index knows is what a killed
writer left, or one that is about to become known, and only its age (`Packs.stored`) tells which.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import struct
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, NamedTuple, Protocol

import msgspec

from modelyard.errors import DataDamaged
from modelyard.home import Home
from modelyard.objects import Objects, Stored, folder_of

MAGIC = b"MYPACK1\n"
FULL = 64 * 2**20
"""A pack is closed when it holds this many bytes."""

_OPEN_PACKS = 64


class Place(NamedTuple):
    """Where a chunk lies: pack, offset in it, and size in bytes."""

    pack: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Part:
    """A pack that is being written: a local file that nobody else touches."""

    handle: IO[bytes]
    path: Path

    def abandon(self) -> None:
        """Drop it."""
        self.handle.close()
        self.path.unlink(missing_ok=True)


class Reader(Protocol):
    """Gives chunks back."""

    def read(self, place: Place, buffer: memoryview) -> None:
        """Fill `buffer`, which is as long as the chunk, with the bytes there, unchecked.

        Raises:
            DataDamaged: the pack is gone or shorter than it was.
        """
        ...


class Packs(Reader, Protocol):
    """Keeps finished packs under their names."""

    @property
    def readers(self) -> int:
        """How many threads it is worth while to read with."""
        ...

    def begin(self) -> Part:
        """A new pack to write, to be handed to `keep`."""
        ...

    def keep(self, part: Part, name: str) -> None:
        """Keep the finished pack; when this returns it survives a crash."""
        ...

    def near(self, places: Iterable[Place]) -> Reader:
        """What reads these chunks, all of which are about to be read, best: a far store brings them here together."""
        ...

    def stored(self) -> Iterator[Stored]:
        """Every pack that is kept, whether an index knows it or not. Those kept meanwhile may be left out."""
        ...

    def remove(self, name: str) -> None:
        """Remove a pack, for good. One that is not there is none to remove."""
        ...

    def close(self) -> None:
        """Let go of open files."""
        ...


class Incoming:
    """A folder in which packs are written. Safe to use from several threads and processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def begin(self) -> Part:
        """A new file; what killed processes left is removed."""
        self._sweep()
        descriptor, path = tempfile.mkstemp(dir=self._folder)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        return Part(os.fdopen(descriptor, "wb", buffering=2**17), Path(path))

    def _sweep(self) -> None:
        """Remove unfinished packs whose writers are gone: the system took their locks back."""
        for left in self._folder.iterdir():
            try:
                with left.open("rb") as handle:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if os.fstat(handle.fileno()).st_size:
                        left.unlink()
            except OSError:  # locked by a living writer, or gone
                continue


class FolderPacks:
    """Packs in a local folder, write-protected. Safe to use from several threads and processes."""

    readers = min(4, os.cpu_count() or 1)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._incoming = Incoming(folder / "incoming")
        self._descriptors: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self) -> Part:
        """A new file under ``incoming``; what killed processes left there is removed."""
        return self._incoming.begin()

    def keep(self, part: Part, name: str) -> None:
        """To disk, then under its name in one step."""
        with part.handle as handle:
            handle.flush()
            os.fchmod(handle.fileno(), 0o444)
            os.fsync(handle.fileno())
            target = self.locate(name)
            target.parent.mkdir(exist_ok=True)
            part.path.replace(target)
            sync_folder(target.parent)
            sync_folder(self.folder)

    def link(self, name: str, to: FolderPacks) -> None:
        """Have a pack in another folder too: as a hard link where it can be one, else as a link by name."""
        target = to.locate(name)
        if target.exists():
            return
        target.parent.mkdir(exist_ok=True)
        try:
            target.hardlink_to(self.locate(name))
        except OSError:
            target.symlink_to(self.locate(name))

    def locate(self, name: str) -> Path:
        """Where the pack of that name is, or would be."""
        return self.folder / name[:2] / f"{name}.pack"

    def read(self, place: Place, buffer: memoryview) -> None:
        """The bytes there; packs stay open for the next chunk."""
        try:
            with self._lock:
                descriptor = self._descriptor(place.pack)
                copy = os.dup(descriptor)
        except OSError as error:
            raise DataDamaged(f"the pack {self.locate(place.pack)} cannot be read: {error.strerror}") from error
        try:
            count = os.preadv(copy, [buffer], place.offset)
        except OSError as error:
            raise DataDamaged(f"the pack {self.locate(place.pack)} cannot be read: {error.strerror}") from error
        finally:
            os.close(copy)
        if count != place.size:
            raise DataDamaged(f"the pack {self.locate(place.pack)} is truncated: it ends before byte {sum(place[1:])}")

    def near(self, places: Iterable[Place]) -> FolderPacks:
        """They are near already."""
        return self

    def stored(self) -> Iterator[Stored]:
        """Every pack in the folder."""
        for file in self.folder.glob("??/*.pack"):
            try:
                facts = file.stat()
            except FileNotFoundError:  # removed meanwhile
                continue
            yield Stored(file.stem, facts.st_size, datetime.fromtimestamp(facts.st_mtime, UTC))

    def remove(self, name: str) -> None:
        """Remove a pack; its room is free once no process has it open."""
        with self._lock:
            if name in self._descriptors:
                os.close(self._descriptors.pop(name))
        self.locate(name).unlink(missing_ok=True)

    def close(self) -> None:
        """Close the packs that are open for reading."""
        with self._lock:
            while self._descriptors:
                os.close(self._descriptors.popitem()[1])

    def _descriptor(self, name: str) -> int:
        if name in self._descriptors:
            self._descriptors.move_to_end(name)
        else:
            self._descriptors[name] = os.open(self.locate(name), os.O_RDONLY | os.O_CLOEXEC)
            if len(self._descriptors) > _OPEN_PACKS:
                os.close(self._descriptors.popitem(last=False)[1])
        return self._descriptors[name]


def packs_of(home: Home) -> Packs:
    """Where the packs of that home are: in the object store of its team, or in its own folder.

    Raises:
        InvalidRequest: the address of the object store cannot be used.
    """
    if home.objects_url is None:
        return FolderPacks(home.datasets)
    folder = folder_of(home.objects_url)
    if folder is not None:
        return FolderPacks(folder / "datasets")
    from modelyard.datasets.remote import ObjectPacks

    return ObjectPacks(Objects(home.objects_url), home.cache / "packs")


class PackWriter:
    """Fills one pack and hands it over."""

    def __init__(self, packs: Packs) -> None:
        self._packs = packs
        self._part = packs.begin()
        self._part.handle.write(MAGIC)
        self.size = len(MAGIC)
        self._index: list[tuple[bytes, int, int]] = []

    def add(self, digest: bytes, data: memoryview | bytes) -> None:
        """Append one chunk."""
        self._part.handle.write(data)
        self._index.append((digest, self.size, len(data)))
        self.size += len(data)

    @property
    def is_full(self) -> bool:
        """Whether it is time for the next one."""
        return self.size >= FULL

    def finish(self) -> Mapping[bytes, Place]:
        """Write the index, keep the pack, and say where its chunks are."""
        index = msgspec.msgpack.encode(self._index)
        name = secrets.token_hex(32)
        self._part.handle.write(index + struct.pack("<Q", len(index)) + MAGIC)
        self._packs.keep(self._part, name)
        return {digest: Place(name, offset, size) for digest, offset, size in self._index}

    def abandon(self) -> None:
        """Drop what was written."""
        self._part.abandon()


def read_index(raw: bytes) -> Mapping[bytes, tuple[int, int]]:
    """Offset and size of every chunk of a whole pack, from the pack itself.

    Raises:
        DataDamaged: it is not a whole pack.
    """
    end = len(raw) - len(MAGIC)
    if not raw.startswith(MAGIC) or raw[end:] != MAGIC:
        raise DataDamaged("this is not a whole pack")
    (length,) = struct.unpack("<Q", raw[end - 8 : end])
    try:
        listed = msgspec.msgpack.decode(raw[end - 8 - length : end - 8], type=list[tuple[bytes, int, int]])
    except msgspec.MsgspecError as error:
        raise DataDamaged(f"the index of a pack cannot be read: {error}") from error
    return {digest: (offset, size) for digest, offset, size in listed}


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` survive a crash."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
