from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from data_stores import content, files_in, write
from modelyard import data
from modelyard.bundle import environment
from modelyard.collecting import bundles, removing
from modelyard.collecting.gc import Collector, Found, Freed, collect_all
from modelyard.datasets.packs import PackWriter
from modelyard.datasets.snapshot import store_tree
from modelyard.datasets.tree import Tree
from modelyard.domain.names import Named
from modelyard.errors import ContentCollected
from modelyard.home import Home
from modelyard.registry import Registry
from modelyard.registry.datasets import Datasets
from small_bundles import write_bundle

AT_ONCE = timedelta(seconds=-60)
"""Even what was stored just now is old enough."""


@contextmanager
def collector(home: Home, age: timedelta = AT_ONCE) -> Iterator[Collector]:
    with Registry.open(home) as registry:
        datasets = Datasets(home, registry.database)
        yield Collector(registry, datasets, age, lambda what, count: None)
        datasets.close()


def survey(home: Home, age: timedelta = AT_ONCE) -> Found:
    with collector(home, age) as each:
        return each.survey()


def collect(home: Home, age: timedelta = AT_ONCE) -> Freed:
    return collect_all(home, age)


def snapshot(home: Home, folder: Path, files: dict[str, bytes]) -> str:
    write(folder, files)
    return data.snapshot(folder, "numbers", home=home, profile=False).ref


def remove(home: Home, ref: str) -> None:
    with Registry.open(home) as registry:
        removing.remove(registry.database, Named.parse(ref), why="test")


def stored_bytes(home: Home) -> int:
    return sum(file.stat().st_size for file in home.datasets.rglob("*.pack"))


def is_whole(home: Home, ref: str, folder: Path, out: Path) -> bool:
    data.checkout(ref, out, home=home)
    return data.verify(ref, home=home) == () and files_in(out) == files_in(folder)


def test_what_a_removed_version_had_alone_is_freed_and_the_rest_stays(home: Home, tmp_path: Path) -> None:
    shared = {f"s{at}": content(300_000, at) for at in range(3)}
    snapshot(home, tmp_path / "one", shared | {"own": content(2_000_000, 99)})
    snapshot(home, tmp_path / "two", shared)
    before = stored_bytes(home)
    assert survey(home).is_nothing
    remove(home, "data:numbers@1")
    found = survey(home)
    assert found.bytes >= 2_000_000
    assert stored_bytes(home) == before, "a survey changes nothing"
    freed = collect(home)
    assert freed.rewritten == 1
    assert stored_bytes(home) <= before - 2_000_000
    assert freed.bytes == pytest.approx(before - stored_bytes(home), abs=2000)
    assert is_whole(home, "numbers@2", tmp_path / "two", tmp_path / "out")
    assert survey(home).is_nothing


def test_packs_of_which_nothing_is_in_use_go_whole(home: Home, tmp_path: Path) -> None:
    snapshot(home, tmp_path / "one", {"a": content(500_000, 1)})
    snapshot(home, tmp_path / "two", {"b": content(500_000, 2)})
    remove(home, "data:numbers@1")
    freed = collect(home)
    assert (freed.packs > 0, freed.rewritten) == (True, 0)
    assert is_whole(home, "numbers@2", tmp_path / "two", tmp_path / "out")
    assert snapshot(home, tmp_path / "one", {}) == "numbers@3"
    assert is_whole(home, "numbers@3", tmp_path / "one", tmp_path / "out3")


def test_what_was_stored_lately_is_left_alone(home: Home, tmp_path: Path) -> None:
    snapshot(home, tmp_path / "one", {"a": content(500_000, 1)})
    remove(home, "data:numbers@1")
    found = survey(home, timedelta(hours=1))
    assert found.is_nothing
    assert found.content.young > 500_000
    assert collect(home, timedelta(hours=1)).bytes == 0


