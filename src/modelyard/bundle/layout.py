"""A bundle on disk: written whole or not at all, and opened only if every byte is what the manifest says.

``manifest.json`` lists each file with size and BLAKE3 digest; the digest of those bytes is the digest of the bundle.
Opening reads and compares, and builds nothing: no model, no code, no table.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
from blake3 import blake3

from modelyard.domain.golden import GoldenSet
from modelyard.domain.manifest import FORMAT, FileEntry, Manifest
from modelyard.errors import BundleRefused, NameTaken

MANIFEST = "manifest.json"
SEAL = "manifest.blake3"
"""Holds the digest of the manifest, against accidents where nobody else remembers it. It may be absent."""

LARGEST_MANIFEST = 64 * 2**20
"""A manifest larger than this, in bytes, is not read."""

_SEPARATE_SINCE = 2**20  # larger files are hashed from the page cache in several threads


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose every byte was compared with its digests when it was opened."""

    path: Path
    manifest: Manifest
    digest: str

    def golden(self) -> GoldenSet:
        """The rows with the answers that training gave."""
        from modelyard.bundle import golden

        return golden.read(self.path / "golden", self.manifest.schema)

    def profile(self) -> dict[str, object]:
        """The reference profile of inputs and answers."""
        document: dict[str, object] = json.loads((self.path / "profile.json").read_bytes())
        return document

    def holdout(self) -> dict[str, Any] | None:
        """Truths and answers of rows that were held out of training, see `modelyard.bundle.holdout`; None without."""
        if "holdout.json" not in self.manifest.files:
            return None
        document: dict[str, Any] = json.loads((self.path / "holdout.json").read_bytes())
        return document


