"""One of the two homes between which things move, with everything in it opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

from modelyard.home import Home
from modelyard.registry import Registry
from modelyard.registry.database import Database
from modelyard.registry.datasets import Datasets
from modelyard.registry.runs import Runs

Tell: TypeAlias = Callable[[str, int], None]
"""Called with what is being done and how many (or how many bytes) are done."""


def silent(_: str, __: int) -> None:
    """Tells nobody."""


@dataclass(frozen=True, slots=True)
class Side:
    """A home, and what others call it."""

    name: str
    registry: Registry
    datasets: Datasets
    runs: Runs

    @property
    def home(self) -> Home:
        """Its home."""
        return self.registry.home

    @property
    def database(self) -> Database:
        """Its metadata."""
        return self.registry.database


@contextmanager
def opened(home: Home, name: str = "") -> Iterator[Side]:
    """Everything of that home, made if it is not there yet."""
    with Registry.open(home) as registry:
        datasets = Datasets(registry.home, registry.database)
        try:
            yield Side(name or str(home.path), registry, datasets, Runs(registry.database))
        finally:
            datasets.close()
