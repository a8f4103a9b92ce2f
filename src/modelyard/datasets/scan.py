"""Finding the files of a snapshot: folders, single files and glob patterns, to names that are the same everywhere."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelyard.datasets.tree import shown
from modelyard.errors import InvalidRequest

_WILD = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells without reading that a file is the one that was read before."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, facts: os.stat_result) -> Stamp:
        """The stamp in what the system says of a file."""
        return cls(facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino)


@dataclass(frozen=True, slots=True)
class Found:
    """One file: its path in the dataset, where it lies, and its stamp when it was found."""

    name: bytes
    path: str
    stamp: Stamp


def find(sources: Sequence[str | Path]) -> list[Found]:
    """All files of these folders, files and glob patterns, by name.

    A folder's files are named below it, a file by its own name, what a pattern matches below the pattern's fixed part.
    Of several sources, names are below the folder that holds them all. Links are followed.

    Raises:
        InvalidRequest: a source matches nothing, or there is something that is neither file nor folder.
    """
    if not sources:
        raise InvalidRequest("give a file, a folder or a pattern to take a snapshot of")
    roots = [root for source in sources for root in _roots(str(source))]
    if len(roots) == 1 and not Path(roots[0][1]).is_dir():
        base = str(Path(roots[0][1]).parent)
    else:
        base = _common([folder for folder, _ in roots])
    below = len(base.rstrip("/")) + 1
    files: dict[str, Found] = {}
    for _, root in roots:
        for path, facts in _walk(root):
            files[path] = Found(os.fsencode(path[below:]), path, Stamp.of(facts))
    if not files:
        raise InvalidRequest(f"there is no file in {', '.join(map(str, sources))}")
    return sorted(files.values(), key=lambda found: found.name)


def _roots(source: str) -> list[tuple[str, str]]:
    """What a source stands for: the folder that names are below, and a file or folder, each absolute."""
    path = os.path.abspath(Path(source).expanduser())  # noqa: PTH100  # links stay as they are
    if os.path.lexists(path):
        return [(path, path) if Path(path).is_dir() else (str(Path(path).parent), path)]
    if not _WILD & set(source):
        raise InvalidRequest(f"{source}: there is no such file or folder")
    matched = sorted(glob.glob(path, recursive=True, include_hidden=True))  # noqa: PTH207
    if not matched:
        raise InvalidRequest(f"{source}: nothing matches this pattern")
    fixed = _fixed_part(path)
    return [(fixed, match) for match in matched]


def _fixed_part(pattern: str) -> str:
    """The folder before the first wildcard.

    >>> _fixed_part("/data/2013/*.csv")
    '/data/2013'
    """
    parts = Path(pattern).parts
    wild = next(at for at, part in enumerate(parts) if _WILD & set(part))
    return str(Path(*parts[:wild]))


def _common(folders: Sequence[str]) -> str:
    return os.path.commonpath(folders)


def _walk(root: str) -> Iterator[tuple[str, os.stat_result]]:
    """Regular files at or below `root`."""
    facts = _facts(root)
    if stat.S_ISREG(facts.st_mode):
        yield root, facts
    elif stat.S_ISDIR(facts.st_mode):
        yield from _walk_folder(root, ((facts.st_dev, facts.st_ino),))
    else:
        raise InvalidRequest(f"{shown(os.fsencode(root))} is neither a file nor a folder; leave it out of the dataset")


def _walk_folder(folder: str, above: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, os.stat_result]]:
    try:
        with os.scandir(folder) as listing:
            children = sorted(listing, key=lambda child: child.name)
    except OSError as error:
        raise InvalidRequest(f"{shown(os.fsencode(folder))} cannot be read: {error.strerror}") from error
    for child in children:
        facts = _facts(child.path)
        if stat.S_ISREG(facts.st_mode):
            yield child.path, facts
        elif stat.S_ISDIR(facts.st_mode):
            here = (facts.st_dev, facts.st_ino)
            if here in above:
                raise InvalidRequest(f"{shown(os.fsencode(child.path))} links to a folder that it lies in")
            yield from _walk_folder(child.path, (*above, here))
        else:
            name = shown(os.fsencode(child.path))
            raise InvalidRequest(f"{name} is neither a file nor a folder; leave it out of the dataset")


def _facts(path: str) -> os.stat_result:
    try:
        return os.stat(path)  # noqa: PTH116  # called for every file
    except OSError as error:
        raise InvalidRequest(f"{shown(os.fsencode(path))} cannot be read: {error.strerror}") from error
