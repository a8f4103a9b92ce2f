"""Several processes register, alias, snapshot, check out and collect at once, and are killed: nothing is lost."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from faults.promises import LONG, say, size
from modelyard import data
from modelyard.home import Home
from modelyard.registry import Registry
from serving_process import until
from team_workers import NAMES, main

PROCESSES = 8 if LONG else 3
SECONDS = size(1, 60)
KILLS = size(3, 200)


class Crowd:
    """Processes at work on one registry, each on a machine of its own if there is a team."""

    def __init__(self, home: Home, folder: Path) -> None:
        self._context = get_context("forkserver")
        self._context.set_forkserver_preload(["team_workers", "modelyard.collecting.gc"])
        self._home, self._folder = home, folder
        self._living: dict[int, BaseProcess] = {}

    def begin(self, number: int, seconds: float) -> None:
        home = self._home
        if home.objects_url is not None:
            home = Home(self._folder / f"machine-{number % 3}", home.database_url, home.objects_url)
        settings = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        process = self._context.Process(target=main, args=(home.create(), settings, number, self._folder, seconds))
        process.start()
        self._living[number] = process

    def kill(self, number: int) -> bool:
        """Kill it; False where it had come to its own end."""
        process = self._living.pop(number)
        was_alive = process.is_alive()
        process.kill()
        process.join()
        return was_alive

    def wait(self) -> None:
        for process in self._living.values():
            process.join()
        codes = {process.exitcode for process in self._living.values()}
        assert codes <= {0}, self.promised("FAILED")

    def promised(self, kind: str) -> list[list[str]]:
        lines = [
            line for file in self._folder.glob("*.promises") for line in file.read_text().splitlines(keepends=True)
        ]
        return [line.split()[1:] for line in lines if line.endswith("\n") and line.startswith(kind)]


def check(home: Home, crowd: Crowd) -> None:
    """Everything promised is there, everything that is listed is whole."""
    assert crowd.promised("FAILED") == []
    with Registry.open(home) as registry:
        listed = [version for model in registry.models() for version in registry.versions(model.name)]
        for name in NAMES:
            numbers = [version.number for version in listed if version.model == name]
            assert numbers == list(range(1, len(numbers) + 1))
        for version in listed:
            assert registry.bundle(version).digest == version.digest
        known = {version.ref: version.digest for version in listed}
        assert dict(crowd.promised("version")).items() <= known.items()
        for model in registry.models():
            history = registry.alias_history(model.name)
            pointed = Counter((change.alias, str(change.version)) for change in history)
            promised = Counter((alias, number) for name, alias, number in crowd.promised("alias") if name == model.name)
            assert promised <= pointed
            assert registry.aliases(model.name) == {change.alias: change.version for change in history}
    promised_data = dict(crowd.promised("data"))
    sets = [version for newest in data.newest(home=home) for version in data.versions(newest.dataset, home=home)]
    assert promised_data.items() <= {version.ref: version.digest for version in sets}.items()
    for version in sets:
        assert data.verify(version.ref, home=home) == ()


@pytest.mark.timeout(300 + 10 * SECONDS)
def test_a_crowd_loses_nothing_and_breaks_no_reference(any_home: Home, tmp_path: Path) -> None:
    crowd = Crowd(any_home, tmp_path)
    for number in range(PROCESSES):
        crowd.begin(number, SECONDS)
    crowd.wait()
    check(any_home, crowd)
    counts = {kind: len(crowd.promised(kind)) for kind in ("version", "alias", "data")}
    say(f"{PROCESSES} processes, {SECONDS} s: {counts}")
    assert all(counts.values())


@pytest.mark.timeout(300 + 10 * KILLS)
def test_a_crowd_whose_members_are_killed_loses_nothing(any_home: Home, tmp_path: Path) -> None:
    draw, crowd = random.Random(20130101), Crowd(any_home, tmp_path)
    for number in range(PROCESSES):
        crowd.begin(number, 3600)
    for kill in range(KILLS):
        number = kill % PROCESSES
        began = 1 + kill // PROCESSES
        until(lambda: crowd.promised("began").count([str(number)]) >= began, "it is at work")  # noqa: B023
        time.sleep(draw.uniform(0.0, 0.7 if any_home.objects_url is None else 1.5))  # a server answers later
        assert crowd.kill(number), crowd.promised("FAILED")
        crowd.begin(number, 3600)
    for number in range(PROCESSES):
        crowd.kill(number)
    check(any_home, crowd)
    say(f"{KILLS} kills: { ({kind: len(crowd.promised(kind)) for kind in ('version', 'alias', 'data')}) }")
