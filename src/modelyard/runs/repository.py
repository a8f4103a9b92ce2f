"""The code as it is when a run begins: commit, and what differs from it, kept as a patch and files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from modelyard.bundle import secrets
from modelyard.bundle.git import run_git, without_credentials
from modelyard.bundle.memo import Memo
from modelyard.domain.run import CodeState

PATCH = "code/changes.patch"
UNTRACKED = "code/untracked"
LOADED = "code/loaded"
OUTSIDE = "outside"
FILE_BYTES = 1 << 20
TOTAL_BYTES = 32 << 20
MOST_FILES = 500
_SCANS = Memo("secret-scans")

_PARTS = re.compile(rb"(?m)^(?=diff --git )")
_ADDRESS_USER = re.compile(r"(?<=://)[^/@\s]+@")
_SECRET_OPTION = re.compile(r"(?i)^--?[\w-]*(password|passwd|secret|token|api[-_]?key|credential)[\w-]*")


@dataclass(frozen=True, slots=True)
class Kept:
    """What is said of the code, and the files of it, by where they go among the files of the run."""

    state: CodeState
    root: Path | None
    files: dict[str, bytes]


NOTHING = Kept(CodeState(), None, {})
"""What is said of code that is in no repository."""


def look(folder: Path, besides: Path | None = None) -> Kept:
    """The repository that `folder` lies in, as it is now.

    What git ignores and what lies in `besides` is left out. So is what is too large or looks like a secret, and the
    state says so. Without a repository, or without git, nothing is known.
    """
    top = run_git(folder, "rev-parse", "--show-toplevel")
    if top is None:
        return NOTHING
    root = Path(top.decode().rstrip("\n"))
    commit = run_git(root, "rev-parse", "--verify", "HEAD")
    branch = run_git(root, "symbolic-ref", "--short", "HEAD")
    remote = run_git(root, "remote", "get-url", "origin")
    keeping = _Keeping()
    changed = _names(run_git(root, "diff", "--name-only", "-z", "HEAD")) if commit else []
    if changed:
        keeping.keep_patch(run_git(root, "diff", "--binary", "--no-color", "--no-ext-diff", "HEAD"))
    untracked = _names(run_git(root, "ls-files", "-z", "--others", "--exclude-standard"))
    if commit is None:
        untracked += _names(run_git(root, "ls-files", "-z"))
    untracked = [name for name in untracked if besides is None or not (root / name).is_relative_to(besides)]
    keeping.keep_files(root, UNTRACKED, untracked)
    state = CodeState(
        commit=commit.decode().strip() if commit else None,
        branch=branch.decode().strip() if branch else None,
        remote=without_credentials(remote.decode().strip()) if remote else None,
        folder=_below(folder, root),
        changed=tuple(sorted(changed)),
        untracked=tuple(sorted(name for name in untracked if name not in keeping.left_out)),
        left_out=keeping.left_out,
        place=str(root),
    )
    return Kept(state, root, keeping.files)


def loaded(root: Path, paths: Iterable[Path], sources: Sequence[Path] = ()) -> Kept:
    """Files of code that a program without a repository ran, kept by their place below `root`.

    Those outside go below ``outside``, by their place in the folder of `sources` that they were imported from.
    """
    keeping, names = _Keeping(), []
    for path in sorted(set(paths)):
        name = str(path.relative_to(root)) if path.is_relative_to(root) else f"{OUTSIDE}/{_module_path(path, sources)}"
        keeping.keep_file(path, LOADED, name)
        names.append(name)
    state = CodeState(loaded=tuple(name for name in names if name not in keeping.left_out), left_out=keeping.left_out)
    return Kept(state, None, keeping.files)


def _module_path(path: Path, sources: Sequence[Path]) -> str:
    """The place of a module in the nearest of the folders that modules come from.

    >>> _module_path(Path("/lib/shop/fit.py"), [Path("/lib"), Path("/other")])
    'shop/fit.py'
    """
    above = [source for source in sources if path.is_relative_to(source)]
    return str(path.relative_to(max(above, key=lambda source: len(source.parts)))) if above else path.name


class _Keeping:
    """Collects what may be kept, and why the rest may not."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.left_out: dict[str, str] = {}
        self._bytes = 0

    def keep_patch(self, patch: bytes | None) -> None:
        """The parts of a patch, file by file."""
        if patch is None:
            self.left_out["changes"] = "git did not give them in time"
            return
        parts = [part for part in _PARTS.split(patch) if part]
        kept = [part for part in parts if self._may_keep(_patched(part), part, ".patch")]
        if kept:
            self.files[PATCH] = b"".join(kept)

    def keep_files(self, root: Path, place: str, names: Sequence[str]) -> None:
        """Files below `root`."""
        for name in names[:MOST_FILES]:
            self.keep_file(root / name, place, name)
        for name in names[MOST_FILES:]:
            self.left_out[name] = f"more than {MOST_FILES} files are in no commit"

    def keep_file(self, path: Path, place: str, name: str) -> None:
        """One file, a link as what it leads to."""
        try:
            size = path.stat().st_size
            content = b"" if size > FILE_BYTES else path.read_bytes()
        except OSError as error:
            self.left_out[name] = f"cannot be read: {error.strerror}"
            return
        if self._may_keep(name, content, path.suffix, size):
            self.files[f"{place}/{name}"] = content

    def _may_keep(self, name: str, content: bytes, suffix: str, size: int | None = None) -> bool:
        if (size or len(content)) > FILE_BYTES:
            self.left_out[name] = f"{size or len(content)} bytes; at most {FILE_BYTES} of a file are kept"
            return False
        if self._bytes + len(content) > TOTAL_BYTES:
            self.left_out[name] = f"more than {TOTAL_BYTES} bytes of code are not kept"
            return False
        secret = _secret_in(content, suffix)
        if secret:
            self.left_out[name] = secret
            return False
        self._bytes += len(content)
        return True


