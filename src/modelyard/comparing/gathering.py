"""What is known of two versions, taken from the registry and the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from modelyard.bundle.layout import Bundle
from modelyard.comparing import code
from modelyard.comparing.differing import DataSide, Side
from modelyard.datasets.checkout import read_tree, write_files
from modelyard.datasets.tree import Tree
from modelyard.domain.run import Run
from modelyard.errors import DataDamaged, NotFound
from modelyard.registry import Datasets, Registry, Version
from modelyard.registry.runs import Runs


@dataclass(frozen=True, slots=True)
class Chosen:
    """One of the two: the version, its bundle, checked, and the run that made it, of several the newest."""

    version: Version
    bundle: Bundle
    run: Run | None


def chosen(registry: Registry, ref: str) -> Chosen:
    """The version that `ref` names.

    Raises:
        ModelNotFound, VersionNotFound, AliasNotFound: there is none.
        BundleRefused: its files are not those that were registered.
    """
    version = registry.version(ref)
    made = Runs(registry.database).that_made(version.model, version.number)
    return Chosen(version, registry.bundle(version), made[-1] if made else None)


def sides(registry: Registry, before: Chosen, after: Chosen, repository: Path) -> tuple[Side, Side]:
    """All that is compared of both."""
    datasets = Datasets(registry.home, registry.database)
    try:
        runs = Runs(registry.database)
        kept = [_kept(runs, datasets, registry.home.cache, one.run) for one in (before, after)]
        codes = code.pair(
            repository, (before.bundle, _commit(before), kept[0]), (after.bundle, _commit(after), kept[1])
        )
        made = [
            Side(
                one.version.ref,
                one.version.digest,
                one.bundle.manifest,
                one.run,
                _data(datasets, one.run),
                codes[at],
            )
            for at, one in enumerate((before, after))
        ]
    finally:
        datasets.close()
    return made[0], made[1]


def _commit(one: Chosen) -> str | None:
    return one.bundle.manifest.code.commit if one.run is None else one.run.code.commit


def _data(datasets: Datasets, run: Run | None) -> Mapping[str, DataSide]:
    """The versions of data that a run read or declared; what is gone or damaged is named alone."""
    found: dict[str, DataSide] = {}
    for ref in dict.fromkeys((*run.data.versions, *run.data.declared)) if run else ():
        try:
            version = datasets.version(ref)
            side = DataSide(version.ref, version.facts, datasets.tree(version.ref))
        except (NotFound, DataDamaged):
            continue
        name = version.dataset if version.dataset not in found else version.ref
        found[name] = side
    return found


def _kept(runs: Runs, datasets: Datasets, scratch: Path, run: Run | None) -> Mapping[str, bytes]:
    """The code among the files of a run."""
    stored = None if run is None else runs.files(run.id)
    if stored is None:
        return {}
    tree: Tree = read_tree(*stored, datasets.store)
    with TemporaryDirectory(dir=scratch, prefix="code-") as folder:
        write_files([entry for entry in tree.entries if entry.path.startswith(b"code/")], folder, datasets.store)
        return code.files_of(Path(folder))
