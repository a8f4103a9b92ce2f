"""Bundles as one file: out and in without loss, and nothing foreign let through."""

import stat
import zipfile

import pytest

from modelyard.bundle.archive import export_file, import_file
from modelyard.bundle.layout import MANIFEST
from modelyard.errors import BundleRefused, NameTaken
from small_bundles import write_bundle


@pytest.fixture
def bundle(tmp_path):
    return write_bundle(tmp_path / "bundle")


@pytest.fixture
def exported(bundle, tmp_path):
    return export_file(bundle, tmp_path / "toy.zip")


def rewritten(source, target, *, drop=(), add=(), change=None):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            if info.filename not in drop:
                raw = old.read(info)
                new.writestr(info, change[info.filename] if change and info.filename in change else raw)
        for info, raw in add:
            new.writestr(info, raw)
    return target


def test_there_and_back(bundle, exported, tmp_path):
    back = import_file(exported, tmp_path / "back")
    assert (back.digest, back.manifest) == (bundle.digest, bundle.manifest)


def test_the_same_bundle_gives_the_same_bytes(exported, tmp_path):
    again = export_file(write_bundle(tmp_path / "again"), tmp_path / "again.zip")
    assert again.read_bytes() == exported.read_bytes()


def test_nothing_is_written_over(bundle, exported, tmp_path):
    with pytest.raises(NameTaken):
        export_file(bundle, exported)
    with pytest.raises(NameTaken):
        import_file(exported, bundle.path)


@pytest.mark.parametrize("name", ["../evil.py", "/tmp/evil.py", "code/../../evil.py"])
def test_a_path_that_leaves_the_folder(exported, tmp_path, name):
    forged = rewritten(exported, tmp_path / "forged.zip", add=[(zipfile.ZipInfo(name), b"x")])
    with pytest.raises(BundleRefused, match="cannot be a file of a bundle"):
        import_file(forged, tmp_path / "back")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "forged.zip", "toy.zip"]


def test_a_link(exported, tmp_path):
    link = zipfile.ZipInfo("model/native.skops")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    forged = rewritten(exported, tmp_path / "f.zip", drop=["model/native.skops"], add=[(link, b"/etc/passwd")])
    with pytest.raises(BundleRefused, match="not a plain file"):
        import_file(forged, tmp_path / "back")


def test_a_file_too_many_too_few_or_twice(exported, tmp_path):
    more = rewritten(exported, tmp_path / "more.zip", add=[(zipfile.ZipInfo("code/x.py"), b"")])
    with pytest.raises(BundleRefused, match=r"code/x.py is in the archive but not"):
        import_file(more, tmp_path / "back")
    fewer = rewritten(exported, tmp_path / "fewer.zip", drop=["model/native.skops"])
    with pytest.raises(BundleRefused, match=r"native.skops is missing"):
        import_file(fewer, tmp_path / "back")
    none = rewritten(exported, tmp_path / "none.zip", drop=[MANIFEST])
    with pytest.raises(BundleRefused, match=r"no manifest.json"):
        import_file(none, tmp_path / "back")
    with pytest.warns(UserWarning, match="Duplicate"):
        twice = rewritten(exported, tmp_path / "twice.zip", add=[(zipfile.ZipInfo("card.md"), b"")])
    with pytest.raises(BundleRefused, match="twice"):
        import_file(twice, tmp_path / "back")


def test_a_bomb_is_not_unpacked_beyond_its_listed_size(exported, tmp_path):
    forged = rewritten(exported, tmp_path / "bomb.zip", change={"model/native.skops": b"0" * 50_000_000})
    with pytest.raises(BundleRefused, match="longer than the 5 bytes"):
        import_file(forged, tmp_path / "back")
    short = rewritten(exported, tmp_path / "short.zip", change={"model/native.skops": b"f"})
    with pytest.raises(BundleRefused, match="truncated: 1 bytes, 5 expected"):
        import_file(short, tmp_path / "back")


def test_changed_contents(exported, tmp_path):
    forged = rewritten(exported, tmp_path / "forged.zip", change={"model/native.skops": b"fIrst"})
    with pytest.raises(BundleRefused, match=r"native.skops was changed"):
        import_file(forged, tmp_path / "back")


def test_every_damage_is_refused_and_leaves_nothing(exported, tmp_path):
    raw = exported.read_bytes()
    damaged = tmp_path / "damaged.zip"
    for at in range(0, len(raw), 97):
        damaged.write_bytes(raw[:at])
        with pytest.raises(BundleRefused):
            import_file(damaged, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_something_else(tmp_path):
    (tmp_path / "text").write_text("hello")
    with pytest.raises(BundleRefused, match="cannot be read as an exported bundle"):
        import_file(tmp_path / "text", tmp_path / "back")
