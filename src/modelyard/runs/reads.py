"""What a run read: every file that was opened, compared with the versions of data that there are."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from modelyard.datasets.scan import Found, Stamp
from modelyard.datasets.seen import Seen
from modelyard.datasets.tree import shown
from modelyard.domain.run import CodeState, DataUse, Read
from modelyard.errors import DataDamaged
from modelyard.registry.datasets import Datasets
from modelyard.runs.folder import Journal, RunFolder

MOST_NAMED = 20
"""Files of no version that the record names itself; the list of all is among the files of the run."""

MOST_VERSIONS = 500
"""So many versions of data, the newest of all datasets, are compared with what was read."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What the processes of a run noted: data files with their stamps, code, and what may have read besides."""

    data: Mapping[str, Stamp]
    code: tuple[Path, ...]
    begun: bool
    unseen: tuple[str, ...]


def opened(folder: RunFolder) -> Opened:
    """Read the notes. A file that one of the processes made is no input, whoever read it later."""
    made: set[str] = set()
    data: dict[str, Stamp] = {}
    code: dict[str, None] = {}
    unseen: dict[str, None] = {}
    begun = False
    for entry in folder.opened():
        begun = begun or "begin" in entry
        if "made" in entry:
            made.add(entry["made"])
        elif "read" in entry:
            data.setdefault(entry["read"], Stamp(*entry["stamp"]))
        elif "code" in entry:
            code[entry["code"]] = None
        else:
            unseen |= dict.fromkeys(_besides(entry))
    inputs = {path: stamp for path, stamp in data.items() if path not in made}
    return Opened(inputs, tuple(map(Path, code)), begun, tuple(unseen))


def _besides(entry: Mapping[str, str]) -> Iterator[str]:
    if "host" in entry:
        yield f"it asked for the address of {entry['host']}"
    if "unseen" in entry:
        yield f"it loaded {entry['unseen']}, which may have opened files unseen"
    if "program" in entry:
        yield f"it started {entry['program']}"


@dataclass(frozen=True, slots=True)
class Known:
    """What reads are compared with."""

    code: CodeState
    root: Path | None
    tracked: frozenset[str]
    folder: Path


def compare(
    found: Opened, known: Known, journal: Journal, declared: Sequence[str], datasets: Datasets, seen: Seen
) -> tuple[DataUse, tuple[Read, ...]]:
    """Which of the files are of dataset versions, which are kept with the code, and which are neither.

    A version that the user named or the run checked out is preferred; else the one that most of the files are of.
    """
    contents = _contents(found.data, seen)
    preferred = tuple(dict.fromkeys((*declared, *journal.declared, *journal.checkouts)))
    matched = _matched({path: digest for path, digest in contents.items() if digest}, preferred, datasets)
    reads = [_read(path, stamp, contents[path], matched.get(path), known) for path, stamp in found.data.items()]
    others = [read.path for read in reads if read.kind in ("other", "changed")]
    use = DataUse(
        declared=tuple(dict.fromkeys((*declared, *journal.declared))),
        versions=tuple(sorted({ref for ref, _ in matched.values()} | set(journal.checkouts))),
        others=tuple(others[:MOST_NAMED]),
        other_files=len(others),
        unseen=found.unseen,
    )
    return use, tuple(reads)


def _read(path: str, stamp: Stamp, digest: bytes | None, match: tuple[str, str] | None, known: Known) -> Read:
    said = shown(os.fsencode(_relative(path, known.folder)))
    if match is not None and digest is not None:
        return Read(said, "dataset", stamp.size, digest.hex(), *match)
    if digest is None:
        return Read(said, "changed", stamp.size)
    is_kept = _is_kept(path, known)
    return Read(said, "code" if is_kept else "other", stamp.size, digest.hex())


def _relative(path: str, folder: Path) -> str:
    """Below the working folder, or beside it; what is further away is named whole."""
    relative = os.path.relpath(path, folder)
    return path if relative.startswith(f"..{os.sep}..{os.sep}") else relative


def _is_kept(path: str, known: Known) -> bool:
    if known.root is None or not Path(path).is_relative_to(known.root):
        return False
    name = str(Path(path).relative_to(known.root))
    return name not in known.code.left_out and (name in known.tracked or name in known.code.untracked)


def _contents(data: Mapping[str, Stamp], seen: Seen) -> dict[str, bytes | None]:
    """Digests of files that are as they were when they were opened; None for the others."""
    same = [Found(b"", path, stamp) for path, stamp in data.items() if _stamp(path) == stamp]
    recalled = seen.recall(same)
    digests: dict[str, bytes | None] = dict.fromkeys(data)
    for one in same:
        content = recalled.get(one.path)
        digests[one.path] = content.digest if content is not None else _hashed(one.path)
    return digests


def _stamp(path: str) -> Stamp | None:
    try:
        return Stamp.of(os.stat(path))  # noqa: PTH116  # thousands of times
    except OSError:
        return None


def _hashed(path: str) -> bytes | None:
    try:
        if Path(path).stat().st_size < 2**20:
            return blake3(Path(path).read_bytes()).digest()
        return blake3(max_threads=blake3.AUTO).update_mmap(path).digest()
    except OSError:
        return None


def _matched(contents: Mapping[str, bytes], preferred: Sequence[str], datasets: Datasets) -> dict[str, tuple[str, str]]:
    """Path to dataset version and name in it."""
    matched: dict[str, tuple[str, str]] = {}
    for ref in preferred:
        matched |= {path: (ref, name) for path, name in _common(contents, ref, datasets) if path not in matched}
    left = {path: digest for path, digest in contents.items() if path not in matched}
    offers = _offers(left, datasets) if left else {}
    while left and offers:
        best = max(offers, key=lambda ref: len(offers[ref].keys() & left.keys()))
        taken = {path: (best, name) for path, name in offers.pop(best).items() if path in left}
        if not taken:
            break
        matched |= taken
        left = {path: digest for path, digest in left.items() if path not in taken}
    return matched


def _offers(left: Mapping[str, bytes], datasets: Datasets) -> dict[str, dict[str, str]]:
    """What each version has of these files, newest first; only one where one has them all."""
    versions = [version for newest in datasets.newest() for version in datasets.versions(newest.dataset)]
    versions.sort(key=lambda version: version.created_at, reverse=True)
    offers: dict[str, dict[str, str]] = {}
    for version in versions[:MOST_VERSIONS]:
        offer = dict(_common(left, version.ref, datasets))
        if len(offer) == len(left):
            return {version.ref: offer}
        if offer:
            offers[version.ref] = offer
    return offers


def _common(contents: Mapping[str, bytes], ref: str, datasets: Datasets) -> Iterable[tuple[str, str]]:
    try:
        entries = datasets.tree(ref).entries
    except DataDamaged:  # `modelyard data verify` says so
        return
    names = {entry.content.digest: entry.name for entry in entries}
    for path, digest in contents.items():
        if digest in names:
            yield path, names[digest]
