"""Which files this machine has read before, so that unchanged ones are known without reading them again."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import msgspec

from modelyard.datasets.scan import Found, Stamp
from modelyard.datasets.tree import Content

_TABLE = """
CREATE TABLE IF NOT EXISTS seen_1 (
    path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, inode INTEGER, content BLOB
) WITHOUT ROWID
"""
_BUSY_SECONDS = 5.0
_AT_ONCE = 500
_FINE_TICK = 100_000_000
_COARSE_TICK = 2_000_000_000
_CONTENT = msgspec.msgpack.Decoder(Content)


def is_settled(stamp: Stamp, looked_at: int) -> bool:
    """Whether a change after `looked_at` (ns since 1970) must have given the file another stamp.

    File times move in ticks: of milliseconds, or of up to two seconds where they are whole seconds. A file changed
    within the tick in which it was read may keep its times, so it is not trusted then.

    >>> is_settled(Stamp(1, 5_000_000_001, 5_000_000_001, 1), 6_000_000_000)
    True
    >>> is_settled(Stamp(1, 5_000_000_000, 5_000_000_000, 1), 6_000_000_000)
    False
    """
    newest = max(stamp.mtime_ns, stamp.ctime_ns)
    coarse = stamp.mtime_ns % 1_000_000_000 == 0 and stamp.ctime_ns % 1_000_000_000 == 0
    return newest + (_COARSE_TICK if coarse else _FINE_TICK) < looked_at


class Seen:
    """A small database in the cache folder. Losing it costs time, nothing else, so it never raises."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def recall(self, found: Sequence[Found]) -> dict[str, Content]:
        """Path to content, for those of these files whose stamp is that of the file that was read."""
        known: dict[str, Content] = {}
        with suppress(sqlite3.Error, msgspec.MsgspecError), self._opened() as database:
            wanted = {os.fsencode(one.path): one for one in found}
            for row in _rows(database, list(wanted)):
                one = wanted[row[0]]
                if Stamp(*row[1:5]) == one.stamp:
                    known[one.path] = _CONTENT.decode(row[5])
        return known

    def remember(self, contents: Mapping[Found, Content], looked_at: Mapping[Found, int]) -> None:
        """Remember files that were read; those that had changed just before are left out."""
        rows = [
            (os.fsencode(one.path), *_numbers(one.stamp), msgspec.msgpack.encode(content))
            for one, content in contents.items()
            if is_settled(one.stamp, looked_at[one])
        ]
        if rows:
            with suppress(sqlite3.Error), self._opened() as database, database:
                database.executemany("INSERT OR REPLACE INTO seen_1 VALUES (?, ?, ?, ?, ?, ?)", rows)

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        with suppress(OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.file, timeout=_BUSY_SECONDS)) as database:
            try:
                database.execute("PRAGMA synchronous=OFF")
                database.execute(_TABLE)
            except sqlite3.DatabaseError as error:
                if "not a database" in str(error) or "malformed" in str(error):
                    self.file.unlink(missing_ok=True)
                raise
            yield database


def _numbers(stamp: Stamp) -> tuple[int, int, int, int]:
    return (stamp.size, stamp.mtime_ns, stamp.ctime_ns, _signed(stamp.inode))


def _signed(inode: int) -> int:
    """SQLite's integers have a sign, inodes have none."""
    return inode - 2**64 if inode >= 2**63 else inode


def _rows(database: sqlite3.Connection, paths: list[bytes]) -> Iterable[tuple[bytes, int, int, int, int, bytes]]:
    for start in range(0, len(paths), _AT_ONCE):
        part = paths[start : start + _AT_ONCE]
        marks = ",".join("?" * len(part))
        for row in database.execute(f"SELECT * FROM seen_1 WHERE path IN ({marks})", part):  # noqa: S608
            yield (*row[:4], row[4] % 2**64, row[5])
