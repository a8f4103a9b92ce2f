"""Giving a version back: every byte is checked on its way out. What is written is a copy, never a link to the store."""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from modelyard.datasets.cutting import MOST
from modelyard.datasets.packs import Place, Reader
from modelyard.datasets.snapshot import Progress, Tell, silent
from modelyard.datasets.store import ChunkStore
from modelyard.datasets.tree import Entry, Tree, below, shown
from modelyard.errors import DataDamaged, Failed, NameTaken

_TASK_BYTES = 16 * 2**20
_TASK_FILES = 256


def check_out(tree: Tree, directory: Path, store: ChunkStore, tell: Tell = silent) -> None:
    """Write the files of `tree` into `directory`, which is new or empty. It appears whole or not at all.

    Raises:
        NameTaken: there is something in `directory`.
        DataDamaged: naming the file whose content is not what was stored, and the pack that holds it.
        Failed: it cannot be written.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise NameTaken(f"{directory} is there and not empty; check out into a new or empty folder")
    try:
        directory.absolute().parent.mkdir(parents=True, exist_ok=True)
        with _working_folder(directory.absolute()) as work:
            write_files(tree.entries, str(work), store, tell)
            _give_usual_mode(work)
            work.rename(directory)
    except OSError as error:
        raise Failed(f"{directory} cannot be written: {error.strerror}") from error


@contextmanager
def _working_folder(directory: Path) -> Iterator[Path]:
    """A folder beside `directory`, gone afterwards; what killed checkouts to the same place left is swept away."""
    prefix = f".{directory.name}.checkout-"
    with ExitStack() as held:
        with _locked(directory.parent, fcntl.LOCK_EX):
            for left in directory.parent.glob(f"{glob.escape(prefix)}*"):
                with suppress(OSError), _locked(left, fcntl.LOCK_EX | fcntl.LOCK_NB):  # fails while its writer lives
                    shutil.rmtree(left, ignore_errors=True)
            work = Path(tempfile.mkdtemp(prefix=prefix, dir=directory.parent))
            held.enter_context(_locked(work, fcntl.LOCK_SH))
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


@contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    """A lock on a folder, which the system takes back when this process ends, however it ends."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


def read_tree(digest: str, chunks: Sequence[bytes], store: ChunkStore) -> Tree:
    """The files of the version of that digest, from the chunks that its list of files is in.

    Raises:
        DataDamaged: the list is gone or not the one that was recorded.
    """
    try:
        return Tree.decode(store.read_all(chunks), digest)
    except DataDamaged as error:
        raise DataDamaged(f"the list of files of {digest} cannot be read: {error}") from error


def write_files(entries: Sequence[Entry], folder: str, store: ChunkStore, tell: Tell = silent) -> None:
    """Write these files below `folder`; raises as `check_out` does."""
    for parent in sorted({os.path.dirname(below(folder, entry.path)) for entry in entries}):  # noqa: PTH120
        os.makedirs(parent, exist_ok=True)  # noqa: PTH103
    places = store.index.find({chunk for entry in entries for chunk in entry.content.chunks})
    files, done, total = len(entries), 0, sum(entry.content.size for entry in entries)
    with ThreadPoolExecutor(store.packs.readers, thread_name_prefix="checkout") as pool:
        waiting: list[Future[int]] = []
        try:
            waiting = [pool.submit(_write, task, folder, store, places) for task in _tasks(entries, places)]
            for task in as_completed(waiting):
                done += task.result()
                tell(Progress(files if done == total else 0, done, files, total))
        finally:
            for task in waiting:
                task.cancel()


@dataclass(frozen=True, slots=True)
class _Part:
    """A piece of a file: chunks that come one after the other, and where the first begins."""

    entry: Entry
    offset: int
    chunks: tuple[bytes, ...]
    is_whole: bool


def _tasks(entries: Sequence[Entry], places: Mapping[bytes, Place]) -> Iterator[list[_Part]]:
    """Small files together, large ones in pieces, so that the threads have equal shares."""
    together: list[_Part] = []
    size = 0
    for entry in entries:
        if entry.content.size > _TASK_BYTES:
            yield from ([part] for part in _parts(entry, places))
            continue
        together.append(_Part(entry, 0, entry.content.chunks, is_whole=True))
        size += entry.content.size
        if size >= _TASK_BYTES or len(together) >= _TASK_FILES:
            yield together
            together, size = [], 0
    if together:
        yield together


def _parts(entry: Entry, places: Mapping[bytes, Place]) -> Iterator[_Part]:
    start = offset = 0
    held: list[bytes] = []
    for chunk in entry.content.chunks:
        held.append(chunk)
        offset += places[chunk].size if chunk in places else 0
        if offset - start >= _TASK_BYTES:
            yield _Part(entry, start, tuple(held), is_whole=False)
            start, held = offset, []
    if held:
        yield _Part(entry, start, tuple(held), is_whole=False)


def _write(parts: list[_Part], folder: str, store: ChunkStore, places: Mapping[bytes, Place]) -> int:
    written, buffer = 0, bytearray(MOST)
    near = store.near(places[chunk] for part in parts for chunk in part.chunks if chunk in places)
    for part in parts:
        descriptor = os.open(below(folder, part.entry.path), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            at = part.offset
            for chunk in part.chunks:
                at += _put(descriptor, _read(part.entry, chunk, store, places, buffer, near), at)
        finally:
            os.close(descriptor)
        if part.is_whole and at != part.entry.content.size:
            raise DataDamaged(f"{shown(part.entry.path)}: {at} bytes are stored of {part.entry.content.size}")
        written += at - part.offset
    return written


def _read(
    entry: Entry, chunk: bytes, store: ChunkStore, places: Mapping[bytes, Place], buffer: bytearray, near: Reader
) -> memoryview:
    try:
        return store.read(chunk, places.get(chunk), buffer, near)
    except DataDamaged as error:
        raise DataDamaged(f"{shown(entry.path)} cannot be given back: {error}") from error


def _put(descriptor: int, raw: memoryview, offset: int) -> int:
    view = raw
    while view:
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count
    return len(raw)


def _give_usual_mode(folder: Path) -> None:
    """Readable as the user's own settings say; the working folder was private."""
    mask = os.umask(0)
    os.umask(mask)
    folder.chmod(0o777 & ~mask)
