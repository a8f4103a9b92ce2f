"""Tables made from segments, kept as Parquet so that the same frames are decoded once.

A part is one file that covers one stretch of one segment, ``<segment>@<start>-<end>.v<form>.parquet``. Segments only
grow, so a part stays true for ever; what is newer than the last part is decoded again at each reading until it is worth
a part of its own. The whole folder may be deleted at any time.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from modelyard.records import segments
from modelyard.records.framing import HEADER_BYTES
from modelyard.records.segments import Damage, Scan

FORM = 2
"""Raised when the tables' columns change, so that older parts are made again."""

PART_BYTES = 256 * 1024
"""A stretch of at least this size is worth a part."""
PARTS_PER_SEGMENT = 8
"""More than this many parts of one segment are merged into one."""
_KEPT_AFTER_MERGE_SECONDS = 3600.0
"""Merged parts are left this long for readers that still use them."""

_PART = re.compile(r"(?P<segment>.+)@(?P<start>\d+)-(?P<end>\d+)\.v(?P<form>\d+)\.parquet")

Build: TypeAlias = Callable[[Path, list[tuple[int, bytes]]], Any]
"""Makes the table (`pyarrow.Table`) of frames ``(offset, payload)`` of a segment; always the same columns."""

Merge: TypeAlias = Callable[[list[Any]], Any]
"""Makes one table of several, metadata included."""


@dataclass(slots=True)
class Stored:
    """A table in pieces: Parquet files and tables in memory, and what of the segments could not be read."""

    files: list[Path] = field(default_factory=list)
    tables: list[Any] = field(default_factory=list)
    damage: list[Damage] = field(default_factory=list)


@dataclass(frozen=True, slots=True, order=True)
class _Part:
    start: int
    end: int
    path: Path


class SegmentCache:
    """The tables of the segments in `folder`, with parts kept in `parts` where that can be written."""

    def __init__(self, folder: Path, parts: Path, build: Build, merge: Merge) -> None:
        self._folder, self._parts, self._build, self._merge = folder, parts, build, merge

    def read(self) -> Stored:
        """Everything that can be read now, segment by segment."""
        stored = Stored()
        known = self._known_parts()
        for path in segments.segments(self._folder):
            self._read_segment(path, known.pop(path.stem, []), stored)
        for orphans in known.values():
            _remove(orphans)
        return stored

    def _read_segment(self, path: Path, known: list[_Part], stored: Stored) -> None:
        parts = _chain(known)
        done = parts[-1].end if parts else HEADER_BYTES
        found = segments.scan(path, done) if path.stat().st_size > done else None
        if found is not None and found.frames.found:
            table = self._build(path, found.frames.found)
            part = self._keep(path, done, found, table)
            if part is None:
                stored.tables.append(table)
            else:
                parts.append(part)
        if found is not None:
            stored.damage.extend(found.damage)
        if len(parts) > PARTS_PER_SEGMENT:
            parts = self._merged(path, parts)
        stored.files.extend(part.path for part in parts)
        _remove_old(part for part in known if part not in parts)

    def _keep(self, path: Path, start: int, found: Scan, table: Any) -> _Part | None:
        # A stretch with damage is never kept, so that the damage is reported at every reading.
        if found.end - start < PART_BYTES or found.frames.damaged:
            return None
        return self._write(path, start, found.end, table)

    def _merged(self, path: Path, parts: list[_Part]) -> list[_Part]:
        table = self._merge([pq.read_table(part.path) for part in parts])
        part = self._write(path, parts[0].start, parts[-1].end, table)
        return parts if part is None else [part]

    def _write(self, path: Path, start: int, end: int, table: Any) -> _Part | None:
        target = self._parts / f"{path.stem}@{start}-{end}.v{FORM}.parquet"
        hidden = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            self._parts.mkdir(mode=0o700, parents=True, exist_ok=True)
            hidden.touch(mode=0o600)
            pq.write_table(table, hidden, compression="zstd", compression_level=1)
            hidden.rename(target)
        except OSError:
            # A cache that cannot be written makes queries slower, not wrong.
            with suppress(OSError):
                hidden.unlink(missing_ok=True)
            return None
        return _Part(start, end, target)

    def _known_parts(self) -> dict[str, list[_Part]]:
        known: dict[str, list[_Part]] = {}
        for path in sorted(self._parts.glob("*.parquet")):
            match = _PART.fullmatch(path.name)
            if match is None or int(match["form"]) != FORM or not _is_whole(path):
                _remove([_Part(0, 0, path)])
                continue
            part = _Part(int(match["start"]), int(match["end"]), path)
            known.setdefault(match["segment"], []).append(part)
        return known


def _chain(known: list[_Part]) -> list[_Part]:
    """The fewest parts that cover the segment from its beginning without a gap."""
    chain: list[_Part] = []
    at = HEADER_BYTES
    while True:
        longest = max((part for part in known if part.start == at), default=None, key=lambda part: part.end)
        if longest is None:
            return chain
        chain.append(longest)
        at = longest.end


def _is_whole(path: Path) -> bool:
    try:
        pq.read_schema(path)
    except (OSError, pa.ArrowInvalid):
        return False
    return True


def _remove(parts: list[_Part]) -> None:
    for part in parts:
        with suppress(OSError):
            part.path.unlink()


def _remove_old(parts: Any) -> None:
    for part in parts:
        with suppress(OSError):
            if time.time() - part.path.stat().st_mtime > _KEPT_AFTER_MERGE_SECONDS:
                part.path.unlink()
