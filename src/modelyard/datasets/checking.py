"""Reading everything that is stored of a version again, and naming what is damaged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from blake3 import blake3

from modelyard.datasets.cutting import MOST
from modelyard.datasets.packs import Place
from modelyard.datasets.snapshot import Progress, Tell, silent
from modelyard.datasets.store import ChunkStore
from modelyard.datasets.tree import Entry, Tree, shown
from modelyard.errors import DataDamaged


@dataclass(frozen=True, slots=True)
class Damage:
    """A file that cannot be given back, and why."""

    file: str
    reason: str


def damages(tree: Tree, store: ChunkStore, tell: Tell = silent) -> Iterator[Damage]:
    """Hash every file of `tree` again, chunk by chunk and as a whole."""
    places = store.index.find({chunk for entry in tree.entries for chunk in entry.content.chunks})
    checked, total, buffer = 0, tree.bytes, bytearray(MOST)
    for count, entry in enumerate(tree.entries, 1):
        reason = _fault(entry, store, places, buffer)
        if reason:
            yield Damage(shown(entry.path), reason)
        checked += entry.content.size
        tell(Progress(count, checked, len(tree.entries), total))


def _fault(entry: Entry, store: ChunkStore, places: Mapping[bytes, Place], buffer: bytearray) -> str:
    whole, size = blake3(), 0
    for chunk in entry.content.chunks:
        try:
            raw = store.read(chunk, places.get(chunk), buffer)
        except DataDamaged as error:
            return str(error)
        whole.update(raw)
        size += len(raw)
    if size != entry.content.size or whole.digest() != entry.content.digest:
        return f"its {size} bytes are not those that were recorded ({entry.content.size} bytes)"
    return ""
