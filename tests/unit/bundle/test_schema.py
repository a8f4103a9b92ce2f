"""Columns are found in samples of any form."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse

from modelyard.bundle.native import InProcess
from modelyard.bundle.schema import infer_columns, sample_frame
from modelyard.domain.schema import Kind, Schema
from modelyard.errors import CannotPack

EVERY = pd.DataFrame(
    {
        "ints": [1, 2, 3],
        "small": np.array([1, 2, 3], dtype="int8"),
        "floats": [1.0, None, 3.0],
        "single": np.array([1, 2, 3], dtype="float32"),
        "bools": [True, False, True],
        "objects of bool": pd.Series([True, None, False], dtype=object),
        "texts": ["a", None, "b"],
        "objects of text": pd.Series(["a", np.nan, "b"], dtype=object),
        "objects of None": pd.Series(["a", None, "b"], dtype=object),
        "strings": pd.Series(["a", None, "b"], dtype="string"),
        "categories": pd.Categorical(["x", None, "y"]),
        "ranks": pd.Categorical(["lo", None, "hi"], categories=["lo", "hi"], ordered=True),
        "codes": pd.Categorical([1, None, 2]),
        "nullable ints": pd.Series([1, None, 2], dtype="Int32"),
        "nullable bools": pd.Series([True, None, False], dtype="boolean"),
        "nullable floats": pd.Series([1, None, 2], dtype="Float64"),
        "dates": pd.to_datetime(["2020-01-01", None, "2021-01-01"]),
        "zoned": pd.to_datetime(["2020-01-01", None, "2021-01-01"]).tz_localize("Europe/Zurich"),
        "arrow ints": pd.Series([1, None, 2], dtype="int64[pyarrow]"),
        "arrow bools": pd.Series([True, None, True], dtype="bool[pyarrow]"),
        "objects of int": pd.Series([1, None, 2], dtype=object),
    }
)


def columns_of(sample):
    return infer_columns(sample)[1]


@pytest.mark.parametrize(
    ("name", "kind", "missing", "nullable"),
    [
        ("ints", "int64", "nan", False),
        ("small", "int8", "nan", False),
        ("floats", "float64", "nan", True),
        ("single", "float32", "nan", True),
        ("bools", "bool", "nan", False),
        ("objects of bool", "bool", "none", True),
        ("texts", "string", "nan", True),
        ("objects of text", "string", "nan", True),
        ("objects of None", "string", "none", True),
        ("strings", "string", "NA", True),
        ("categories", "string", "nan", True),
        ("codes", "int64", "nan", True),
        ("nullable ints", "int32", "NA", True),
        ("nullable bools", "bool", "NA", True),
        ("nullable floats", "float64", "NA", True),
        ("dates", "datetime", "NaT", True),
        ("zoned", "datetime", "NaT", True),
        ("arrow ints", "int64", "NA", True),
        ("arrow bools", "bool", "NA", True),
        ("objects of int", "int64", "none", True),
    ],
)
def test_kinds_and_markers(name, kind, missing, nullable):
    (column,) = columns_of(EVERY[[name]])
    assert (column.kind.value, column.missing, column.nullable) == (kind, missing, nullable)


def test_a_table_comes_back_exactly_as_training_had_it():
    layout, columns = infer_columns(EVERY)
    frame = sample_frame(EVERY, layout, columns)
    back = InProcess(None, Schema(layout, columns, ())).native(frame)
    pd.testing.assert_frame_equal(back, EVERY, check_exact=True)
    for name in ("objects of bool", "objects of text", "objects of None"):
        assert back[name][1] is EVERY[name][1] or pd.isna(EVERY[name][1]) == pd.isna(back[name][1])


@pytest.mark.parametrize(
    ("sample", "layout", "kind", "shape", "name"),
    [
        (np.ones((3, 4)), "array", Kind.FLOAT64, (4,), "X"),
        (np.ones((3, 4), "f4"), "array", Kind.FLOAT32, (4,), "X"),
        ([[1, 2], [3, 4]], "array", Kind.INT64, (2,), "X"),
        (np.array([["a", "b"]], dtype=object), "array", Kind.STRING, (2,), "X"),
        (["some text", None], "series", Kind.STRING, (), "X"),
        (np.array(["some", "texts"]), "series", Kind.STRING, (), "X"),
        (pd.Series(["some", "texts"], name="review"), "series", Kind.STRING, (), "review"),
        (np.ones((3, 4, 5)), "array", Kind.FLOAT64, (4, 5), "X"),
        ({"x": np.ones((3, 2), "f4")}, "tensors", Kind.FLOAT32, (2,), "x"),
    ],
)
def test_arrays_lists_and_series(sample, layout, kind, shape, name):
    found, (column,) = infer_columns(sample)
    assert (found, column.kind, column.shape, column.name) == (layout, kind, shape, name)


def test_numbers_as_names_become_texts():
    sample = pd.DataFrame(np.ones((2, 3)))
    layout, columns = infer_columns(sample)
    assert [column.name for column in columns] == ["0", "1", "2"]
    assert sample_frame(sample, layout, columns)["2"].values.tolist() == [1.0, 1.0]


def test_what_was_seen():
    table = pd.DataFrame(
        {
            "n": [1.0, np.nan, 3.0, np.inf],
            "s": ["b", "a", "b", None],
            "d": pd.to_datetime(["2020-01-01", "2020-01-02", None, None]),
        }
    )
    numbers, texts, dates = (column.seen for column in columns_of(table))
    assert (numbers.rows, numbers.missing_share, numbers.minimum, numbers.maximum) == (4, 0.25, 1.0, 3.0)
    assert (texts.categories, texts.distinct) == (("b", "a"), 2)
    assert dates.minimum == "2020-01-01T00:00:00.000000000"


def test_free_text_is_counted_and_not_listed():
    (column,) = columns_of(pd.DataFrame({"t": [f"note {row}" for row in range(100)]}))
    assert (column.seen.categories, column.seen.distinct) == (None, 100)
    (column,) = columns_of(pd.DataFrame({"t": [f"code {row % 300}" for row in range(3_000)]}))
    assert len(column.seen.categories) == 255
    assert column.seen.distinct == 300


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        (pd.DataFrame({1.5: [1]}), r"column name 1.5 is a float; columns are matched by name"),
        (pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")])), "is a tuple"),
        (pd.DataFrame([[1, 2]], columns=[1, "1"]), "two columns '1'"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "two columns 'a'"),
        (pd.DataFrame({"a": []}), "no rows"),
        (pd.DataFrame(index=[0, 1]), "no columns"),
        (pd.DataFrame({"a": [1, "x"]}), r"column 'a' holds int \('1'\), str \('x'\)"),
        (pd.DataFrame({"a": [{"k": 1}]}), "column 'a' holds dict"),
        (pd.DataFrame({"a": [b"x"]}), "column 'a' holds bytes .*decode"),
        (pd.DataFrame({"a": [1 + 2j]}), "dtype complex128"),
        (pd.DataFrame({"a": pd.to_timedelta([1], unit="s")}), "dtype timedelta64"),
        (pd.DataFrame({"a": pd.period_range("2020", periods=1)}), "dtype period"),
        (pd.DataFrame({"a": pd.cut([1, 2], 2)}), "categories of type interval"),
        (pd.DataFrame({"a": pd.Series([pd.Timestamp("2020")], dtype=object)}), "pd.to_datetime"),
        (pd.DataFrame({"a": pd.Series([[1]], dtype=pd.ArrowDtype(pa.list_(pa.int64())))}), "dtype list"),
        (pd.DataFrame({"a": np.array(["3000-01-01"], dtype="M8[s]")}), "between 1678 and 2262"),
        (scipy.sparse.csr_matrix(np.eye(2)), "sparse matrix"),
        ([{"a": 1}], "list of dicts"),
        ([[1, 2], [3]], "differ in length"),
        (np.array([[1, "x"]], dtype=object), "holds int"),
        (3.0, r"the sample is a builtins.float"),
        (np.array(3.0), "single value"),
    ],
)
def test_what_cannot_be_packed_is_named(sample, said):
    with pytest.raises(CannotPack, match=said):
        infer_columns(sample)
