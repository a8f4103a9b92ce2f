"""What content is in use: every chunk of every version of data, of the files of every run, and of kept wheels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from blake3 import blake3
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, Select, literal, select, tuple_

from modelyard.datasets.packs import Place, Reader
from modelyard.datasets.store import ChunkStore
from modelyard.datasets.tree import chunks_of
from modelyard.errors import DataDamaged, Failed
from modelyard.registry.database import Database
from modelyard.registry.tables import dataset_versions, runs, vaults

_AT_ONCE = 64
_NEAR_BYTES = 32 * 2**20
_PENDING_BYTES = 2**23


class Marks:
    """Which chunks are in use, eight bytes of memory for each.

    The first eight bytes of a digest stand for it. Where two chunks have the same, one that nobody uses is kept with
    the other: one of ten million chunks in two million stores.

    >>> marks = Marks()
    >>> marks.add([b"a" * 32])
    >>> marks.lacks([b"a" * 32, b"b" * 32])
    [False, True]
    """

    def __init__(self) -> None:
        self._known: NDArray[np.uint64] = np.empty(0, np.uint64)
        self._pending = bytearray()

    def add(self, digests: Iterable[bytes]) -> None:
        """These are in use."""
        self._pending += b"".join([digest[:8] for digest in digests])
        if len(self._pending) >= _PENDING_BYTES:
            self._settle()

    def lacks(self, digests: Sequence[bytes]) -> list[bool]:
        """For each of these, whether nothing uses it."""
        self._settle()
        asked = np.frombuffer(b"".join(digest[:8] for digest in digests), np.uint64)
        if not len(self._known):
            return [True] * len(digests)
        at = np.searchsorted(self._known, asked)
        there = self._known[np.minimum(at, len(self._known) - 1)] == asked
        return [not known for known in there.tolist()]

    def _settle(self) -> None:
        if self._pending:
            self._known = np.union1d(self._known, np.frombuffer(bytes(self._pending), np.uint64))
            self._pending = bytearray()


@dataclass(frozen=True, slots=True)
class Tree:
    """A list of files that something has: what has it, the chunks that the list is in, and where that is written."""

    of: str
    chunks: tuple[bytes, ...]
    here: ColumnElement[bool]

    def is_registered(self, database: Database) -> bool:
        """Whether what has it is still there."""
        with database.read() as connection:
            return connection.execute(select(literal(1)).where(self.here).limit(1)).first() is not None


class Living:
    """The content in use, as far as it was looked at. Every list of files is read once, whoever has it."""

    def __init__(self, database: Database, store: ChunkStore) -> None:
        self._database, self._store = database, store
        self._seen: set[bytes] = set()
        self.marks = Marks()

    @property
    def trees(self) -> int:
        """How many lists of files were read."""
        return len(self._seen)

    def look(self) -> Iterator[int]:
        """Read the lists of files that were not read yet, of all that is registered now; tells how many were looked at.

        Raises:
            Failed: a list is damaged, so that nobody can say what is in use.
        """
        done, waiting = 0, list[Tree]()
        for tree in _registered(self._database):
            done += 1
            if self._is_new(tree):
                waiting.append(tree)
            if len(waiting) >= _AT_ONCE:
                self._read(waiting)
                waiting = []
                yield done
        self._read(waiting)
        yield done

    def _is_new(self, tree: Tree) -> bool:
        # Lists of the same files may be cut in different ways, so it is their chunks that are looked at.
        key = blake3(b"".join(tree.chunks)).digest()
        if key in self._seen:
            return False
        self._seen.add(key)
        return True

    def _read(self, trees: Sequence[Tree]) -> None:
        places = self._store.index.find({chunk for tree in trees for chunk in tree.chunks})
        for part in _parts(trees, places):
            near = self._store.near(places[chunk] for tree in part for chunk in tree.chunks if chunk in places)
            for tree in part:
                self._mark(tree, places, near)

    def _mark(self, tree: Tree, places: Mapping[bytes, Place], near: Reader) -> None:
        try:
            raw = b"".join(self._store.read(chunk, places.get(chunk), near=near) for chunk in tree.chunks)
            self.marks.add(chunks_of(raw))
        except DataDamaged as error:
            if not tree.is_registered(self._database):  # removed and collected since it was looked up
                return
            raise Failed(
                f"the list of files of {tree.of} cannot be read, so nobody can say which content is in use: {error}"
            ) from error
        self.marks.add(tree.chunks)


def _parts(trees: Sequence[Tree], places: Mapping[bytes, Place]) -> Iterator[list[Tree]]:
    """As many at once as fit into memory well: a far store brings those of one part here together."""
    part: list[Tree] = []
    size = 0
    for tree in trees:
        part.append(tree)
        size += sum(places[chunk].size for chunk in tree.chunks if chunk in places)
        if size >= _NEAR_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _registered(database: Database) -> Iterator[Tree]:
    """Every list of files, page by page, so that no transaction is open while they are read."""
    versions, kept = dataset_versions.c, runs.c
    for row in _pages(database, select(versions.dataset, versions.number, versions.tree), 2):
        here = (versions.dataset == row.dataset) & (versions.number == row.number)
        yield Tree(f"data:{row.dataset}@{row.number}", _decoded(row.tree), here)
    for row in _pages(database, select(kept.id, kept.tree).where(kept.tree.is_not(None)), 1):
        yield Tree(f"run:{row.id}", _decoded(row.tree), kept.id == row.id)
    yield from _vaults(database)


def _vaults(database: Database) -> Iterator[Tree]:
    kept = vaults.c
    for row in _pages(database, select(kept.model, kept.number, kept.tree), 2):
        here = (kept.model == row.model) & (kept.number == row.number)
        yield Tree(f"the wheels of {row.model}@{row.number}", _decoded(row.tree), here)


def _decoded(tree: bytes) -> tuple[bytes, ...]:
    return msgspec.msgpack.decode(tree, type=tuple[bytes, ...])


def _pages(database: Database, wanted: Select[Any], keys: int) -> Iterator[Any]:
    """All rows in the order of the first `keys` columns."""
    columns: list[ColumnElement[Any]] = list(wanted.selected_columns)[:keys]
    last: tuple[Any, ...] | None = None
    while True:
        page = wanted if last is None else wanted.where(tuple_(*columns) > tuple_(*last))
        with database.read() as connection:
            rows = _rows(connection, page.order_by(*columns).limit(1000))
        yield from rows
        if len(rows) < 1000:
            return
        last = tuple(rows[-1][:keys])


def _rows(connection: Connection, wanted: Select[Any]) -> Sequence[Any]:
    return connection.execute(wanted).all()
