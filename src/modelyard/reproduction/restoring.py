"""Code and data of a run, put where its program will look for them."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import msgspec
from blake3 import blake3

from modelyard.datasets.checkout import check_out, read_tree, write_files
from modelyard.datasets.tree import Entry
from modelyard.domain.run import CodeState, Read, Run
from modelyard.errors import DatasetNotFound, Failed, VersionNotFound
from modelyard.registry.datasets import Datasets
from modelyard.runs import committed, repository
from modelyard.runs.yard import Yard

_CLONE_SECONDS = 600
_READS = msgspec.json.Decoder(Read)


@dataclass(frozen=True, slots=True)
class Kept:
    """A run with its files, checked out into `files`, and what it read."""

    run: Run
    files: Path
    reads: tuple[Read, ...]


@dataclass(frozen=True, slots=True)
class Restored:
    """Where the program is to run, and what could not be given back to it; `notes` say where the rest came from."""

    root: Path
    folder: Path
    missing: tuple[str, ...]
    notes: tuple[str, ...]


def kept_of(yard: Yard, run_id: str, into: Path) -> Kept:
    """The run of that id, with its files in the new folder `into`.

    Raises:
        RunNotFound: there is none.
        Failed: its files are not kept, since it has not ended or was lost.
    """
    run = yard.runs.run(run_id)
    stored = yard.runs.files(run.id)
    if stored is None:
        raise Failed(f"run {run.id} cannot be repeated: it is {run.outcome.state}, and no files of it are kept")
    check_out(read_tree(*stored, yard.datasets.store), into, yard.datasets.store)
    return Kept(run, into, tuple(_reads(into / "reads.jsonl.gz")))


def _reads(file: Path) -> Iterator[Read]:
    if file.exists():
        for line in gzip.decompress(file.read_bytes()).splitlines():
            yield _READS.decode(line)


def restore(code: Kept, data: Kept, datasets: Datasets, into: Path) -> Restored:
    """Put the code of one run and the data of another (mostly the same) into the new folder `into`.

    Raises:
        Failed: the commit is nowhere to be had; the message says where it was looked for.
        DataDamaged: data of a version is not what was stored.
    """
    root = into / (PurePosixPath(code.run.code.place).name or "project")
    root.mkdir(parents=True)
    notes = [*_commit(code, root), *_changes(code, root)]
    folder = root / code.run.code.folder
    folder.mkdir(parents=True, exist_ok=True)
    missing = list(_code_left_out(code))
    placing = _Placing(data, datasets, root, folder, into)
    placing.place()
    return Restored(root, folder, (*missing, *placing.missing), (*notes, *placing.notes))


def _commit(code: Kept, root: Path) -> Iterator[str]:
    state = code.run.code
    archive = code.files / committed.ARCHIVE
    if state.commit is None:
        return
    if not archive.exists():
        archive = root.parent / "commit.tar"
        yield _fetched(state.commit, state.place, state.remote, archive)
    try:
        committed.give_back(archive, root)
    except (tarfile.TarError, OSError) as error:
        raise Failed(f"the files of commit {state.commit} cannot be written: {error}") from error


def _fetched(commit: str, place: str, remote: str | None, archive: Path) -> str:
    """Have the files of a commit that is not kept with its run from a repository; in words, from which."""
    if place and committed.keep(Path(place), commit, archive) is not None:
        return f"commit {commit[:12]} is from the repository in {place}"
    clone = archive.parent / "clone"
    if remote and _cloned(remote, clone) and committed.keep(clone, commit, archive) is not None:
        shutil.rmtree(clone, ignore_errors=True)
        return f"commit {commit[:12]} is from {remote}"
    looked = [f"not in {place or 'the folder of the run'}"]
    looked += [f"not to be had from {remote}" if remote else "and there is no remote"]
    raise Failed(
        f"commit {commit} is not kept with the run, {', '.join(looked)}: fetch it into a repository at that place, or "
        "reproduce on the machine that has it"
    )


def _cloned(remote: str, target: Path) -> bool:
    command = ["git", "clone", "--quiet", "--no-checkout", remote, str(target)]
    environ = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": "ssh -o BatchMode=yes"}
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=_CLONE_SECONDS, env=environ)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _changes(code: Kept, root: Path) -> Iterator[str]:
    patch = code.files / repository.PATCH
    if patch.exists():
        _apply(patch, root)
        yield f"uncommitted changes of {len(code.run.code.changed)} files are applied"
    for place in (repository.UNTRACKED, repository.LOADED):
        if (code.files / place).is_dir():
            shutil.copytree(code.files / place, root, dirs_exist_ok=True)


def _apply(patch: Path, root: Path) -> None:
    """Git finds no repository around `root`: it would take paths as being of that."""
    command = ["git", "apply", "--whitespace=nowarn", str(patch)]
    environ = {**os.environ, "GIT_CEILING_DIRECTORIES": str(root.parent)}
    environ.pop("GIT_DIR", None)
    try:
        done = subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True, check=False)
    except OSError as error:
        raise Failed(f"git is needed to apply the uncommitted changes of the run: {error.strerror}") from error
    if done.returncode:
        raise Failed(f"the uncommitted changes of the run cannot be applied: {done.stderr.strip()[:500]}")


def _code_left_out(code: Kept) -> Iterator[str]:
    """Of what is not kept, what the program may need: modules, and files that it opened."""
    opened = {read.path for read in code.reads}
    for name, why in code.run.code.left_out.items():
        if name.endswith(".py") or name in opened:
            yield f"code: {name} is not kept with the run ({why})"


class _Placing:
    """Puts what a run read where it read it, and collects what cannot be."""

    def __init__(self, data: Kept, datasets: Datasets, root: Path, folder: Path, bounds: Path) -> None:
        self._data, self._datasets, self._root, self._folder, self._bounds = data, datasets, root, folder, bounds
        self.missing: list[str] = []
        self.notes: list[str] = []

    def place(self) -> None:
        run = self._data.run
        own = f"/runs/{run.id}/data/"  # given anew by `run.data`
        reads = [read for read in self._data.reads if own not in f"/{read.path}"]
        by_version: dict[str, list[Read]] = {}
        for read in reads:
            if read.kind == "dataset":
                by_version.setdefault(read.ref, []).append(read)
            elif read.kind in ("other", "changed"):
                self._other(read)
            elif read.kind == "code":
                self._of_code(read)
        for ref, those in by_version.items():
            self._version(ref, those)
        for ref in run.data.declared:
            if ref not in run.data.versions and not by_version.get(ref):
                self._unseen(ref)

    def _target(self, path: str) -> Path | None:
        """Where a relative path leads; None for what lies outside of all that is restored."""
        target = Path(os.path.normpath(self._folder / path))
        return None if Path(path).is_absolute() or not target.is_relative_to(self._bounds) else target

    def _entries(self, ref: str, reads: Sequence[Read]) -> tuple[str, dict[str, Entry]]:
        """The version that was read, which may have another number here: the one that has what was read."""
        found: dict[str, Entry] = {}
        for each in dict.fromkeys((ref, *self._data.run.data.versions)):
            with suppress(DatasetNotFound, VersionNotFound):
                found = {entry.name: entry for entry in self._datasets.tree(each).entries}
                if all(read.name in found and found[read.name].content.digest.hex() == read.digest for read in reads):
                    return each, found
        return ref, {}

    def _version(self, named: str, reads: Sequence[Read]) -> None:
        ref, entries = self._entries(named, reads)
        bases: set[Path] = set()
        for read in reads:
            target, entry = self._target(read.path), entries.get(read.name)
            if entry is None:
                self.missing.append(f"data: {ref} as it was read is not here: {read.path} cannot be given back")
            elif target is None:
                self._outside(read, f"{read.name} of {ref}")
            elif target.parts[-len(PurePosixPath(read.name).parts) :] == PurePosixPath(read.name).parts:
                bases.add(Path(*target.parts[: -len(PurePosixPath(read.name).parts)]))
            elif not _is(target, read.digest):
                self._write([Entry(os.fsencode(target.name), entry.content)], target.parent)
        for base in sorted(bases):
            there = [entry for entry in entries.values() if not _is(base / entry.name, entry.content.digest.hex())]
            self._write(there, base)
            self.notes.append(f"{ref} is in {os.path.relpath(base, self._folder)}")

    def _unseen(self, ref: str) -> None:
        """A version that was declared, though no file of it was seen to be read: to where it was taken from."""
        sources = self._datasets.version(ref).origin.get("sources", [])
        source = _below(sources[0], self._data.run.code) if len(sources) == 1 else None
        target = self._target(source) if source is not None else None
        entries = self._datasets.tree(ref).entries
        if target is None or "*" in str(target):
            self.missing.append(f"data: {ref} was declared, but not seen to be read: it is not known where to put it")
            return
        is_file = len(entries) == 1 and entries[0].name == target.name
        self._write(entries, target.parent if is_file else target)
        self.notes.append(f"{ref} was declared, and is in {source}, where it was taken from")

    def _write(self, entries: Sequence[Entry], base: Path) -> None:
        for entry in entries:
            (base / entry.name).unlink(missing_ok=True)
        write_files(entries, str(base), self._datasets.store)

    def _of_code(self, read: Read) -> None:
        target = self._target(read.path)
        if target is None or not _is(target, read.digest):
            self.missing.append(f"code: {read.path} is not what it was: it is not kept with the run as it was read")

    def _other(self, read: Read) -> None:
        """What is of no version can only be taken from where it lay, if it is there still and the same."""
        target = self._target(read.path)
        if target is None:
            self._outside(read, "a file of no version")
            return
        state = self._data.run.code
        old = Path(os.path.normpath(Path(state.place) / state.folder / read.path)) if state.place else None
        if read.kind == "other" and old is not None and _is(old, read.digest):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(old, target)
            self.notes.append(f"{read.path} is of no version; it is still where it was, and was taken from there")
            return
        why = "it changed while it was read" if read.kind == "changed" else "it is of no version"
        self.missing.append(
            f"data: {read.path} cannot be given back: {why}; make it one next time: "
            f"modelyard data snapshot {read.path} --name NAME"
        )

    def _outside(self, read: Read, what: str) -> None:
        if read.digest and _is(Path(read.path), read.digest):
            self.notes.append(f"{read.path} ({what}) is here and the same; it is read where it lies")
            return
        is_there = Path(read.path).exists()
        state = "is here, but not the same" if is_there else "is not here"
        hint = f"; put it there: modelyard data checkout {read.ref} DIR" if read.ref else ""
        self.missing.append(f"data: {read.path} ({what}) {state}, and lies outside of the working folder{hint}")


def _below(source: str, state: CodeState) -> str:
    """Where data was taken from, relative to the folder of a program that ran above it.

    >>> _below("/shop/data/sales.csv", CodeState(place="/shop", folder="."))
    'data/sales.csv'
    """
    if not state.place or not Path(source).is_relative_to(state.place):
        return source
    return os.path.relpath(source, Path(state.place) / state.folder)


def _is(file: Path, digest: str) -> bool:
    try:
        return file.is_file() and blake3(max_threads=blake3.AUTO).update_mmap(file).hexdigest() == digest
    except OSError:
        return False


def versions_needed(run: Run) -> Mapping[str, None]:
    """The dataset versions that a run read or said it would, each once."""
    return dict.fromkeys((*run.data.versions, *run.data.declared))
