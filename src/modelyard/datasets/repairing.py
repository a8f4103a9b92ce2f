"""Putting right what is damaged in the store, from files that still have the content."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from modelyard.datasets.cutting import cut, hashed
from modelyard.datasets.packs import PackWriter
from modelyard.datasets.reading import FileReader
from modelyard.datasets.scan import Found
from modelyard.datasets.snapshot import Progress, Tell, silent
from modelyard.datasets.store import ChunkStore, Piece
from modelyard.datasets.tree import Content, Entry, Tree


class Mender:
    """Stores chunks again that are damaged where they are, and makes them known in their new place.

    What is damaged stays where it is; nobody looks there any more.
    """

    def __init__(self, store: ChunkStore, damaged: Collection[bytes]) -> None:
        self._store = store
        self._wanted = set(damaged)
        self._pack: PackWriter | None = None
        self.mended = 0

    def put(self, pieces: Iterable[Piece]) -> None:
        """Store those of these chunks that are damaged."""
        for digest, data in pieces:
            if digest in self._wanted:
                self._wanted.discard(digest)
                self._pack = self._pack or PackWriter(self._store.packs)
                self._pack.add(digest, data)
                self.mended += 1
        if self._pack is not None and self._pack.is_full:
            self.finish()

    def finish(self) -> None:
        """Return when everything that was put is safe and known."""
        if self._pack is not None:
            places = self._pack.finish()
            self._pack = None
            self._store.index.replace(places)

    def abandon(self) -> None:
        """Drop what is not known yet."""
        if self._pack is not None:
            self._pack.abandon()


def mend(files: Sequence[Found], damaged: Collection[bytes], store: ChunkStore, tell: Tell = silent) -> int:
    """Read `files` and store again what they have of these damaged chunks; gives how many chunks that were.

    Raises:
        Failed: a file cannot be read, or keeps changing.
    """
    mender = Mender(store, damaged)
    try:
        _read(files, mender, tell)
        mender.finish()
    except BaseException:
        mender.abandon()
        raise
    return mender.mended


def mend_list(files: Sequence[Found], digest: str, store: ChunkStore, tell: Tell = silent) -> bool:
    """Store the list of files of the version of that digest again, if these are its files; raises as `mend` does."""
    tree = Tree.of(_read(files, Mender(store, ()), tell))
    if tree.digest != digest:
        return False
    pieces = hashed(cut(memoryview(tree.encode())))
    mender = Mender(store, [chunk for chunk, _ in pieces])
    mender.put(pieces)
    mender.finish()
    return True


def _read(files: Sequence[Found], mender: Mender, tell: Tell) -> list[Entry]:
    total, done = sum(file.stamp.size for file in files), 0

    def advance(size: int) -> None:
        nonlocal done
        done += size
        tell(Progress(len(entries), done, len(files), total))

    entries: list[Entry] = []
    with FileReader(mender, advance) as reader:
        for file in files:
            pieces: list[Piece] = []
            content: Content = reader.read(file, pieces)[2]
            mender.put(pieces)
            entries.append(Entry(file.name, content))
    return entries
