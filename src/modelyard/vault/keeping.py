"""Keeping the wheels of a version, and bringing them where environments are rebuilt."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modelyard.bundle import wheels
from modelyard.datasets.checkout import check_out, read_tree
from modelyard.datasets.scan import find
from modelyard.datasets.seen import Seen
from modelyard.datasets.snapshot import store_tree, take
from modelyard.domain.environment import Environment
from modelyard.errors import EnvironmentFailed
from modelyard.registry import Registry, Version
from modelyard.registry.again import again
from modelyard.registry.datasets import Datasets
from modelyard.registry.runs import Runs
from modelyard.registry.vaults import Vault, Vaults, made_now

_NAMED = 3
"""So many of the wheels that cannot be had are named where there is none."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What came of keeping the wheels of a version."""

    version: Version
    vault: Vault
    stored_bytes: int


def keep(
    registry: Registry,
    datasets: Datasets,
    version: Version,
    *,
    by: str = "",
    progress: Callable[[str], None] = lambda words: None,
) -> Kept:
    """Keep the wheels of a version: of the environment that it runs in, and of the one that its run was in.

    Wheels that the store has are not stored again, whatever version they were kept for.

    Raises:
        EnvironmentFailed: none of them can be had, or the environment is of another platform or Python.
        BundleRefused: the version's files are not those that were registered.
    """
    with tempfile.TemporaryDirectory(dir=registry.home.cache, prefix="wheels-") as name:
        folder = Path(name)
        left_out: dict[str, str] = {}
        for environment in _environments(registry, version):
            left_out |= wheels.fetch(environment, folder, platform.python_version(), progress).left_out
        files = sorted(folder.iterdir())
        if not files:
            some = "; ".join(f"{pin}: {why}" for pin, why in list(left_out.items())[:_NAMED])
            more = f"; and {len(left_out) - _NAMED} more" if len(left_out) > _NAMED else ""
            raise EnvironmentFailed(f"no wheel of {version.ref} can be had: {some}{more}")
        progress(f"storing {len(files)} wheels")

        def stored() -> Kept:
            taken = take(find([folder]), datasets.store, Seen(registry.home.cache / "datasets.db"))
            tree = store_tree(taken.tree, datasets.store)
            vault = made_now(taken.tree.digest, tree, len(files), taken.tree.bytes, left_out, by)
            Vaults(registry.database).keep(version, vault, taken.tree.chunks())
            return Kept(version, vault, taken.stored_bytes)

        return again(stored)


def bring(registry: Registry, datasets: Datasets, version: Version) -> int:
    """Put the wheels that are kept of a version where environments are rebuilt on this machine; how many those are.

    Raises:
        DataDamaged: a wheel is not what was stored.
    """
    vault = Vaults(registry.database).of(version)
    if vault is None:
        return 0
    tree = read_tree(vault.digest, vault.tree, datasets.store)
    pool = registry.home.wheels
    if all(_is_there(pool / entry.name, entry.content.size) for entry in tree.entries):
        return len(tree.entries)
    with tempfile.TemporaryDirectory(dir=registry.home.cache, prefix="wheels-") as name:
        folder = Path(name) / "wheels"
        check_out(tree, folder, datasets.store)
        wheels.copy_in(sorted(folder.iterdir()), pool)
    return len(tree.entries)


def _is_there(file: Path, size: int) -> bool:
    try:
        return file.stat().st_size == size
    except OSError:
        return False


def _environments(registry: Registry, version: Version) -> list[Environment]:
    manifest = registry.bundle(version).manifest
    made_by = Runs(registry.database).that_made(version.model, version.number)
    return [manifest.environment, *(run.environment for run in made_by if run.environment is not None)]
