"""What every store of bundles and packs keeps to: a home's folder, and an object store that a team shares."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from blake3 import blake3

from data_stores import MemoryIndex, content, files_in, wait_until_settled, write
from modelyard import data
from modelyard.datasets import packs
from modelyard.datasets.checking import damages
from modelyard.datasets.packs import Place, packs_of
from modelyard.datasets.store import ChunkStore
from modelyard.datasets.tree import Content, Entry, Tree
from modelyard.errors import BundleRefused, DataDamaged
from modelyard.home import Home
from modelyard.registry.remote import ObjectBundles
from modelyard.registry.store import BundleStore, FolderStore, store_of
from small_bundles import write_bundle


@pytest.fixture
def bundles(any_home: Home) -> BundleStore:
    return store_of(any_home)


@pytest.fixture
def chunks(any_home: Home) -> ChunkStore:
    return ChunkStore(packs_of(any_home), MemoryIndex())


def elsewhere(home: Home, other: Path) -> Home:
    """The same team's home on another machine; the same home where there is no team."""
    return home if home.objects_url is None else Home(other, home.database_url, home.objects_url).create()


def test_a_bundle_comes_back_whole_also_on_another_machine(any_home: Home, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", content=content(9 * 2**20))
    store_of(any_home).put(bundle)
    other = store_of(elsewhere(any_home, tmp_path / "other"))
    opened = other.open(bundle.digest)
    assert opened.manifest == bundle.manifest
    assert files_in(opened.path) == files_in(bundle.path)
    assert opened.path == other.fetch(bundle.digest) == other.locate(bundle.digest)


def test_many_that_open_a_bundle_at_once_all_get_it(any_home: Home, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", content=content(2**20))
    store_of(any_home).put(bundle)
    other = elsewhere(any_home, tmp_path / "other")
    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(lambda _: store_of(other).open(bundle.digest).digest, range(8)))
    assert set(opened) == {bundle.digest}


def test_a_bundle_that_is_not_there_is_refused(bundles: BundleStore, tmp_path: Path) -> None:
    with pytest.raises(BundleRefused):
        bundles.open("blake3:" + "0" * 64)
    bundle = write_bundle(tmp_path / "b")
    bundles.put(bundle)
    bundles.remove(bundle.digest)
    bundles.remove(bundle.digest)
    with pytest.raises(BundleRefused):
        bundles.open(bundle.digest)
    assert list(bundles.stored()) == []
    bundles.put(bundle)
    assert bundles.open(bundle.digest).digest == bundle.digest


def test_a_bundle_that_changed_since_it_was_opened_is_not_kept(bundles: BundleStore, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b")
    (bundle.path / "card.md").write_text("another")
    with pytest.raises(BundleRefused):
        bundles.put(bundle)
    with pytest.raises(BundleRefused):
        bundles.open(bundle.digest)


def test_what_is_stored_is_listed_with_size_and_age(bundles: BundleStore, tmp_path: Path) -> None:
    made = [write_bundle(tmp_path / str(at), content=content(1000 * at, at)) for at in (1, 2)]
    for bundle in made:
        bundles.put(bundle)
    listed = {each.name: each for each in bundles.stored()}
    assert listed.keys() == {bundle.digest for bundle in made}
    for bundle in made:
        assert listed[bundle.digest].bytes >= sum(entry.size for entry in bundle.manifest.files.values())
        assert timedelta(minutes=-1) < listed[bundle.digest].age() < timedelta(minutes=5)


def test_a_damaged_copy_is_brought_again(any_home: Home, tmp_path: Path) -> None:
    bundle, store = write_bundle(tmp_path / "b"), store_of(any_home)
    store.put(bundle)
    file = store.fetch(bundle.digest) / "model" / "native.skops"
    file.write_bytes(b"First")
    if isinstance(store, ObjectBundles):
        assert store.open(bundle.digest).digest == bundle.digest
        assert file.read_bytes() == b"first"
    else:
        with pytest.raises(BundleRefused, match="was changed"):
            store.open(bundle.digest)


def test_a_half_stored_bundle_is_none_and_is_made_whole(any_home: Home, tmp_path: Path) -> None:
    bundle, store = write_bundle(tmp_path / "b"), store_of(any_home)
    store.put(bundle)
    if isinstance(store, FolderStore):
        (store.locate(bundle.digest) / "manifest.json").unlink()
    elif isinstance(store, ObjectBundles):
        store._objects.remove([f"bundles/{bundle.digest[7:]}/{name}" for name in ("manifest.json", "card.md")])
    other = store_of(elsewhere(any_home, tmp_path / "other"))
    with pytest.raises(BundleRefused):
        other.open(bundle.digest)
    store.put(bundle)
    assert other.open(bundle.digest).digest == bundle.digest


def put(store: ChunkStore, *raws: bytes) -> list[bytes]:
    with store.writer() as writer:
        writer.put([(blake3(raw).digest(), raw) for raw in raws])
    return [blake3(raw).digest() for raw in raws]


def test_chunks_come_back_one_by_one_and_together(chunks: ChunkStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "FULL", 200_000)
    raws = [content(draw, draw) for draw in random.Random(1).sample(range(1, 60_000), 40)]
    digests = put(chunks, *raws)
    places = chunks.index.find(digests)
    assert len({place.pack for place in places.values()}) > 3
    assert chunks.read_all(digests) == b"".join(raws)
    assert [bytes(chunks.read(digest, places[digest])) for digest in digests[:3]] == raws[:3]
    few = [places[digest] for digest in digests[::7]]
    near = chunks.near(few)
    assert [bytes(chunks.read(digest, places[digest], near=near)) for digest in digests] == raws


def test_packs_are_listed_and_removed_and_the_same_content_gets_a_new_name(chunks: ChunkStore) -> None:
    (digest,) = put(chunks, b"one")
    (listed,) = chunks.packs.stored()
    place = chunks.index.find([digest])[digest]
    assert (listed.name, listed.bytes > 3) == (place.pack, True)
    assert timedelta(minutes=-1) < listed.age() < timedelta(minutes=5)
    again = ChunkStore(chunks.packs, MemoryIndex())
    put(again, b"one")
    chunks.packs.remove(place.pack)
    chunks.packs.remove(place.pack)
    with pytest.raises(DataDamaged, match=place.pack):
        chunks.read(digest, place)
    assert again.read_all([digest]) == b"one"
    assert [each.name for each in chunks.packs.stored()] == [again.index.find([digest])[digest].pack]


def test_what_is_gone_or_shorter_is_damage_of_its_file(chunks: ChunkStore) -> None:
    raws = {b"a": b"first" * 100, b"b": b"second" * 100}
    for raw in raws.values():
        put(chunks, raw)
    entries = [
        Entry(name, Content(len(raw), blake3(raw).digest(), (blake3(raw).digest(),))) for name, raw in raws.items()
    ]
    tree = Tree.of(entries)
    assert list(damages(tree, chunks)) == []
    index = chunks.index
    assert isinstance(index, MemoryIndex)
    place = index.places[entries[0].content.digest]
    index.places[entries[0].content.digest] = Place(place.pack, place.offset + 5000, place.size)
    assert [each.file for each in damages(tree, chunks)] == ["a"]
    chunks.packs.remove(index.places[entries[1].content.digest].pack)
    assert [each.file for each in damages(tree, chunks)] == ["a", "b"]


def test_a_dataset_is_checked_out_on_another_machine(any_home: Home, tmp_path: Path) -> None:
    files = {f"small/{at}.bin": content(500 + at, at) for at in range(600)} | {"large.bin": content(20 * 2**20)}
    write(tmp_path / "data", files)
    wait_until_settled(tmp_path / "data")
    made = data.snapshot(tmp_path / "data", "flights", home=any_home)
    assert data.snapshot(tmp_path / "data", "flights", home=any_home).unchanged == len(files)
    other = elsewhere(any_home, tmp_path / "other")
    data.checkout(made.ref, tmp_path / "out", home=other)
    assert files_in(tmp_path / "out") == files
    assert data.verify(made.ref, home=other) == ()
    scratch = any_home.cache / "packs"
    assert not scratch.exists() or list(scratch.iterdir()) == []
