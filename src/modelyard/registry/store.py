"""Where bundles lie: by digest, in a folder of this machine or in the object store of a team."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from modelyard.bundle.layout import MANIFEST, SEAL, Bundle, open_bundle
from modelyard.errors import BundleRefused, Failed
from modelyard.home import Home
from modelyard.objects import Objects, Stored, folder_of


class BundleStore(Protocol):
    """Keeps bundles under their own digest. Storing the same bundle again is harmless, and makes it young again."""

    def put(self, bundle: Bundle) -> None:
        """Keep every file of `bundle`; when this returns it is whole and verified, and survives a crash.

        Raises:
            BundleRefused: a file is not what it was when `bundle` was opened.
            Failed: there is no room, or no right to write.
        """
        ...

    def locate(self, digest: str) -> Path:
        """The folder on this machine that the bundle lies in once it was fetched. Nothing is looked at."""
        ...

    def fetch(self, digest: str) -> Path:
        """That folder, the bundle brought there if need be. It is not checked here; `open` does that.

        Raises:
            BundleRefused: there is no such bundle, where it had to be brought from elsewhere.
        """
        ...

    def open(self, digest: str) -> Bundle:
        """The bundle of that digest, brought here if need be and every byte checked.

        Raises:
            BundleRefused: it is gone, or not what was stored.
        """
        ...

    def has(self, bundle: Bundle) -> bool:
        """Whether every file of `bundle` is there, in its size: quickly told, where `open` reads all of them."""
        ...

    def stored(self) -> Iterator[Stored]:
        """Everything that is kept, by digest, also what a killed process left half; how large, and when last put."""
        ...

    def remove(self, digest: str) -> None:
        """Remove a bundle, for good. One that is not there is none to remove."""
        ...


class FolderStore:
    """A local folder. The files of a bundle are a folder in it: it can be opened, served or copied as it stands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def locate(self, digest: str) -> Path:
        """The folder of that digest, whether or not it exists."""
        return self.folder / digest.partition(":")[2]

    def fetch(self, digest: str) -> Path:
        """The folder of that digest, whether or not it exists: there is no other place."""
        return self.locate(digest)

    def open(self, digest: str) -> Bundle:
        """The bundle, every byte checked."""
        folder = self.locate(digest)
        try:
            return open_bundle(folder, expect_digest=digest)
        except FileNotFoundError as error:
            raise BundleRefused(f"the bundle {digest} is gone from {folder}") from error

    def put(self, bundle: Bundle) -> None:
        """Keep `bundle`: all its files, then its manifest, by which a whole bundle is known from a half one."""
        target = self.locate(bundle.digest)
        with alone(self.folder / ".lock"):
            if _is_whole(target, bundle.digest):
                os.utime(target)
                return
            try:
                _copy(bundle, target)
                _to_disk(target)
                _to_disk_folder(self.folder)
            except OSError as error:
                shutil.rmtree(target, ignore_errors=True)
                raise Failed(f"the bundle cannot be kept in {target}: {error.strerror}") from error
            open_bundle(target, expect_digest=bundle.digest)

    def has(self, bundle: Bundle) -> bool:
        """Whether the folder has all files."""
        folder = self.locate(bundle.digest)
        sizes = {name: entry.size for name, entry in bundle.manifest.files.items()}
        try:
            return all((folder / name).stat().st_size == size for name, size in sizes.items()) and (
                (folder / MANIFEST).exists()
            )
        except OSError:
            return False

    def stored(self) -> Iterator[Stored]:
        """Every folder that a digest names."""
        for folder in self.folder.iterdir():
            if folder.name.startswith("."):
                continue
            try:
                size = sum(file.lstat().st_size for file in folder.rglob("*"))
                at = folder.stat().st_mtime
            except FileNotFoundError:  # removed meanwhile
                continue
            yield Stored(f"blake3:{folder.name}", size, datetime.fromtimestamp(at, UTC))

    def remove(self, digest: str) -> None:
        """Remove the folder, the manifest first: what is half removed is no bundle."""
        target = self.locate(digest)
        with alone(self.folder / ".lock"):
            (target / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(target, ignore_errors=True)


def store_of(home: Home) -> BundleStore:
    """Where the bundles of that home are: in the object store of its team, or in its own folder.

    Raises:
        InvalidRequest: the address of the object store cannot be used.
    """
    if home.objects_url is None:
        return FolderStore(home.bundles)
    folder = folder_of(home.objects_url)
    if folder is not None:
        return FolderStore(folder / "bundles")
    from modelyard.registry.remote import ObjectBundles

    return ObjectBundles(Objects(home.objects_url), FolderStore(home.cache / "bundles"))


def names_of(bundle: Bundle) -> list[str]:
    """All files of a bundle, the manifest last."""
    seal = [SEAL] if (bundle.path / SEAL).exists() else []
    return [*sorted(bundle.manifest.files), *seal, MANIFEST]


def _copy(bundle: Bundle, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)  # what a killed process left, or what somebody changed
    target.mkdir()
    for name in names_of(bundle):
        file = target / name
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle.path / name, file)


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
def alone(lock: Path) -> Iterator[None]:
    """One at a time; the system gives the lock back when a process dies."""
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
