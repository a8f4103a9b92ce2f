"""Dataset versions of a home, opened quickly: SQLAlchemy is loaded only by what cannot do without it."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from modelyard.datasets.checkout import read_tree
from modelyard.datasets.facts import Facts, Profile
from modelyard.datasets.packs import Place, packs_of
from modelyard.datasets.store import ChunkStore
from modelyard.datasets.tree import Tree
from modelyard.domain.removal import Removal
from modelyard.home import Home
from modelyard.registry.dataset_version import DatasetVersion, Draft
from modelyard.registry.lookup import Lookup

if TYPE_CHECKING:
    from modelyard.registry.datasets import Datasets


class QuickDatasets:
    """What `Datasets` does, for one command: what is there is looked up in the file, the rest is left to `Datasets`.

    Errors are those of `Datasets`: what is not found here is asked for again there.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._lock = threading.RLock()
        self._lookup = Lookup.open(home.database) if isinstance(home.database, Path) else None
        if self._lookup is None:
            self._whole  # noqa: B018  # makes the database, or says why it cannot be used

    @cached_property
    def _whole(self) -> Datasets:
        from modelyard.registry.database import Database
        from modelyard.registry.datasets import Datasets

        with self._lock:
            self._database = Database(self._home.database)
            return Datasets(self._home, self._database, self._lookup.collected if self._lookup else None)

    @cached_property
    def store(self) -> ChunkStore:
        """Where the content lies."""
        return ChunkStore(packs_of(self._home), self) if self._lookup else self._whole.store

    def close(self) -> None:
        """Let go of open files."""
        if "store" in self.__dict__:
            self.store.packs.close()
        if "_whole" in self.__dict__:
            self._whole.close()
            self._database.close()
        if self._lookup is not None:
            self._lookup.close()

    def find(self, digests: Collection[bytes]) -> Mapping[bytes, Place]:
        """See `DatabaseIndex.find`."""
        return self._lookup.places(digests) if self._lookup else self._whole.store.index.find(digests)

    def add(self, places: Mapping[bytes, Place]) -> None:
        """See `DatabaseIndex.add`."""
        self._whole.store.index.add(places)

    def replace(self, places: Mapping[bytes, Place]) -> None:
        """See `DatabaseIndex.replace`."""
        self._whole.store.index.replace(places)

    def register(self, name: str, draft: Draft) -> tuple[DatasetVersion, bool]:
        """See `Datasets.register`."""
        return self._whole.register(name, draft)

    def having(self, name: str, digest: str) -> DatasetVersion | None:
        """See `Datasets.having`."""
        return (self._lookup or self._whole).having(name, digest)

    def before(self, name: str) -> tuple[Facts, Profile] | None:
        """See `Datasets.before`."""
        return self._whole.before(name)

    def version(self, ref: str) -> DatasetVersion:
        """See `Datasets.version`."""
        return (self._lookup and self._lookup.version(ref)) or self._whole.version(ref)

    def profile(self, ref: str) -> Profile:
        """See `Datasets.profile`."""
        return self._whole.profile(ref)

    def tree(self, ref: str) -> Tree:
        """See `Datasets.tree`."""
        return read_tree(*self.list_of(ref), self.store)

    def list_of(self, ref: str) -> tuple[str, tuple[bytes, ...]]:
        """See `Datasets.list_of`."""
        return (self._lookup and self._lookup.list_of(ref)) or self._whole.list_of(ref)

    def versions(self, name: str) -> tuple[DatasetVersion, ...]:
        """See `Datasets.versions`."""
        return (self._lookup and self._lookup.versions(name)) or self._whole.versions(name)

    def removed(self, name: str) -> tuple[Removal, ...]:
        """See `Datasets.removed`."""
        return () if self._lookup and self._lookup.is_complete(name) else self._whole.removed(name)

    def newest(self) -> tuple[DatasetVersion, ...]:
        """See `Datasets.newest`."""
        return (self._lookup or self._whole).newest()
