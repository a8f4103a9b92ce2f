"""Bundles in an object store: kept there for the team, and copied to this machine when they are opened."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from modelyard.bundle.layout import MANIFEST, SEAL, Bundle, check_path, open_bundle
from modelyard.errors import BundleRefused, DataDamaged, Failed
from modelyard.objects import Objects, Stored
from modelyard.registry.store import FolderStore, alone, names_of

_PREFIX = "bundles"
_AT_ONCE = 8


class ObjectBundles:
    """Bundles as objects ``bundles/<hex digits of the digest>/<file>``, with a copy of each that is used in a folder.

    The copy can be removed at any time that nobody uses it. It is made under a lock, beside its place, and takes its
    place once it is whole and checked, so that processes which want the same bundle at once bring it here once.
    """

    def __init__(self, objects: Objects, copies: FolderStore) -> None:
        self._objects, self._copies = objects, copies

    def locate(self, digest: str) -> Path:
        """Where the copy is, or will be."""
        return self._copies.locate(digest)

    def put(self, bundle: Bundle) -> None:
        """Copy it here, which nobody changes, and send that: all its files, then its manifest."""
        self._copies.put(bundle)
        copy = self.locate(bundle.digest)
        names = names_of(Bundle(copy, bundle.manifest, bundle.digest))
        there = {found.name: found.bytes for found in self._objects.list(_key(bundle.digest))}
        if any(there.get(_key(bundle.digest, name)) != (copy / name).stat().st_size for name in names):
            _each(names[:-1], lambda name: self._objects.put(_key(bundle.digest, name), copy / name))
        self._objects.put(_key(bundle.digest, MANIFEST), copy / MANIFEST)  # again too: it says how young the bundle is

    def fetch(self, digest: str) -> Path:
        """The copy, made if it is not there yet."""
        folder = self.locate(digest)
        if not (folder / MANIFEST).exists():
            with self._alone_with(digest):
                if not (folder / MANIFEST).exists():
                    self._bring(digest)
        return folder

    def open(self, digest: str) -> Bundle:
        """The copy, every byte checked; one that was damaged is made again."""
        folder = self.fetch(digest)
        try:
            return open_bundle(folder, expect_digest=digest)
        except (BundleRefused, FileNotFoundError):
            with self._alone_with(digest):
                self._copies.remove(digest)
                self._bring(digest)
            return open_bundle(folder, expect_digest=digest)

    def has(self, bundle: Bundle) -> bool:
        """Whether all objects of it are there."""
        there = {found.name: found.bytes for found in self._objects.list(_key(bundle.digest))}
        sizes = {_key(bundle.digest, name): entry.size for name, entry in bundle.manifest.files.items()}
        return _key(bundle.digest, MANIFEST) in there and sizes.items() <= there.items()

    def stored(self) -> Iterator[Stored]:
        """Everything below ``bundles/``, added up by bundle; it was put when its newest object was."""
        sizes: dict[str, int] = {}
        moments: dict[str, datetime] = {}
        for found in self._objects.list(_PREFIX):
            name = found.name.split("/")[1]
            sizes[name] = sizes.get(name, 0) + found.bytes
            moments[name] = max(moments.get(name, datetime.min.replace(tzinfo=UTC)), found.at)
        for name, size in sizes.items():
            yield Stored(f"blake3:{name}", size, moments[name])

    def remove(self, digest: str) -> None:
        """Remove the objects, the manifest first, and the copy."""
        self._objects.remove([_key(digest, MANIFEST)])
        self._objects.remove([found.name for found in self._objects.list(_key(digest))])
        self._copies.remove(digest)

    def _bring(self, digest: str) -> None:
        """Copy the bundle from the object store; only while `_alone_with` it."""
        work = self._copies.folder / ".incoming" / self.locate(digest).name
        shutil.rmtree(work, ignore_errors=True)  # what a killed process left
        try:
            work.mkdir(parents=True)
            beginning = len(_key(digest)) + 1
            names = [found.name[beginning:] for found in self._objects.list(_key(digest))]
            if MANIFEST not in names:
                raise BundleRefused(f"the bundle {digest} is gone from {self._objects.url}")
            _each(names, lambda name: self._bring_file(digest, name, work))
            open_bundle(work, expect_digest=digest)
            work.rename(self.locate(digest))
        except DataDamaged as error:
            raise BundleRefused(f"the bundle {digest} cannot be opened: {error}") from None
        except OSError as error:
            raise Failed(f"the bundle {digest} cannot be copied to {work}: {error.strerror}") from error
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _bring_file(self, digest: str, name: str, work: Path) -> None:
        if name not in (MANIFEST, SEAL):
            check_path(name)
        file = work / name
        file.parent.mkdir(parents=True, exist_ok=True)
        self._objects.fetch(_key(digest, name), file)

    @contextmanager
    def _alone_with(self, digest: str) -> Iterator[None]:
        locks = self._copies.folder / ".locks"
        locks.mkdir(exist_ok=True)
        with alone(locks / self.locate(digest).name):
            yield


def _key(digest: str, name: str = "") -> str:
    return f"{_PREFIX}/{digest.partition(':')[2]}" + (f"/{name}" if name else "")


def _each(names: Sequence[str], do: Callable[[str], None]) -> None:
    """Do something for every name, several at once; the first error is raised."""
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="bundles") as pool:
        list(pool.map(do, names))
