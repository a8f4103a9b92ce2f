"""What a process of a busy team does, over and over, until it is killed; it writes down what it was promised."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

from data_stores import content, files_in, write
from modelyard import data
from modelyard.datasets import packs
from modelyard.errors import ModelyardError
from modelyard.home import Home
from modelyard.registry import Registry
from small_bundles import write_bundle

NAMES = ("toy", "line")


class Worker:
    """One process: registers, points aliases, takes snapshots, gives them back, collects garbage, in any order."""

    def __init__(self, home: Home, number: int, folder: Path) -> None:
        self.draw = random.Random(f"{number}-{os.getpid()}")
        self.home, self.folder, self.count = home, folder / f"{number}-{os.getpid()}", 0
        self.folder.mkdir(parents=True)
        self.promises = os.open(folder / f"{number}.promises", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        packs.FULL = 2**18  # many packs

    def work(self, seconds: float) -> None:
        """Go on for so long."""
        does: list[Callable[[], None]] = [self.register, self.register, self.point, self.snapshot, self.snapshot]
        does += [self.check_out, self.open, self.collect]
        until = time.monotonic() + seconds
        first = self.draw.sample(does, len(does))  # everything once, however slow the machine is
        while first or time.monotonic() < until:
            self.count += 1
            (first.pop() if first else self.draw.choice(does))()

    def promise(self, *words: object) -> None:
        """Write down in one step what was acknowledged."""
        os.write(self.promises, (" ".join(map(str, words)) + "\n").encode())

    def register(self) -> None:
        place = self.folder / f"bundle-{self.count}"
        # Half of them the same as those of others.
        raw = content(1000, self.draw.randrange(40)) if self.draw.random() < 0.5 else os.urandom(200_000)
        bundle = write_bundle(place, self.draw.choice(NAMES), raw)
        with Registry.open(self.home) as registry:
            version = registry.register(bundle)
        self.promise("version", version.ref, version.digest)
        shutil.rmtree(place)

    def point(self) -> None:
        name = self.draw.choice(NAMES)
        with Registry.open(self.home) as registry:
            known = [version.number for version in registry.versions(name)] if self.has(registry, name) else []
            if not known:
                self.count += 1
                self.register()
            else:
                change = registry.set_alias(name, f"alias-{self.draw.randrange(3)}", self.draw.choice(known), by="w")
                self.promise("alias", name, change.alias, change.version)

    def snapshot(self) -> None:
        place = self.folder / f"data-{self.count}"
        files = {f"f{at}": content(self.draw.randrange(1, 60_000), self.draw.randrange(60)) for at in range(5)}
        write(place, files | {"large": content(400_000, self.draw.randrange(5))})
        made = data.snapshot(place, self.draw.choice(NAMES), home=self.home, profile=False)
        self.promise("data", made.ref, made.version.digest)
        shutil.rmtree(place)

    def check_out(self) -> None:
        newest = data.newest(home=self.home)
        if newest:
            chosen = self.draw.choice(data.versions(self.draw.choice(newest).dataset, home=self.home))
            place = self.folder / f"out-{self.count}"
            data.checkout(chosen.ref, place, home=self.home)
            assert sum(map(len, files_in(place).values())) == chosen.bytes
            shutil.rmtree(place)

    def open(self) -> None:
        with Registry.open(self.home) as registry:
            name = self.draw.choice(NAMES)
            if self.has(registry, name):
                registry.bundle(self.draw.choice(registry.versions(name)))

    def collect(self) -> None:
        """Whatever nothing refers to, however young it is."""
        if self.draw.random() < 0.3:
            return
        from modelyard.collecting.gc import Collector
        from modelyard.registry.datasets import Datasets

        with Registry.open(self.home) as registry:
            datasets = Datasets(self.home, registry.database)
            collector = Collector(registry, datasets, timedelta(0), lambda *_: None)
            collector.collect(collector.survey())
            datasets.close()

    @staticmethod
    def has(registry: Registry, name: str) -> bool:
        return any(model.name == name for model in registry.models())


def main(home: Home, settings: Mapping[str, str], number: int, folder: Path, seconds: float) -> None:
    """The process. What goes wrong in it is written down too."""
    os.environ.update(settings)
    worker = Worker(home, number, folder)
    worker.promise("began", number)
    try:
        worker.work(seconds)
    except (ModelyardError, AssertionError) as error:
        worker.promise("FAILED", type(error).__name__, error)
        raise
