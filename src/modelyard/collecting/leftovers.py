"""Collecting what is on this machine only: environments that can be built again, and what killed processes left."""

from __future__ import annotations

import fcntl
import shutil
import stat
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeAlias

from sqlalchemy import select

from modelyard.bundle import environment
from modelyard.bundle.layout import MANIFEST, decode_manifest
from modelyard.errors import BundleRefused
from modelyard.home import Home
from modelyard.registry import Registry
from modelyard.registry.tables import deployments, versions

What: TypeAlias = Literal["environment", "leftover"]

_TEMPORARY = ("query-*", "delta-*", "diff-*", "sql-*", "import-*", "wheels-*")
_UNWANTED_DAYS = 30


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder or file that can go, and how many bytes that frees."""

    what: What
    path: Path
    bytes: int


def survey(registry: Registry, before: datetime) -> Iterator[Folder]:
    """What is on this machine that nothing uses, of what was last touched before that moment."""
    home = registry.home
    yield from (Folder("environment", path, size_of(path)) for path in _environments(registry, before))
    yield from (Folder("leftover", path, size_of(path)) for path in _verifications(home))
    for pattern in _TEMPORARY:
        for path in home.cache.glob(pattern):
            if _touched(path) < before:
                yield Folder("leftover", path, size_of(path))
    yield from (Folder("leftover", path, size_of(path)) for path in _answers(registry, before))
    yield from (Folder("leftover", path, size_of(path)) for path in _copies(registry, before))


def remove(found: Folder) -> bool:
    """Remove it; False where somebody uses it after all."""
    if found.what == "environment":
        return not _is_running(found.path) and environment.collect(found.path)
    if found.path.is_dir():
        shutil.rmtree(found.path, ignore_errors=True)
        found.path.with_suffix(".held").unlink(missing_ok=True)
    else:
        found.path.unlink(missing_ok=True)
    return True


def size_of(path: Path) -> int:
    """Bytes that removing it frees: files that have other names too, as those in the cache of uv, stay."""
    if not path.is_dir():
        return _own_bytes(path)
    return sum(_own_bytes(file) for file in path.rglob("*"))


def _own_bytes(file: Path) -> int:
    try:
        facts = file.lstat()
    except OSError:
        return 0
    return facts.st_size if stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1 else 0


def _environments(registry: Registry, before: datetime) -> Iterator[Path]:
    """Those that no version here has, or that nobody wanted for a month; never one that a deployment needs."""
    there = [path for path in registry.home.environments.iterdir() if path.is_dir() and not _is_own(path)]
    old = [path for path in there if environment.last_wanted(path) < before.timestamp()]
    if not old:
        return
    deployed = _keys(registry, deployed_only=True, wanted={path.name for path in old})
    needed = _keys(registry, deployed_only=False, wanted={path.name for path in old})
    month = datetime.now(UTC).timestamp() - _UNWANTED_DAYS * 86400
    for path in old:
        is_wanted = path.name in needed and environment.last_wanted(path) >= month
        if path.name not in deployed and not is_wanted and not _is_running(path):
            yield path


def _is_own(path: Path) -> bool:
    """Whether it is the folder of a verification."""
    return path.name.startswith("verify-")


def _keys(registry: Registry, *, deployed_only: bool, wanted: Collection[str]) -> set[str]:
    """Which of these environments versions have, as far as their bundles are on this machine; newest first."""
    asked = select(versions.c.digest).order_by(versions.c.created_at.desc())
    if deployed_only:
        serve = (deployments.c.model == versions.c.model) & (deployments.c.number == versions.c.number)
        asked = asked.join(deployments, serve)
    with registry.database.read() as connection:
        digests = connection.execute(asked).scalars().all()
    found: set[str] = set()
    for digest in digests:
        with suppress(OSError, BundleRefused):
            manifest = decode_manifest((registry.store.locate(digest) / MANIFEST).read_bytes())
            key = environment.key(manifest.environment)
            if key in wanted:
                found.add(key)
        if len(found) == len(wanted):
            break
    return found


def _is_running(directory: Path) -> bool:
    """Whether a process of this machine was started from there."""
    mark = str(directory).encode()
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if mark in command.read_bytes():
                return True
    return False


def _verifications(home: Home) -> Iterator[Path]:
    """Folders of verifications that were killed: the system took their locks back."""
    for held in home.environments.glob("verify-*.held"):
        with held.open("r") as handle, suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if held.with_suffix("").exists():
                yield held.with_suffix("")


def _answers(registry: Registry, before: datetime) -> Iterator[Path]:
    """Golden answers, kept for quick starts, of bundles that no version has."""
    for path in (registry.home.cache / "golden").glob("*"):
        if _touched(path) < before and not registry.holds(f"blake3:{path.name.partition('.')[0]}"):
            yield path


def _copies(registry: Registry, before: datetime) -> Iterator[Path]:
    """Copies of bundles of a far store that no version has any more, and of those that were read from other homes."""
    cache = registry.home.cache
    for path in (cache / "bundles").glob("[0-9a-f]*"):
        if _touched(path) < before and not registry.holds(f"blake3:{path.name}"):
            yield path
    for path in cache.glob("remotes/*/cache/bundles/[0-9a-f]*"):
        if _touched(path) < before:
            yield path


def _touched(path: Path) -> datetime:
    try:
        return datetime.fromtimestamp(path.lstat().st_mtime, UTC)
    except OSError:
        return datetime.now(UTC)
