"""The files of a commit, kept with a run: it can be run again where there is neither the repository nor a git server.

They go into one archive whose bytes depend on nothing but the files, so that the store has what two commits share once.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from modelyard.bundle.git import run_git

ARCHIVE = "code/commit.tar"
FILE_BYTES = 16 << 20
TOTAL_BYTES = 256 << 20
_LINK = "120000"
_ASKED_AT_ONCE = 50  # questions that fit into a pipe, so that neither side waits for the other for ever
_PRIVATE = (".env", ".netrc", ".pem", ".key", ".p12", ".pfx", "id_rsa", "id_ed25519", "credentials.json")


@dataclass(frozen=True, slots=True)
class _Listed:
    """A file of a commit: its mode as git writes it, the object that holds it, its size in bytes, and its path."""

    mode: str
    blob: str
    size: int
    path: str


def keep(root: Path, commit: str, target: Path) -> dict[str, str] | None:
    """Write the files of `commit`, as it has them, into the archive `target`.

    What is committed is shared already, and is not searched for secrets. Files named as keys and passwords usually are,
    large files and the contents of submodules are left out.

    Returns:
        What is left out and why, by path; None where git does not give the commit, and nothing was written.
    """
    listed = run_git(root, "ls-tree", "-r", "-z", "-l", "--full-tree", commit)
    if listed is None:
        return None
    kept, left_out = _chosen(listed.decode("utf-8", "surrogateescape").split("\0"))
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with target.open("wb") as raw, tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for one, content in _contents(root, kept):
                archive.addfile(_member(one, content), io.BytesIO(content))
    except (OSError, ValueError):
        target.unlink(missing_ok=True)
        return None
    return left_out


def give_back(archive: Path, folder: Path) -> None:
    """Write the files of an archive below `folder`; a member that would leave it is refused.

    Raises:
        tarfile.TarError: it is no such archive, or a member would leave the folder.
    """
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")


def _chosen(lines: list[str]) -> tuple[list[_Listed], dict[str, str]]:
    kept, left_out, total = [], {}, 0
    for line in filter(None, lines):
        facts, _, path = line.partition("\t")
        mode, kind, blob, size = facts.split()
        why = _why_not(kind, path, size, total)
        if why:
            left_out[path] = why
        else:
            kept.append(_Listed(mode, blob, int(size), path))
            total += int(size)
    return kept, left_out


def _why_not(kind: str, path: str, size: str, total: int) -> str:
    """Why a file of a commit is not kept.

    >>> _why_not("blob", "train.py", "120", 0), _why_not("blob", "prod.env", "120", 0)
    ('', 'it is named as keys and passwords are')
    """
    if kind != "blob":
        return "a submodule"
    if PurePosixPath(path).name.endswith(_PRIVATE):
        return "it is named as keys and passwords are"
    if int(size) > FILE_BYTES:
        return f"{size} bytes; at most {FILE_BYTES} of a committed file are kept"
    if total + int(size) > TOTAL_BYTES:
        return f"more than {TOTAL_BYTES} bytes of a commit are not kept"
    return ""


def _contents(root: Path, listed: list[_Listed]) -> Iterator[tuple[_Listed, bytes]]:
    """What git holds of these files, from one process.

    Raises:
        ValueError: it does not hold one of them.
    """
    if not listed:
        return
    command = ["git", "-C", str(root), "cat-file", "--batch"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as git:
        if git.stdin is None or git.stdout is None:
            raise ValueError("no pipes")
        try:
            for start in range(0, len(listed), _ASKED_AT_ONCE):
                together = listed[start : start + _ASKED_AT_ONCE]
                git.stdin.write(b"".join(one.blob.encode() + b"\n" for one in together))
                git.stdin.flush()
                for one in together:
                    yield one, _answer(git.stdout, one)
        finally:
            git.stdin.close()


def _answer(stream: IO[bytes], one: _Listed) -> bytes:
    if stream.readline().split()[1:2] != [b"blob"]:
        raise ValueError(f"git does not have {one.path}")
    content = stream.read(one.size)
    stream.read(1)
    return content


def _member(one: _Listed, content: bytes) -> tarfile.TarInfo:
    """Without times and owners."""
    member = tarfile.TarInfo(one.path)
    member.mode = 0o755 if one.mode == "100755" else 0o644
    if one.mode == _LINK:
        member.type, member.linkname = tarfile.SYMTYPE, content.decode("utf-8", "surrogateescape")
    else:
        member.size = len(content)
    return member
