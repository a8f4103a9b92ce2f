"""Packs on disk: what can be read without a database, and what killed writers leave."""

from __future__ import annotations

from pathlib import Path

import pytest
from blake3 import blake3

from data_stores import MemoryIndex, content, store_in
from modelyard.datasets import packs
from modelyard.datasets.packs import FolderPacks, read_index
from modelyard.datasets.store import ChunkWriter
from modelyard.errors import DataDamaged


def put(writer: ChunkWriter, *raws: bytes) -> list[bytes]:
    pieces = [(blake3(raw).digest(), raw) for raw in raws]
    writer.put(pieces)
    return [digest for digest, _ in pieces]


def test_a_pack_says_itself_what_is_in_it(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    with store.writer() as writer:
        one, two = put(writer, b"one", b"twotwo")
    (pack,) = tmp_path.rglob("*.pack")
    assert read_index(pack.read_bytes()) == {one: (8, 3), two: (11, 6)}
    with pytest.raises(DataDamaged, match="not a whole pack"):
        read_index(pack.read_bytes()[:-1])


def test_a_full_pack_is_followed_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "FULL", 100_000)
    store = store_in(tmp_path)
    raws = [content(30_000, at) for at in range(10)]
    with store.writer() as writer:
        digests = put(writer, *raws)
    assert len(list(tmp_path.rglob("*.pack"))) == 3
    assert store.read_all(digests) == b"".join(raws)
    assert list((tmp_path / "incoming").iterdir()) == []


def test_the_same_content_is_stored_once(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    with store.writer() as writer:
        put(writer, b"one", b"one")
        put(writer, b"one")
    with store.writer() as writer:
        put(writer, b"one")
        assert writer.stored_bytes == 0
    assert len(list(tmp_path.rglob("*.pack"))) == 1


def test_an_error_leaves_no_pack_and_what_others_left_is_swept(tmp_path: Path) -> None:
    store = store_in(tmp_path)

    def fail() -> None:
        with store.writer() as writer:
            put(writer, b"one")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.rglob("*.pack")) == list((tmp_path / "incoming").iterdir()) == []
    (tmp_path / "incoming" / "of-a-dead-process").write_bytes(b"half a pack")
    living = FolderPacks(tmp_path).begin()
    living.handle.write(b"living")
    living.handle.flush()
    with ChunkWriter(FolderPacks(tmp_path), MemoryIndex()) as writer:
        put(writer, b"two")
    assert list((tmp_path / "incoming").iterdir()) == [living.path]
    living.abandon()
