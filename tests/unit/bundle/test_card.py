"""The model card says what the manifest says."""

from dataclasses import replace

from modelyard.bundle.card import card
from modelyard.domain.manifest import CompileAttempt
from modelyard.domain.schema import Accepts, Column, Kind, Seen
from small_bundles import write_bundle, write_line


def test_a_compiled_version(tmp_path):
    text = card(write_line(tmp_path / "b").manifest)
    assert text.startswith("# line\n")
    assert "- Runtime: onnx (float64, hand)" in text
    assert "| x | float64 | refused |" in text
    assert "- numpy 2.4.6" in text


def test_a_native_version_says_why_it_was_not_compiled(tmp_path):
    manifest = write_bundle(tmp_path / "b").manifest
    attempts = (CompileAttempt("float64", "not equal", "row 3: expected 1, got 2"),)
    assert "not compiled: not equal: row 3: expected 1, got 2" in card(replace(manifest, attempts=attempts))


def test_what_was_seen_and_what_is_taken(tmp_path):
    manifest = write_bundle(tmp_path / "b").manifest
    columns = (
        Column("n", Kind.INT64, False, "int64", accepts=Accepts(0, 9), seen=Seen(minimum=1.0, maximum=5.0)),
        Column("a|b", Kind.STRING, True, "str", accepts=Accepts(categories=("x",)), seen=Seen(missing_share=0.25)),
        Column("free", Kind.STRING, True, "str", seen=Seen(distinct=1000)),
    )
    text = card(replace(manifest, schema=replace(manifest.schema, columns=columns)))
    assert "| n | int64 | refused | 1 to 5 | from 0 to 9 |" in text
    assert "| a\\|b | string | taken (25.0% in training) |  | only x |" in text
    assert "| free | string | taken (0.0% in training) | 1000 distinct | any |" in text
