"""Versions with all that they need as one file, for machines with no connection.

The file is a tar archive whose bytes depend on nothing but what is in it::

    parcel-<blake3>       everything but content (exchange/parcel.py)
    chunks/<blake3>       chunks that the other machine may lack, each once
    bundles/<blake3>/...  files of bundles, each with its manifest first
    end-<blake3>          the digest of the names of all members before

Each member but the files of bundles is named by the digest of its bytes, and those are in the bundle's manifest.
"""

from __future__ import annotations

import os
import re
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import IO

from blake3 import blake3

from modelyard.bundle.layout import MANIFEST, SEAL, Bundle, check_path, open_bundle
from modelyard.bundle.trust import require_trust
from modelyard.datasets.cutting import MOST
from modelyard.datasets.store import ChunkWriter
from modelyard.domain.names import Named
from modelyard.errors import BundleRefused, ContentCollected, Failed, NameTaken
from modelyard.exchange.arriving import Arrival, Terms, arrive, require_wanted
from modelyard.exchange.parcel import Parcel, chunks_of, decode, encode, gather
from modelyard.exchange.side import Side, Tell, silent
from modelyard.registry.store import names_of

LARGEST_PARCEL = 2**30
"""A list of contents that is larger than this, in bytes, is not read."""

_MEMBER = re.compile(r"(parcel-|chunks/|bundles/|end-)([0-9a-f]{64})(?:/(.+))?")
_PIECE = 2**20
_AT_ONCE = 64


def is_parcel(file: Path) -> bool:
    """Whether that is a file that `export` wrote, by its first bytes."""
    try:
        with file.open("rb") as handle:
            return handle.read(7) == b"parcel-"
    except OSError:
        return False


def export(side: Side, refs: Sequence[Named], target: Path, tell: Tell = silent) -> tuple[Parcel, int]:
    """Write the things that are named, and all that they need, as one file; whole or not at all.

    Returns:
        What is in it, and its size in bytes.

    Raises:
        NotFound: there is no such thing.
        NameTaken: there is a file already.
        Failed: it cannot be written.
        DataDamaged, BundleRefused: content is not what was stored.
    """
    parcel = gather(side, refs)
    if target.exists():
        raise NameTaken(f"{target} exists already; give another name or remove it")
    try:
        target.absolute().parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.absolute().parent)
        work = Path(name)
        try:
            with os.fdopen(handle, "wb") as out:
                _write(side, parcel, out, tell)
                out.flush()
                os.fsync(out.fileno())
            work.chmod(0o644)
            work.rename(target)
        finally:
            work.unlink(missing_ok=True)
    except OSError as error:
        raise Failed(f"{target} cannot be written: {error.strerror}") from error
    return parcel, target.stat().st_size


def import_(
    side: Side, source: Path, terms: Terms, *, trusted: bool = False, tell: Tell = silent
) -> tuple[Parcel, tuple[Arrival, ...]]:
    """Take in what `export` wrote, once every byte of it is checked. Nothing is registered of a file that is not whole.

    Raises:
        BundleRefused: the file is not whole, was changed, or holds something that does not belong there.
        PolicyDenied: a model in it would run code of its own, and it is not `trusted`.
        Conflict: something in it was removed here, or another run has the same id.
    """
    with _refused(source), tempfile.TemporaryDirectory(dir=side.home.cache, prefix="import-") as folder:
        with tarfile.open(source, "r|", bufsize=_PIECE) as archive, side.datasets.store.writer() as writer:
            parcel = _Reading(side, archive, writer, Path(folder), tell).read(terms)
        bundles = {each.digest: _bundle(Path(folder), each.digest) for each in parcel.models}
        for digest, bundle in bundles.items():
            if not side.registry.holds(digest):
                require_trust(bundle.manifest, trusted=trusted)
        try:
            return parcel, arrive(side, parcel, bundles.__getitem__, terms)
        except ContentCollected:
            raise BundleRefused(f"{source} lacks content that it speaks of, or it was collected meanwhile") from None


def _write(side: Side, parcel: Parcel, out: IO[bytes], tell: Tell) -> None:
    names = blake3()
    # Straight to the file: every member goes out as it is read.
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:

        def add(name: str, content: bytes | Path) -> None:
            names.update(name.encode() + b"\0")
            _add(archive, name, content)

        raw = encode(parcel)
        add(f"parcel-{blake3(raw).hexdigest()}", raw)
        written = 0
        for digest, chunk in _chunks(side, parcel):
            add(f"chunks/{digest.hex()}", chunk)
            written += len(chunk)
            tell("bytes written", written)
        for model in sorted(parcel.models, key=lambda each: each.digest):
            bundle = side.registry.store.open(model.digest)
            hexed = model.digest.partition(":")[2]
            for name in (MANIFEST, *(name for name in names_of(bundle) if name != MANIFEST)):
                add(f"bundles/{hexed}/{name}", bundle.path / name)
            tell("bundles written", 1)
        _add(archive, f"end-{names.hexdigest()}", b"")