def test_what_was_found_stored_and_then_collected_is_stored_again(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot(home, tmp_path / "one", {"a": content(500_000, 1)})
    remove(home, "data:numbers@1")
    takes = []

    def collected_meanwhile(tree: Tree, store: object) -> tuple[bytes, ...]:
        takes.append(tree)
        if len(takes) == 1:
            assert collect(home).packs > 0
        return store_tree(tree, store)

    monkeypatch.setattr(data, "store_tree", collected_meanwhile)
    made = data.snapshot(tmp_path / "one", "numbers", home=home, profile=False)
    assert (made.ref, len(takes)) == ("numbers@2", 2)
    assert is_whole(home, "numbers@2", tmp_path / "one", tmp_path / "out")


def test_what_is_registered_after_the_survey_stays(home: Home, tmp_path: Path) -> None:
    snapshot(home, tmp_path / "one", {"a": content(500_000, 1)})
    remove(home, "data:numbers@1")
    with collector(home) as each:
        found = each.survey()
        assert found.content.dead
        snapshot(home, tmp_path / "one", {"b": content(10)})  # finds what the survey found unused
        each.collect(found)
    assert is_whole(home, "numbers@2", tmp_path / "one", tmp_path / "out")


def test_who_reads_while_packs_are_rewritten_finds_the_new_place(home: Home, tmp_path: Path) -> None:
    snapshot(home, tmp_path / "one", {"a": content(300_000, 1), "big": content(3_000_000, 2)})
    snapshot(home, tmp_path / "two", {"a": content(300_000, 1)})
    remove(home, "data:numbers@1")
    with Registry.open(home) as registry:
        reader = Datasets(home, registry.database)
        (entry,) = reader.tree("numbers@2").entries
        places = reader.store.index.find(entry.content.chunks)
        reader.close()
        assert collect(home).rewritten == 1
        raw = b"".join(reader.store.read(chunk, places[chunk]) for chunk in entry.content.chunks)
        reader.close()
    assert raw == content(300_000, 1)


def test_a_pack_that_a_killed_writer_left_goes_and_a_slow_writer_is_told(home: Home) -> None:
    with Registry.open(home) as registry:
        datasets = Datasets(home, registry.database)
        writer = PackWriter(datasets.store.packs)
        writer.add(b"x" * 32, b"some")
        places = writer.finish()
        assert survey(home, timedelta(hours=1)).is_nothing, "it may be about to become known"
        assert collect(home).packs == 1
        with pytest.raises(ContentCollected):
            datasets.store.index.add(places)
        assert datasets.store.index.find([b"x" * 32]) == {}
        datasets.close()


def test_nothing_is_collected_where_nobody_can_say_what_is_in_use(home: Home, tmp_path: Path) -> None:
    snapshot(home, tmp_path / "one", {"a": content(500_000, 1)})
    snapshot(home, tmp_path / "two", {"b": content(500_000, 2)})
    remove(home, "data:numbers@1")
    with Registry.open(home) as registry:
        datasets = Datasets(home, registry.database)
        tree = datasets.tree("numbers@2")
        (digest,) = store_tree(tree, datasets.store)
        place = datasets.store.index.find([digest])[digest]
        pack = home.datasets / place.pack[:2] / f"{place.pack}.pack"
        datasets.close()
    pack.chmod(0o644)
    raw = bytearray(pack.read_bytes())
    raw[place.offset] ^= 1
    pack.write_bytes(raw)
    before = stored_bytes(home)
    found = survey(home)
    assert "numbers@2" in found.notes[0]
    assert not found.content.dead
    collect(home)
    assert stored_bytes(home) == before


def test_damaged_chunks_stay_where_they_are(home: Home, tmp_path: Path) -> None:
    snapshot(home, tmp_path / "one", {"a": content(300_000, 1), "b": content(10, 3), "big": content(3_000_000, 2)})
    snapshot(home, tmp_path / "two", {"a": content(300_000, 1), "b": content(10, 3)})
    remove(home, "data:numbers@1")
    with Registry.open(home) as registry:
        datasets = Datasets(home, registry.database)
        chunk = next(iter(datasets.tree("numbers@2").entries[0].content.chunks))
        place = datasets.store.index.find([chunk])[chunk]
        datasets.close()
    pack = home.datasets / place.pack[:2] / f"{place.pack}.pack"
    pack.chmod(0o644)
    raw = bytearray(pack.read_bytes())
    raw[place.offset] ^= 1
    pack.write_bytes(raw)
    freed = collect(home)
    assert len(freed.notes) == 1
    assert pack.exists(), "what is damaged may be mended by hand"
    assert [one.file for one in data.verify("numbers@2", home=home)] == ["a"]


def test_lists_of_files_are_read_once_for_all_that_have_them(home: Home, tmp_path: Path) -> None:
    write(tmp_path / "one", {"a": content(10)})
    for name in ("numbers", "again", "oncemore"):
        data.snapshot(tmp_path / "one", name, home=home, profile=False)
    with collector(home) as each:
        each.survey()
        assert each._content._living.trees == 1


def test_bundles_that_no_version_has_go(home: Home, tmp_path: Path) -> None:
    with Registry.open(home) as registry:
        kept = registry.register(write_bundle(tmp_path / "1", content=b"1"))
        gone = registry.register(write_bundle(tmp_path / "2", content=b"2"))
        never = write_bundle(tmp_path / "3", content=b"3")
        registry.store.put(never)
    remove(home, gone.ref)
    found = {bundle.name for bundle in survey(home, timedelta(hours=1)).bundles}
    assert found == {gone.digest}, "one that was never registered may be about to be"
    assert {bundle.name for bundle in survey(home).bundles} == {gone.digest, never.digest}
    assert collect(home).bundles == 2
    assert not gone.path.exists()
    with Registry.open(home) as registry:
        assert registry.bundle(kept).digest == kept.digest


def test_a_bundle_that_is_registered_after_the_survey_stays(home: Home, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "1", content=b"1")
    with Registry.open(home) as registry:
        registry.store.put(bundle)
        found = list(survey(home).bundles)
        registry.register(bundle)
        assert bundles.collect(registry.database, registry.store, found, lambda what, count: None) == 0
        assert registry.bundle("toy@1").digest == bundle.digest


def test_a_bundle_that_is_collected_just_before_it_is_registered_is_stored_again(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_bundle(tmp_path / "1", content=b"1")
    with Registry.open(home) as registry:
        put, puts = registry.store.put, []

        def collected_meanwhile(each: object) -> None:
            put(each)
            puts.append(each)
            if len(puts) == 1:
                assert collect(home).bundles == 1

        monkeypatch.setattr(registry.store, "put", collected_meanwhile)
        version = registry.register(bundle)
        assert (version.number, len(puts)) == (1, 2)
        assert registry.bundle(version).digest == bundle.digest


def test_environments_go_that_no_version_has_and_nobody_wanted_lately(home: Home, tmp_path: Path) -> None:
    with Registry.open(home) as registry:
        version = registry.register(write_bundle(tmp_path / "1", content=b"1"))
        wanted = environment.key(registry.bundle(version).manifest.environment)
    for name in (wanted, "0" * 32, "1" * 32):
        folder = home.environments / name
        folder.mkdir()
        (folder / "module.py").write_bytes(b"x" * 1000)
        (folder / ".complete").write_text(name)
    then = time.time() - 7 * 86400
    for name in (wanted, "0" * 32):
        os.utime(home.environments / name / ".complete", (then, then))
    found = survey(home, timedelta(days=1)).folders
    assert [(each.what, each.path.name) for each in found] == [("environment", "0" * 32)]
    assert found[0].bytes >= 1000
    assert collect(home, timedelta(days=1)).environments == 1
    assert not (home.environments / ("0" * 32)).exists()
    month = time.time() - 31 * 86400
    os.utime(home.environments / wanted / ".complete", (month, month))
    assert [each.path.name for each in survey(home, timedelta(days=1)).folders] == [wanted]


def test_what_killed_processes_left_in_the_cache_goes(home: Home) -> None:
    home.create()
    (home.cache / "import-x").mkdir()
    (home.cache / "import-x" / "part").write_bytes(b"x" * 100)
    (home.cache / "datasets.db").write_bytes(b"")
    (home.cache / "bundles" / ("0" * 64)).mkdir(parents=True)
    (home.cache / "remotes" / "team" / "cache" / "bundles" / ("1" * 64)).mkdir(parents=True)
    assert [each.path.name for each in survey(home).folders] == ["import-x", "0" * 64, "1" * 64]
    assert collect(home).leftovers == 3
    assert not (home.cache / "import-x").exists()
    assert (home.cache / "datasets.db").exists()
