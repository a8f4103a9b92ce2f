"""Reading everything that is stored of a version again, and naming what is damaged."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from blake3 import blake3

from modelyard.datasets.cutting import MOST
from modelyard.datasets.packs import Place, Reader
from modelyard.datasets.snapshot import Progress, Tell, silent
from modelyard.datasets.store import ChunkStore
from modelyard.datasets.tree import Content, Tree, shown
from modelyard.errors import DataDamaged

_NEAR_BYTES = 32 * 2**20


@dataclass(frozen=True, slots=True)
class Damage:
    """A file that cannot be given back, and why."""

    file: str
    reason: str


def damages(tree: Tree, store: ChunkStore, tell: Tell = silent) -> Iterator[Damage]:
    """Hash every file of `tree` again, chunk by chunk and as a whole."""
    places = store.index.find({chunk for entry in tree.entries for chunk in entry.content.chunks})
    reading = _InOrder(store, places, [chunk for entry in tree.entries for chunk in entry.content.chunks])
    checked, total = 0, tree.bytes
    for count, entry in enumerate(tree.entries, 1):
        reason = _fault(entry.content, reading)
        if reason:
            yield Damage(shown(entry.path), reason)
        checked += entry.content.size
        tell(Progress(count, checked, len(tree.entries), total))


def damaged_chunks(chunks: Collection[bytes], store: ChunkStore) -> set[bytes]:
    """Those of these chunks that are gone or not what was stored."""
    ordered = list(dict.fromkeys(chunks))
    reading = _InOrder(store, store.index.find(ordered), ordered)
    found = set()
    for chunk in ordered:
        try:
            reading.next()
        except DataDamaged:
            found.add(chunk)
    return found


def _fault(content: Content, reading: _InOrder) -> str:
    whole, size, reason = blake3(), 0, ""
    for _ in content.chunks:
        try:
            raw = reading.next()
        except DataDamaged as error:
            reason = reason or str(error)
        else:
            whole.update(raw)
            size += len(raw)
    if not reason and (size != content.size or whole.digest() != content.digest):
        reason = f"its {size} bytes are not those that were recorded ({content.size} bytes)"
    return reason


class _InOrder:
    """Reads chunks one after the other, having those that follow brought near together."""

    def __init__(self, store: ChunkStore, places: Mapping[bytes, Place], chunks: Sequence[bytes]) -> None:
        self._store, self._places, self._chunks = store, places, chunks
        self._buffer = bytearray(MOST)
        self._near: Reader = store.packs
        self._at = self._near_until = 0

    def next(self) -> memoryview:
        """The next chunk; what was given before is overwritten. Raises as `ChunkStore.read` does."""
        if self._at >= self._near_until:
            self._bring_near()
        chunk = self._chunks[self._at]
        self._at += 1
        return self._store.read(chunk, self._places.get(chunk), self._buffer, self._near)

    def _bring_near(self) -> None:
        size, following = 0, list[Place]()
        while size < _NEAR_BYTES and self._near_until < len(self._chunks):
            place = self._places.get(self._chunks[self._near_until])
            if place is not None:
                size += place.size
                following.append(place)
            self._near_until += 1
        self._near = self._store.near(following)
