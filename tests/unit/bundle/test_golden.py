"""Golden rows: drawn alike everywhere, with edges, answered, and kept to the last bit."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.bundle import golden
from modelyard.bundle.probe import UNSEEN_TEXT
from modelyard.bundle.schema import infer_columns, sample_frame
from modelyard.domain.frame import Frame, Vector
from modelyard.domain.golden import GoldenSet
from modelyard.domain.schema import Accepts, Column, Kind, Output, Schema
from modelyard.errors import BundleRefused, CannotPack, ModelFailed, RowsRefused


def sampled(rows=1_000):
    draw = np.random.default_rng(0)
    table = pd.DataFrame(
        {"n": draw.normal(size=rows), "c": draw.choice(["a", "b"], rows), "i": draw.integers(0, 9, rows)}
    )
    table.loc[700, "c"] = "rare"
    table.loc[123, "n"] = np.nan
    layout, columns = infer_columns(table)
    return sample_frame(table, layout, columns), columns


def test_a_draw_is_always_the_same_and_covers_extremes_missing_and_rare_values():
    frame, columns = sampled()
    drawn, origins = golden.draw(frame, columns, 50)
    again, _ = golden.draw(frame, columns, 50)
    n, c = drawn["n"].values[:50], drawn["c"].values[:50]
    assert origins[:50] == ("sample",) * 50
    assert origins[50].startswith("edge: ")
    assert n.tolist() == pytest.approx(again["n"].values[:50].tolist(), nan_ok=True)
    assert np.nanmin(n) == np.nanmin(frame["n"].values)
    assert np.nanmax(n) == np.nanmax(frame["n"].values)
    assert np.isnan(n).sum() == 1
    assert "rare" in c
    other, _ = golden.draw(frame, columns, 50, seed=1)
    assert other["n"].values[:50].tolist() != n.tolist()


def test_a_small_sample_is_taken_whole():
    frame, columns = sampled(800)
    drawn, origins = golden.draw(frame.take(slice(0, 20)), columns, 50)
    assert origins.count("sample") == 20
    assert drawn["i"].values[:20].tolist() == frame["i"].values[:20].tolist()


def test_edges_of_every_sort():
    frame, columns = sampled()
    drawn, origins = golden.draw(frame, columns, 10)
    by_origin = {origin: drawn.row(row) for row, origin in enumerate(origins)}
    assert by_origin["edge: c unseen"]["c"].values[0] == UNSEEN_TEXT
    assert by_origin["edge: c empty"]["c"].values[0] == ""
    assert by_origin["edge: c missing"]["c"].values[0] is None
    assert np.isnan(by_origin["edge: n missing"]["n"].values[0])
    assert by_origin["edge: i utmost 9223372036854775807"]["i"].values[0] == 2**63 - 1
    assert "edge: i missing" not in by_origin  # int64 cannot say it
    assert any(origin.startswith("edge: n far out") for origin in by_origin)
    assert by_origin["edge: n infinite inf"]["n"].values[0] == np.inf
    assert "edge: everything missing" in by_origin


def test_wide_tables_do_not_get_edges_without_end():
    table = pd.DataFrame(np.ones((5, 500)), columns=[f"c{at}" for at in range(500)])
    layout, columns = infer_columns(table)
    _, origins = golden.draw(sample_frame(table, layout, columns), columns, 5)
    assert len(origins) < 600


class Halves:
    """Answers n / 2; refuses negative numbers, breaks at 13."""

    def predict(self, frame, outputs=None):
        values = frame["n"].values
        if (values < 0).any():
            raise RowsRefused("negative")
        if (values == 13).any():
            raise ModelFailed("thirteen")
        return {"out": values / 2, "name": np.array([str(value) for value in values], dtype=object)}


SCHEMA = Schema(
    "dataframe",
    (Column("n", Kind.FLOAT64, False, "float64", accepts=Accepts(maximum=100)),),
    (Output("out", Kind.FLOAT64, "value", "predict"), Output("name", Kind.STRING, "label", "predict")),
)


def numbers(*values):
    return Frame({"n": Vector(np.array(values, dtype=float))}, len(values))


def test_answers_refusals_and_breaks_are_recorded():
    frame = numbers(4, -1, np.nan, 13, 6)
    recorded = golden.record(Halves(), frame, ["sample", "edge: a", "edge: b", "edge: c", "sample"], SCHEMA)
    assert recorded.origins == ("sample", "edge: a", "edge: b", "sample")
    assert recorded.refused[1] == "negative"
    assert "is missing" in recorded.refused[2]
    assert recorded.answered() == [0, 3]
    assert recorded.single["out"][[0, 3]].tolist() == [2.0, 3.0]
    assert recorded.batch["name"].tolist() == ["4.0", "", "", "6.0"]


def test_a_break_on_the_sample_or_no_answer_cannot_be_packed():
    with pytest.raises(CannotPack, match="breaks on row 0"):
        golden.record(Halves(), numbers(13), ["sample"], SCHEMA)
    with pytest.raises(CannotPack, match="answers no row of the sample: negative"):
        golden.record(Halves(), numbers(-1), ["sample"], SCHEMA)


def test_an_estimator_that_takes_rows_only_alone_cannot_be_packed():
    class Alone:
        def predict(self, frame, outputs=None):
            if frame.rows > 1:
                raise RowsRefused("one at a time")
            return Halves().predict(frame)

    with pytest.raises(CannotPack, match="not as one batch"):
        golden.record(Alone(), numbers(1, 2), ["sample"] * 2, SCHEMA)


def test_messages_are_stable():
    assert golden.stable("bad <X object at 0x7fffab12>\n  here") == "bad <X object at 0x> here"
    assert len(golden.stable("x" * 1000)) == 500


@given(st.lists(st.floats(), min_size=1, max_size=5), st.lists(st.text(st.characters(codec="utf-8")), min_size=1))
def test_what_is_written_is_read_to_the_last_bit(tmp_path_factory, values, texts):
    rows = len(values)
    folder = tmp_path_factory.mktemp("golden")
    array = np.array(values)
    labels = np.empty(rows, dtype=object)
    labels[:] = [texts[row % len(texts)] for row in range(rows)]
    pairs = np.stack([array, -array], axis=1)
    outputs = (
        Output("label", Kind.STRING, "label", "predict"),
        Output("proba", Kind.FLOAT64, "probability", "predict_proba", shape=(2,)),
    )
    schema = Schema("dataframe", SCHEMA.columns, outputs)
    answers = {"label": labels, "proba": pairs}
    kept = GoldenSet(numbers(*values), ("sample",) * rows, ("no", *(None,) * (rows - 1)), answers, answers)
    golden.write(kept, schema, folder)
    back = golden.read(folder, schema)
    assert back.inputs["n"].values.tobytes() == array.tobytes()
    assert back.single["proba"].tobytes() == pairs.tobytes()
    assert back.batch["label"].tolist() == labels.tolist()
    assert (back.origins, back.refused) == (kept.origins, kept.refused)
    assert golden.encoded(back, schema) == golden.encoded(kept, schema)


def test_something_else_is_refused(tmp_path):
    (tmp_path / "inputs.parquet").write_bytes(b"no")
    with pytest.raises(BundleRefused, match="golden set cannot be read"):
        golden.read(tmp_path, SCHEMA)
