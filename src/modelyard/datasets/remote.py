"""Packs in an object store: sent in pieces, several at once, and read in few requests, however small the chunks."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from modelyard.datasets.packs import Incoming, Part, Place
from modelyard.errors import DataDamaged
from modelyard.objects import Objects, Stored

if TYPE_CHECKING:
    from obstore import Bytes

_PREFIX = "packs"
_SUFFIX = ".pack"
_AT_ONCE = 8


class ObjectPacks:
    """Packs as objects ``packs/<name>.pack``. One that is being written is a file in `scratch` until it is full."""

    readers = _AT_ONCE

    def __init__(self, objects: Objects, scratch: Path) -> None:
        self._objects = objects
        self._incoming = Incoming(scratch)

    def begin(self) -> Part:
        """A new file in the scratch folder; what killed processes left there is removed."""
        return self._incoming.begin()

    def keep(self, part: Part, name: str) -> None:
        """Send it. The store shows an object once it is whole."""
        try:
            part.handle.flush()
            self._objects.put(_key(name), part.path)
        finally:
            part.abandon()

    def read(self, place: Place, buffer: memoryview) -> None:
        """One chunk, in a request of its own; see `near` for many."""
        (raw,) = self._objects.ranges(_key(place.pack), [(place.offset, place.size)])
        _fill(buffer, raw, place, self._objects)

    def near(self, places: Iterable[Place]) -> _Near:
        """Bring these chunks here, neighbours in one request and several requests at once."""
        wanted: dict[str, set[Place]] = defaultdict(set)
        for place in places:
            wanted[place.pack].add(place)
        if len(wanted) <= 1:
            return _Near(self, dict(pair for pack in wanted.values() for pair in self._pieces(pack)))
        with ThreadPoolExecutor(min(len(wanted), _AT_ONCE), thread_name_prefix="packs") as pool:
            return _Near(self, dict(pair for pairs in pool.map(self._pieces, wanted.values()) for pair in pairs))

    def stored(self) -> Iterator[Stored]:
        """Every pack that is kept."""
        for found in self._objects.list(_PREFIX):
            name = os.path.basename(found.name)  # noqa: PTH119  # a key, not a path
            if name.endswith(_SUFFIX):
                yield Stored(name.removesuffix(_SUFFIX), found.bytes, found.at)

    def remove(self, name: str) -> None:
        """Remove a pack."""
        self._objects.remove([_key(name)])

    def close(self) -> None:
        """There is nothing to let go of."""

    def _pieces(self, places: Iterable[Place]) -> list[tuple[Place, Bytes]]:
        ordered = sorted(places)
        spans = [(place.offset, place.size) for place in ordered]
        try:
            return list(zip(ordered, self._objects.ranges(_key(ordered[0].pack), spans), strict=True))
        except DataDamaged:
            return []  # whoever reads one of them is told, and can name the file that it is of


class _Near:
    """Chunks that were brought here; others are read as ever."""

    def __init__(self, packs: ObjectPacks, here: Mapping[Place, Bytes]) -> None:
        self._packs, self._here = packs, here

    def read(self, place: Place, buffer: memoryview) -> None:
        """From memory."""
        if place in self._here:
            _fill(buffer, self._here[place], place, self._packs._objects)  # noqa: SLF001  # of this file
        else:
            self._packs.read(place, buffer)


def _key(name: str) -> str:
    return f"{_PREFIX}/{name}{_SUFFIX}"


def _fill(buffer: memoryview, raw: Bytes, place: Place, objects: Objects) -> None:
    found = memoryview(raw)
    if len(found) != place.size:
        raise DataDamaged(
            f"the pack {_key(place.pack)} in {objects.url} is truncated: it ends before byte {sum(place[1:])}"
        )
    buffer[:] = found
