"""The front door of dataset versions, ``my.data``: snapshot, checkout, list, verify, diff.

::

    import modelyard as my

    version = my.data.snapshot("flights/", name="flights")  # flights@1
    my.data.checkout("flights@1", "work/flights")           # the exact bytes again
"""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modelyard.datasets.checking import Damage, damages
from modelyard.datasets.checkout import check_out
from modelyard.datasets.facts import Facts, Profile
from modelyard.datasets.scan import find
from modelyard.datasets.seen import Seen
from modelyard.datasets.snapshot import Taken, Tell, require_unchanged, silent, store_tree, take
from modelyard.domain.names import check_name
from modelyard.home import Home
from modelyard.registry.database import Database
from modelyard.registry.datasets import Datasets, DatasetVersion, Draft

if TYPE_CHECKING:
    from modelyard.datasets.differing import DataDiff

__all__ = [
    "Damage",
    "DatasetVersion",
    "Snapshot",
    "checkout",
    "diff",
    "newest",
    "show",
    "snapshot",
    "verify",
    "versions",
]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A dataset version and what taking it cost.

    `is_new` is false where the content is that of a version that there was. `unchanged` files were not read;
    `read_bytes` were read and hashed, `stored_bytes` added to the store.
    """

    version: DatasetVersion
    is_new: bool
    unchanged: int
    read_bytes: int
    stored_bytes: int

    @property
    def ref(self) -> str:
        """How the version is written: ``flights@2``."""
        return self.version.ref


def snapshot(
    source: str | Path | Sequence[str | Path],
    name: str,
    *,
    note: str = "",
    key: Sequence[str] = (),
    profile: bool = True,
    home: str | Path | Home | None = None,
    tell: Tell = silent,
) -> Snapshot:
    """Make the files of `source` the next version of the dataset `name`.

    Args:
        source: A folder, a file or a glob pattern, or several of them. Links are followed.
        name: The dataset's name; it is made if it is not there.
        note: A line to keep with the version.
        key: Columns that tell the rows of a table apart; differences to other versions are then found by it.
        profile: Read tables and images too, and keep their columns, row counts and profiles with the version.
        home: Where the registry is; see `Home.locate`.
        tell: Called now and then with how far it is.

    Returns:
        The version, or the one that had the same content already, and what it cost.

    Raises:
        InvalidRequest: there is no such file, something is neither file nor folder, or the name cannot be one.
        Failed: a file cannot be read or keeps changing, or there is no room.
    """
    check_name(name, "dataset")
    sources = [source] if isinstance(source, str | Path) else list(source)
    with _opened(home) as (place, datasets):
        files = find(sources)
        taken = take(files, datasets.store, Seen(place.cache / "datasets.db"), tell)
        version = datasets.having(name, taken.tree.digest)
        is_new = version is None
        if version is None:
            origin = {"kind": "files", "sources": [str(each) for each in sources]}
            facts, counts = _described(datasets, place, name, taken, key) if profile else (Facts(), {})
            tree_chunks = store_tree(taken.tree, datasets.store)
            draft = Draft(taken.tree, tree_chunks, origin, facts, counts, _user(), note)
            version, is_new = datasets.register(name, draft)
        return Snapshot(version, is_new, taken.unchanged, taken.read_bytes, taken.stored_bytes)


def checkout(
    ref: str, directory: str | Path, *, home: str | Path | Home | None = None, tell: Tell = silent
) -> DatasetVersion:
    """Write the files of a version into `directory`, which is new or empty: the exact bytes, checked on their way.

    Raises:
        DatasetNotFound, VersionNotFound: there is no such version.
        NameTaken: there is something in `directory`.
        DataDamaged: naming the file whose content is not what was stored.
        Failed: it cannot be written.
    """
    with _opened(home) as (_, datasets):
        version = datasets.version(ref)
        check_out(datasets.tree(version.ref), Path(directory), datasets.store, tell)
        return version


def diff(before: str, after: str, *, key: Sequence[str] = (), home: str | Path | Home | None = None) -> DataDiff:
    """What differs between two versions: files, and of tables columns, types, rows and distributions.

    Args:
        before: The version to start from, such as ``flights@1``.
        after: The other version; it may be of another dataset.
        key: Columns that tell rows apart. Without them the key that was given with a snapshot is taken; where there is
            none, whole rows are compared.
        home: Where the registry is; see `Home.locate`.

    Raises:
        DatasetNotFound, VersionNotFound: there is no such version.
        InvalidRequest: no table that differs has the columns of `key`.
        DataDamaged: content that is needed is not what was stored.
    """
    from modelyard.datasets.comparing import Side, compare
    from modelyard.datasets.describing import Described

    with _opened(home) as (place, datasets):
        sides = []
        for ref in (before, after):
            version = datasets.version(ref)
            described = Described(version.facts, datasets.profile(version.ref))
            sides.append(Side(version.ref, datasets.tree(version.ref), described))
        return compare(sides[0], sides[1], datasets.store, place.cache, key)


def verify(ref: str, *, home: str | Path | Home | None = None, tell: Tell = silent) -> tuple[Damage, ...]:
    """Hash everything that is stored of a version again; gives the files that are damaged, none if all is well.

    Raises:
        DatasetNotFound, VersionNotFound: there is no such version.
        DataDamaged: the list of its files itself is damaged.
    """
    with _opened(home) as (_, datasets):
        return tuple(damages(datasets.tree(ref), datasets.store, tell))


def show(ref: str, *, home: str | Path | Home | None = None) -> DatasetVersion:
    """The version that ``flights@2`` names, or the newest for ``flights``.

    Raises:
        DatasetNotFound, VersionNotFound: there is no such version.
    """
    with _opened(home) as (_, datasets):
        return datasets.version(ref)


def versions(name: str, *, home: str | Path | Home | None = None) -> tuple[DatasetVersion, ...]:
    """All versions of a dataset, oldest first.

    Raises:
        DatasetNotFound: there is no such dataset.
    """
    with _opened(home) as (_, datasets):
        return datasets.versions(name)


def newest(*, home: str | Path | Home | None = None) -> tuple[DatasetVersion, ...]:
    """The newest version of every dataset, by name."""
    with _opened(home) as (_, datasets):
        return datasets.newest()


def _described(datasets: Datasets, home: Home, name: str, taken: Taken, key: Sequence[str]) -> tuple[Facts, Profile]:
    """Tables and images are read where they lie, not from the store."""
    from modelyard.datasets.describing import Described, describe

    before = datasets.before(name)
    places = {file.name: file.path for file in taken.files}
    described = describe(taken.tree, places, home.cache, key, None if before is None else Described(*before))
    require_unchanged(taken.files)
    return described.facts, described.profile


@contextmanager
def _opened(home: str | Path | Home | None) -> Iterator[tuple[Home, Datasets]]:
    place = Home.locate(home).create()
    database = Database(place.database)
    datasets = Datasets(place, database)
    try:
        yield place, datasets
    finally:
        datasets.close()
        database.close()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