def _secret_in(content: bytes, suffix: str) -> str:
    """Why `content` may not be kept, or nothing. It is slow to find out, and remembered by the content's digest."""
    if b"\0" in content[:8192]:
        return ""
    question = f"{blake3(content).hexdigest()} {suffix}"
    known = _SCANS.get(question)
    if isinstance(known, str):
        return known
    found = secrets.scan(content, suffix=suffix)
    said = f"line {found[0].line} looks like a secret ({found[0].kind})" if found else ""
    _SCANS.put(question, said)
    return said


def _patched(part: bytes) -> str:
    r"""The file that a part of a patch is about.

    >>> _patched(b"diff --git a/x/train.py b/x/train.py\nindex 1..2\n")
    'x/train.py'
    """
    return part.partition(b"\n")[0].decode("utf-8", "replace").rpartition(" b/")[2]


def _names(raw: bytes | None) -> list[str]:
    return [name.decode("utf-8", "surrogateescape") for name in (raw or b"").split(b"\0") if name]


def _below(folder: Path, root: Path) -> str:
    place = folder.resolve()
    return str(place.relative_to(root.resolve())) if place.is_relative_to(root.resolve()) else "."


def shown_command(command: Sequence[str]) -> tuple[str, ...]:
    """The words of a command without what looks like a secret.

    >>> shown_command(["train.py", "--api-key", "abc", "--token=abc", "pg://me:word@db/x", "--depth", "6"])
    ('train.py', '--api-key', '***', '--token=***', 'pg://***@db/x', '--depth', '6')
    """
    words: list[str] = []
    for word in command:
        if words and _SECRET_OPTION.match(words[-1]) and "=" not in words[-1] and not word.startswith("-"):
            words.append("***")
        elif _SECRET_OPTION.match(word) and "=" in word:
            words.append(f"{word.partition('=')[0]}=***")
        else:
            words.append(_ADDRESS_USER.sub("***@", word))
    return tuple(words)


def write(kept: Kept, files: Path) -> None:
    """Put the files of the code among the files of the run."""
    for name, content in kept.files.items():
        target = files / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
