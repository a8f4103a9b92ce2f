"""A bundle as one file: a ZIP archive whose bytes depend on nothing but the bundle."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import IO

from modelyard.bundle.layout import (
    LARGEST_MANIFEST,
    MANIFEST,
    SEAL,
    Bundle,
    check_path,
    decode_manifest,
    digest_of,
    open_bundle,
)
from modelyard.domain.manifest import Manifest
from modelyard.errors import BundleRefused, NameTaken

LARGEST_BUNDLE = 64 * 2**30
"""An archive that says it unpacks to more bytes than this is refused."""

MOST_FILES = 100_000

_FIXED_TIME = (1980, 1, 1, 0, 0, 0)
_CHUNK = 2**20


def export_file(bundle: Bundle, target: Path) -> Path:
    """Write `bundle` as one file at `target`, whole or not at all. The same bundle gives the same bytes.

    Raises:
        NameTaken: there is a file already.
    """
    if target.exists():
        raise NameTaken(f"{target} exists already; give another name or remove it")
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    work = Path(name)
    try:
        with os.fdopen(handle, "wb") as out:
            _pack(bundle, out)
            out.flush()
            os.fsync(out.fileno())
        work.chmod(0o644)
        work.rename(target)
    except BaseException:
        work.unlink(missing_ok=True)
        raise
    return target


def import_file(source: Path, into: Path) -> Bundle:
    """Unpack the archive at `source` to the new folder `into`, and check every byte of it.

    Only files that its manifest lists are unpacked, each no further than the size that the manifest gives it.

    Raises:
        BundleRefused: not such an archive; a file too many, missing, changed, a link, or a path that leaves the folder.
        NameTaken: there is something at `into` already.
    """
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise NameTaken(f"{into} exists already; a bundle is unpacked to a new or empty folder")
    into.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{into.name}-", dir=into.parent))
    try:
        with zipfile.ZipFile(source) as archive:
            digest = _unpack(archive, work)
        open_bundle(work, expect_digest=digest)
        work.chmod(0o755)
        work.rename(into)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        shutil.rmtree(work, ignore_errors=True)
        raise BundleRefused(f"{source} cannot be read as an exported bundle: {error}") from None
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return open_bundle(into)


def _pack(bundle: Bundle, out: IO[bytes]) -> None:
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        _add(archive, MANIFEST, bundle.path / MANIFEST)
        for name in sorted(bundle.manifest.files):
            _add(archive, name, bundle.path / name)
        _add(archive, SEAL, f"{bundle.digest}\n".encode())


def _add(archive: zipfile.ZipFile, name: str, contents: Path | bytes) -> None:
    entry = zipfile.ZipInfo(name, _FIXED_TIME)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    entry.create_system = 3
    if isinstance(contents, bytes):
        archive.writestr(entry, contents)
        return
    entry.file_size = contents.stat().st_size
    with contents.open("rb") as source, archive.open(entry, "w") as target:
        shutil.copyfileobj(source, target, _CHUNK)


def _unpack(archive: zipfile.ZipFile, work: Path) -> str:
    entries = _entries(archive)
    raw = _read(archive, entries, MANIFEST, LARGEST_MANIFEST)
    manifest = decode_manifest(raw)
    _check_entries(entries, manifest)
    (work / MANIFEST).write_bytes(raw)
    for name, entry in manifest.files.items():
        target = work / name
        target.parent.mkdir(parents=True, exist_ok=True)
        _extract(archive, entries[name], target, entry.size)
    if SEAL in entries:
        (work / SEAL).write_bytes(_read(archive, entries, SEAL, 1024))
    return digest_of(raw)


def _entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    found: dict[str, zipfile.ZipInfo] = {}
    infos = archive.infolist()
    if len(infos) > MOST_FILES:
        raise BundleRefused(f"the archive has {len(infos)} entries; {MOST_FILES} is the most")
    for info in infos:
        name = info.filename
        if name not in (MANIFEST, SEAL):
            check_path(name)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if info.is_dir() or kind not in (0, stat.S_IFREG):
            raise BundleRefused(f"{name} in the archive is not a plain file")
        if name in found:
            raise BundleRefused(f"{name} is in the archive twice")
        found[name] = info
    return found


def _check_entries(entries: dict[str, zipfile.ZipInfo], manifest: Manifest) -> None:
    total = sum(entry.size for entry in manifest.files.values())
    if total > LARGEST_BUNDLE:
        raise BundleRefused(f"the bundle would unpack to {total} bytes; {LARGEST_BUNDLE} is the most")
    for name in sorted(set(manifest.files) - set(entries)):
        raise BundleRefused(f"{name} is missing from the archive")
    for name in sorted(set(entries) - set(manifest.files) - {MANIFEST, SEAL}):
        raise BundleRefused(f"{name} is in the archive but not in {MANIFEST}")


def _read(archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], name: str, most: int) -> bytes:
    if name not in entries:
        raise BundleRefused(f"the archive has no {name}; it is not an exported bundle")
    with archive.open(entries[name]) as source:
        raw = source.read(most + 1)
    if len(raw) > most:
        raise BundleRefused(f"{name} in the archive is larger than {most} bytes")
    return raw


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, size: int) -> None:
    left = size
    with archive.open(entry) as source, target.open("wb") as out:
        while chunk := source.read(min(_CHUNK, left + 1)):
            left -= len(chunk)
            if left < 0:
                raise BundleRefused(f"{entry.filename} is longer than the {size} bytes that {MANIFEST} gives it")
            out.write(chunk)
    if left:
        raise BundleRefused(f"{entry.filename} is truncated: {size - left} bytes, {size} expected")
