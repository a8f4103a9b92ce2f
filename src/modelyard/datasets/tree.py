"""What a dataset version consists of: names, sizes and digests of its files, and the pieces they are stored in."""

from __future__ import annotations

import builtins
import os
import struct
from collections.abc import Iterable
from itertools import pairwise

import msgspec
from blake3 import blake3

from modelyard.errors import DataDamaged, InvalidRequest

FORMAT = b"modelyard dataset 1\n"
DIGEST_BYTES = 32


class Content(msgspec.Struct, frozen=True, array_like=True):
    """The bytes of a file: how many, their BLAKE3, and the chunks that make them up, in order (BLAKE3 of each)."""

    size: int
    digest: bytes
    chunks: tuple[bytes, ...]


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One file of a version. `path` is relative, with ``/`` between parts, in the bytes of the file system."""

    path: bytes
    content: Content

    @property
    def name(self) -> str:
        """The path as text; bytes that are no UTF-8 become lone surrogates, as everywhere in Python."""
        return os.fsdecode(self.path)


class Tree(msgspec.Struct, frozen=True, array_like=True):
    """All files of a version, by path."""

    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Tree:
        """A tree of these files, in whatever order they were found.

        Raises:
            InvalidRequest: two files of the same path, or a path that would leave the folder it is checked out into.
        """
        ordered = tuple(sorted(entries, key=lambda entry: entry.path))
        for entry in ordered:
            _check_path(entry.path)
        paths = {entry.path for entry in ordered}
        for one, following in pairwise(ordered):
            if one.path == following.path:
                raise InvalidRequest(f"two files would both be named {shown(one.path)} in the dataset")
        for entry in ordered:
            if clash := paths.intersection(_folders(entry.path)):
                raise InvalidRequest(f"{shown(clash.pop())} would be a file and a folder at once in the dataset")
        return cls(ordered)

    @property
    def digest(self) -> str:
        """``blake3:`` and the hex digest over paths, sizes and file digests, in the order of the paths' bytes.

        Nothing else is in it: not when, where or in what order the files were found, nor how they are cut and stored.

        >>> one = Entry(b"a", Content(0, bytes(32), ()))
        >>> two = Entry(b"b", Content(0, bytes(32), ()))
        >>> Tree.of([one, two]).digest == Tree.of([two, one]).digest
        True
        """
        whole = blake3(FORMAT)
        for entry in self.entries:
            whole.update(struct.pack("<QQ", len(entry.path), entry.content.size) + entry.path + entry.content.digest)
        return f"blake3:{whole.hexdigest()}"

    @property
    def bytes(self) -> int:
        """The size of all files together."""
        return sum(entry.content.size for entry in self.entries)

    def chunks(self) -> set[builtins.bytes]:
        """The chunks that the files are in."""
        return {chunk for entry in self.entries for chunk in entry.content.chunks}

    def encode(self) -> builtins.bytes:
        """The form in which a tree is stored."""
        return FORMAT + msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, raw: builtins.bytes, digest: str) -> Tree:
        """Read what `encode` wrote.

        Raises:
            DataDamaged: it is not that, or not the version of that digest.
        """
        try:
            found = _DECODER.decode(raw.removeprefix(FORMAT))
            checked = cls.of(found.entries)
        except (msgspec.MsgspecError, InvalidRequest) as error:
            raise DataDamaged(f"it is malformed: {error}") from error
        if checked.digest != digest:
            raise DataDamaged("it is not the one that was recorded")
        return checked


_DECODER = msgspec.msgpack.Decoder(Tree)


def chunks_of(raw: builtins.bytes) -> list[builtins.bytes]:
    """The chunks of all files in a stored tree, one for each place that it is in; quicker than `Tree.decode`.

    Raises:
        DataDamaged: it is not such a tree.

    >>> chunks_of(Tree.of([Entry(b"a", Content(3, bytes(32), (b"x" * 32,)))]).encode()) == [b"x" * 32]
    True
    """
    try:
        return [chunk for entry in _DECODER.decode(raw.removeprefix(FORMAT)).entries for chunk in entry.content.chunks]
    except msgspec.MsgspecError as error:
        raise DataDamaged(f"it is malformed: {error}") from error


def shown(path: bytes) -> str:
    r"""A path fit for a terminal or JSON, whatever its bytes are.

    >>> shown(b"caf\xc3\xa9.csv") == "caf" + chr(233) + ".csv", shown(b"\xff.csv")
    (True, '\\xff.csv')
    """
    text = path.decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def _check_path(path: bytes) -> None:
    parts = path.split(b"/")
    if not path or b"\0" in path or any(part in (b"", b".", b"..") for part in parts):
        raise InvalidRequest(f"{shown(path)!r} cannot be the path of a file in a dataset")


def _folders(path: bytes) -> list[bytes]:
    """The folders that a file of this path lies in.

    >>> _folders(b"a/b/c")
    [b'a', b'a/b']
    """
    return [path[:at] for at, letter in enumerate(path) if letter == 0x2F]


def below(folder: str, path: bytes) -> str:
    """Where the file of that path lies in `folder`.

    >>> below("/data", b"2013/jan.csv")
    '/data/2013/jan.csv'
    """
    return f"{folder}/{os.fsdecode(path)}"
