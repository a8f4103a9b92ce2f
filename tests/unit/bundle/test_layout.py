"""Bundles are written whole, and opened only if every byte is as listed."""

import os
import subprocess
import sys
from dataclasses import replace

import msgspec
import pytest

from modelyard.bundle.layout import MANIFEST, SEAL, decode_manifest, encode_manifest, open_bundle, write
from modelyard.errors import BundleRefused, NameTaken
from small_bundles import write_bundle


@pytest.fixture
def bundle(tmp_path):
    return write_bundle(tmp_path / "bundle")


def test_what_was_written_is_opened(bundle):
    assert open_bundle(bundle.path, expect_digest=bundle.digest) == bundle
    assert bundle.digest.startswith("blake3:")


def test_the_same_contents_give_the_same_digest(bundle, tmp_path):
    again = write_bundle(tmp_path / "again")
    assert again.digest == bundle.digest
    assert write_bundle(tmp_path / "other", content=b"second").digest != bundle.digest


def test_files_are_copied_from_paths(bundle, tmp_path):
    source = tmp_path / "big.bin"
    source.write_bytes(b"x" * 3_000_000)
    files = {name: bundle.path / name for name in bundle.manifest.files} | {"model/artifacts/big.bin": source}
    copied = write(tmp_path / "copy", files, bundle.manifest)
    assert open_bundle(copied.path).manifest.files["model/artifacts/big.bin"].size == 3_000_000


def test_nothing_is_written_over(bundle):
    with pytest.raises(NameTaken, match="exists already"):
        write_bundle(bundle.path)


def test_a_failed_write_leaves_nothing(bundle, tmp_path):
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "new", {"a": tmp_path / "nowhere"}, bundle.manifest)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"]


def change_byte(path):
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(bytes(raw))


def test_a_changed_byte_in_any_file_is_named(bundle):
    for name in [*bundle.manifest.files, MANIFEST]:
        path = bundle.path / name
        if not path.stat().st_size:
            continue
        before = path.read_bytes()
        change_byte(path)
        with pytest.raises(BundleRefused, match=name.split("/")[-1]):
            open_bundle(bundle.path, expect_digest=bundle.digest)
        with pytest.raises(BundleRefused):
            open_bundle(bundle.path)
        path.write_bytes(before)
    open_bundle(bundle.path)


def test_a_truncated_a_longer_and_a_missing_file(bundle):
    path = bundle.path / "model/native.skops"
    path.write_bytes(b"fi")
    with pytest.raises(BundleRefused, match=r"native.skops is truncated: 2 bytes, 5 expected"):
        open_bundle(bundle.path)
    path.write_bytes(b"first!")
    with pytest.raises(BundleRefused, match=r"native.skops is longer"):
        open_bundle(bundle.path)
    path.unlink()
    with pytest.raises(BundleRefused, match=r"native.skops is missing"):
        open_bundle(bundle.path)


def test_a_file_too_many_and_a_link(bundle):
    extra = bundle.path / "code" / "sitecustomize.py"
    extra.parent.mkdir()
    extra.write_text("")
    with pytest.raises(BundleRefused, match=r"code/sitecustomize.py is in the folder but not in manifest.json"):
        open_bundle(bundle.path)
    extra.unlink()
    target = bundle.path / "model/native.skops"
    (bundle.path.parent / "elsewhere").write_bytes(target.read_bytes())
    target.unlink()
    target.symlink_to(bundle.path.parent / "elsewhere")
    with pytest.raises(BundleRefused, match=r"native.skops is a link"):
        open_bundle(bundle.path)
    target.unlink()
    os.mkfifo(target)
    with pytest.raises(BundleRefused, match="special file"):
        open_bundle(bundle.path)


def test_another_bundle_than_expected(bundle, tmp_path):
    other = write_bundle(tmp_path / "other", content=b"other")
    with pytest.raises(BundleRefused, match="not the one that was recorded"):
        open_bundle(other.path, expect_digest=bundle.digest)


def test_the_seal_is_optional_and_guards_the_manifest(bundle):
    (bundle.path / SEAL).unlink()
    open_bundle(bundle.path)
    (bundle.path / SEAL).write_text("blake3:0000\n")
    with pytest.raises(BundleRefused, match=r"manifest.json was changed"):
        open_bundle(bundle.path)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "cannot be read"),
        (b"{", "cannot be read"),
        (b"[]", "cannot be read"),
        (b"{}", "cannot be read"),
        (b'{"format":2}', "has format 2 and this release reads 1"),
        (b'{"format":1,"name":"x"}', "not a whole manifest"),
    ],
)
def test_foreign_manifests(tmp_path, raw, said):
    (tmp_path / MANIFEST).write_bytes(raw)
    with pytest.raises(BundleRefused, match=said):
        open_bundle(tmp_path)


def test_a_folder_that_is_no_bundle(tmp_path):
    with pytest.raises(BundleRefused, match=r"has no manifest.json"):
        open_bundle(tmp_path)
    with pytest.raises(BundleRefused, match="not a folder"):
        open_bundle(tmp_path / "nothing")


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../outside", "model/../../outside", "a//b", "./a", "", "manifest.json", "a\\b", "a\0b", "."],
)
def test_paths_that_leave_the_bundle(bundle, tmp_path, name):
    with pytest.raises(BundleRefused, match="cannot be a file of a bundle"):
        write(tmp_path / "new", {name: b"x"}, bundle.manifest)
    entry = next(iter(bundle.manifest.files.values()))
    forged = encode_manifest(replace(bundle.manifest, files={**bundle.manifest.files, name: entry}))
    with pytest.raises(BundleRefused, match="cannot be a file of a bundle"):
        decode_manifest(forged)


def test_a_model_file_outside_of_the_list(bundle):
    form = replace(bundle.manifest.native, path="model/other.skops")
    forged = encode_manifest(replace(bundle.manifest, native=form))
    with pytest.raises(BundleRefused, match="does not list it"):
        decode_manifest(forged)


def test_manifests_are_canonical(bundle):
    raw = (bundle.path / MANIFEST).read_bytes()
    assert encode_manifest(decode_manifest(raw)) == raw
    keys = list(msgspec.json.decode(raw))
    assert keys == sorted(keys)


OPENED_AT_ONCE = """
import sys, threading
from pathlib import Path
from modelyard.bundle.layout import open_bundle

start, opened = threading.Barrier(16), []
def work():
    start.wait()
    opened.append(open_bundle(Path(sys.argv[1])).digest)
threads = [threading.Thread(target=work) for _ in range(16)]
sys.setswitchinterval(1e-6)
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert len(opened) == 16 and len(set(opened)) == 1, opened
"""


def test_many_threads_open_the_first_bundle_of_a_process_at_once(tmp_path):
    bundle = write_bundle(tmp_path / "b")
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", OPENED_AT_ONCE, str(bundle.path)], capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
