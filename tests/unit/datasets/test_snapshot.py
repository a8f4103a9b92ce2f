"""Snapshots of files: nothing is lost, nothing is stored or read twice, and names may be anything."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from data_stores import content, files_in, snapshot_of, store_in, wait_until_settled, write
from modelyard.datasets import snapshot as engine
from modelyard.datasets.checking import damages
from modelyard.datasets.checkout import _locked, check_out, read_tree
from modelyard.datasets.cutting import LEAST, MOST, cut
from modelyard.datasets.reading import BLOCK
from modelyard.datasets.snapshot import Progress, store_tree
from modelyard.datasets.tree import Content, Entry, Tree
from modelyard.errors import DataDamaged, Failed, InvalidRequest, NameTaken

SEGMENT = (
    st.binary(min_size=1, max_size=64)
    .filter(lambda raw: b"/" not in raw and b"\0" not in raw)
    .filter(lambda raw: raw not in (b".", b".."))
)


@given(names=st.lists(st.lists(SEGMENT, min_size=1, max_size=3), min_size=1, max_size=8), raw=st.binary(max_size=64))
@settings(max_examples=25, deadline=None)
def test_files_of_any_name_come_back(names: list[list[bytes]], raw: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        (base / "data").mkdir()
        written: dict[bytes, bytes] = {}
        for at, parts in enumerate(names):
            path = b"/".join(parts)
            target = base / "data" / os.fsdecode(path)
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as handle:
                    handle.write(raw + bytes([at]))
            except OSError:  # a file and a folder of one name, or what this file system does not take
                continue
            written[path] = raw + bytes([at])
        if not written:
            return
        store = store_in(base / "store")
        taken = snapshot_of(base / "data", store, base / "seen.db")
        assert {entry.path for entry in taken.tree.entries} == written.keys()
        check_out(taken.tree, base / "out", store)
        for path, expected in written.items():
            assert (base / "out" / os.fsdecode(path)).read_bytes() == expected


@given(st.permutations(range(6)))
def test_the_digest_does_not_depend_on_the_order_of_listing(order: list[int]) -> None:
    entries = [Entry(f"f{at}".encode(), Content(at, bytes([at]) * 32, ())) for at in range(6)]
    assert Tree.of(entries[at] for at in order).digest == Tree.of(entries).digest


def test_the_digest_is_a_promise(tmp_path: Path) -> None:
    """The same bytes under the same names have this digest on every machine and in every release."""
    write(tmp_path / "data", {"a.csv": b"n\n1\n", "sub/b.bin": bytes(range(256)) * 2000})
    taken = snapshot_of(tmp_path / "data", store_in(tmp_path / "store"), tmp_path / "seen.db")
    assert taken.tree.digest == "blake3:08a4da79c877f5c25a5a3bba0eb8aea774a35de3a1c840f1b06098676e6e037c"


def test_names_sizes_and_contents_all_count() -> None:
    def digest(path: bytes, size: int, content: bytes) -> str:
        return Tree.of([Entry(path, Content(size, content, ()))]).digest

    digests = {digest(b"a", 1, bytes(32)), digest(b"b", 1, bytes(32)), digest(b"a", 2, bytes(32))}
    assert len(digests | {digest(b"a", 1, bytes(31) + b"1")}) == 4


@given(size=st.integers(0, 3 * 2**20), seed=st.integers(0, 2**16), at=st.integers(0, 2**20))
@settings(max_examples=15, deadline=None)
def test_chunks_join_to_what_was_cut(size: int, seed: int, at: int) -> None:
    raw = content(size, seed)
    parts = list(cut(memoryview(raw)))
    assert b"".join(parts) == raw
    assert all(len(part) <= MOST for part in parts)
    assert all(len(part) >= LEAST for part in parts[:-1])
    # All cuts but the last are where they would be were more to follow: blocks can be cut one by one.
    longer = list(cut(memoryview(raw + content(at, seed + 1))))
    assert [len(part) for part in parts[:-1]] == [len(part) for part in longer][: max(len(parts) - 1, 0)]


@pytest.mark.parametrize("size", [0, 1, LEAST, LEAST + 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 12_345])
def test_every_size_comes_back(tmp_path: Path, size: int) -> None:
    write(tmp_path / "data", {"file": content(size)})
    store = store_in(tmp_path / "store")
    taken = snapshot_of(tmp_path / "data", store, tmp_path / "seen.db")
    (entry,) = taken.tree.entries
    assert entry.content.size == size
    assert entry.content.digest == blake3(content(size)).digest()
    assert list(entry.content.chunks) == [blake3(part).digest() for part in cut(memoryview(content(size)))]
    check_out(taken.tree, tmp_path / "out", store)
    assert (tmp_path / "out" / "file").read_bytes() == content(size)
    assert list(damages(taken.tree, store)) == []


def test_large_files_one_after_the_other_are_not_mixed_up(tmp_path: Path) -> None:
    sizes = [BLOCK + 5, 2 * BLOCK + 7, LEAST + 1, 100, BLOCK * 2]
    write(tmp_path / "data", {f"{at}": content(size, at) for at, size in enumerate(sizes)})
    store = store_in(tmp_path / "store")
    taken = snapshot_of(tmp_path / "data", store, tmp_path / "seen.db")
    check_out(taken.tree, tmp_path / "out", store)
    assert files_in(tmp_path / "out") == files_in(tmp_path / "data")
    assert list(damages(taken.tree, store)) == []


def test_an_insertion_stores_only_what_is_beside_it(tmp_path: Path) -> None:
    raw = content(24 * 2**20)
    store = store_in(tmp_path / "store")
    write(tmp_path / "data", {"file": raw})
    first = snapshot_of(tmp_path / "data", store, tmp_path / "seen.db")
    write(tmp_path / "data", {"file": raw[: 12 * 2**20] + b"new" * 300 + raw[12 * 2**20 :]}, age=30.0)
    second = snapshot_of(tmp_path / "data", store, tmp_path / "seen.db")
    assert first.stored_bytes == len(raw)
    assert second.stored_bytes <= 2 * MOST
    assert second.tree.digest != first.tree.digest


def test_what_is_unchanged_is_not_read_again(tmp_path: Path) -> None:
    store = store_in(tmp_path / "store")
    files = {f"part-{at}": content(1000, at) for at in range(50)}
    write(tmp_path / "data", files)
    wait_until_settled(tmp_path / "data")
    first = snapshot_of(tmp_path / "data", store, tmp_path / "seen.db")
    again = snapshot_of(tmp_path / "data", store, tmp_path / "seen.db")
    assert (first.unchanged, first.read_bytes, first.stored_bytes) == (0, 50_000, 50_000)
    assert (again.unchanged, again.read_bytes, again.stored_bytes) == (50, 0, 0)
    assert again.tree == first.tree
    write(tmp_path / "data", {"part-7": content(1000, 77)}, age=60.0)
    changed = snapshot_of(tmp_path / "data", store, tmp_path / "seen.db")
    assert (changed.unchanged, changed.read_bytes, changed.stored_bytes) == (49, 1000, 1000)


def test_a_file_changed_in_the_tick_it_was_read_in_is_read_again(tmp_path: Path) -> None:
    store = store_in(tmp_path / "store")
    digests = set()
    for at in range(20):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / "file").write_bytes(content(100, at))
        digests.add(snapshot_of(tmp_path / "data", store, tmp_path / "seen.db").tree.digest)
    assert len(digests) == 20


def test_what_is_known_but_no_longer_stored_is_stored_again(tmp_path: Path) -> None:
    write(tmp_path / "data", {"file": b"abc"})
    wait_until_settled(tmp_path / "data")
    snapshot_of(tmp_path / "data", store_in(tmp_path / "one"), tmp_path / "seen.db")
    other = store_in(tmp_path / "other")
    taken = snapshot_of(tmp_path / "data", other, tmp_path / "seen.db")
    check_out(taken.tree, tmp_path / "out", other)
    assert files_in(tmp_path / "out") == {"file": b"abc"}


def test_a_broken_cache_of_what_was_seen_is_no_error(tmp_path: Path) -> None:
    write(tmp_path / "data", {"file": b"abc"})
    (tmp_path / "seen.db").write_bytes(b"this is no database" * 100)
    store = store_in(tmp_path / "store")
    assert snapshot_of(tmp_path / "data", store, tmp_path / "seen.db").read_bytes == 3
    wait_until_settled(tmp_path / "data")
    snapshot_of(tmp_path / "data", store, tmp_path / "seen.db")
    assert snapshot_of(tmp_path / "data", store, tmp_path / "seen.db").unchanged == 1


def test_how_far_it_is_is_told(tmp_path: Path) -> None:
    write(tmp_path / "data", {"large": content(LEAST * 3)} | {f"s{at}": b"abc" for at in range(10)})
    store, told = store_in(tmp_path / "store"), list[Progress]()
    total = LEAST * 3 + 30
    taken = engine.take(engine_files(tmp_path / "data"), store, engine.Seen(tmp_path / "seen.db"), told.append)
    assert told[-1] == Progress(11, total, 11, total)
    assert [now.bytes for now in told] == sorted(now.bytes for now in told)
    check_out(taken.tree, tmp_path / "out", store, told.append)
    assert told[-1] == Progress(11, total, 11, total)
    assert list(damages(taken.tree, store, told.append)) == []
    assert told[-1] == Progress(11, total, 11, total)


def test_a_file_that_keeps_changing_is_told(tmp_path: Path) -> None:
    write(tmp_path / "data", {"file": content(LEAST + 1)})
    store = store_in(tmp_path / "store")

    def meddle(_: Progress) -> None:
        with (tmp_path / "data" / "file").open("ab") as handle:
            handle.write(b"more")

    with pytest.raises(Failed, match="changes while it is read"):
        engine.take(engine_files(tmp_path / "data"), store, engine.Seen(tmp_path / "seen.db"), meddle)


def engine_files(folder: Path) -> list[engine.Found]:
    from modelyard.datasets.scan import find

    return find([folder])


def test_the_list_of_files_is_stored_like_any_content(tmp_path: Path) -> None:
    write(tmp_path / "data", {f"part-{at}": b"%d" % at for at in range(100)})
    store = store_in(tmp_path / "store")
    tree = snapshot_of(tmp_path / "data", store, tmp_path / "seen.db").tree
    chunks = store_tree(tree, store)
    assert read_tree(tree.digest, chunks, store) == tree
    with pytest.raises(DataDamaged, match="not the one that was recorded"):
        read_tree("blake3:00", chunks, store)


def test_an_edited_checkout_does_not_reach_the_store(tmp_path: Path) -> None:
    write(tmp_path / "data", {"small": b"abc", "large": content(5_000_000)})
    store = store_in(tmp_path / "store")
    taken = snapshot_of(tmp_path / "data", store, tmp_path / "seen.db")
    check_out(taken.tree, tmp_path / "one", store)
    for path in (tmp_path / "one").iterdir():
        assert path.stat().st_nlink == 1
        path.write_bytes(b"edited")
    assert list(damages(taken.tree, store)) == []
    check_out(taken.tree, tmp_path / "two", store)
    assert files_in(tmp_path / "two") == files_in(tmp_path / "data")


@pytest.mark.parametrize("harm", ["edit", "truncate", "delete"])
def test_harm_to_the_store_is_found_and_named(tmp_path: Path, harm: str) -> None:
    write(tmp_path / "data", {"good": b"abc", "large": content(5_000_000)})
    store = store_in(tmp_path / "store")
    taken = snapshot_of(tmp_path / "data", store, tmp_path / "seen.db")
    (pack,) = (tmp_path / "store").rglob("*.pack")
    raw = bytearray(pack.read_bytes())
    assert pack.stat().st_mode & 0o222 == 0
    if harm == "delete":
        pack.unlink()
    else:
        raw[3_000_000] ^= 1
        pack.chmod(0o600)
        pack.write_bytes(raw if harm == "edit" else raw[:3_000_000])
    damaged = [each.file for each in damages(taken.tree, store)]
    assert damaged == (["large"] if harm == "edit" else ["good", "large"])
    with pytest.raises(DataDamaged, match=f"(large|good) cannot be given back: .*{pack.stem}"):
        check_out(taken.tree, tmp_path / "out", store)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_what_a_killed_checkout_left_is_swept_and_a_living_one_is_not(tmp_path: Path) -> None:
    write(tmp_path / "data", {"file": b"abc"})
    store = store_in(tmp_path / "store")
    taken = snapshot_of(tmp_path / "data", store, tmp_path / "seen.db")
    write(tmp_path / ".out.checkout-killed", {"half": b"a file"})
    write(tmp_path / ".out.checkout-living", {"half": b"a file"})
    with _locked(tmp_path / ".out.checkout-living", fcntl.LOCK_SH):
        check_out(taken.tree, tmp_path / "out", store)
    assert [path.name for path in tmp_path.glob(".out*")] == [".out.checkout-living"]
    assert files_in(tmp_path / "out") == {"file": b"abc"}


def test_checking_out_over_something_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "data", {"file": b"abc"})
    store = store_in(tmp_path / "store")
    taken = snapshot_of(tmp_path / "data", store, tmp_path / "seen.db")
    write(tmp_path / "out", {"mine": b"precious"})
    with pytest.raises(NameTaken, match="not empty"):
        check_out(taken.tree, tmp_path / "out", store)
    assert files_in(tmp_path / "out") == {"mine": b"precious"}


@pytest.mark.parametrize("path", [b"", b"/etc/passwd", b"../up", b"a/../b", b"a//b", b".", b"nul\0"])
def test_a_list_of_files_that_leaves_its_folder_is_refused(path: bytes) -> None:
    with pytest.raises(InvalidRequest, match="cannot be the path"):
        Tree.of([Entry(path, Content(0, bytes(32), ()))])


def test_a_name_cannot_be_file_and_folder_or_twice_there() -> None:
    empty = Content(0, bytes(32), ())
    with pytest.raises(InvalidRequest, match="a file and a folder at once"):
        Tree.of([Entry(b"a", empty), Entry(b"a.csv", empty), Entry(b"a/b", empty)])
    with pytest.raises(InvalidRequest, match="two files"):
        Tree.of([Entry(b"a", empty), Entry(b"a", empty)])
