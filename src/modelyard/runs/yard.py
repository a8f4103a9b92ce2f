"""The registry as recording needs it: runs and versions of data, opened together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from modelyard.datasets.seen import Seen
from modelyard.home import Home
from modelyard.registry.database import Database
from modelyard.registry.datasets import Datasets
from modelyard.registry.runs import Runs


@dataclass(frozen=True, slots=True)
class Yard:
    """What is in one home."""

    home: Home
    runs: Runs
    datasets: Datasets

    @property
    def seen(self) -> Seen:
        """Which files were read before."""
        return Seen(self.home.cache / "datasets.db")


@contextmanager
def opened(home: Home) -> Iterator[Yard]:
    """The registry of that home, made if it is not there yet."""
    place = home.create()
    database = Database(place.database)
    datasets = Datasets(place, database)
    try:
        yield Yard(place, Runs(database), datasets)
    finally:
        datasets.close()
        database.close()
