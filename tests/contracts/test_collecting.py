"""Collecting keeps to the same on SQLite and a folder, and on PostgreSQL and S3."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from data_stores import content, files_in, write
from modelyard import data
from modelyard.collecting import removing
from modelyard.collecting.gc import Collector, collect_all
from modelyard.datasets.packs import PackWriter
from modelyard.domain.names import Named
from modelyard.errors import ContentCollected
from modelyard.home import Home
from modelyard.registry import Registry
from modelyard.registry.datasets import Datasets
from small_bundles import write_bundle

AT_ONCE = timedelta(seconds=-3600)


@contextmanager
def opened(home: Home) -> Iterator[tuple[Registry, Datasets]]:
    with Registry.open(home) as registry:
        datasets = Datasets(home, registry.database)
        yield registry, datasets
        datasets.close()


def snapshot(home: Home, folder: Path, files: dict[str, bytes]) -> str:
    write(folder, files)
    return data.snapshot(folder, "numbers", home=home, profile=False).ref


def remove(home: Home, *refs: str) -> None:
    with Registry.open(home) as registry:
        for ref in refs:
            removing.remove(registry.database, Named.parse(ref), why="test")


def test_what_is_removed_is_freed_and_the_rest_stays(any_home: Home, tmp_path: Path) -> None:
    snapshot(any_home, tmp_path / "one", {"a": content(300_000, 1), "big": content(2_000_000, 2)})
    snapshot(any_home, tmp_path / "two", {"a": content(300_000, 1)})
    snapshot(any_home, tmp_path / "three", {"c": content(400_000, 3)})
    with opened(any_home) as (registry, datasets):
        for number in (b"1", b"2"):
            registry.register(write_bundle(tmp_path / number.decode(), content=number))
        before = sum(pack.bytes for pack in datasets.store.packs.stored())
        remove(any_home, "data:numbers@1", "data:numbers@3", "toy@1")
        collector = Collector(registry, datasets, AT_ONCE, lambda what, count: None)
        found = collector.survey()
        freed = collector.collect(found)
        assert (len(found.content.sparse), freed.rewritten, freed.bundles) == (1, 1, 1)
        assert found.content.dead
        after = sum(pack.bytes for pack in datasets.store.packs.stored())
        assert freed.bytes == pytest.approx(before - after, abs=30_000)  # the folders of bundles count too
        assert after < before - 2_000_000
        assert [stored.name for stored in registry.store.stored()] == [registry.version("toy@2").digest]
        assert registry.bundle("toy@2").manifest.name == "toy"
    assert data.verify("numbers@2", home=any_home) == ()
    data.checkout("numbers@2", tmp_path / "out", home=any_home)
    assert files_in(tmp_path / "out") == files_in(tmp_path / "two")
    assert snapshot(any_home, tmp_path / "one", {}) == "numbers@4"
    assert data.verify("numbers@4", home=any_home) == ()


def test_what_is_registered_meanwhile_stays_and_what_is_gone_is_noticed(any_home: Home, tmp_path: Path) -> None:
    snapshot(any_home, tmp_path / "one", {"a": content(300_000, 1)})
    remove(any_home, "data:numbers@1")
    with opened(any_home) as (registry, datasets):
        collector = Collector(registry, datasets, AT_ONCE, lambda what, count: None)
        found = collector.survey()
        snapshot(any_home, tmp_path / "one", {})
        collector.collect(found)
        writer = PackWriter(datasets.store.packs)
        writer.add(b"x" * 32, b"some")
        places = writer.finish()
        collect_all(any_home, AT_ONCE)
        with pytest.raises(ContentCollected):
            datasets.store.index.add(places)
    assert data.verify("numbers@2", home=any_home) == ()
