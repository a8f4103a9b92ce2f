"""Parts for tests of dataset versions: a chunk index in memory, a store in a folder, files to take snapshots of."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Collection, Mapping
from pathlib import Path

from modelyard.datasets.packs import FolderPacks, Place
from modelyard.datasets.scan import find
from modelyard.datasets.seen import Seen
from modelyard.datasets.snapshot import Taken, take
from modelyard.datasets.store import ChunkStore


class MemoryIndex:
    """A `ChunkIndex` in a dictionary."""

    def __init__(self) -> None:
        self.places: dict[bytes, Place] = {}

    def find(self, digests: Collection[bytes]) -> Mapping[bytes, Place]:
        return {digest: self.places[digest] for digest in digests if digest in self.places}

    def add(self, places: Mapping[bytes, Place]) -> None:
        for digest, place in places.items():
            self.places.setdefault(digest, place)

    def replace(self, places: Mapping[bytes, Place]) -> None:
        self.places |= places


def store_in(folder: Path) -> ChunkStore:
    return ChunkStore(FolderPacks(folder), MemoryIndex())


def snapshot_of(folder: Path, store: ChunkStore, seen: Path) -> Taken:
    return take(find([folder]), store, Seen(seen))


def content(size: int, seed: int = 0) -> bytes:
    """Random bytes, the same for the same seed."""
    return random.Random(seed).randbytes(size)


def write(folder: Path, files: Mapping[str, bytes], *, age: float = 60.0) -> None:
    """Write files whose times are `age` seconds ago, as those of data at rest are."""
    for name, raw in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
        then = time.time() - age
        os.utime(path, (then, then))


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def wait_until_settled(folder: Path) -> None:
    """Until the system's clock is past the tick in which these files were last changed."""
    newest = max(path.stat().st_ctime_ns for path in folder.rglob("*"))
    while time.time_ns() <= newest + 110_000_000:
        time.sleep(0.01)
