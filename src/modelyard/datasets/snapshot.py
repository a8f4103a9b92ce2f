"""Taking a snapshot: what is unchanged is recognised, the rest is read, cut, hashed and stored where it is new."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from modelyard.datasets.cutting import LEAST, cut, hashed
from modelyard.datasets.reading import FileReader, not_stored
from modelyard.datasets.scan import Found, Stamp
from modelyard.datasets.seen import Seen
from modelyard.datasets.store import ChunkStore, ChunkWriter, Piece
from modelyard.datasets.tree import Content, Entry, Tree, shown
from modelyard.errors import Failed

_BATCH_BYTES = 16 * 2**20
_BATCH_FILES = 1000


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a snapshot, checkout or verification is."""

    files: int
    bytes: int
    of_files: int
    of_bytes: int


Tell: TypeAlias = Callable[[Progress], None]
"""Called now and then with how far things are."""


def silent(_: Progress) -> None:
    """Tells nobody."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A stored snapshot: its tree, the files as they were when they were read, and what it cost in bytes."""

    tree: Tree
    files: tuple[Found, ...]
    unchanged: int
    read_bytes: int
    stored_bytes: int


@dataclass(slots=True)
class _Count:
    files: int = 0
    bytes: int = 0
    read: int = 0


@dataclass(slots=True)
class _Read:
    """What was read since it was last remembered."""

    contents: dict[Found, Content] = field(default_factory=dict)
    looked_at: dict[Found, int] = field(default_factory=dict)


def take(files: Sequence[Found], store: ChunkStore, seen: Seen, tell: Tell = silent) -> Taken:
    """Store `files` and say what they are. What was stored before is not read, or not stored, again.

    Killed at any moment it leaves nothing half: the next call goes on with what was not stored yet.

    Raises:
        Failed: a file cannot be read, keeps changing while it is read, or there is no room to store it.
    """
    try:
        return _take(files, store, seen, tell)
    except OSError as error:
        raise not_stored(error) from error


def _take(files: Sequence[Found], store: ChunkStore, seen: Seen, tell: Tell) -> Taken:
    known = _known(files, store, seen)
    total = sum(file.stamp.size for file in files)
    count = _Count(len(known), sum(content.size for content in known.values()))
    contents: dict[str, Content] = dict(known)
    read: dict[str, Found] = {}
    with (
        store.writer() as writer,
        FileReader(writer, lambda size: _advance(count, size, len(files), total, tell)) as reader,
    ):
        for batch in _batches([file for file in files if file.path not in known]):
            tell(Progress(count.files, count.bytes, len(files), total))
            done = _take_batch(batch, writer, reader)
            seen.remember(done.contents, done.looked_at)
            contents |= {file.path: content for file, content in done.contents.items()}
            read |= {file.path: file for file in done.contents}
            count.files += len(batch)
        tell(Progress(len(files), count.bytes, len(files), total))
        writer.finish()
        tree = Tree.of(Entry(file.name, contents[file.path]) for file in files)
        return Taken(
            tree, tuple(read.get(file.path, file) for file in files), len(known), count.read, writer.stored_bytes
        )


def require_unchanged(files: Sequence[Found]) -> None:
    """Make sure that what was said of files that lie where they were found is said of what was stored.

    Raises:
        Failed: one of them has changed since it was read.
    """
    for file in files:
        try:
            now = Stamp.of(os.stat(file.path))  # noqa: PTH116  # thousands of times
        except OSError:
            now = None
        if now != file.stamp:
            name = shown(os.fsencode(file.path))
            raise Failed(f"{name} changed while the snapshot was taken; take it when the file is finished")


def store_tree(tree: Tree, store: ChunkStore) -> tuple[bytes, ...]:
    """Store the list of files itself; gives the chunks it is in."""
    with store.writer() as writer:
        pieces = hashed(cut(memoryview(tree.encode())))
        writer.put(pieces)
    return tuple(digest for digest, _ in pieces)


def _known(files: Sequence[Found], store: ChunkStore, seen: Seen) -> dict[str, Content]:
    """Files whose content is known without reading them and is whole in the store."""
    recalled = seen.recall(files)
    lacking = store.lacking({chunk for content in recalled.values() for chunk in content.chunks})
    return {path: content for path, content in recalled.items() if lacking.isdisjoint(content.chunks)}


def _batches(files: Sequence[Found]) -> Iterator[list[Found]]:
    """Large files alone, small ones together."""
    batch: list[Found] = []
    size = 0
    for file in files:
        if file.stamp.size > LEAST:
            yield [file]
            continue
        batch.append(file)
        size += file.stamp.size
        if size >= _BATCH_BYTES or len(batch) >= _BATCH_FILES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _take_batch(batch: list[Found], writer: ChunkWriter, reader: FileReader) -> _Read:
    read = _Read()
    pieces: list[Piece] = []
    for file in batch:
        now, looked_at, content = reader.read(file, pieces)
        read.contents[now] = content
        read.looked_at[now] = looked_at
    writer.put(pieces)
    return read


def _advance(count: _Count, size: int, files: int, total: int, tell: Tell) -> None:
    count.bytes += size
    count.read += size
    tell(Progress(count.files, count.bytes, files, total))
