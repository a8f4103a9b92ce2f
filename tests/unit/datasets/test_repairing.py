"""What is edited, cut short or deleted in the store is found and named, and put right from files that have it still."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

import modelyard as my
from data_stores import content, files_in, write
from modelyard import data
from modelyard.cli.app import app
from modelyard.datasets.checkout import check_out, read_tree
from modelyard.datasets.packs import FolderPacks
from modelyard.errors import DataDamaged, InvalidRequest
from modelyard.home import Home
from modelyard.registry.quick_datasets import QuickDatasets
from modelyard.runs.yard import opened


def edit(pack: Path, middle: int) -> None:
    raw = bytearray(pack.read_bytes())
    raw[middle] ^= 1
    _overwrite(pack, bytes(raw))


def cut_short(pack: Path, middle: int) -> None:
    _overwrite(pack, pack.read_bytes()[:middle])


def delete(pack: Path, _: int) -> None:
    pack.unlink()


def _overwrite(pack: Path, raw: bytes) -> None:
    pack.chmod(0o600)
    pack.write_bytes(raw)


HARM = pytest.mark.parametrize("harm", [edit, cut_short, delete])
Harm = Callable[[Path, int], None]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """With toy@1: a large file and many small ones."""
    write(tmp_path / "data", {"large": content(5 * 2**20)} | {f"part/{at:03}": content(3000, at) for at in range(300)})
    data.snapshot(tmp_path / "data", "toy", home=tmp_path / "home")
    return Home(tmp_path / "home")


def harmed(home: Home, chunks: Sequence[bytes], harm: Harm) -> str:
    """Harm the pack that holds these chunks, in the middle of the first; gives its name."""
    datasets = QuickDatasets(home)
    place = datasets.find(chunks)[chunks[0]]
    harm(FolderPacks(home.datasets).locate(place.pack), place.offset + place.size // 2)
    datasets.close()
    return place.pack


def chunks_of(home: Home, file: bytes) -> tuple[bytes, ...]:
    datasets = QuickDatasets(home)
    (found,) = [entry.content.chunks for entry in datasets.tree("toy@1").entries if entry.path == file]
    datasets.close()
    return found


def list_of(home: Home) -> tuple[bytes, ...]:
    datasets = QuickDatasets(home)
    chunks = datasets.list_of("toy@1")[1]
    datasets.close()
    return chunks


@HARM
def test_a_harmed_file_is_named_and_put_right(home: Home, tmp_path: Path, harm: Harm) -> None:
    pack = harmed(home, chunks_of(home, b"large")[2:], harm)
    damaged = {each.file: each.reason for each in data.verify("toy@1", home=home)}
    assert pack in damaged["large"]
    assert set(damaged) == {"large"} if harm is edit else set(damaged) > {"large"}
    with pytest.raises(DataDamaged, match=f"cannot be given back: .*{pack}"):
        data.checkout("toy@1", tmp_path / "out", home=home)
    assert not (tmp_path / "out").exists()
    assert data.repair("toy@1", tmp_path / "data", home=home) >= (1 if harm is edit else 4)
    assert data.verify("toy@1", home=home) == ()
    data.checkout("toy@1", tmp_path / "out", home=home)
    assert files_in(tmp_path / "out") == files_in(tmp_path / "data")
    assert data.repair("toy@1", tmp_path / "data", home=home) == 0


@HARM
def test_a_harmed_list_of_files_is_named_and_put_right(home: Home, tmp_path: Path, harm: Harm) -> None:
    pack = harmed(home, list_of(home), harm)
    for ask in (lambda: data.verify("toy@1", home=home), lambda: data.checkout("toy@1", tmp_path / "out", home=home)):
        with pytest.raises(DataDamaged, match=f"list of files of blake3:.* cannot be read: .*{pack}"):
            ask()
    shutil.copytree(tmp_path / "data", tmp_path / "other")
    (tmp_path / "other" / "large").write_bytes(b"changed")
    with pytest.raises(DataDamaged, match="does not have just these files"):
        data.repair("toy@1", tmp_path / "other", home=home)
    assert data.repair("toy@1", tmp_path / "data", home=home) >= 1
    assert data.verify("toy@1", home=home) == ()
    data.checkout("toy@1", tmp_path / "out", home=home)
    assert files_in(tmp_path / "out") == files_in(tmp_path / "data")


@HARM
def test_a_harmed_file_of_a_run_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: Harm) -> None:
    monkeypatch.setenv("MODELYARD_HOME", str(tmp_path / "yard"))
    write(tmp_path, {"model.bin": content(2 * 2**20)})
    with my.run("toy") as run:
        run.log_artifact(tmp_path / "model.bin")
        run_id = run.id
    with opened(Home.locate()) as yard:
        stored = yard.runs.files(run_id)
        assert stored is not None
        tree = read_tree(*stored, yard.datasets.store)
        (entry,) = [entry for entry in tree.entries if entry.name.endswith("model.bin")]
        pack = harmed(Home.locate(), entry.content.chunks, harm)
        with pytest.raises(DataDamaged, match=f"cannot be given back: .*{pack}"):
            check_out(tree, tmp_path / "out", yard.datasets.store)
    said = CliRunner().invoke(app, ["runs", "files", run_id, str(tmp_path / "out")])
    assert said.exit_code == 6
    assert not (tmp_path / "out").exists()


def test_only_what_is_there_to_repair_from_is_put_right(home: Home, tmp_path: Path) -> None:
    harmed(home, chunks_of(home, b"large"), delete)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "renamed").write_bytes((tmp_path / "data" / "large").read_bytes() + b"and more")
    assert data.repair("toy@1", tmp_path / "elsewhere", home=home) >= 3
    damaged = {each.file for each in data.verify("toy@1", home=home)}
    assert "part/000" in damaged
    with pytest.raises(InvalidRequest, match="no such file"):
        data.repair("toy@1", tmp_path / "nowhere", home=home)


def test_other_versions_are_put_right_with_it_and_nothing_else_is_stored(home: Home, tmp_path: Path) -> None:
    write(tmp_path / "data", {"another": b"another"})
    data.snapshot(tmp_path / "data", "toy", home=home)
    harmed(home, chunks_of(home, b"large"), edit)
    before = {pack.name for pack in home.datasets.rglob("*.pack")}
    assert data.repair("toy@1", tmp_path / "data", home=home) == 1
    assert data.verify("toy@2", home=home) == ()
    (new,) = [pack for pack in home.datasets.rglob("*.pack") if pack.name not in before]
    assert new.stat().st_size < 4 * 2**20 + 1000


def test_the_command_repairs_and_says_so(home: Home, tmp_path: Path) -> None:
    harmed(home, chunks_of(home, b"large"), edit)

    def verify(*words: str) -> tuple[int, str]:
        said = CliRunner().invoke(app, ["data", "verify", "toy@1", *words], env={"MODELYARD_HOME": str(home.path)})
        return said.exit_code, said.stdout

    assert verify()[0] == 1
    assert "DAMAGED large: the chunk" in verify()[1]
    code, said = verify("--repair", str(tmp_path / "data"))
    assert code == 0
    assert "1 damaged chunk is stored again" in said
    assert "toy@1 is intact" in said
    assert '"repaired_chunks": 0' in verify("--repair", str(tmp_path / "data"), "--json")[1]
