"""One honest look at two tables: verdicts, what they rest on, and every form in which tables come."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import modelyard as my
from modelyard.domain import profile
from modelyard.domain.frame import Frame, Vector
from modelyard.domain.schema import Column, Kind, Output, Schema
from modelyard.errors import InvalidRequest, NotFound
from modelyard.monitoring.comparison import Verdict, compare
from modelyard.monitoring.facets import Facet
from modelyard.monitoring.reference import Reference


def flights(rows: int, seed: int, **changed: Any) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "delay": rng.normal(size=rows),
            "distance": np.where(rng.random(rows) < 0.3, 0.0, rng.lognormal(5, 1, rows)),
            "hour": rng.integers(5, 24, rows),
            "carrier": rng.choice(["AA", "B6", "DL", "UA"], rows),
            "late": rng.random(rows) < 0.2,
            "wind": np.where(rng.random(rows) < 0.1, np.nan, rng.normal(10, 3, rows)),
            "when": pd.to_datetime(rng.integers(1_357_000_000, 1_359_000_000, rows), unit="s"),
        }
    )
    return table.assign(**{name: change(table, rng) for name, change in changed.items()})


REFERENCE = flights(20_000, 0)


def test_nothing_moved_where_nothing_changed() -> None:
    found = my.compare(REFERENCE, flights(8000, 1))
    assert {each.verdict for each in found.columns} == {Verdict.STEADY}
    assert not found.drift
    assert not found.moved


@pytest.mark.parametrize(
    ("column", "change", "facet", "words"),
    [
        ("delay", lambda t, rng: t["delay"] + 0.4, Facet.DISTRIBUTION, "distribution by"),
        ("delay", lambda t, rng: t["delay"] * 50, Facet.OUTSIDE, "outside"),
        ("wind", lambda t, rng: t["wind"].where(rng.random(len(t)) > 0.2), Facet.MISSING, "missing 10"),
        ("carrier", lambda t, rng: t["carrier"].where(rng.random(len(t)) > 0.1, "EV"), Facet.NEW, r"new: EV \(\d+\)"),
        ("late", lambda t, rng: rng.random(len(t)) < 0.4, Facet.DISTRIBUTION, "distribution by"),
        ("when", lambda t, rng: t["when"] + pd.Timedelta(days=90), Facet.OUTSIDE, "outside"),
    ],
)
def test_what_moved_is_said(column: str, change: Any, facet: Facet, words: str) -> None:
    found = my.compare(REFERENCE, flights(4000, 2, **{column: change}))
    assert found.moved == (column,)
    assert found.drift
    one = found[column]
    assert facet in [finding.facet for finding in one.findings if finding.moved]
    assert re.search(words, one.said)
    assert one.chance < 1e-6
    assert one.verdict.value in repr(found)


def test_a_small_difference_in_many_rows_is_harmless() -> None:
    rng = np.random.default_rng(3)
    found = my.compare({"x": rng.normal(size=300_000)}, {"x": rng.normal(0.04, 1, 300_000)})
    assert found["x"].verdict is Verdict.HARMLESS
    assert "only" in found["x"].said
    assert not found.drift


def test_too_few_rows_are_no_proof_of_steadiness() -> None:
    found = my.compare(REFERENCE, flights(60, 4))
    assert {each.verdict for each in found.columns} == {Verdict.TOO_LITTLE}
    assert found.noticed_from > 0.2
    assert not found.drift


def test_columns_that_came_went_or_changed_type() -> None:
    current = flights(3000, 5).drop(columns="hour").assign(extra=1, delay="late")
    found = my.compare(REFERENCE, current)
    assert found.removed == ("hour",)
    assert found.added == ("extra",)
    assert ("delay", "numbers", "texts") in found.types_changed
    assert found["delay"].verdict is Verdict.UNREADABLE
    assert found.drift


def test_every_form_of_table_gives_the_same(tmp_path: Path) -> None:
    current = flights(3000, 6, delay=lambda t, rng: t["delay"] + 0.3)
    before, after = tmp_path / "before.parquet", tmp_path / "after.csv"
    REFERENCE.to_parquet(before)
    current.to_csv(after, index=False)
    expected = my.compare(REFERENCE, current)
    forms = [
        my.compare(str(before), after),
        my.compare(pa.Table.from_pandas(REFERENCE), pa.Table.from_pandas(current)),
        my.compare(REFERENCE.astype({"carrier": "category"}), current.convert_dtypes()),
    ]
    for found in forms:
        assert found.columns == expected.columns


def test_a_table_in_pieces_is_the_same_as_in_one() -> None:
    pieces = [pd.DataFrame({"city": pd.Series(["a", "b", None], dtype="str")}) for _ in range(40)]
    whole = pd.concat(pieces, ignore_index=True)
    in_one = pd.DataFrame({"city": pd.Series(whole["city"].tolist(), dtype="str")})
    reference = Reference.of_table(in_one)
    found = compare(reference, whole)
    assert found["city"].findings == compare(reference, in_one)["city"].findings
    assert found["city"].missing == (pytest.approx(1 / 3), pytest.approx(1 / 3))


def test_a_version_of_data_is_a_reference_and_can_be_compared(tmp_path: Path) -> None:
    for name, rows in (("one", REFERENCE), ("two", flights(4000, 7, hour=lambda t, rng: t["hour"] // 2))):
        folder = tmp_path / name
        folder.mkdir()
        rows.to_parquet(folder / "flights.parquet")
        my.data.snapshot(folder, "flights", home=tmp_path / "home")
    found = my.compare("data:flights@1", "data:flights@2", home=tmp_path / "home")
    assert found.moved == ("hour",)
    assert found.reference == "data:flights@1"
    with pytest.raises(InvalidRequest, match="there are: flights"):
        my.compare("data:flights@1", REFERENCE, table="planes", home=tmp_path / "home")


def test_a_reference_profile_of_a_version_counts_inputs_and_answers() -> None:
    schema = Schema(
        "dataframe",
        (
            Column("n", Kind.FLOAT64, nullable=True, dtype="float64"),
            Column("t", Kind.STRING, nullable=True, dtype="object"),
        ),
        (
            Output("predict", Kind.STRING, "label", "predict", classes=("no", "yes")),
            Output("predict_proba", Kind.FLOAT64, "probability", "predict_proba", shape=(2,), classes=("no", "yes")),
        ),
    )

    def calls(seed: int, shift: float) -> tuple[Frame, dict[str, Any]]:
        rng = np.random.default_rng(seed)
        score = 1 / (1 + np.exp(-rng.normal(shift, 1, 5000)))
        texts = rng.choice(["a", "b"], 5000).astype(object)
        frame = Frame({"n": Vector(rng.normal(size=5000)), "t": Vector(texts)}, 5000)
        label = np.where(score > 0.5, "yes", "no").astype(object)
        return frame, {"predict": label, "predict_proba": np.column_stack([1 - score, score])}

    made = Reference.of_profile(profile.build(*calls(0, 0.0), schema))
    frame, answers = calls(1, 0.8)
    counted = made.profile_of_calls(frame, answers, {"predict_proba": ("no", "yes")})
    assert set(counted.columns) == {"n", "t", "predict", "predict_proba[no]", "predict_proba[yes]"}
    frame_columns = {name: vector.values for name, vector in frame.columns.items()}
    assert compare(made, frame_columns).moved == ()
    scores = {"predict": answers["predict"], "predict_proba[yes]": answers["predict_proba"][:, 1]}
    assert set(compare(made, frame_columns | scores).moved) == {"predict", "predict_proba[yes]"}


def test_tables_of_one_source_are_seldom_told_apart() -> None:
    drifted = sum(my.compare(flights(300, 100 + seed), flights(200, 900 + seed), level=0.1).drift for seed in range(40))
    assert drifted <= 4


def test_it_is_a_document_a_page_and_a_table_in_a_notebook(tmp_path: Path) -> None:
    bad = "<script>alert(1)</script>"
    current = flights(4000, 8, carrier=lambda t, rng: t["carrier"].replace({"AA": bad}))
    found = my.compare(REFERENCE, current)
    document = found.to_dict()
    assert document["drift"]
    assert document["moved"] == ["carrier"]
    page = found.html(tmp_path / "page.html").read_text()
    assert page.count("<figure>") == len(REFERENCE.columns)
    for text in (page, found._repr_html_()):
        assert "<script" not in text
        assert "http" not in text


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="is no table"):
        my.compare(REFERENCE, 3)
    with pytest.raises(NotFound, match="no file"):
        my.compare(tmp_path / "nothing.csv", REFERENCE)
    with pytest.raises(InvalidRequest, match="level"):
        my.compare(REFERENCE, REFERENCE, level=0)
    with pytest.raises(InvalidRequest, match="can only be the reference"):
        my.compare(REFERENCE, "churn@1", home=tmp_path)
    with pytest.raises(InvalidRequest, match="several columns 'a'"):
        my.compare(REFERENCE, pd.DataFrame([[1, 2]], columns=["a", "a"]))


def test_empty_tables_are_no_proof_of_anything() -> None:
    found = my.compare(REFERENCE, REFERENCE.head(0))
    assert {each.verdict for each in found.columns} == {Verdict.TOO_LITTLE}
    assert my.compare(REFERENCE.head(0), REFERENCE).noticed_from == 1.0
