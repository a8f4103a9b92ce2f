"""What git says of some files: commit, remote, and how they differ from it."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

_SECONDS = 20


@dataclass(frozen=True, slots=True)
class GitState:
    """The repository that some files are in. Paths are relative to its root, with forward slashes.

    `changed` differ from the commit, `untracked` are not in it; `patch` is the difference of the changed ones.
    """

    root: Path
    commit: str | None
    remote: str | None
    changed: tuple[str, ...]
    untracked: tuple[str, ...]
    patch: bytes


def look(files: Sequence[Path]) -> GitState | None:
    """The state of the repository of the first of `files`, for those of them that lie in it.

    None without files, without a repository, or without git.
    """
    if not files:
        return None
    top = run_git(files[0].parent, "rev-parse", "--show-toplevel")
    if top is None:
        return None
    root = Path(top.decode().strip())
    inside = sorted({str(file.resolve().relative_to(root)) for file in files if file.resolve().is_relative_to(root)})
    commit = run_git(root, "rev-parse", "--verify", "HEAD")
    tracked = set((run_git(root, "ls-files", "-z", "--", *inside) or b"").decode().split("\0"))
    changed = (run_git(root, "diff", "--name-only", "-z", "HEAD", "--", *inside) or b"").decode().split("\0")
    remote = run_git(root, "remote", "get-url", "origin")
    return GitState(
        root=root,
        commit=commit.decode().strip() if commit else None,
        remote=without_credentials(remote.decode().strip()) if remote else None,
        changed=tuple(sorted(name for name in changed if name)),
        untracked=tuple(name for name in inside if name not in tracked),
        patch=run_git(root, "diff", "--no-color", "--no-ext-diff", "HEAD", "--", *inside) or b"",
    )


def without_credentials(remote: str) -> str | None:
    """A remote's address without user, password and query; None for a path on this machine.

    >>> without_credentials("https://me:token@git.example.org/team/churn.git")
    'https://git.example.org/team/churn.git'
    >>> without_credentials("git@git.example.org:team/churn.git")
    'git.example.org:team/churn.git'
    >>> without_credentials("/srv/git/churn.git") is None
    True
    """
    parts = urlsplit(remote)
    if parts.scheme == "file" or remote.startswith((".", "/", "~")):
        return None
    if parts.scheme:
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    return remote.rpartition("@")[2] if ":" in remote else None


def run_git(folder: Path, *arguments: str) -> bytes | None:
    """What git prints for these arguments in `folder`; None where it fails, takes too long, or is not there."""
    command = ["git", "-C", str(folder), "-c", "core.quotepath=off", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
