"""The parts of a verification that need no server."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modelyard.bundle.layout import write
from modelyard.domain.environment import Environment
from modelyard.domain.frame import Frame, Vector
from modelyard.domain.golden import GoldenSet
from modelyard.domain.parity import Mismatch, StageReport
from modelyard.domain.schema import Column, Kind, Output, Schema
from modelyard.home import Home
from modelyard.verification.bulk import fits_csv, through_files
from modelyard.verification.facts import cpu_name, host_facts
from modelyard.verification.verify import _clean_folder, joined, only_refused
from modelyard.verification.wire import as_json_has_it
from modelyard.verification.worktree import moved_on
from small_bundles import SCHEMA, write_bundle

OUTPUTS = (
    Output("label", Kind.STRING, "label", "predict", classes=("a", "b")),
    Output("proba", Kind.FLOAT64, "probability", "predict_proba", shape=(2,), classes=("a", "b")),
    Output("code", Kind.FLOAT32, "features", "transform", shape=(3,)),
    Output("sure", Kind.BOOL, "value", "f"),
    Output("count", Kind.INT16, "value", "f", dtype="int16"),
    Output("when", Kind.DATETIME, "value", "f", dtype="datetime64[ns, UTC]"),
)
ARRAY = Schema("array", (Column("X", Kind.FLOAT64, True, "float64", shape=(2,)),), OUTPUTS)


def answers(frame: Frame):
    first = np.nan_to_num(frame["X"].values[:, 0]) / 3
    return {
        "label": np.where(first > 0, "a", "b").astype(object),
        "proba": np.stack([first, 1 - first], axis=1),
        "code": np.stack([first, -first, np.full(frame.rows, np.nan)], axis=1).astype(np.float32),
        "sure": first > 0,
        "count": np.full(frame.rows, -7, np.int16),
        "when": np.full(frame.rows, np.datetime64("2013-01-01T10:00:00.123456789", "ns")),
    }


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_answers_come_back_from_files_bit_for_bit(tmp_path, ending):
    frame = Frame({"X": Vector(np.array([[0.1, np.nan], [-1e30, 5e-324], [np.nan, 1 / 3]]))}, 3)
    got = through_files(answers, ARRAY, tmp_path, ending)(frame)
    for name, want in answers(frame).items():
        assert got[name].dtype == want.dtype
        np.testing.assert_array_equal(got[name], want)


def test_arrays_inside_cells_do_not_fit_csv():
    assert fits_csv(ARRAY)
    assert not fits_csv(replace(ARRAY, outputs=(replace(OUTPUTS[2], shape=(2, 2)),)))
    assert not fits_csv(replace(ARRAY, layout="tensors"))


def test_several_replays_pass_only_together():
    good = StageReport("bulk", True, rows=2, largest_abs=0.5, refused=1, notes=("a",))
    bad = StageReport(
        "bulk", False, rows=3, largest_ulp=9, mismatched=1, reason="why", mismatches=(Mismatch(1, "", "", "", ""),)
    )
    both = joined([good, bad])
    assert not both.passed
    assert (both.rows, both.largest_abs, both.largest_ulp, both.refused, both.reason) == (5, 0.5, 9, 1, "why")
    assert joined([good, good]).passed


def test_infinite_answers_are_compared_as_json_can_tell_them():
    frame = Frame({"x": Vector(np.array([1.0, 2.0]))}, 2)
    given = {"predict": np.array([np.inf, 1.0])}
    golden = GoldenSet(frame, ("sample", "edge"), (None, "no"), given, given)
    assert np.isnan(as_json_has_it(golden).single["predict"][0])
    assert only_refused(golden).origins == ("edge",)


def test_facts_are_texts_about_this_machine(tmp_path):
    facts = host_facts(Environment("3.11.7", "linux_x86_64", (), {"openblas": 2}, "openblas 0.3"))
    assert facts["training threads"] == "openblas 2"
    assert int(facts["cores"]) >= 1
    assert cpu_name(tmp_path / "none")


@pytest.fixture
def packed(tmp_path):
    plain = write_bundle(tmp_path / "plain")
    files = {name: plain.path / name for name in plain.manifest.files} | {"code/shop/features.py": b"x = 1\n"}
    code = replace(plain.manifest.code, modules={"shop.features": "code/shop/features.py"})
    return write(tmp_path / "bundle", files, replace(plain.manifest, code=code))


@pytest.mark.parametrize("place", ["shop", "src/shop"])
def test_an_edit_in_the_working_tree_is_noted_from_any_folder_of_the_repository(tmp_path, packed, place):
    tree = tmp_path / "tree"
    (tree / ".git").mkdir(parents=True)
    (tree / "deep").mkdir()
    (tree / place).mkdir(parents=True)
    own = tree / place / "features.py"
    own.write_text("x = 1\n")
    assert moved_on(packed, tree / "deep") == ()
    own.write_text("x = 2\n")
    (note,) = moved_on(packed, tree / "deep")
    assert "module shop.features was edited since it was packed" in note
    assert str(tmp_path) not in note


def test_without_a_working_copy_there_is_nothing_to_note(tmp_path, packed):
    assert moved_on(packed, tmp_path) == ()
    assert SCHEMA.layout == "dataframe"
    assert isinstance(packed.path, Path)


def test_what_a_killed_verification_left_is_cleared_but_not_what_one_holds(tmp_path):
    home = Home(tmp_path).create()
    left = home.environments / "verify-dead"
    left.mkdir()
    (home.environments / "verify-dead.held").touch()
    with _clean_folder(home) as first, _clean_folder(home) as second:
        assert not left.exists()
        assert first.is_dir()
        assert second.is_dir()
    assert list(home.environments.iterdir()) == []
