"""A golden set that is read without pyarrow: the same to the last bit, made again when torn, never believed blindly."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import compiled_bundles
from modelyard.bundle import ready_golden
from modelyard.bundle.layout import Bundle
from modelyard.domain.desired import Deployment
from modelyard.domain.frame import Array, Frame, Vector
from modelyard.domain.golden import GoldenSet
from modelyard.domain.schema import Kind
from modelyard.errors import BundleRefused
from modelyard.home import Home
from modelyard.serving.opening import open_version


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return compiled_bundles.write_compiled(tmp_path / "toy")


def kept(home: Home) -> Path:
    (file,) = (home.cache / "golden").glob("*.1")
    return file


def arrays(golden: GoldenSet) -> dict[str, Array]:
    there = {f"values {name}": vector.values for name, vector in golden.inputs.columns.items()}
    there |= {f"missing {name}": v.missing for name, v in golden.inputs.columns.items() if v.missing is not None}
    there |= {f"single {name}": values for name, values in golden.single.items()}
    return there | {f"batch {name}": values for name, values in golden.batch.items()}


def assert_same(one: GoldenSet, other: GoldenSet) -> None:
    assert (one.inputs.rows, one.origins, one.refused) == (other.inputs.rows, other.origins, other.refused)
    here, there = arrays(one), arrays(other)
    assert list(here) == list(there)
    for name, values in here.items():
        assert (values.dtype, values.shape) == (there[name].dtype, there[name].shape), name
        if values.dtype.kind == "O":
            assert values.tolist() == there[name].tolist()
        else:
            assert values.tobytes() == there[name].tobytes(), name
        assert there[name].flags.writeable


def test_every_kind_of_value_is_kept_exactly(home: Home, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = {
        kind.value: Vector(np.array([1, 0], dtype=kind.numpy), np.array([False, True]))
        for kind in Kind
        if kind.is_integer or kind is Kind.BOOL
    }
    vectors["float64"] = Vector(np.array([-0.0, np.nan]))
    vectors["float32"] = Vector(np.array([[1e-45, np.inf], [0, -0.0]], dtype=np.float32))
    vectors["string"] = Vector(np.array(["\u00fc \0 \U0001f600", None], dtype=object))
    vectors["datetime"] = Vector(np.array(["2024-02-29T12:00:00.000000001", "NaT"], dtype="datetime64[ns]"))
    answers = {"p": np.array([[0.1, 0.2], [np.nan, 0]]), "label": np.array(["a", ""], dtype=object)}
    made = GoldenSet(Frame(vectors, 2), ("sample", "edge: x"), (None, "no"), answers, answers)
    monkeypatch.setattr(Bundle, "golden", lambda _: made)
    ready_golden.keep(bundle, home)
    monkeypatch.undo()
    assert_same(made, ready_golden.golden(bundle, home))


@pytest.mark.parametrize("damage", [b"", b"torn", None])
def test_what_was_torn_is_made_again(home: Home, bundle: Bundle, damage: bytes | None) -> None:
    first = ready_golden.golden(bundle, home)
    whole = kept(home).read_bytes()
    kept(home).write_bytes(whole[:-1] if damage is None else damage)
    assert_same(first, ready_golden.golden(bundle, home))
    assert kept(home).read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, bundle: Bundle) -> None:
    (tmp_path / "home").write_text("a file")
    assert_same(bundle.golden(), ready_golden.golden(bundle, Home(tmp_path / "home")))


def test_an_edited_golden_set_is_refused_whatever_is_kept(home: Home, bundle: Bundle) -> None:
    deployment = Deployment("toy", "toy", 1, bundle.digest, str(bundle.path))
    open_version(deployment, home).runtime.close()
    edited = bundle.path / "golden" / "answers.parquet"
    edited.write_bytes(edited.read_bytes()[:-1] + b"\0")
    with pytest.raises(BundleRefused, match=r"answers\.parquet was changed"):
        open_version(deployment, home)


SERVE = """
import sys
from pathlib import Path
from modelyard.domain.desired import Deployment
from modelyard.home import Home
from modelyard.serving.opening import open_version
folder, digest, home = sys.argv[1:]
open_version(Deployment("toy", "toy", 1, digest, folder), Home(Path(home))).runtime.close()
print([name for name in ("pyarrow", "pandas", "sqlalchemy", "cloudpickle", "packaging") if name in sys.modules])
"""


def test_a_process_that_serves_needs_neither_pyarrow_nor_pandas(home: Home, bundle: Bundle) -> None:
    command = [sys.executable, "-c", SERVE, str(bundle.path), bundle.digest, str(home.path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
    assert_same(bundle.golden(), ready_golden.golden(bundle, home))


def test_where_no_other_process_can_read_it_this_one_does(
    home: Home, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setattr(ready_golden, "_is_small", lambda: True)
    assert_same(bundle.golden(), ready_golden.golden(bundle, home))
    assert "is read in this process" in caplog.text


def test_the_other_process_puts_it_into_the_cache(home: Home, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["", str(bundle.path), bundle.digest, str(home.path)])
    assert ready_golden.main() == 0
    assert kept(home).exists()
    monkeypatch.setattr(sys, "argv", ["", str(bundle.path), "blake3:other", str(home.path)])
    assert ready_golden.main() == 1
