"""The front door of dataset versions, ``my.data``: snapshot, checkout, list, verify, diff.

::

    import modelyard as my

    version = my.data.snapshot("flights/", name="flights")  # flights@1
    my.data.checkout("flights@1", "work/flights")           # the exact bytes again
"""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from modelyard.datasets.checking import Damage, damaged_chunks, damages
from modelyard.datasets.checkout import check_out
from modelyard.datasets.facts import Facts, Profile
from modelyard.datasets.formats import can_be_described
from modelyard.datasets.scan import Found, find
from modelyard.datasets.seen import Seen
from modelyard.datasets.snapshot import Taken, Tell, require_unchanged, silent, store_tree, take
from modelyard.domain.names import check_name
from modelyard.domain.removal import Removal
from modelyard.errors import DataDamaged
from modelyard.home import Home
from modelyard.registry.again import again
from modelyard.registry.dataset_version import DatasetVersion, Draft
from modelyard.registry.quick_datasets import QuickDatasets
from modelyard.runs.inside.watching import unwatched

if TYPE_CHECKING:
    from modelyard.datasets.differing import DataDiff

__all__ = [
    "Damage",
    "DatasetVersion",
    "Snapshot",
    "checkout",
    "diff",
    "newest",
    "profile",
    "removed",
    "repair",
    "show",
    "snapshot",
    "snapshot_delta",
    "snapshot_query",
    "snapshot_table",
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
    made_from: Sequence[str] = (),
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
        made_from: Versions of data that this one was made from, such as ``raw-flights@3``, for its lineage.
        profile: Read tables and images too, and keep their columns, row counts and profiles with the version.
        home: Where the registry is; see `Home.locate`.
        tell: Called now and then with how far it is.

    Returns:
        The version, or the one that had the same content already, and what it cost.

    Raises:
        InvalidRequest: there is no such file, something is neither file nor folder, or the name cannot be one.
        Failed: a file cannot be read or keeps changing, or there is no room.
    """
    sources = [source] if isinstance(source, str | Path) else list(source)
    with _opened(home) as (place, datasets):
        check_name(name, "dataset")
        files = find(sources)
        origin = {"kind": "files", "sources": [str(each) for each in sources]}
        return _taken(datasets, place, files, _Wanted(name, origin, note, key, made_from, profile), tell)


def snapshot_query(
    query: str,
    url: str,
    name: str,
    *,
    note: str = "",
    key: Sequence[str] = (),
    made_from: Sequence[str] = (),
    profile: bool = True,
    home: str | Path | Home | None = None,
    tell: Tell = silent,
) -> Snapshot:
    """Make the rows of a SQL query the next version of the dataset `name`, as one Parquet file, ``<name>.parquet``.

    The query runs in a transaction that is taken back. With the version go the query and which database it was, never
    user, password or options. Rows are kept in the order in which they come: without ORDER BY, the same rows may make
    another version.

    Args:
        query: A SELECT.
        url: The database, as SQLAlchemy writes it; its driver has to be installed.
        name: See `snapshot`, as for all that follows.
        note: A line to keep.
        key: Columns that tell rows apart.
        made_from: Versions of data that it was made from.
        profile: Describe the rows.
        home: Where the registry is.
        tell: Called with how far it is, once rows are there.

    Raises:
        InvalidRequest: the URL, its driver, the query or the name are not usable.
        Failed: the database refuses, or there is no room.
    """
    from modelyard.datasets.queries import database_of, fetch

    check_name(name, "dataset")
    origin = {"kind": "query", "database": database_of(url), "query": query}
    with _opened(home) as (place, datasets), TemporaryDirectory(dir=place.cache, prefix="query-") as folder:
        fetch(url, query, Path(folder) / f"{name}.parquet")
        return _taken(datasets, place, find([folder]), _Wanted(name, origin, note, key, made_from, profile), tell)


def snapshot_delta(
    path: str | Path,
    name: str,
    *,
    version: int | None = None,
    note: str = "",
    key: Sequence[str] = (),
    made_from: Sequence[str] = (),
    profile: bool = True,
    home: str | Path | Home | None = None,
    tell: Tell = silent,
) -> Snapshot:
    """Make a version of a Delta table the next version of the dataset `name`: its data files and a log of one version.

    Args:
        path: The table's folder.
        name: See `snapshot`, as for all that follows.
        version: The table's version; the newest without.
        note: A line to keep.
        key: Columns that tell rows apart.
        made_from: Versions of data that it was made from.
        profile: Describe the rows.
        home: Where the registry is.
        tell: Called with how far it is.

    Raises:
        InvalidRequest: there is no such table or version, or the name cannot be one.
        Failed: a file of that version is gone.
    """
    from modelyard.datasets.delta import pinned

    check_name(name, "dataset")
    with _opened(home) as (place, datasets), TemporaryDirectory(dir=place.cache, prefix="delta-") as folder:
        files, number = pinned(path, version, Path(folder))
        origin = {"kind": "delta", "table": str(path), "version": number}
        return _taken(datasets, place, files, _Wanted(name, origin, note, key, made_from, profile), tell)


def snapshot_table(
    table: Any,
    name: str,
    *,
    file: str = "",
    origin: Mapping[str, Any] | None = None,
    note: str = "",
    key: Sequence[str] = (),
    made_from: Sequence[str] = (),
    profile: bool = True,
    home: str | Path | Home | None = None,
) -> Snapshot:
    """Make a `pyarrow.Table` the next version of the dataset `name`, as one Parquet file, ``<name>.parquet``.

    The same rows in the same order give the version that there is.

    Args:
        table: The rows.
        name: See `snapshot`, as for all that follows.
        file: What the file is called.
        origin: Where the rows came from, kept with the version: a ``kind`` and what belongs to it.
        note: A line to keep.
        key: Columns that tell rows apart.
        made_from: Versions of data that it was made from.
        profile: Describe the rows.
        home: Where the registry is.

    Raises:
        InvalidRequest: the name cannot be one.
        Failed: there is no room.
    """
    import pyarrow.parquet as pq

    check_name(name, "dataset")
    called = Path(file or f"{name}.parquet").name
    with _opened(home) as (place, datasets), TemporaryDirectory(dir=place.cache, prefix="table-") as folder:
        pq.write_table(table, Path(folder) / called, compression="zstd")
        wanted = _Wanted(name, dict(origin or {"kind": "table"}), note, key, made_from, profile)
        return _taken(datasets, place, find([folder]), wanted, silent)


def checkout(
    ref: str, directory: str | Path, *, home: str | Path | Home | None = None, tell: Tell = silent
) -> DatasetVersion:
    """Write the files of a version into `directory`, which is new or empty: the exact bytes, checked on their way.

    Within a recorded run, the run knows the version as one that it read.

    Raises:
        DatasetNotFound, VersionNotFound: there is no such version.
        NameTaken: there is something in `directory`.
        DataDamaged: naming the file whose content is not what was stored.
        Failed: it cannot be written.
    """
    from modelyard.runs import current

    with _opened(home) as (_, datasets):
        version = datasets.version(ref)
        check_out(datasets.tree(version.ref), Path(directory), datasets.store, tell)
        current.tell(checkout=version.ref)
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


def repair(ref: str, source: str | Path, *, home: str | Path | Home | None = None, tell: Tell = silent) -> int:
    """Store again what is damaged of a version, from files that have it still; gives how many chunks were put right.

    Other versions that share them are repaired with it. What `source` does not have stays as it is: `verify` says so.

    Args:
        ref: The version.
        source: A folder, a file or a glob pattern, such as the folder that the snapshot was taken of. Files may have
            other names there and have changed; what counts is what is in them.
        home: Where the registry is.
        tell: Called with how far the files are read.

    Raises:
        DatasetNotFound, VersionNotFound: there is no such version.
        InvalidRequest: there is no file in `source`.
        Failed: a file cannot be read.
        DataDamaged: the list of files itself is damaged, and `source` does not have just these files.
    """
    from modelyard.datasets.repairing import mend, mend_list

    with _opened(home) as (_, datasets):
        digest, chunks = datasets.list_of(ref)
        files = find([source])
        lists = damaged_chunks(chunks, datasets.store)
        if lists and not mend_list(files, digest, datasets.store, tell):
            raise DataDamaged(f"the list of files of {ref} is damaged, and {source} does not have just these files")
        damaged = damaged_chunks(datasets.tree(ref).chunks(), datasets.store)
        return len(lists) + (mend(files, damaged, datasets.store, tell) if damaged else 0)


def show(ref: str, *, home: str | Path | Home | None = None) -> DatasetVersion:
    """The version that ``flights@2`` names, or the newest for ``flights``.

    Raises:
        DatasetNotFound, VersionNotFound: there is no such version.
    """
    with _opened(home) as (_, datasets):
        return datasets.version(ref)


def profile(ref: str, *, home: str | Path | Home | None = None) -> Profile:
    """The counts that describe the columns of a version's tables, by table and column; see `modelyard.domain.profile`.

    Raises:
        DatasetNotFound, VersionNotFound: there is no such version.
    """
    with _opened(home) as (_, datasets):
        return datasets.profile(ref)


def versions(name: str, *, home: str | Path | Home | None = None) -> tuple[DatasetVersion, ...]:
    """All versions of a dataset, oldest first.

    Raises:
        DatasetNotFound: there is no such dataset.
    """
    with _opened(home) as (_, datasets):
        return datasets.versions(name)


def removed(name: str, *, home: str | Path | Home | None = None) -> tuple[Removal, ...]:
    """Versions of a dataset that there were, in the order in which they were removed: who, when and why.

    Raises:
        DatasetNotFound: there is no such dataset.
    """
    with _opened(home) as (_, datasets):
        return datasets.removed(name)


def newest(*, home: str | Path | Home | None = None) -> tuple[DatasetVersion, ...]:
    """The newest version of every dataset, by name."""
    with _opened(home) as (_, datasets):
        return datasets.newest()


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is to be known of a version beside its files."""

    name: str
    origin: Mapping[str, Any]
    note: str
    key: Sequence[str]
    made_from: Sequence[str]
    profile: bool


def _taken(datasets: QuickDatasets, home: Home, files: Sequence[Found], wanted: _Wanted, tell: Tell) -> Snapshot:
    return again(lambda: _taken_once(datasets, home, files, wanted, tell))


def _taken_once(datasets: QuickDatasets, home: Home, files: Sequence[Found], wanted: _Wanted, tell: Tell) -> Snapshot:
    made_from = tuple({version.ref: version for version in map(datasets.version, wanted.made_from)}.values())
    taken = take(files, datasets.store, Seen(home.cache / "datasets.db"), tell)
    version = datasets.having(wanted.name, taken.tree.digest)
    is_new = version is None
    if version is None:
        facts, counts = _described(datasets, home, taken, wanted) if wanted.profile else (Facts(), {})
        tree_chunks = store_tree(taken.tree, datasets.store)
        draft = Draft(taken.tree, tree_chunks, wanted.origin, facts, counts, _user(), wanted.note, made_from)
        version, is_new = datasets.register(wanted.name, draft)
    if is_new:
        from modelyard.runs import current

        current.tell(snapshot=version.ref)
    return Snapshot(version, is_new, taken.unchanged, taken.read_bytes, taken.stored_bytes)


def _described(datasets: QuickDatasets, home: Home, taken: Taken, wanted: _Wanted) -> tuple[Facts, Profile]:
    """Tables and images are read where they lie, not from the store."""
    if not wanted.key and not can_be_described(taken.tree.entries):
        return Facts(), {}
    from modelyard.datasets.describing import Described, describe

    before = datasets.before(wanted.name)
    places = {file.name: file.path for file in taken.files}
    described = describe(taken.tree, places, home.cache, wanted.key, None if before is None else Described(*before))
    require_unchanged(taken.files)
    return described.facts, described.profile


@contextmanager
def _opened(home: str | Path | Home | None) -> Iterator[tuple[Home, QuickDatasets]]:
    place = Home.locate(home).create()
    datasets = QuickDatasets(place)
    try:
        with unwatched():
            yield place, datasets
    finally:
        datasets.close()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
