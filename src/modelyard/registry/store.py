"""Where bundles lie: by digest, in an object store."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import obstore
from obstore.store import LocalStore

from modelyard.bundle.layout import MANIFEST, SEAL, Bundle, open_bundle
from modelyard.errors import BundleRefused


class BundleStore(Protocol):
    """Keeps bundles under their own digest. Storing the same bundle again is harmless."""

    def put(self, bundle: Bundle) -> None:
        """Keep every file of `bundle`; when this returns it is whole and verified, and survives a crash."""
        ...

    def locate(self, digest: str) -> Path:
        """The folder on this machine that holds the bundle. It is not checked here; `open_bundle` does that."""
        ...


class FolderStore:
    """A local folder, written through the same interface as S3 would be.

    The files of a bundle are its folder as it stands: it can be opened, served or copied with no store at all.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._objects = LocalStore(prefix=folder, mkdir=True)

    def locate(self, digest: str) -> Path:
        """The folder of that digest, whether or not it exists."""
        return self.folder / digest.partition(":")[2]

    def put(self, bundle: Bundle) -> None:
        """Keep `bundle`: all its files, then its manifest, by which a whole bundle is known from a half one."""
        target = self.locate(bundle.digest)
        with _alone(self.folder / ".lock"):
            if _is_whole(target, bundle.digest):
                return
            shutil.rmtree(target, ignore_errors=True)  # what a killed process left, or what somebody changed
            seal = [SEAL] if (bundle.path / SEAL).exists() else []
            for name in [*sorted(bundle.manifest.files), *seal, MANIFEST]:
                obstore.put(self._objects, f"{target.name}/{name}", bundle.path / name)
            _to_disk(target)
            _to_disk_folder(self.folder)
            open_bundle(target, expect_digest=bundle.digest)


def _is_whole(folder: Path, digest: str) -> bool:
    if not (folder / MANIFEST).exists():
        return False
    try:
        open_bundle(folder, expect_digest=digest)
    except BundleRefused:
        return False
    return True


def _to_disk(folder: Path) -> None:
    for parent, _, names in os.walk(folder):
        for name in names:
            with (Path(parent) / name).open("rb") as handle:
                os.fsync(handle.fileno())
        _to_disk_folder(Path(parent))


def _to_disk_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """One writer at a time; the system gives the lock back when a process dies."""
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