def _chunks(side: Side, parcel: Parcel) -> Iterator[tuple[bytes, bytes]]:
    store = side.datasets.store
    part: list[bytes] = []

    def read() -> Iterator[tuple[bytes, bytes]]:
        places = store.index.find(part)
        near = store.near(places.values())
        for digest in part:
            yield digest, bytes(store.read(digest, places.get(digest), near=near))

    for digest in chunks_of(side, parcel):
        part.append(digest)
        if len(part) >= _AT_ONCE:
            yield from read()
            part = []
    yield from read()


def _add(archive: tarfile.TarFile, name: str, content: bytes | Path) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode = 0o644
    if isinstance(content, Path):
        entry.size = content.stat().st_size
        with content.open("rb") as handle:
            archive.addfile(entry, handle)
    else:
        entry.size = len(content)
        archive.addfile(entry, BytesIO(content))


@dataclass(slots=True)
class _Reading:
    """A file that is being read, member by member."""

    side: Side
    archive: tarfile.TarFile
    writer: ChunkWriter
    folder: Path
    tell: Tell
    parcel: Parcel | None = None
    names: blake3 = field(default_factory=blake3)
    wanted: set[str] = field(default_factory=set)
    waiting: list[tuple[bytes, bytes]] = field(default_factory=list)
    read_bytes: int = 0
    is_whole: bool = False

    def read(self, terms: Terms) -> Parcel:
        """Everything: chunks go to the store, bundles into the folder; what is in it is the answer."""
        for member in self.archive:
            kind, digest, rest = self._checked(member)
            if self.parcel is None:
                self._open(kind, digest, member)
                require_wanted(self.side, self._known(), terms)
            elif kind == "chunks/" and rest is None:
                self._chunk(bytes.fromhex(digest), member)
            elif kind == "bundles/" and rest is not None and digest in self.wanted:
                self._file(self.folder / digest, rest, member)
            elif kind == "end-" and digest == self.names.hexdigest():
                self.is_whole = True
            else:
                raise BundleRefused(f"{member.name} does not belong there")
            self.names.update(member.name.encode() + b"\0")
        if not self.is_whole:
            raise BundleRefused("it ends too early")
        self.writer.put(self.waiting)
        return self._known()

    def _checked(self, member: tarfile.TarInfo) -> tuple[str, str, str | None]:
        found = _MEMBER.fullmatch(member.name)
        if found is None or not member.isreg() or member.sparse is not None or self.is_whole:
            raise BundleRefused(f"{member.name!r} does not belong there")
        kind, digest, rest = found.groups()
        return kind, digest, rest

    def _known(self) -> Parcel:
        if self.parcel is None:
            raise BundleRefused("it does not say what is in it")
        return self.parcel

    def _open(self, kind: str, digest: str, member: tarfile.TarInfo) -> None:
        if kind != "parcel-":
            raise BundleRefused("it does not begin with what is in it")
        raw = self._bytes(member, LARGEST_PARCEL)
        if blake3(raw).hexdigest() != digest:
            raise BundleRefused("the list of what is in it was changed")
        self.parcel = decode(raw)
        self.wanted = {each.digest.partition(":")[2] for each in self.parcel.models}

    def _chunk(self, digest: bytes, member: tarfile.TarInfo) -> None:
        raw = self._bytes(member, MOST)
        if blake3(raw).digest() != digest:
            raise BundleRefused(f"{member.name} was changed")
        self.waiting.append((digest, raw))
        if len(self.waiting) >= _AT_ONCE:
            self.writer.put(self.waiting)
            self.waiting = []

    def _file(self, folder: Path, name: str, member: tarfile.TarInfo) -> None:
        target = folder / (name if name in (MANIFEST, SEAL) else check_path(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._content(member) as source, target.open("xb") as out:
            while piece := source.read(_PIECE):
                out.write(piece)
                self._advance(len(piece))

    def _bytes(self, member: tarfile.TarInfo, most: int) -> bytes:
        if member.size > most:
            raise BundleRefused(f"{member.name} is larger than {most} bytes")
        with self._content(member) as source:
            raw = source.read()
        self._advance(len(raw))
        return raw

    @contextmanager
    def _content(self, member: tarfile.TarInfo) -> Iterator[IO[bytes]]:
        source = self.archive.extractfile(member)
        if source is None:
            raise BundleRefused(f"{member.name} is not a plain file")
        with source:
            yield source

    def _advance(self, count: int) -> None:
        self.read_bytes += count
        self.tell("bytes read", self.read_bytes)


def _bundle(folder: Path, digest: str) -> Bundle:
    place = folder / digest.partition(":")[2]
    if not place.is_dir():
        raise BundleRefused(f"the bundle {digest} is missing")
    return open_bundle(place, expect_digest=digest)


@contextmanager
def _refused(source: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, ValueError, FileExistsError) as error:
        raise BundleRefused(f"{source} cannot be read as what was exported: {error}") from None
    except BundleRefused as error:
        raise BundleRefused(f"{source} is refused: {error}") from None
    except OSError as error:
        raise Failed(f"{source} cannot be taken in: {error.strerror or error}") from error
