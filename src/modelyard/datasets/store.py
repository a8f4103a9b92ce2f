"""The chunk store: every piece of content once, whatever file, version or dataset it is in."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Protocol, Self, TypeAlias

from blake3 import blake3

from modelyard.datasets.packs import FolderPacks, Packs, PackWriter, Place, Reader
from modelyard.datasets.tree import Content
from modelyard.errors import DataDamaged

Piece: TypeAlias = tuple[bytes, memoryview | bytes]
"""A chunk's digest and its bytes."""


class ChunkIndex(Protocol):
    """Knows where stored chunks lie."""

    def find(self, digests: Collection[bytes]) -> Mapping[bytes, Place]:
        """The places of those of these chunks that are stored."""
        ...

    def add(self, places: Mapping[bytes, Place]) -> None:
        """Make the chunks of a kept pack known. A chunk that another process added first stays where it is."""
        ...

    def replace(self, places: Mapping[bytes, Place]) -> None:
        """Make the chunks of a kept pack known there and nowhere else: where they were, they are damaged."""
        ...


class Sink(Protocol):
    """Takes chunks to store."""

    def put(self, pieces: Iterable[Piece]) -> None:
        """Store those of these chunks that have to be."""
        ...


class ChunkStore:
    """Chunks in packs, found through an index."""

    def __init__(self, packs: Packs, index: ChunkIndex) -> None:
        self.packs, self.index = packs, index

    def writer(self) -> ChunkWriter:
        """Something to store chunks with, as a context."""
        return ChunkWriter(self.packs, self.index)

    def lacking(self, digests: Collection[bytes]) -> set[bytes]:
        """Those of these chunks that are not stored."""
        return set(digests) - self.index.find(digests).keys()

    def near(self, places: Iterable[Place]) -> Reader:
        """What to hand to `read` for these chunks, all of which are about to be read."""
        return self.packs.near(places)

    def read(
        self, digest: bytes, place: Place | None, buffer: bytearray | None = None, near: Reader | None = None
    ) -> memoryview:
        """One chunk, checked. It is read into `buffer` where that is long enough, from what is `near` if that is given.

        Raises:
            DataDamaged: it is gone, or its bytes are not those that were stored; the pack is named.
        """
        if place is None:
            raise DataDamaged(f"the chunk {digest.hex()} is not in the store")
        try:
            return self._read(digest, place, buffer, near or self.packs)
        except DataDamaged:
            now = self.index.find([digest]).get(digest)
            if now is None or now == place:
                raise
            return self._read(digest, now, buffer, self.packs)  # it has moved: a collection rewrote its pack

    def _read(self, digest: bytes, place: Place, buffer: bytearray | None, packs: Reader) -> memoryview:
        if buffer is None or len(buffer) < place.size:
            buffer = bytearray(place.size)
        raw = memoryview(buffer)[: place.size]
        packs.read(place, raw)
        if blake3(raw).digest() != digest:
            raise DataDamaged(
                f"the chunk {digest.hex()} in pack {place.pack} at byte {place.offset} is not what was stored"
            )
        return raw

    def lend(self, digests: Collection[bytes], to: ChunkStore) -> None:
        """Make these chunks known in another store: by links to their packs where both are folders, else by copies.

        Raises:
            DataDamaged: one of them is gone, or its bytes are not those that were stored.
        """
        wanted = to.lacking(digests)
        places = self.index.find(wanted)
        if isinstance(self.packs, FolderPacks) and isinstance(to.packs, FolderPacks) and len(places) == len(wanted):
            for pack in {place.pack for place in places.values()}:
                self.packs.link(pack, to.packs)
            to.index.add(places)
            return
        with to.writer() as writer:
            for digest in wanted:
                writer.put([(digest, bytes(self.read(digest, places.get(digest))))])

    def read_all(self, digests: Sequence[bytes]) -> bytes:
        """These chunks joined; raises as `read` does."""
        places = self.index.find(digests)
        near = self.near(places.values())
        return b"".join(self.read(digest, places.get(digest), near=near) for digest in digests)


class ChunkWriter:
    """Stores what is not there yet. Full packs go to disk behind the caller's back, each known once it is safe.

    What was kept stays when the writer is killed: the next one finds it in the index and stores only the rest.
    """

    def __init__(self, packs: Packs, index: ChunkIndex) -> None:
        self._packs, self._index = packs, index
        self._pack: PackWriter | None = None
        self._put: set[bytes] = set()
        self._keeping: list[Future[None]] = []
        self._background = ThreadPoolExecutor(1, thread_name_prefix="packs")
        self.stored_bytes = 0

    def put(self, pieces: Iterable[Piece]) -> None:
        """Store those of these chunks that are new."""
        asked = {digest: data for digest, data in pieces if digest not in self._put}
        there = self._index.find(asked.keys()) if asked else {}
        self._put |= asked.keys()
        for digest, data in asked.items():
            if digest not in there:
                self._add(digest, data)

    def put_whole(self, raw: bytes) -> Content:
        """Store `raw` as one chunk."""
        digest = blake3(raw).digest()
        self.put([(digest, raw)])
        return Content(len(raw), digest, (digest,))

    def finish(self) -> None:
        """Return when everything that was put is safe and known."""
        if self._pack is not None:
            self._hand_over(self._pack)
            self._pack = None
        while self._keeping:
            self._keeping.pop(0).result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.finish()
            elif self._pack is not None:
                self._pack.abandon()
        finally:
            self._background.shutdown()

    def _add(self, digest: bytes, data: memoryview | bytes) -> None:
        if self._pack is None:
            self._pack = PackWriter(self._packs)
        self._pack.add(digest, data)
        self.stored_bytes += len(data)
        if self._pack.is_full:
            self._hand_over(self._pack)
            self._pack = None

    def _hand_over(self, pack: PackWriter) -> None:
        while self._keeping and self._keeping[0].done():
            self._keeping.pop(0).result()
        self._keeping.append(self._background.submit(self._keep, pack))

    def _keep(self, pack: PackWriter) -> None:
        self._index.add(pack.finish())
