"""Collecting everything that nothing refers to: first a survey, which changes nothing, then what it found.

Safe beside others who snapshot, pack, register and remove, on this machine and others; and to be killed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from modelyard.collecting import bundles, leftovers
from modelyard.collecting.content import Content, Survey
from modelyard.errors import Failed
from modelyard.home import Home
from modelyard.objects import Stored
from modelyard.registry import Registry
from modelyard.registry.datasets import Datasets

DEFAULT_AGE = timedelta(days=1)
"""What was stored later may be about to be registered."""

Tell: TypeAlias = Callable[[str, int], None]
"""Called with what is being done and how many of it are done."""


@dataclass(frozen=True, slots=True)
class Found:
    """What nothing refers to. `notes` say what could not be looked at."""

    content: Survey
    bundles: tuple[Stored, ...]
    folders: tuple[leftovers.Folder, ...]
    notes: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """How much collecting it frees."""
        others = sum(bundle.bytes for bundle in self.bundles) + sum(folder.bytes for folder in self.folders)
        return self.content.frees + others

    @property
    def is_nothing(self) -> bool:
        """Whether there is nothing to collect."""
        return not (self.content.dead or self.content.sparse or self.bundles or self.folders)


@dataclass(slots=True)
class Freed:
    """What was collected: how many of each, and the bytes of all."""

    packs: int = 0
    rewritten: int = 0
    bundles: int = 0
    environments: int = 0
    leftovers: int = 0
    bytes: int = 0
    notes: list[str] = field(default_factory=list)


class Collector:
    """One collection of one home."""

    def __init__(self, registry: Registry, datasets: Datasets, age: timedelta, tell: Tell) -> None:
        self._registry, self._datasets, self._tell = registry, datasets, tell
        self._before = datetime.now(UTC) - age
        self._content = Content(registry.database, datasets.store, self._before, tell)

    def survey(self) -> Found:
        """Look at everything; nothing is changed."""
        notes = []
        try:
            content = self._content.survey()
        except Failed as error:
            content = Survey()
            notes.append(f"no content of data and runs is collected: {error}")
        unused = tuple(bundles.unused(self._registry.database, self._registry.store, self._before))
        folders = tuple(leftovers.survey(self._registry, self._before))
        return Found(content, unused, folders, tuple(notes))

    def collect(self, found: Found) -> Freed:
        """Remove what `survey` found, as far as it is still unused."""
        done = self._content.collect(found.content)
        freed = Freed(packs=done.packs, rewritten=done.rewritten, bytes=done.bytes)
        freed.notes += [f"left as it is, since it is damaged: {said}" for said in done.damaged]
        freed.bytes += bundles.collect(self._registry.database, self._registry.store, list(found.bundles), self._tell)
        freed.bundles = len(found.bundles)
        for folder in found.folders:
            if leftovers.remove(folder):
                freed.bytes += folder.bytes
                freed.environments += folder.what == "environment"
                freed.leftovers += folder.what == "leftover"
        self._datasets.store.packs.begin().abandon()  # sweeps unfinished packs whose writers are gone
        return freed


def collect_all(home: Home, age: timedelta = DEFAULT_AGE, tell: Tell = lambda what, count: None) -> Freed:
    """Survey and collect, for programs; raises as opening the registry does."""
    with Registry.open(home) as registry:
        datasets = Datasets(registry.home, registry.database)
        try:
            collector = Collector(registry, datasets, age, tell)
            return collector.collect(collector.survey())
        finally:
            datasets.close()