def write(directory: Path, files: Mapping[str, bytes | Path], manifest: Manifest) -> Bundle:
    """Make a bundle at `directory` out of `files` (path in the bundle to contents or a file to copy).

    `manifest.files` is filled in here. Everything is on disk before the directory appears under its name, so a
    killed process leaves nothing but a hidden temporary folder.

    Raises:
        NameTaken: there is something at `directory` already.
        BundleRefused: a path that would leave the bundle.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise NameTaken(f"{directory} exists already; a bundle is written to a new or empty folder")
    directory.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        entries = {name: _place(work, name, files[name]) for name in sorted(files)}
        whole = replace(manifest, files=entries)
        raw = encode_manifest(whole)
        digest = digest_of(raw)
        _write(work / MANIFEST, raw)
        _write(work / SEAL, f"{digest}\n".encode())
        _sync_folders(work)
        work.chmod(0o755)
        work.rename(directory)
        _sync(directory.parent)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return Bundle(directory, whole, digest)


def open_bundle(directory: Path, *, expect_digest: str | None = None) -> Bundle:
    """Compare everything at `directory` with its manifest, and the manifest with `expect_digest` if one is known.

    Raises:
        BundleRefused: naming the file and what is wrong with it: missing, truncated, changed, not listed, a link, a
            path that leaves the folder, an unknown format. Nothing was built from it.
    """
    raw = _manifest_bytes(directory)
    digest = digest_of(raw)
    if expect_digest is not None and digest != expect_digest:
        raise BundleRefused(
            f"{MANIFEST} in {directory} is not the one that was recorded: digest {digest}, expected {expect_digest}"
        )
    manifest = decode_manifest(raw)
    _check_listing(directory, manifest)
    _check_seal(directory, digest)
    for name, entry in manifest.files.items():
        _check_file(directory / name, name, entry)
    return Bundle(directory, manifest, digest)


def encode_manifest(manifest: Manifest) -> bytes:
    """The one way in which a manifest is written: sorted keys, no spaces, one line."""
    return msgspec.json.encode(manifest, order="sorted") + b"\n"


def decode_manifest(raw: bytes) -> Manifest:
    """Read a manifest and check what can be checked without the files.

    Raises:
        BundleRefused: it is not JSON, of an unknown format, incomplete, or names a path outside the bundle.
    """
    try:
        number = _FORMATS.decode(raw).format
    except msgspec.MsgspecError as error:
        raise BundleRefused(f"{MANIFEST} cannot be read as one: {error}") from None
    if number != FORMAT:
        raise BundleRefused(
            f"{MANIFEST} has format {number} and this release reads {FORMAT}; open it with the release that wrote it"
        )
    try:
        manifest = _MANIFESTS.decode(raw)
    except msgspec.MsgspecError as error:
        raise BundleRefused(f"{MANIFEST} is not a whole manifest: {error}") from None
    for name in _paths_named_by(manifest):
        check_path(name)
    for form in (manifest.native, manifest.compiled):
        if form is not None and form.path not in manifest.files:
            raise BundleRefused(f"{MANIFEST} names the model file {form.path!r} but does not list it among its files")
    return manifest


def digest_of(raw: bytes) -> str:
    """The digest of a bundle: that of its manifest's bytes.

    >>> digest_of(b"")[:15]
    'blake3:af1349b9'
    """
    return f"blake3:{blake3(raw).hexdigest()}"


def check_path(name: str) -> str:
    """Return `name` if it is a plain relative path inside a bundle.

    Raises:
        BundleRefused: it is absolute, goes upwards, or is not in its simplest form.

    >>> check_path("model/native.skops")
    'model/native.skops'
    """
    parts = PurePosixPath(name).parts
    plain = bool(parts) and not name.startswith("/") and ".." not in parts and str(PurePosixPath(name)) == name
    if not plain or "\\" in name or "\0" in name or name in {MANIFEST, SEAL, "."}:
        raise BundleRefused(f"{name!r} cannot be a file of a bundle: use a plain relative path")
    return name


class _Format(msgspec.Struct):
    format: int


# Made once, while this module is imported: two threads that make decoders of the same dataclass at the same time can
# crash the process (msgspec shows the half-built description of the class to the other thread).
_FORMATS = msgspec.json.Decoder(_Format)
_MANIFESTS = msgspec.json.Decoder(Manifest)


def _paths_named_by(manifest: Manifest) -> Iterable[str]:
    yield from manifest.files
    yield from (form.path for form in (manifest.native, manifest.compiled) if form is not None)


def _manifest_bytes(directory: Path) -> bytes:
    if directory.is_symlink() or not directory.is_dir():
        raise BundleRefused(f"{directory} is not a folder; a bundle is a folder with a {MANIFEST} in it")
    file = directory / MANIFEST
    if file.is_symlink() or not file.is_file():
        raise BundleRefused(f"{directory} is not a bundle: it has no {MANIFEST}")
    if file.stat().st_size > LARGEST_MANIFEST:
        raise BundleRefused(f"{MANIFEST} in {directory} is larger than {LARGEST_MANIFEST} bytes")
    return file.read_bytes()


def _check_seal(directory: Path, digest: str) -> None:
    seal = directory / SEAL
    if seal.exists() and seal.read_bytes() != f"{digest}\n".encode():
        raise BundleRefused(f"{MANIFEST} was changed: its digest is {digest}, which is not what {SEAL} says")


def _check_listing(directory: Path, manifest: Manifest) -> None:
    there = set(_walk(directory, ""))
    listed = set(manifest.files)
    for name in sorted(listed - there):
        raise BundleRefused(f"{name} is missing from the bundle")
    for name in sorted(there - listed - {MANIFEST, SEAL}):
        raise BundleRefused(f"{name} is in the folder but not in {MANIFEST}")


def _walk(directory: Path, below: str) -> Iterable[str]:
    with os.scandir(directory) as entries:
        for entry in entries:
            name = f"{below}{entry.name}"
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                yield from _walk(Path(entry.path), f"{name}/")
            elif stat.S_ISREG(mode):
                yield name
            else:
                raise BundleRefused(f"{name} is a link or a special file; a bundle holds plain files only")


def _check_file(file: Path, name: str, entry: FileEntry) -> None:
    size = file.stat().st_size
    if size != entry.size:
        what = "truncated" if size < entry.size else "longer than it was"
        raise BundleRefused(f"{name} is {what}: {size} bytes, {entry.size} expected")
    if hash_file(file) != entry.blake3:
        raise BundleRefused(f"{name} was changed: its contents do not have the digest that {MANIFEST} gives")


def hash_file(file: Path) -> str:
    """The BLAKE3 digest (hex) of a file's contents."""
    if file.stat().st_size >= _SEPARATE_SINCE:
        return blake3(max_threads=blake3.AUTO).update_mmap(file).hexdigest()
    return blake3(file.read_bytes()).hexdigest()


def _place(work: Path, name: str, contents: bytes | Path) -> FileEntry:
    target = work / check_path(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(contents, Path):
        shutil.copyfile(contents, target)
        target.chmod(0o644)
        _sync(target)
    else:
        _write(target, contents)
    return FileEntry(target.stat().st_size, hash_file(target))


def _write(file: Path, contents: bytes) -> None:
    with file.open("wb") as handle:
        handle.write(contents)
        handle.flush()
        os.fsync(handle.fileno())


def _sync_folders(root: Path) -> None:
    for folder, _, _ in os.walk(root):
        _sync(Path(folder))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
